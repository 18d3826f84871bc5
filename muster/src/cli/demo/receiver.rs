//! The receiver of the demo's webhook: what a gateway's owner would run, in forty lines.

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use lake::clock::Clock;
use respond::webhook::{self, Secret};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const TOLERANCE_SECS: i64 = 300;
const CALLS_MAX: usize = 64;

/// One verified call.
pub(super) struct Call {
    pub(super) id: String,
    pub(super) received_at: i64,
    pub(super) body: Value,
}

/// A webhook receiver on a free port of this machine.
pub(super) struct Receiver {
    pub(super) url: String,
    pub(super) secret: Secret,
    calls: mpsc::Receiver<Call>,
}

#[derive(Clone)]
struct Shared {
    secret: Secret,
    calls: mpsc::Sender<Call>,
}

impl Receiver {
    pub(super) async fn start() -> Result<Receiver> {
        let secret = new_secret()?;
        let (sender, calls) = mpsc::channel(CALLS_MAX);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/kill", listener.local_addr()?);
        let routes =
            Router::new().route("/kill", post(receive)).with_state(Shared { secret: secret.clone(), calls: sender });
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Receiver { url, secret, calls })
    }

    /// The next verified call about `agent`.
    pub(super) async fn next(&mut self, agent: &str) -> Option<Call> {
        loop {
            let call = self.calls.recv().await?;
            if call.body.to_string().contains(agent) {
                return Some(call);
            }
        }
    }
}

async fn receive(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let received_at = Clock::system().now_micros();
    let Ok(id) = webhook::verify(&shared.secret, &headers, &body, received_at / 1_000_000, TOLERANCE_SECS) else {
        return StatusCode::UNAUTHORIZED;
    };
    let call = Call { id: id.to_owned(), received_at, body: serde_json::from_slice(&body).unwrap_or_default() };
    match shared.calls.try_send(call) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn new_secret() -> Result<Secret> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let text = format!("whsec_{}", data_encoding::BASE64.encode(&random));
    text.parse().context("32 random bytes are a secret")
}

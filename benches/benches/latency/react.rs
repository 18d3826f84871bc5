//! How long it takes from an event to its effect, while ten thousand others a second flow: acknowledged → webhook received, and
//! ordered → known to a gateway that follows the deny list. The event is a call with a token that had expired: a fact, on which
//! policy acts without a person.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Arguments;
use crate::disk::Disk;
use crate::load;
use crate::server::Server;
use crate::times::{Times, compare};

const EVENTS_A_SECOND: u32 = 10_000;
const STREAM_MS_MAX: f64 = 50.0;
const PATIENCE: Duration = Duration::from_secs(10);
const HOUR_SECS: i64 = 3600;

/// When something came to be known, by agent: its own time, and by the clock in microseconds.
type Seen = Arc<Mutex<HashMap<String, (Instant, i64)>>>;

#[expect(clippy::disallowed_methods, reason = "the clock that the server has too")]
pub(crate) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as i64)
}

fn see(seen: &Seen, agent: &str) {
    let now = (Instant::now(), now_micros());
    seen.lock().unwrap_or_else(PoisonError::into_inner).entry(agent.to_owned()).or_insert(now);
}

pub(crate) async fn run(arguments: &Arguments, program: &Path, folder: &Path) -> Result<()> {
    let (hooked, streamed) = (Seen::default(), Seen::default());
    let config = config(folder, receiver(hooked.clone()).await?)?;
    let server = Server::start(program, folder, &config)?;
    let following =
        tokio::spawn(follow(server.http.clone(), server.url.clone(), server.token.clone(), streamed.clone()));
    let disk = Disk::probe(folder)?;
    let sending = load::send(&server, EVENTS_A_SECOND, arguments.secs, now_micros());
    let (sent, acknowledged) = tokio::join!(sending, inject(&server, arguments));
    let (sent, acknowledged) = (sent?, acknowledged?);
    let waiting = Instant::now();
    while len(&hooked).min(len(&streamed)) < acknowledged.len() {
        ensure!(waiting.elapsed() < PATIENCE, "{} of {} arrived", len(&hooked), acknowledged.len());
        ensure!(!following.is_finished(), "the stream ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let fsync = disk.times()?;
    let ordered = ordered(&server).await?;
    let hooked = hooked.lock().unwrap_or_else(PoisonError::into_inner);
    let streamed = streamed.lock().unwrap_or_else(PoisonError::into_inner);
    let hooks = acknowledged.iter().map(|(agent, at)| hooked[agent].0.saturating_duration_since(*at)).collect();
    let late = |(agent, at): (&String, &i64)| Some((streamed.get(agent)?.1 - at).max(0) as u64);
    let streams = ordered.iter().filter_map(late).map(Duration::from_micros).collect();
    let (hooks, streams) = (Times::new(hooks)?, Times::new(streams)?);
    println!("react: {EVENTS_A_SECOND} events a second, {} orders in {} s", arguments.orders, arguments.secs);
    Times::new(sent)?.print("request sent → records durable, answered");
    fsync.print("the disk's fsync of 4 KiB");
    hooks.print("acknowledged → webhook received");
    compare("p99, of 3 fsync + 5 ms", hooks.p99_ms(), 3.0 * fsync.p99_ms() + 5.0);
    streams.print("order requested → in a follower's hands");
    compare("p99, of 50 ms", streams.p99_ms(), STREAM_MS_MAX);
    Ok(())
}

fn len(seen: &Seen) -> usize {
    seen.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// Acts on the fact that is sent, with every cap out of the way.
fn config(folder: &Path, port: u16) -> Result<String> {
    let secret = folder.join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
    Ok(format!(
        r#"
[respond]
orders_per_minute_max = 6000
orders_standing_max = 100000
active_agents_share_max = 1.0
private_addresses_allowed = true

[[respond.policies]]
detector = "token_dead"
severity_min = "informational"
mode = "act"
switches = ["receiver"]

[[respond.webhooks]]
name = "receiver"
url = "http://127.0.0.1:{port}/"
secret_file = {secret:?}
"#
    ))
}

/// Takes webhooks; gives its port.
async fn receiver(seen: Seen) -> Result<u16> {
    let take = async |State(seen): State<Seen>, body: String| {
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        see(&seen, body["data"]["order"]["target"]["agent"].as_str().unwrap_or_default());
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(take)).with_state(seen)).await });
    Ok(port)
}

/// Follows the deny list.
async fn follow(http: reqwest::Client, url: String, token: String, seen: Seen) -> Result<()> {
    let mut stream = http.get(format!("{url}/v1/deny/stream")).bearer_auth(token).send().await?.error_for_status()?;
    let mut text = String::new();
    while let Some(bytes) = stream.chunk().await? {
        text.push_str(&String::from_utf8_lossy(&bytes));
        while let Some((event, rest)) = text.split_once("\n\n") {
            let data =
                event.lines().filter(|_| event.contains("event: deny")).find_map(|line| line.strip_prefix("data: "));
            if let Some(data) = data {
                see(&seen, serde_json::from_str::<Value>(data)?["id"].as_str().context("an entry has an id")?);
            }
            text = rest.to_owned();
        }
    }
    Ok(())
}

/// Sends the events that start orders, evenly spread; gives when each was acknowledged.
async fn inject(server: &Server, arguments: &Arguments) -> Result<Vec<(String, Instant)>> {
    let pause = Duration::from_secs(arguments.secs.into()) / (arguments.orders + 1);
    let mut acknowledged = Vec::new();
    for order in 0..arguments.orders {
        tokio::time::sleep(pause).await;
        let agent = format!("stolen-{order}");
        let body = serde_json::to_vec(&expired_call(&agent))?;
        load::post(server.door("envoy"), body, Instant::now()).await?;
        acknowledged.push((agent, Instant::now()));
    }
    Ok(acknowledged)
}

/// A call that went through with a token that had expired an hour before.
fn expired_call(agent: &str) -> Value {
    let now = now_micros();
    let secs = now / 1_000_000;
    let time = chrono::DateTime::from_timestamp_micros(now).unwrap_or_default();
    json!({
        "start_time": time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true), "request_id": format!("call-{agent}"),
        "method": "GET", "path": "/v1/invoices", "protocol": "HTTP/1.1", "response_code": 200, "response_flags": "-",
        "bytes_received": 0, "bytes_sent": 512, "duration": 12, "authority": "billing.example", "user_agent": "agent/1.0",
        "downstream_remote_address": "10.1.2.3:4711",
        "jwt_payload": {"iss": "https://id.example", "azp": agent, "sub": "ada@example.com", "jti": format!("jti-{agent}"),
            "scope": "read", "iat": secs - 2 * HOUR_SECS, "exp": secs - HOUR_SECS},
    })
}

/// When each agent's order was requested, by the clock.
async fn ordered(server: &Server) -> Result<HashMap<String, i64>> {
    let list = server.http.get(format!("{}/v1/deny", server.url)).bearer_auth(&server.token).send().await?;
    let list: Value = serde_json::from_str(&list.error_for_status()?.text().await?)?;
    let entry = |entry: &Value| {
        let since = chrono::DateTime::parse_from_rfc3339(entry["since"].as_str()?).ok()?;
        Some((entry["id"].as_str()?.to_owned(), since.timestamp_micros()))
    };
    Ok(list["entries"].as_array().context("a list has entries")?.iter().filter_map(entry).collect())
}

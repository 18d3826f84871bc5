//! Inventory polls against a server that gives recorded answers: each provider's file, and everything that can go wrong.

mod failures;
mod providers;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use ingest::inventory::{Config, Inventory, Poll, PollError, Snapshot};
use lake::clock::Clock;
use lake::files::sim::SimFiles;
use lake::log::{Log, LogConfig, Payload};
use schemas::InventoryRow;
use schemas::inventory;
use serde_json::{Value, json};

/// 2026-05-04, 12:00 UTC.
pub(crate) const NOW: i64 = 1_777_896_000_000_000;

/// A provider's recorded answers: for each request those it gets in turn, the last one for good.
pub(crate) struct Recorded {
    answers: Mutex<HashMap<String, Vec<Value>>>,
    pub(crate) requests: Mutex<Vec<(String, HeaderMap, String)>>,
    base: Mutex<String>,
}

pub(crate) struct World {
    pub(crate) recorded: Arc<Recorded>,
    pub(crate) base: String,
    pub(crate) log: Arc<Log>,
    clock: Clock,
    pub(crate) secret: tempfile::NamedTempFile,
}

impl World {
    /// `answers`: objects with `request` (path and query), and `body`, `text`, `status`, `headers` as wanted. `{base}` in
    /// them is the server's own URL.
    pub(crate) async fn new(answers: &[Value]) -> World {
        let mut by_request: HashMap<String, Vec<Value>> = HashMap::new();
        for answer in answers {
            by_request.entry(answer["request"].as_str().unwrap().to_owned()).or_default().push(answer.clone());
        }
        by_request.values_mut().for_each(|answers| answers.reverse());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (answers, requests) = (Mutex::new(by_request), Mutex::default());
        let recorded = Arc::new(Recorded { answers, requests, base: Mutex::new(base.clone()) });
        let routes = Router::new().fallback(answer).with_state(recorded.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let clock = Clock::manual(NOW);
        let opened =
            Log::open(Arc::new(SimFiles::new()), PathBuf::from("log"), &LogConfig::default(), clock.clone(), &["test"]);
        let (log, _) = opened.unwrap();
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "t0ken-of-the-test\n").unwrap();
        World { recorded, base, log, clock, secret }
    }

    pub(crate) fn poll(&self, provider: &str) -> Poll {
        Poll {
            name: "test".into(),
            provider: provider.into(),
            tenant: "acme".into(),
            base_url: self.base.clone(),
            token_file: Some(self.secret.path().to_owned()),
            ..Poll::default()
        }
    }

    pub(crate) async fn run(&self, poll: Poll, limits: Config) -> Result<Snapshot, PollError> {
        let config = Config { polls: vec![poll.clone()], ..limits };
        assert_eq!(config.problems(), Vec::<String>::new());
        Inventory::new(config, self.log.clone(), self.clock.clone()).run(&poll).await
    }

    pub(crate) fn rows(&self) -> Vec<InventoryRow> {
        let frames = if self.log.end(0) == 0 { Vec::new() } else { self.log.read(0, 0, 1 << 30).unwrap() };
        let mut rows = Vec::new();
        for frame in frames {
            let Payload::Inventory(batch) = &frame.payload else { panic!("only inventory is written") };
            let table = inventory::Inventory::new(batch).unwrap();
            rows.extend((0..batch.num_rows()).map(|row| table.row(row)));
        }
        rows
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.recorded.requests.lock().unwrap().iter().map(|(request, ..)| request.clone()).collect()
    }
}

/// Quick repeats, small limits.
pub(crate) fn limits() -> Config {
    Config { retry_pause_ms: 1, retries_max: 2, ..Config::default() }
}

async fn answer(State(recorded): State<Arc<Recorded>>, request: Request) -> Response<Body> {
    let asked = request.uri().to_string();
    let headers = request.headers().clone();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    recorded.requests.lock().unwrap().push((asked.clone(), headers, body));
    let mut answers = recorded.answers.lock().unwrap();
    let answer = match answers.get_mut(&asked) {
        None => json!({"status": 404, "body": {"error": "nothing is recorded"}}),
        Some(left) if left.len() > 1 => left.pop().unwrap(),
        Some(left) => left[0].clone(),
    };
    let base = recorded.base.lock().unwrap().clone();
    let mut response = Response::builder().status(answer["status"].as_u64().unwrap_or(200) as u16);
    for (name, value) in answer["headers"].as_object().into_iter().flatten() {
        response = response.header(name, value.as_str().unwrap().replace("{base}", &base));
    }
    let text = answer["text"].as_str().map_or_else(|| answer["body"].to_string(), str::to_owned);
    response.body(Body::from(text.replace("{base}", &base))).unwrap()
}

/// What a row says beyond its snapshot, as JSON; times as dates.
pub(crate) fn said(row: &InventoryRow) -> Value {
    let Value::Object(mut row) = serde_json::to_value(row).unwrap() else { panic!("a row is an object") };
    for own in ["snapshot_id", "seen_at", "event_day", "tenant", "poll", "provider", "raw"] {
        row.remove(own);
    }
    row.retain(|name, value| {
        !value.is_null() && !name.starts_with("log_") && value.as_array().is_none_or(|all| !all.is_empty())
    });
    for name in ["created_at", "last_used_at", "expires_at"] {
        if let Some(value) = row.get_mut(name) {
            let time = chrono::DateTime::from_timestamp_micros(value.as_i64().unwrap()).unwrap();
            *value = time.format("%Y-%m-%d").to_string().into();
        }
    }
    Value::Object(row)
}

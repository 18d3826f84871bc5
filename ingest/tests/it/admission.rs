//! Admission through a log on a disk: receipts, duplicates, the HTTP door.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::StreamExt;
use http_body_util::BodyExt;
use ingest::{Config, Ingest, Sources};
use lake::clock::Clock;
use lake::files::disk::Disk;
use lake::log::{Log, LogConfig};
use schemas::{Holder, Principal, Verb};
use serde_json::Value;
use tower::ServiceExt;

use crate::support::{KEY, RECEIVED_AT};

const RECORD: &str = r#"{"start_time":"2025-12-03T10:11:12Z","method":"GET","path":"/a","response_code":200,"response_flags":"-","request_id":"r-1"}"#;

struct Door {
    router: axum::Router,
    _folder: tempfile::TempDir,
}

fn door(verbs: Vec<Verb>) -> Door {
    door_of(verbs, &Config::default())
}

fn door_of(verbs: Vec<Verb>, config: &Config) -> Door {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::manual(RECEIVED_AT);
    let log = folder.path().join("log");
    let (log, _) = Log::open(Arc::new(Disk::default()), log, &LogConfig::default(), clock.clone(), &[]).expect("a log");
    let sources = Sources::load(None).expect("the built-in mappings are right");
    let ingest = Arc::new(Ingest::new(log, sources, clock, KEY, config));
    let principal = Principal { name: "t".into(), tenant: "acme".into(), holder: Holder::Machine, verbs };
    Door { router: ingest::http::routes(ingest, config).layer(Extension(principal)), _folder: folder }
}

impl Door {
    async fn post(&self, path: &str, body: impl Into<String>) -> (StatusCode, Value) {
        let request = Request::post(path).body(Body::from(body.into())).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("a router cannot fail");
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

#[tokio::test]
async fn every_record_is_accounted_for() {
    let door = door(vec![Verb::Ingest]);
    let body = format!("{RECORD}\n{RECORD}\n{}\nnot a record\n", RECORD.replace("/a", "/b"));
    let (status, receipt) = door.post("/v1/ingest/envoy", body).await;
    assert_eq!(status, StatusCode::OK, "{receipt}");
    let counts = ["received", "mapped", "noise", "quarantined", "duplicates", "conflicts", "events"];
    let counts: Vec<i64> = counts.iter().map(|c| receipt[c].as_i64().expect("a count")).collect();
    assert_eq!(counts, [4, 2, 0, 1, 1, 1, 2], "{receipt}");
    let results: Vec<&str> =
        receipt["results"].as_array().expect("a list").iter().filter_map(|r| r["result"].as_str()).collect();
    assert_eq!(results, ["duplicate", "conflict", "quarantined"]);
    let (_, again) = door.post("/v1/ingest/auto", RECORD).await;
    assert_eq!((&again["duplicates"], &again["source"]), (&1.into(), &"envoy".into()));
}

#[tokio::test]
async fn a_record_that_is_no_json_says_where_it_breaks() {
    let door = door(vec![Verb::Ingest]);
    let detail = async |body: &str| door.post("/v1/ingest/envoy", body).await.1["results"][0].to_string();
    let cut = detail(&RECORD[..40]).await;
    assert!(cut.contains("the record is cut off") && cut.contains("column 40"), "{cut}");
    let broken = detail(&RECORD.replace("\"method\":", "\"method\";")).await;
    assert!(broken.contains("line 1 column 46") && !broken.contains("cut off"), "{broken}");
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let door = door(vec![Verb::Ingest]);
    let (status, problem) = door.post("/v1/ingest/envoi", RECORD).await;
    assert_eq!(
        (status, problem["detail"].as_str()),
        (StatusCode::NOT_FOUND, Some("there is no source `envoi`; did you mean `envoy`?"))
    );
    assert_eq!(door.post("/v1/ingest/envoy", "").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(door.post("/v1/ingest/auto", "hello").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(door.post("/v1/ingest/envoy", " ".repeat(65 << 20)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let stranger = self::door(vec![Verb::Query]);
    assert_eq!(stranger.post("/v1/ingest/envoy", RECORD).await.0, StatusCode::FORBIDDEN);
}

/// Senders that send slowly hold no more than they may, and the others are told when to come again.
#[tokio::test]
async fn what_requests_hold_together_has_a_limit() {
    let config = Config { body_bytes_max: 1024, bodies_bytes_max: 1024, ..Config::default() };
    let door = door_of(vec![Verb::Ingest], &config);
    let (begun, rest) = tokio::sync::oneshot::channel::<&[u8]>();
    let slow = futures::stream::once(async { Ok::<_, std::convert::Infallible>(&b" "[..]) });
    let slow = slow.chain(futures::stream::once(async { Ok(rest.await.expect("the rest comes")) }));
    let slow = Request::post("/v1/ingest/envoy").body(Body::from_stream(slow)).expect("a request");
    let mut slow = std::pin::pin!(door.router.clone().oneshot(slow));
    assert!(futures::poll!(slow.as_mut()).is_pending(), "it waits for the rest");

    let request = Request::post("/v1/ingest/envoy").body(Body::from(RECORD)).expect("a request");
    let refused = door.router.clone().oneshot(request).await.expect("a router cannot fail");
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));

    begun.send(RECORD.as_bytes()).expect("it still waits");
    assert_eq!(slow.await.expect("a router cannot fail").status(), StatusCode::OK);
    let (status, _) = door.post("/v1/ingest/envoy", RECORD.replace("r-1", "r-2")).await;
    assert_eq!(status, StatusCode::OK);
    let (status, problem) = door.post("/v1/ingest/envoy", " ".repeat(1025)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(problem["detail"].as_str().expect("a text").contains("body_bytes_max"), "{problem}");
}

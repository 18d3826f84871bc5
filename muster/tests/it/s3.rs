//! The whole path with the lake in a bucket, against a real S3-compatible server: `.ci/s3 CACHE cargo test s3_`. Without
//! `MUSTER_S3` these tests say that they skip.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::crash::survive;
use crate::server::{Server, envoy_record};
use crate::verdicts::muster_with;

const KILLS: u64 = 8;

/// Address of the server, and its bucket.
pub(crate) fn server() -> Option<(String, String)> {
    let Ok(url) = std::env::var("MUSTER_S3") else {
        eprintln!("SKIPPED: MUSTER_S3 names no S3-compatible server (.ci/s3 starts one)");
        return None;
    };
    let (address, bucket) = url.rsplit_once('/').expect("MUSTER_S3 is http://HOST:PORT/BUCKET");
    Some((address.to_owned(), bucket.to_owned()))
}

/// The lake of a test's own.
pub(crate) fn place(bucket: &str, name: &str) -> String {
    format!("s3://{bucket}/muster-tests/{}/{name}", std::process::id())
}

pub(crate) fn environment<'a>(endpoint: &'a str, place: &'a str) -> [(&'a str, &'a str); 3] {
    [("MUSTER__LAKE__URL", place), ("MUSTER__LAKE__S3__ENDPOINT", endpoint), ("MUSTER__LAKE__FLUSH_SECS", "1")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_kills_lose_nothing_and_double_nothing() {
    let Some((endpoint, bucket)) = server() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    survive(folder.path(), KILLS, &environment(&endpoint, &place(&bucket, "kills"))).await;
    assert!(!folder.path().join("lake").exists(), "nothing of the lake is in the data folder");
    assert!(!folder.path().join("detect").join("engine.snapshot").exists());
}

/// A way to the server that can be closed: connections are cut, new ones are refused.
struct Way {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Way {
    async fn to(server: String) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (open, gate) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut gate) = (server.clone(), gate.clone());
                if !*gate.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = gate.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Way { address, open }
    }
}

/// Waits until the server says whether it is ready.
async fn ready(server: &Server, wanted: u16) -> String {
    let mut said = String::new();
    for _ in 0..600 {
        let (status, body) = server.get("/readyz", "").await;
        if status == wanted {
            return body.to_string();
        }
        said = body.to_string();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never {wanted}: {said}")
}

async fn post(server: &Server, token: &str, ids: std::ops::Range<usize>) {
    let lines: Vec<String> = ids.map(|id| envoy_record(&format!("r-{id}"), "agent-1", "/invoices/1")).collect();
    let (status, body) = server.post("/v1/ingest/envoy", token, lines.join("\n")).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_a_service_that_is_away_is_told_waited_for_and_found_again() {
    let Some((endpoint, bucket)) = server() else { return };
    let way = Way::to(endpoint.trim_start_matches("http://").to_owned()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (endpoint, place) = (format!("http://{}", way.address), place(&bucket, "away"));
    let environment = environment(&endpoint, &place);
    let mut server = Server::start_with(folder.path(), &environment);
    let token = server.token.take().expect("a first start");
    post(&server, &token, 0..20).await;
    ready(&server, 200).await;

    way.open.send_replace(false);
    post(&server, &token, 20..40).await;
    let said = ready(&server, 503).await;
    assert!(said.contains("lake"), "{said}");
    post(&server, &token, 40..60).await;
    let tail = server.sql(&token, "SELECT count(*) AS n FROM events WHERE source_event_id IN ('r-25', 'r-45')").await;
    assert_eq!(tail.len(), 1, "what is only in the log is found");

    // Killed while the service is away: the log has it all, and the start says what it waits for.
    server.kill();
    let (fine, told) = muster_with(folder.path(), &["status"], &environment);
    assert!(!fine && told.contains("s3://"), "{told}");
    way.open.send_replace(true);
    let server = Server::start_with(folder.path(), &environment);
    ready(&server, 200).await;
    let rows = server
        .sql(&token, "SELECT count(*) AS n, count(DISTINCT source_event_id) AS ids FROM events WHERE source = 'envoy'")
        .await;
    assert_eq!((rows[0]["n"].as_i64(), rows[0]["ids"].as_i64()), (Some(60), Some(60)));
    let (fine, told) = muster_with(folder.path(), &["verify"], &environment);
    assert!(fine, "{told}");
}

/// What the log let go is in the lake that it was written to: no other is opened.
#[test]
fn a_lake_is_not_looked_for_elsewhere() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(muster_with(folder.path(), &["keep"], &[]).0);
    let elsewhere = environment("http://127.0.0.1:9", "s3://none/elsewhere");
    let (fine, said) = muster_with(folder.path(), &["status"], &elsewhere);
    assert!(!fine && said.contains("the data folder") && said.contains("lake.place"), "{said}");
}

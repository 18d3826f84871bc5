//! Data folders of older versions are taken over: log, tables, control log, tokens, receipts and what the detectors learned.
//!
//! Each `fixtures/data-VERSION.tar.gz` is a data folder as the version of its name left it, and stays as it is. This version's is
//! written, once, by `MUSTER_FIXTURE=VERSION cargo test -- --ignored keeps_a_data_folder`. The log holds no more than the last
//! frames of it, so that nothing of what was learned can be learned again. The keys in it were made for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Server, envoy_record};
use crate::verdicts::{call, ingest, muster, muster_with};

const DAYS: i64 = 8;
/// Known to who reads a fixture: token and receipt.
const KNOWN: &str = "known.json";
/// Segments go as soon as tables and detectors have what is in them.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("MUSTER__LAKE__FLUSH_SECS", "1"),
    ("MUSTER__LOG__DUPLICATES_WINDOW", "0"),
    ("MUSTER__LOG__SEGMENT_BYTES_MAX", "1"),
    ("MUSTER__RESPOND__APPROVALS", "0"),
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures")
}

/// Every fixture, unpacked.
fn folders() -> Vec<(String, tempfile::TempDir)> {
    let files = fs::read_dir(fixtures()).expect("the fixtures are there").map(|entry| entry.expect("an entry").path());
    let unpacked = |file: PathBuf| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        tar(&["-xzf", text(&file), "-C", text(folder.path())]);
        (file.display().to_string(), folder)
    };
    files.map(unpacked).collect()
}

fn tar(arguments: &[&str]) {
    assert!(Command::new("tar").args(arguments).status().expect("tar runs").success());
}

fn text(path: &Path) -> &str {
    path.to_str().expect("is text")
}

fn odd(agent: &str, day: i64) -> String {
    call(agent, day, 63, "DELETE", "/v1/customers/7")
}

/// An agent's usual calls for some days, and an odd one.
fn work(agent: &str) -> Vec<String> {
    let day = |day| {
        let calls = [(60, "GET", "/v1/invoices"), (600, "GET", "/v1/invoices/1"), (601, "POST", "/v1/notes")];
        calls.map(|(minute, method, path)| call(agent, day, minute, method, path))
    };
    (0..DAYS).flat_map(day).chain([odd(agent, DAYS)]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_folders_of_older_versions_are_taken_over() {
    let folders = folders();
    assert!(!folders.is_empty(), "the fixtures are gone");
    for (name, folder) in folders {
        let name = &format!("{name}, which a released version wrote. Keep a reader of the older layout");
        let data = folder.path().join("data");
        let known: Value = serde_json::from_slice(&fs::read(data.join(KNOWN)).unwrap()).unwrap();
        let token = known["token"].as_str().expect("a token");
        let server = Server::start(&data);
        assert_eq!(server.token, None, "{name}: its tokens are not read");

        let counts = "SELECT agent_id, count(*) AS n, min(action) AS action, max(user_id) AS user FROM events \
                      WHERE source = 'envoy' GROUP BY 1 ORDER BY 1";
        let agent = |agent: &str, n| json!({"agent_id": agent, "n": n, "action": "DELETE /v1/customers/{id}", "user": "ada@example.com"});
        let live = json!({"agent_id": "three", "n": 2, "action": "GET /invoices/{id}", "user": "ada@example.com"});
        let all = [agent("one", 3 * DAYS + 1), live, agent("two", 3 * DAYS + 1)];
        assert_eq!(server.sql(token, counts).await, all, "{name}: events");
        let quarantined = server.sql(token, "SELECT source FROM quarantine").await;
        assert_eq!(quarantined, [json!({"source": "envoy"})], "{name}: quarantine");
        let ledger =
            "SELECT sum(received) AS received, sum(mapped) AS mapped FROM ingest_ledger WHERE source = 'envoy'";
        let ledger = server.sql(token, ledger).await;
        assert_eq!(ledger, [json!({"received": 6 * DAYS + 5, "mapped": 6 * DAYS + 4})], "{name}: ledger");
        let judged = "SELECT agent_id, verdict, why FROM judged_alerts WHERE verdict IS NOT NULL";
        let verdict = json!({"agent_id": "one", "verdict": "dismissed", "why": "a cleanup"});
        assert_eq!(server.sql(token, judged).await, [verdict], "{name}: alerts and verdicts");

        let (_, orders) = server.get("/v1/orders", token).await;
        let order = &orders["orders"][0];
        let asked = (&order["target"]["agent"], &order["reason"]);
        assert_eq!(asked, (&json!("two"), &json!("it was odd")), "{name}: the control log: {orders}");
        let receipt = known["receipt"].as_str().expect("a receipt");
        let (status, said) = server.get(&format!("/v1/receipts/{receipt}"), token).await;
        assert_eq!((status, &said["state"]), (200, &json!("stored")), "{name}: receipts: {said}");

        ingest(&data, "later.jsonl", &[odd("one", DAYS + 1), odd("two", DAYS + 1)]);
        let later = "SELECT agent_id, explanation FROM alerts WHERE detector = 'combination' \
                     AND time > TIMESTAMP '2026-05-13T00:00:00Z'";
        let later = server.sql(token, later).await;
        let learned = later.len() == 1 && later[0]["agent_id"] == "two";
        assert!(learned, "{name}: what the detectors knew, a dismissed alert among it: {later:?}");
        drop(server);
        let (fine, told) = muster(&data, &["verify"]);
        assert!(fine, "{name}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a fixture"]
async fn keeps_a_data_folder() {
    let version = std::env::var("MUSTER_FIXTURE").expect("MUSTER_FIXTURE is a version");
    let fixture = fixtures().join(format!("data-{version}.tar.gz"));
    assert!(!fixture.exists(), "{} stays as it is", fixture.display());
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let mut server = Server::start_with(&data, &ENVIRONMENT);
    let token = server.token.take().expect("a first start");
    ingest(&data, "days.jsonl", &[work("one"), work("two")].concat());
    let alert = "SELECT alert_id FROM alerts WHERE agent_id = 'one' AND detector = 'combination'";
    let alert = server.sql(&token, alert).await[0]["alert_id"].as_str().expect("an id").to_owned();
    for arguments in [
        &["alerts", "dismiss", &alert, "--why", "a cleanup"][..],
        &["orders", "request", "--agent", "two", "--reason", "it was odd"],
    ] {
        let (fine, told) = muster_with(&data, arguments, &ENVIRONMENT);
        assert!(fine, "{told}");
    }
    let live = ["a", "b"].map(|id| envoy_record(id, "three", "/invoices/1"));
    let (status, answer) = server.post("/v1/ingest/envoy", &token, format!("{}\nno record", live.join("\n"))).await;
    assert_eq!(status, 200, "{answer}");
    assert!(server.terminate().success());
    // The next start lets go of the segments.
    let mut server = Server::start_with(&data, &ENVIRONMENT);
    let first = data.join("log").join(format!("{:020}.log", 0));
    for _ in 0..600 {
        if first.exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(server.terminate().success() && !first.exists());

    fs::write(data.join(KNOWN), json!({"token": token, "receipt": answer["receipt"]}).to_string()).unwrap();
    // A start makes these anew, and the reserve is large.
    let skipped = ["--exclude=data/reserve", "--exclude=data/signing.key", "--exclude=*.lock", "--exclude=data/lock"];
    let mut arguments = skipped.to_vec();
    arguments.extend(["-czf", text(&fixture), "-C", text(parent.path()), "data"]);
    tar(&arguments);
}

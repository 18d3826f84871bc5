//! Receipts, quarantine, erasure, holds, gaps and reconciling with the real process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{MUSTER, Server, envoy_record};
use crate::verdicts::{muster, rows};

/// A mapping that reads the time from a field that the records do not have.
const WRONG: &str = "[columns]\ntime = \"when\"\naction = \"did\"\nagent_id = \"client\"\noutcome = \"'success'\"\n";

fn record(number: usize) -> String {
    json!({"at": 1_767_225_600 + number, "did": "GET /x", "client": "client-7", "number": number}).to_string()
}

fn records(numbers: std::ops::Range<usize>) -> String {
    numbers.map(record).collect::<Vec<_>>().join("\n")
}

/// A folder with a mapping of its own, and the settings that name it.
struct Own {
    _folder: tempfile::TempDir,
    data: PathBuf,
    sources: String,
}

impl Own {
    fn new() -> Own {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (data, sources) = (folder.path().join("data"), folder.path().join("sources"));
        fs::create_dir(&sources).expect("is made");
        let own = Own { data, sources: sources.to_str().expect("is text").to_owned(), _folder: folder };
        own.map(WRONG);
        own
    }

    fn map(&self, mapping: &str) {
        fs::write(Path::new(&self.sources).join("mine.toml"), mapping).expect("is written");
    }

    fn start(&self) -> Server {
        Server::start_with(&self.data, &[("MUSTER__INGEST__SOURCES_FOLDER", &self.sources)])
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(MUSTER);
        command.arg("--data").arg(&self.data).args(arguments).env("MUSTER__INGEST__SOURCES_FOLDER", &self.sources);
        command
    }

    fn muster(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.command(arguments).output().expect("muster runs");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }

    fn fine(&self, arguments: &[&str]) -> String {
        let (fine, text) = self.muster(arguments);
        assert!(fine, "{arguments:?}: {text}");
        text
    }
}

const MOVED: &str = "SELECT sum(received) AS received, sum(mapped) AS mapped, sum(quarantined) AS quarantined, \
     sum(events) AS events FROM ingest_ledger WHERE source = 'mine'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_says_what_became_of_what_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::start(folder.path());
    let token = server.token.take().expect("a first start shows a token");
    let body = format!("{}\n{}\nnot a record\n", envoy_record("1", "a", "/x"), envoy_record("2", "a", "/x"));
    let (_, acknowledged) = server.post("/v1/ingest/envoy", &token, body).await;
    let receipt = acknowledged["receipt"].as_str().expect("a receipt").to_owned();
    let (status, standing) = server.get(&format!("/v1/receipts/{receipt}"), &token).await;
    assert_eq!((status, standing["state"].as_str()), (200, Some("stored")), "{standing}");
    assert_eq!(
        (&standing["events"]["stored"], &standing["quarantine"]["stored"]),
        (&json!(2), &json!(1)),
        "{standing}"
    );
    assert_eq!(standing["receipt"]["records"], json!(3));

    let (status, problem) = server.get(&format!("/v1/receipts/{}x", &receipt[..receipt.len() - 1]), &token).await;
    assert_eq!(status, 400, "{problem}");
    let created = ["tokens", "create", "other", "--tenant", "globex", "--verb", "query"];
    let other = muster(folder.path(), &created).1.lines().last().expect("a token").trim().to_owned();
    let server_with_it = server.get(&format!("/v1/receipts/{receipt}"), &other).await;
    assert!(matches!(server_with_it.0, 401 | 404), "another tenant's receipt tells nothing: {server_with_it:?}");

    // The user is erased from the events; the receipt says so, and a hold would have kept them.
    let (fine, text) =
        muster(folder.path(), &["hold", "set", "case-7", "--id", "ada@example.com", "--reason", "a case"]);
    assert!(fine, "{text}");
    let erase = ["erase", "user", "ada@example.com", "--wait", "0", "--format", "json"];
    let (fine, text) = muster(folder.path(), &erase);
    assert!(!fine && text.contains("legal hold (case-7)"), "{text}");
    let (fine, text) = muster(folder.path(), &["hold", "release", "case-7"]);
    assert!(fine, "{text}");
    let (fine, text) = muster(folder.path(), &["erase", "user", "ada@example.com", "--dry-run"]);
    assert!(fine && text.contains("2 rows name the user"), "{text}");
    let (fine, text) = muster(folder.path(), &erase);
    let erased: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{fine}: {text}"));
    assert!(erased["not_reached"].to_string().contains("log: frames"), "{erased}");
    let (_, standing) = server.get(&format!("/v1/receipts/{receipt}"), &token).await;
    assert_eq!((standing["state"].as_str(), &standing["events"]["erased"]), (Some("erased"), &json!(2)), "{standing}");
    let found = server.sql(&token, "SELECT user_id, raw FROM events WHERE source = 'envoy'").await;
    assert!(found.iter().all(|row| row["user_id"] == "erased" && !row["raw"].to_string().contains("ada")), "{found:?}");
    let told =
        server.sql(&token, "SELECT action, user_id FROM events WHERE source = 'muster' ORDER BY log_offset").await;
    let told: Vec<&str> = told.iter().filter_map(|row| row["action"].as_str()).collect();
    assert_eq!(told, ["hold.set", "user.erase.begin", "hold.release", "user.erase.begin", "user.erase"]);
    let (fine, text) = muster(folder.path(), &["verify"]);
    assert!(fine && text.contains("accounted for exactly once"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fixed_mapping_moves_records_out_of_quarantine_once() {
    let own = Own::new();
    let mut server = own.start();
    let token = server.token.take().expect("a first start shows a token");
    let body = format!("{}\nnot a record", records(0..3));
    assert_eq!(server.post("/v1/ingest/mine", &token, body).await.0, 200);
    let list = own.fine(&["quarantine", "list", "--format", "json"]);
    let waiting: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(waiting.len(), 4, "{list}");
    let place = waiting[0]["place"].as_str().expect("a place");
    assert!(own.fine(&["quarantine", "show", place]).contains(r#""number":0"#));
    let stays = own.fine(&["quarantine", "redrive"]);
    assert!(stays.contains("0 records left quarantine") && stays.contains("4 stay"), "{stays}");

    server.terminate();
    own.map(&WRONG.replace("when", "at"));
    let server = own.start();
    let dry = own.fine(&["quarantine", "redrive", "--dry-run", "--reason", "no_time"]);
    assert!(dry.contains("3 records would leave quarantine"), "{dry}");
    let moved = own.fine(&["quarantine", "redrive"]);
    assert!(moved.contains("3 records left quarantine: 3 events") && moved.contains("not_json"), "{moved}");
    assert!(own.fine(&["quarantine", "redrive"]).contains("0 records left quarantine"), "once is enough");
    let ledger = server.sql(&token, MOVED).await;
    assert_eq!(ledger[0], json!({"received": 4, "mapped": 3, "quarantined": 1, "events": 3}));
    let events = server.sql(&token, "SELECT flags, door FROM events WHERE source = 'mine'").await;
    assert!(events.iter().all(|event| event["flags"].to_string().contains("backfill")), "{events:?}");
    assert_eq!(own.fine(&["quarantine", "list", "--format", "json"]).lines().count(), 1);
    let text = own.fine(&["verify"]);
    assert!(text.contains("accounted for exactly once"), "{text}");
    let metrics = server.http.get(format!("{}/metrics", server.url)).bearer_auth(&token).send().await.expect("answers");
    let metrics = metrics.text().await.expect("is text");
    assert!(metrics.contains("door=\"http\",source=\"mine\",result=\"redriven\"} 3"), "{metrics}");
}

/// Killed again and again while records are driven again: each has moved once or waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_that_is_killed_loses_and_doubles_nothing() {
    const RECORDS: usize = 3_000;
    let own = Own::new();
    let mut server = own.start();
    let token = server.token.take().expect("a first start shows a token");
    assert_eq!(server.post("/v1/ingest/mine", &token, records(0..RECORDS)).await.0, 200);
    server.kill();
    own.map(&WRONG.replace("when", "at"));
    for round in 0..6 {
        let mut server = own.start();
        let mut driving = own.command(&["quarantine", "redrive"]);
        let mut driving = driving.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("muster runs");
        let moment = Duration::from_millis(40 * round);
        tokio::time::timeout(moment, std::future::pending::<()>()).await.expect_err("only the timeout ends it");
        server.kill();
        driving.wait().expect("it ends when the server is gone");
    }
    let server = own.start();
    own.fine(&["quarantine", "redrive"]);
    let ledger = server.sql(&token, MOVED).await;
    assert_eq!(ledger[0], json!({"received": RECORDS, "mapped": RECORDS, "quarantined": 0, "events": RECORDS}));
    let found =
        server.sql(&token, "SELECT count(*) AS n, count(DISTINCT raw) AS d FROM events WHERE source = 'mine'").await;
    assert_eq!(found[0], json!({"n": RECORDS, "d": RECORDS}));
    let text = own.fine(&["verify"]);
    assert!(text.contains("accounted for exactly once"), "{text}");
}

#[test]
fn gaps_are_named() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let data = parent.path().join("data");
    let config = parent.path().join("muster.toml");
    fs::write(&config, "[[ingest.expected]]\nsource = \"okta\"\nsilence_minutes = 30\n").expect("is written");
    // A session of Teleport's whose third and fourth event were lost on the way.
    let event = |number: u32| {
        json!({"ei": number, "event": "session.command", "uid": format!("u-{number}"), "sid": "s-1", "user": "ada",
            "code": "T4000I", "time": "2026-05-04T08:30:00Z", "program": "ls"})
        .to_string()
    };
    let log = parent.path().join("teleport.jsonl");
    fs::write(&log, [0, 1, 4, 5].map(event).join("\n")).expect("is written");
    let (fine, text) = muster(&data, &["ingest", "--source", "teleport", log.to_str().expect("is text")]);
    assert!(fine, "{text}");
    let arguments = ["--config", config.to_str().expect("is text"), "status"];
    let (fine, text) = muster(&data, &arguments);
    assert!(fine && text.contains("okta: nothing for ever, declared limit 30 minutes"), "{text}");
    assert!(text.contains("GAP teleport s-1: 2 numbers missing between 0 and 5"), "{text}");
}

/// Late records land in their own day; one whose clock runs ahead is kept, flagged, and in the day that it says.
#[test]
fn late_and_early_records_land_in_their_day() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let data = parent.path().join("data");
    let call = |id: &str, time: &str| envoy_record(id, "a", "/x").replace("2026-05-04T08:30:00.123Z", time);
    let log = parent.path().join("envoy.jsonl");
    let lines = [
        call("a", "2026-05-04T08:30:00.123Z"),
        call("b", "2020-02-29T23:59:59.999Z"),
        call("c", "2099-01-01T00:00:00Z"),
    ];
    fs::write(&log, lines.join("\n")).expect("is written");
    let (fine, text) = muster(&data, &["ingest", "--source", "envoy", log.to_str().expect("is text")]);
    assert!(fine, "{text}");
    let found = rows(
        &data,
        "SELECT source_event_id AS id, event_day, array_has(flags, 'time_ahead') AS ahead FROM events ORDER BY 1",
    );
    let day =
        |row: &Value| (row["event_day"].as_str().unwrap_or("-").to_owned(), row["ahead"].as_bool().unwrap_or(false));
    let days: Vec<(String, bool)> = found.iter().map(day).collect();
    let expected = [("2026-05-04", false), ("2020-02-29", false), ("2099-01-01", true)];
    assert_eq!(days, expected.map(|(day, ahead)| (day.to_owned(), ahead)));
    let (fine, text) = muster(&data, &["keep"]);
    assert!(fine, "{text}");
    let (fine, text) = muster(&data, &["verify"]);
    assert!(fine, "{text}");
}

/// A copy made while the server works, in the order that `docs/keeping.md` says, is a whole record when it is put back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_server_can_be_restored() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let mut server = Server::start_with(&data, &[("MUSTER__LAKE__FLUSH_SECS", "1")]);
    let token = server.token.take().expect("a first start shows a token");
    let sending = tokio::spawn({
        let (http, url, token) = (server.http.clone(), server.url.clone(), token.clone());
        async move {
            for number in 0..2_000 {
                let body = envoy_record(&format!("r-{number}"), "a", "/x");
                let post = http.post(format!("{url}/v1/ingest/envoy")).bearer_auth(&token).body(body);
                if post.send().await.is_err() {
                    return;
                }
            }
        }
    });
    let count = "SELECT count(*) AS n FROM events WHERE source = 'envoy'";
    let number = |rows: Vec<Value>| rows[0]["n"].as_i64().expect("a number");
    while number(server.sql(&token, count).await) < 200 {
        tokio::task::yield_now().await;
    }
    let before = number(server.sql(&token, count).await);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/backup.sh");
    let copied = Command::new(script).arg(&data).arg(&backup).output().expect("the script runs");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    server.kill();
    sending.await.expect("it ends with the server");
    let restored = Server::start(&backup);
    let after = number(restored.sql(&token, count).await);
    assert!(after >= before, "{after} of at least {before}");
    let (fine, text) = muster(&backup, &["verify"]);
    assert!(fine && text.contains("accounted for exactly once"), "{text}");
}

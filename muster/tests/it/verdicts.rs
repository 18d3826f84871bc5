//! Verdicts from the command line and over HTTP: kept, shown, counted, and learned by the detectors.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::server::{MUSTER, Server};

const DAY_SECS: i64 = 86_400;
/// 2026-05-04, a Monday.
const START_SECS: i64 = 1_777_852_800;

/// What a command prints, and whether it succeeded.
pub(crate) fn muster(folder: &Path, arguments: &[&str]) -> (bool, String) {
    muster_with(folder, arguments, &[])
}

pub(crate) fn muster_with(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(MUSTER);
    command.arg("--data").arg(folder).args(arguments).envs(environment.iter().copied());
    let output = command.output().expect("muster runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

pub(crate) fn rows(folder: &Path, query: &str) -> Vec<Value> {
    let (fine, text) = muster(folder, &["sql", "--format", "json", query]);
    assert!(fine, "{query}: {text}");
    text.lines().map(|line| serde_json::from_str(line).expect("a row is JSON")).collect()
}

/// One call in Envoy's access log, so many days and minutes after the start.
pub(crate) fn call(agent: &str, day: i64, minute: i64, method: &str, path: &str) -> String {
    let secs = START_SECS + day * DAY_SECS + minute * 60;
    json!({
        "start_time": secs, "request_id": format!("{agent}-{secs}-{path}"), "method": method, "path": path,
        "response_code": 200, "response_flags": "-", "bytes_received": 0, "bytes_sent": 512, "duration": 12,
        "authority": "billing.example", "user_agent": "agent/1.0", "downstream_remote_address": "10.1.2.3:4711",
        "jwt_payload": {"iss": "https://id.example", "azp": agent, "sub": "ada@example.com", "scope": "read"},
    })
    .to_string()
}

/// A month in which an agent reads invoices and writes notes.
pub(crate) fn history(agent: &str) -> Vec<String> {
    let day = |day| {
        let calls = [(60, "GET", "/v1/invoices"), (61, "GET", "/v1/invoices/1"), (62, "POST", "/v1/notes")];
        calls.map(|(minute, method, path)| call(agent, day, minute, method, path))
    };
    (0..30).flat_map(day).collect()
}

/// Reads records into the folder; returns when they are judged.
pub(crate) fn ingest(folder: &Path, name: &str, records: &[String]) {
    let file = folder.parent().expect("is in a folder").join(name);
    std::fs::write(&file, records.join("\n")).expect("is written");
    let (fine, text) = muster(folder, &["ingest", "--source", "envoy", file.to_str().expect("is text")]);
    assert!(fine, "{text}");
}

#[test]
fn a_dismissed_alert_is_learned_and_both_kinds_are_counted() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let odd = |agent: &str, day| call(agent, day, 63, "DELETE", "/v1/customers/7");
    let mut records = history("one");
    records.extend(history("two"));
    records.extend([odd("one", 30), odd("two", 30)]);
    ingest(&folder, "month.jsonl", &records);
    let alert = |agent: &str| {
        let query = format!("SELECT * FROM alerts WHERE agent_id = '{agent}' AND detector = 'combination'");
        rows(&folder, &query)[0]["alert_id"].as_str().expect("an id").to_owned()
    };
    let (one, two) = (alert("one"), alert("two"));

    let (fine, text) = muster(&folder, &["alerts", "dismiss", &one[..7], "--why", "a cleanup"]);
    assert!(!fine && text.contains("first 8"), "{text}");
    let (fine, text) = muster(&folder, &["alerts", "dismiss", "00000000", "--why", "a cleanup"]);
    assert!(!fine && text.contains("no alert"), "{text}");
    let (fine, text) = muster(&folder, &["alerts", "dismiss", &one, "--why", " "]);
    assert!(!fine && text.contains("`why` needs"), "{text}");
    let (fine, text) = muster(&folder, &["alerts", "confirm", &one, "--why", "looks bad"]);
    assert!(fine && text.contains(&one), "{text}");
    let (fine, text) = muster(&folder, &["alerts", "dismiss", &one[..8], "--why", "a cleanup, after all"]);
    assert!(fine && text.contains(&one), "{text}");
    let (fine, text) = muster(&folder, &["alerts", "confirm", &two, "--why", "nobody asked for it"]);
    assert!(fine, "{text}");

    let judged = rows(&folder, "SELECT alert_id, verdict, judged_by, why FROM judged_alerts WHERE verdict IS NOT NULL");
    assert_eq!(judged.len(), 2, "{judged:?}");
    assert!(judged.contains(
        &json!({"alert_id": one, "verdict": "dismissed", "judged_by": "operator", "why": "a cleanup, after all"})
    ));
    assert_eq!(rows(&folder, "SELECT * FROM verdicts").len(), 3, "a verdict that was revised is evidence too");
    let precision = "SELECT detector, week, judged, confirmed, dismissed, precision FROM detector_precision \
                     WHERE detector = 'combination'";
    let week = json!({"detector": "combination", "week": "2026-06-01", "judged": 2, "confirmed": 1, "dismissed": 1,
        "precision": 0.5});
    assert_eq!(rows(&folder, precision), [week]);
    let (_, text) = muster(&folder, &["status"]);
    assert!(text.contains("week of 2026-06-01: 50 % right (1 of 2 judged"), "{text}");
    let (_, text) = muster(&folder, &["alerts", "show", &two]);
    assert!(text.contains("confirmed by operator") && text.contains("nobody asked for it"), "{text}");
    let (_, text) = muster(&folder, &["alerts", "list"]);
    assert!(text.contains("dismissed"), "{text}");

    ingest(&folder, "later.jsonl", &[odd("one", 33), odd("two", 33)]);
    let later = "SELECT DISTINCT agent_id FROM alerts WHERE time > TIMESTAMP '2026-06-05T00:00:00Z'";
    assert_eq!(rows(&folder, later), [json!({"agent_id": "two"})], "what was dismissed is a habit now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_only_a_person_with_the_verb_judges() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let mut server = Server::start(&folder);
    let token = server.token.take().expect("a first start shows a token");
    let mut records = history("one");
    records.push(call("one", 30, 63, "DELETE", "/v1/customers/7"));
    ingest(&folder, "month.jsonl", &records);
    let (_, machine) = muster(&folder, &["tokens", "create", "robot", "--verb", "order", "--verb", "query"]);
    let (_, reader) = muster(&folder, &["tokens", "create", "ann", "--person", "--verb", "query"]);
    let (_, other) = muster(&folder, &["tokens", "create", "bob", "--person", "--tenant", "globex", "--verb", "order"]);
    let alert = server.sql(&token, "SELECT alert_id FROM alerts").await[0]["alert_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/alerts/{alert}/verdict");
    let judge = async |token: &str, body: Value| {
        let request = server.http.post(format!("{}{path}", server.url)).bearer_auth(token.trim()).json(&body);
        request.send().await.unwrap().status().as_u16()
    };
    let said = json!({"verdict": "confirmed", "why": "seen"});
    assert_eq!(judge(&machine, said.clone()).await, 403);
    assert_eq!(judge(&reader, said.clone()).await, 403);
    assert_eq!(judge(&other, said.clone()).await, 404, "another tenant's alert is none");
    assert_eq!(judge(&token, json!({"verdict": "perhaps", "why": "seen"})).await, 422);
    assert_eq!(judge(&token, said).await, 200);
    let (status, alerts) = server.get("/v1/alerts", &token).await;
    let judged = |alert: &&Value| alert["verdict"] == "confirmed" && alert["judged_by"] == "first";
    assert!(status == 200 && alerts["alerts"].as_array().unwrap().iter().filter(judged).count() == 1, "{alerts}");
}

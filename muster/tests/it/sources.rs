//! A user's own sources, registry and token join with the real process: reload while serving, restart, drafts.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{MUSTER, Server};

const MAPPING: &str = r#"
classify = [["token.*", "auth", 3002, 1]]
[columns]
time = "at"
action = "did"
agent_id = "client"
user_id = "user"
token_id = "token"
outcome = "'success'"
"#;
const REGISTRY: &str =
    "[[agents]]\nid = \"invoice-bot\"\nowner = \"finance\"\naliases = [{ source = \"mine\", id = \"client-7\" }]\n";
const JTI: &str = "9f2c1d7e-30b4-4c8a-9d5e-6a7b8c9d0e1f";
const PATIENCE: Duration = Duration::from_secs(20);

fn muster(data: &Path, arguments: &[&str]) -> Output {
    Command::new(MUSTER).arg("--data").arg(data).args(arguments).output().expect("muster runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Asks until the answer is as wanted; a file's change is seen within a poll.
async fn until(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !ask().await {
        assert!(Instant::now() < end, "{what} did not come");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mappings_change_under_a_running_server_and_what_was_joined_stays_after_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, own) = (folder.path().join("data"), folder.path().join("sources"));
    fs::create_dir(&own).expect("is made");
    fs::write(own.join("mine.toml"), MAPPING).expect("is written");
    let registry = folder.path().join("agents.toml");
    fs::write(&registry, REGISTRY).expect("is written");
    let environment = [
        ("MUSTER__INGEST__SOURCES_FOLDER", own.to_str().expect("is text")),
        ("MUSTER__INGEST__SOURCES_POLL_SECS", "1"),
        ("MUSTER__REGISTRY__FILE", registry.to_str().expect("is text")),
    ];
    let mut server = Server::start_with(&data, &environment);
    let token = server.token.take().expect("a first start shows a token");
    let version = |output: &Output| {
        let line = text(output).lines().find(|line| line.starts_with("mine ")).map(str::to_owned);
        line.and_then(|line| line.split_whitespace().nth(1).map(str::to_owned)).expect("the source is listed")
    };
    let first = version(&muster(&data, &["sources", "list"]));

    // Broken: told with file, line and key; the old one serves on.
    fs::write(own.join("mine.toml"), MAPPING.replace("user_id", "user_idd")).expect("is written");
    until("the mistake", async || text(&muster(&data, &["sources", "list"])).contains("not in force")).await;
    let status = text(&muster(&data, &["status"]));
    assert!(status.contains("mine.toml:7: columns.user_idd: unknown column; did you mean `user_id`?"), "{status}");
    let metrics = server.http.get(format!("{}/metrics", server.url)).bearer_auth(&token).send().await.expect("answers");
    let metrics = metrics.text().await.expect("is text");
    let line = metrics.lines().find(|line| line.starts_with("muster_sources_broken{")).expect("is there");
    assert!(line.contains("mine.toml") && line.contains("line=\"7\"") && line.contains("columns.user_idd"), "{line}");
    assert_eq!(version(&muster(&data, &["sources", "list"])), first);
    let grant = json!({"at": 1_767_225_600, "did": "token.grant", "client": "client-7", "user": "ann", "token": JTI});
    let (status, receipt) = server.post("/v1/ingest/mine", &token, grant.to_string()).await;
    assert_eq!((status, receipt["events"].as_i64()), (200, Some(1)), "{receipt}");

    // Right again, with another version in force.
    fs::write(own.join("mine.toml"), format!("title = \"Mine\"\n{MAPPING}")).expect("is written");
    until("the new version", async || version(&muster(&data, &["sources", "list"])) != first).await;
    server.kill();

    let server = Server::start_with(&data, &environment);
    let used = json!({"at": 1_767_225_700, "did": "GET /x", "token": JTI});
    assert_eq!(server.post("/v1/ingest/mine", &token, used.to_string()).await.0, 200);
    let rows = server
        .sql(&token, "SELECT agent_id, agent_alias, agent_owner, user_id, flags FROM events WHERE action = 'GET /x'")
        .await;
    let row: &Value = &rows[0];
    let told = ["agent_id", "agent_alias", "agent_owner", "user_id"].map(|column| row[column].as_str().unwrap_or("-"));
    assert_eq!(told, ["invoice-bot", "client-7", "finance", "ann"], "{row}");
    assert!(row["flags"].to_string().contains("token_join"), "{row}");
}

#[test]
fn a_wrong_registry_stops_the_start_with_line_and_key() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = folder.path().join("agents.toml");
    fs::write(&registry, REGISTRY.replace("mine", "konk")).expect("is written");
    let mut command = Command::new(MUSTER);
    command.arg("--data").arg(folder.path().join("data")).env("MUSTER__REGISTRY__FILE", &registry);
    let output = command.args(["config", "check"]).output().expect("muster runs");
    assert!(!output.status.success());
    let said = text(&output);
    assert!(
        said.contains("agents.toml:4: agents[0].aliases[0].source: there is no source `konk`; did you mean `kong`?"),
        "{said}"
    );
}

#[test]
fn a_draft_is_written_tested_and_never_over_another() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sample = folder.path().join("sample.jsonl");
    let record =
        r#"{"timestamp":"2026-02-03T04:05:06Z","client_id":"c-1","action":"report.export","sub":"ann@corp.test"}"#;
    fs::write(&sample, record).expect("is written");
    let out = folder.path().join("own");
    let new = [
        "sources",
        "new",
        "mine",
        "--sample",
        sample.to_str().expect("is text"),
        "--out",
        out.to_str().expect("is text"),
    ];
    let output = muster(folder.path(), &new);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("agent_id           client_id"), "{}", text(&output));
    let again = muster(folder.path(), &new);
    assert!(!again.status.success() && text(&again).contains("is there already"), "{}", text(&again));

    let test =
        |format: &str| muster(folder.path(), &["sources", "test", out.to_str().expect("is text"), "--format", format]);
    assert!(test("text").status.success(), "{}", text(&test("text")));
    // A wrong expectation and a broken file are told with file, line and key, and stop no other.
    let fixtures = out.join("mine.fixtures.toml");
    let wrong = fs::read_to_string(&fixtures).expect("is there").replace("effect = \"export\"", "effect = \"read\"");
    fs::write(&fixtures, wrong).expect("is written");
    fs::write(out.join("broken.toml"), "[columns]\ntimee = \"t\"\n").expect("is written");
    let output = test("json");
    assert!(!output.status.success());
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let problem =
        |source: &str| lines.iter().find(|line| line["source"] == source).map(|line| line["problems"][0].clone());
    let flaw = problem("mine").expect("is listed");
    assert_eq!(flaw["key"], "fixture[0].event.effect", "{flaw}");
    assert_eq!(flaw["message"], "expected \"read\", found \"export\" (first record of the sample)");
    assert!(
        flaw["line"].as_u64().is_some_and(|line| line > 5) && flaw["file"].to_string().contains("mine.fixtures.toml")
    );
    let broken = problem("broken").expect("is listed");
    assert_eq!((&broken["line"], &broken["key"]), (&2.into(), &"columns.timee".into()));
}

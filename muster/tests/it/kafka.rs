//! The log in a real Apache Kafka, whose address is in `MUSTER_KAFKA` (`.ci/kafka` starts one). Without it the tests skip; those of
//! single roles need the lake in a bucket too (`.ci/roles`).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::process::Command;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use crate::s3;
use crate::server::{MUSTER, Server};
use crate::verdicts::{call, history, ingest, muster_with, rows};

const PARTITIONS: i32 = 4;

/// The value of `MUSTER__LOG__KAFKA` with a topic of its own; nothing where there is no broker.
pub(crate) fn settings(name: &str) -> Option<String> {
    let Ok(bootstrap) = std::env::var("MUSTER_KAFKA") else {
        eprintln!("SKIPPED: MUSTER_KAFKA names no broker");
        return None;
    };
    let topic = format!("{name}-{:016x}", RandomState::new().build_hasher().finish());
    Some(format!(r#"{{ topic = "{topic}", partitions = {PARTITIONS}, client = {{ bootstrap = ["{bootstrap}"] }} }}"#))
}

fn muster(folder: &Path, arguments: &[&str], kafka: &str) -> String {
    let mut command = Command::new(MUSTER);
    let output = command.env("MUSTER__LOG__KAFKA", kafka).arg("--data").arg(folder).args(arguments).output();
    let output = output.expect("muster runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

const AGENTS: [&str; 6] = ["billing", "support", "pricing", "ledger", "search", "audit"];

fn records() -> Vec<String> {
    let mut records: Vec<String> = AGENTS.iter().flat_map(|agent| history(agent)).collect();
    records.sort_by_key(|record| serde_json::from_str::<Value>(record).expect("is JSON")["start_time"].as_i64());
    records.extend(AGENTS[..3].iter().map(|agent| call(agent, 31, 63, "DELETE", "/v1/customers/7")));
    records
}

const ALERTS: &str = "SELECT alert_id, detector, agent_id, title FROM alerts ORDER BY alert_id";

#[test]
fn kafka_gives_the_alerts_of_the_embedded_log() {
    let Some(kafka) = settings("alerts") else { return };
    let parent = tempfile::tempdir().expect("a temporary folder");
    let (embedded, there) = (parent.path().join("embedded"), parent.path().join("kafka"));
    ingest(&embedded, "records.json", &records());
    let expected = rows(&embedded, ALERTS);
    assert!(expected.len() >= 3, "there is something to alert about: {expected:?}");
    let file = parent.path().join("records.json");
    let file = file.to_str().expect("is text");
    // Alerts' ids hang on the installation's key.
    std::fs::create_dir_all(&there).expect("a folder");
    std::fs::copy(embedded.join("installation.key"), there.join("installation.key")).expect("a key");
    muster(&there, &["ingest", "--source", "envoy", file], &kafka);
    let found = muster(&there, &["sql", "--format", "json", ALERTS], &kafka);
    let found: Vec<Value> = found.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(found, expected);
    // A repeat of all of it is told as such, and changes nothing but the ledger.
    muster(&there, &["ingest", "--source", "envoy", file], &kafka);
    let count = "SELECT sum(received) AS received, sum(mapped) AS mapped, sum(duplicates) AS duplicates, \
                 (SELECT count(*) FROM events) AS events FROM ingest_ledger";
    let found = muster(&there, &["sql", "--format", "json", count], &kafka);
    let found: Value = found.lines().find_map(|line| serde_json::from_str(line).ok()).expect("a row");
    let sent = records().len();
    assert_eq!(found, serde_json::json!({"received": 2 * sent, "mapped": sent, "duplicates": sent, "events": sent}));
    assert!(muster(&there, &["verify"], &kafka).contains("frames"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_receipts_know_what_the_readers_found_to_be_duplicates() {
    let Some(kafka) = settings("receipts") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start_with(folder.path(), &[("MUSTER__LOG__KAFKA", &kafka)]);
    let token = server.token.clone().expect("the first start shows one");
    let body = format!("{}\nno record", records()[..40].join("\n"));
    for time in 0..2 {
        let (status, told) = server.post("/v1/ingest/envoy", &token, body.clone()).await;
        assert_eq!(
            (status, told["received"].as_i64(), told["quarantined"].as_i64()),
            (200, Some(41), Some(1)),
            "{told}"
        );
        let receipt = told["receipt"].as_str().expect("a receipt").to_owned();
        let (_, standing) = server.get(&format!("/v1/receipts/{receipt}"), &token).await;
        assert_eq!(standing["state"], "stored", "{standing}");
        assert_eq!(standing["events"]["stored"], if time == 0 { 40 } else { 0 }, "{standing}");
    }
    let events = server.sql(&token, "SELECT count(*) AS n FROM events WHERE source = 'envoy'").await;
    assert_eq!(events[0]["n"], 40, "visible at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_commands_see_the_tail_and_say_what_is_in_no_table() {
    const WAITING: &str = "rows of the log are not in the tables yet";
    let (Some(kafka), Some((endpoint, bucket))) = (settings("commands"), s3::server()) else { return };
    let lake = s3::place(&bucket, "commands");
    let parent = tempfile::tempdir().expect("a temporary folder");
    let folder = parent.path().join("data");
    // Nobody writes the tables.
    let roles = [("MUSTER__LOG__KAFKA", &*kafka), ("MUSTER__SERVER__ROLES", r#"["ingest", "query"]"#)];
    let environment = [&s3::environment(&endpoint, &lake)[..], &roles].concat();
    let mut server = Server::start_with(&folder, &environment);
    let token = server.token.clone().expect("the first start shows one");
    let (posted, filed) = (records()[..40].join("\n"), records()[40..60].join("\n"));
    let (status, told) = server.post("/v1/ingest/envoy", &token, posted).await;
    assert_eq!(status, 200, "{told}");
    let file = parent.path().join("records.json");
    std::fs::write(&file, filed).expect("is written");
    let file = file.to_str().expect("is text");
    let (fine, told) = muster_with(&folder, &["ingest", "--source", "envoy", file], &environment);
    assert!(fine && told.contains(WAITING), "{told}");
    let (fine, told) = muster_with(&folder, &["verify"], &environment);
    assert!(fine && told.contains(WAITING) && told.contains("every record in the tables is accounted for"), "{told}");
    assert!(server.terminate().success());

    // Without a server the command is all there is.
    let count = ["sql", "--format", "json", "SELECT count(*) AS n FROM events WHERE source = 'envoy'"];
    let (fine, told) = muster_with(&folder, &count, &environment);
    assert!(fine && told.lines().any(|line| line == r#"{"n":60}"#), "{told}");
    for (command, shown) in [("status", "received 60 = mapped 60"), ("agents", "billing")] {
        let (fine, told) = muster_with(&folder, &[command], &environment);
        assert!(fine && told.contains(shown), "{command}: {told}");
    }
    let (fine, told) = muster_with(&folder, &["verify"], &environment);
    assert!(fine && !told.contains(WAITING) && told.contains("every record is accounted for exactly once"), "{told}");
}

/// Deletes all messages of the topic in these settings, as its retention would.
async fn delete_all(settings: &str) {
    let topic = settings.split('"').nth(1).expect("the topic comes first");
    let bootstrap = std::env::var("MUSTER_KAFKA").expect("there are settings");
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::End).expect("an offset");
    }
    let done = admin.delete_records(&list, &AdminOptions::new()).await.expect("is deleted");
    done.elements().iter().for_each(|one| one.error().expect("is deleted"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_told_what_was_deleted_before_they_read_it() {
    let (Some(kafka), Some((endpoint, bucket))) = (settings("unread"), s3::server()) else { return };
    let lake = s3::place(&bucket, "unread");
    let parent = tempfile::tempdir().expect("a temporary folder");
    let folder = parent.path().join("data");
    let file = parent.path().join("records.json");
    std::fs::write(&file, records()[..60].join("\n")).expect("is written");
    let again = ["ingest", "--source", "envoy", file.to_str().expect("is text")];
    let environment = [&s3::environment(&endpoint, &lake)[..], &[("MUSTER__LOG__KAFKA", &*kafka)]].concat();
    for command in [&again[..], &["verify"]] {
        let (fine, told) = muster_with(&folder, command, &environment);
        assert!(fine, "{told}");
    }
    // What comes now nobody judges or writes before it is gone.
    let roles = |roles| [&environment[..], &[("MUSTER__SERVER__ROLES", roles)]].concat();
    let mut server = Server::start_with(&folder, &roles(r#"["ingest"]"#));
    let token = server.token.clone().expect("the first start shows one");
    let (status, told) = server.post("/v1/ingest/envoy", &token, records()[60..].join("\n")).await;
    assert_eq!(status, 200, "{told}");
    assert!(server.terminate().success());
    delete_all(&kafka).await;

    let (fine, told) = muster_with(&folder, &["verify"], &roles(r#"["lake"]"#));
    assert!(!fine && told.contains("the tables need the log unread-") && told.contains("retention"), "{told}");
    let (fine, told) = muster_with(&folder, &again, &roles(r#"["ingest", "detect"]"#));
    assert!(!fine && told.contains("the detectors need the log unread-"), "{told}");
    assert!(told.contains("Kafka has deleted it up to") && told.contains("muster learn"), "{told}");
}

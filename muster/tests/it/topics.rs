//! Topics of a real Apache Kafka as a door: `eval "$(.ci/kafka start FOLDER)"`, then `cargo test kafka_`. Without
//! `MUSTER_KAFKA` these tests say that they skip.

use std::path::Path;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::server::{Server, envoy_record};
use crate::verdicts::muster;

const PATIENCE: Duration = Duration::from_secs(30);
const PARTITIONS: i32 = 3;
/// Rounds that end with a kill, and what is sent in each.
const KILLS: usize = 6;
const ROUND_MESSAGES: usize = 400;

/// The brokers of a variable that `.ci/kafka` sets.
fn brokers(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    if found.is_none() {
        eprintln!("SKIPPED: {variable} names no Kafka (.ci/kafka starts one)");
    }
    found
}

/// A topic of the test's own, and somebody who writes into it.
struct Topic {
    name: String,
    producer: BaseProducer,
}

impl Topic {
    async fn new(brokers: &str, name: &str) -> Topic {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("enable.idempotence", "true");
        let name = format!("{name}-{}", std::process::id());
        let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
        let topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
        let made = admin.create_topics([&topic], &AdminOptions::new().operation_timeout(Some(PATIENCE))).await;
        assert!(made.expect("Kafka answers").iter().all(Result::is_ok));
        Topic { name, producer: config.create().expect("a producer") }
    }

    fn send(&self, messages: impl IntoIterator<Item = String>) {
        for (number, message) in messages.into_iter().enumerate() {
            let record = BaseRecord::<(), String>::to(&self.name).payload(&message);
            let record = record.partition(number as i32 % PARTITIONS);
            self.producer.send(record).map_err(|(error, _)| error).expect("there is room in the producer");
        }
        self.producer.flush(PATIENCE).expect("Kafka takes them");
    }

    /// The environment of a server that reads it.
    fn door(&self, client: &str, more: &str) -> String {
        format!("[{{ name = \"gateway\", topic = \"{}\", source = \"envoy\", client = {client}{more} }}]", self.name)
    }
}

async fn one(server: &Server, token: &str, sql: &str) -> Value {
    server.sql(token, sql).await.into_iter().next().expect("a row")
}

/// Waits until the ledger says that so many records were received.
async fn received(server: &Server, token: &str, wanted: i64) -> Value {
    let sql = "SELECT sum(received) AS received, sum(mapped) AS mapped, sum(quarantined) AS quarantined, \
         sum(duplicates) AS duplicates FROM ingest_ledger WHERE door = 'kafka'";
    let mut last = Value::Null;
    for _ in 0..600 {
        last = one(server, token, sql).await;
        if last["received"].as_i64().unwrap_or(0) >= wanted {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{wanted} records never came: {last}; {}", server.get("/v1/status", token).await.1["kafka"])
}

fn environment(door: &str) -> [(&str, &str); 2] {
    [("MUSTER__INGEST__KAFKA", door), ("MUSTER__LAKE__FLUSH_SECS", "1")]
}

/// Killed while it reads, again and again: each record is there once, those in quarantine too, and nothing was even taken
/// twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_records_are_taken_once_whatever_is_killed() {
    let Some(brokers) = brokers("MUSTER_KAFKA") else { return };
    let topic = Topic::new(&brokers, "killed").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let door = topic.door(&format!("{{ bootstrap = [\"{brokers}\"] }}"), ", may_act = true");
    let mut token = String::new();
    for round in 0..KILLS {
        let mut server = Server::start_with(folder.path(), &environment(&door));
        token = server.token.take().unwrap_or(token);
        for part in 0..4 {
            topic
                .send((0..ROUND_MESSAGES / 4).map(|i| message(round * ROUND_MESSAGES + part * ROUND_MESSAGES / 4 + i)));
            tokio::time::sleep(Duration::from_millis(37 * (round as u64 % 4))).await;
        }
        // Some are killed before the partitions have come, some deep in reading.
        tokio::time::sleep(Duration::from_millis(700 * (round as u64 % 3))).await;
        server.kill();
    }
    let sent = KILLS * ROUND_MESSAGES;
    let (bad, records) = (sent.div_ceil(50), sent.div_ceil(50) + (sent - sent.div_ceil(50)) * 2);
    let server = Server::start_with(folder.path(), &environment(&door));
    let ledger = received(&server, &token, records as i64).await;
    let mapped = records - bad;
    assert_eq!(ledger, json!({"received": records, "mapped": mapped, "quarantined": bad, "duplicates": 0}));
    let events = one(
        &server,
        &token,
        "SELECT count(*) AS n, count(DISTINCT source_event_id) AS ids FROM events WHERE source = 'envoy'",
    )
    .await;
    assert_eq!(events, json!({"n": mapped, "ids": mapped}));
    let refused =
        one(&server, &token, "SELECT count(*) AS n, count(DISTINCT raw) AS ids FROM quarantine WHERE door = 'kafka'")
            .await;
    assert_eq!(refused, json!({"n": bad, "ids": bad}));
    let (fine, told) = muster(folder.path(), &["verify"]);
    assert!(fine, "{told}");
}

/// Two records, or every fiftieth time something that is none.
fn message(number: usize) -> String {
    if number.is_multiple_of(50) {
        return format!("no record {number}");
    }
    let record =
        |part: &str| envoy_record(&format!("{number}-{part}"), &format!("agent-{}", number % 7), "/invoices/1");
    format!("{}\n{}", record("a"), record("b"))
}

/// Over TLS, with a user and a password from the environment; the tenant is the door's, and history is flagged as such.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_read_over_tls_by_a_user() {
    let (Some(brokers), Some(secure)) = (brokers("MUSTER_KAFKA"), brokers("MUSTER_KAFKA_SECURE")) else { return };
    let certificates = std::env::var("MUSTER_KAFKA_CA").expect(".ci/kafka names the certificate");
    let topic = Topic::new(&brokers, "secure").await;
    topic.send([String::new(), message(1), "  \n".to_owned()]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let client = format!(
        "{{ bootstrap = [\"{secure}\"], security = \"sasl_ssl\", sasl_mechanism = \"plain\", sasl_user = \"muster\", \
         sasl_password_env = \"KAFKA_PASSWORD\", ca_file = \"{certificates}\" }}"
    );
    let door = topic.door(&client, "");
    let settings = [("MUSTER__INGEST__KAFKA", door.as_str()), ("KAFKA_PASSWORD", "wrong")];
    let mut server = Server::start_with(folder.path(), &settings);
    let token = server.token.take().expect("a first start");
    let waits = waits(&server, &token).await;
    assert!(waits.to_lowercase().contains("auth"), "{waits}");
    drop(server);

    let settings = [settings[0], ("KAFKA_PASSWORD", "secret")];
    let server = Server::start_with(folder.path(), &settings);
    received(&server, &token, 2).await;
    let flagged =
        one(&server, &token, "SELECT count(*) AS n FROM events WHERE door = 'kafka' AND array_has(flags, 'backfill')")
            .await;
    assert_eq!(flagged["n"], 2);
    let status = server.get("/v1/status", &token).await.1;
    assert_eq!((&status["kafka"][0]["lost"], &status["kafka"][0]["error"]), (&json!(0), &Value::Null), "{status}");
    assert!(!secret_in(folder.path()), "the password lies nowhere");
}

/// Why the door waits, once it does.
async fn waits(server: &Server, token: &str) -> String {
    for _ in 0..600 {
        let status = server.get("/v1/status", token).await.1;
        if let Some(error) = status["kafka"][0]["error"].as_str() {
            return error.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the door never said why it waits")
}

fn secret_in(folder: &Path) -> bool {
    let doors = std::fs::read_dir(folder.join("doors")).expect("the door keeps its cursor");
    let mut texts = doors.map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).unwrap_or_default());
    texts.any(|text| text.contains("KAFKA_PASSWORD") || text.contains("secret"))
}

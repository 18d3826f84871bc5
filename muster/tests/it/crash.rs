//! `kill -9` at random moments under mixed load: each acknowledged event is in SQL exactly once, each other at most once,
//! and log, ledger and tables agree. While writers post, tables are written, merged and cleared away, quarantined records
//! are driven again, and questions are asked. `MUSTER_KILLS` and `MUSTER_SEED` make more of it, and other moments.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::kafka;
use crate::server::{MUSTER, Server, envoy_record};
use crate::verdicts::muster_with;

/// Unless `MUSTER_KILLS` says otherwise.
const KILLS: u64 = 50;
/// A start reads back what the filter must know of.
const KAFKA_KILLS: u64 = 10;
const FLUSHES: (&str, &str) = ("MUSTER__LAKE__FLUSH_SECS", "1");
const WRITERS: u64 = 4;
const RECORDS_A_POST: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_lose_nothing_and_double_nothing() {
    kills_lose_nothing(KILLS, &[FLUSHES]).await;
}

/// The same with the log in Kafka.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_kills_lose_nothing_and_double_nothing() {
    let Some(kafka) = kafka::settings("kills") else { return };
    kills_lose_nothing(KAFKA_KILLS, &[FLUSHES, ("MUSTER__LOG__KAFKA", &kafka)]).await;
}

async fn kills_lose_nothing(kills: u64, environment: &[(&str, &str)]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    survive(folder.path(), kills, environment).await;
}

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Starts and kills under load so many times, or as many as `MUSTER_KILLS` says, then counts.
pub(crate) async fn survive(folder: &Path, kills: u64, environment: &[(&str, &str)]) {
    let kills = number("MUSTER_KILLS").unwrap_or(kills);
    let mut chance = Chance(number("MUSTER_SEED").unwrap_or(0x5eed));
    let (sent, acknowledged) = (Arc::new(Mutex::new(HashSet::new())), Arc::new(Mutex::new(HashSet::new())));
    let mut token = String::new();
    for round in 0..kills {
        let mut server = Server::start_with(folder, environment);
        if let Some(first) = server.token.take() {
            token = first;
        }
        let server_url = server.url.clone();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (sent, acknowledged) = (sent.clone(), acknowledged.clone());
                tokio::spawn(write(server_url.clone(), token.clone(), round * WRITERS + writer, sent, acknowledged))
            })
            .collect();
        // The moment of the kill is what is random here: some while starting to write, some deep in a flush.
        let moment = Duration::from_millis(chance.below(if round % 5 == 0 { 2_000 } else { 250 }));
        let others = [&["keep"][..], &["quarantine", "redrive"], &["sql", "SELECT count(*) FROM events"]];
        let mut others = others.map(|arguments| command(folder, arguments, environment));
        tokio::time::timeout(moment, std::future::pending::<()>()).await.expect_err("only the timeout ends it");
        server.kill();
        others.iter_mut().for_each(|child| drop(child.wait()));
        for writer in writers {
            writer.await.expect("a writer ends when the server is gone");
        }
    }

    let server = Server::start_with(folder, environment);
    let ledger = server.sql(&token, LEDGER).await;
    let rows = server
        .sql(&token, "SELECT source_event_id AS id, count(*) AS n FROM events WHERE source = 'envoy' GROUP BY 1")
        .await;
    let found: HashMap<String, i64> = rows
        .iter()
        .map(|row| (row["id"].as_str().expect("an id").to_owned(), row["n"].as_i64().expect("a count")))
        .collect();
    let (sent, acknowledged) = (sent.lock().expect("is free"), acknowledged.lock().expect("is free"));
    assert!(acknowledged.len() > 100, "the load was too small to show anything: {}", acknowledged.len());
    for id in acknowledged.iter() {
        assert_eq!(found.get(id), Some(&1), "the acknowledged record {id} must be there exactly once");
    }
    for (id, count) in &found {
        assert!(sent.contains(id), "{id} was never sent");
        assert_eq!(*count, 1, "{id} is there {count} times");
    }
    assert_eq!(ledger[0]["mapped"].as_i64(), Some(found.len() as i64), "the ledger counts what is there");
    let (fine, text) = muster_with(folder, &["verify"], environment);
    assert!(fine, "{text}");
    eprintln!(
        "{kills} kills: {} sent, {} acknowledged, {} stored\n{text}",
        sent.len(),
        acknowledged.len(),
        found.len()
    );
}

/// Work beside the writers, which ends with the server.
fn command(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Child {
    let mut command = Command::new(MUSTER);
    command.arg("--data").arg(folder).args(arguments).envs(environment.iter().copied());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("muster runs")
}

const LEDGER: &str = "SELECT sum(mapped) AS mapped FROM ingest_ledger WHERE source = 'envoy'";

type Ids = Arc<Mutex<HashSet<String>>>;

/// Posts batches, some of them twice, until the server is gone.
async fn write(url: String, token: String, writer: u64, sent: Ids, acknowledged: Ids) {
    let http = reqwest::Client::new();
    for batch in 0..1_000 {
        let ids: Vec<String> = (0..RECORDS_A_POST).map(|i| format!("{writer}-{batch}-{i}")).collect();
        let lines: Vec<String> =
            ids.iter().map(|id| envoy_record(id, &format!("agent-{}", writer % 7), "/invoices/1")).collect();
        // A line that is no record goes to quarantine, and stays there.
        let body = format!("{}\nno record {writer} {batch}", lines.join("\n"));
        sent.lock().expect("is free").extend(ids.iter().cloned());
        for _ in 0..1 + batch % 2 {
            let post = http.post(format!("{url}/v1/ingest/envoy")).bearer_auth(&token).body(body.clone());
            match post.send().await {
                Ok(response) if response.status().is_success() => {
                    acknowledged.lock().expect("is free").extend(ids.iter().cloned());
                }
                Ok(response) => panic!("{}", response.text().await.unwrap_or_default()),
                Err(_) => return,
            }
        }
    }
}

/// A small deterministic sequence (splitmix64): the same kills in each run, as far as the machine allows.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

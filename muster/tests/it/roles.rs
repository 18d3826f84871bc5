//! Several processes on one log and one lake: three take records, two write the tables, two judge, one answers questions, is told
//! what a person thinks of an alert, and stops an agent. Against
//! a real Apache Kafka and a real S3-compatible server at once, both named in the environment (`.ci/roles` does); else skipped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::crash::{Chance, number};
use crate::server::{Server, envoy_record};
use crate::verdicts::{call, history, muster_with};
use crate::{kafka, s3};

/// Unless `MUSTER_KILLS` says otherwise.
const KILLS: u64 = 14;
const ROLES: [&str; 8] = ["ingest", "ingest", "ingest", "lake", "lake", "detect", "detect", "respond,query"];
const KILLED: usize = 7;
/// One that judges.
const DETECTS: usize = 5;
const AGENTS: [&str; 8] = ["billing", "support", "pricing", "ledger", "search", "audit", "orders", "stock"];
/// Those that do at the end what they never did.
const ODD: usize = 4;
const RECORDS_A_POST: usize = 6;
const FILLERS: usize = 4;
/// Of the agent that is stopped, the time is that of the run.
const STOPPED: &str = "stock";
const ALERTS: &str = "SELECT alert_id, detector, agent_id, title, score, explanation, verdict FROM judged_alerts \
     WHERE agent_id <> 'stock' ORDER BY alert_id";
const OF_STOPPED: &str = "SELECT DISTINCT detector, title FROM alerts WHERE agent_id = 'stock' ORDER BY detector";
/// So long after it was stopped an agent may still be seen.
const AFTER_KILL_SECS: u64 = 1;
/// What a person orders is done at once.
const SETTINGS: [(&str, &str); 3] = [
    ("MUSTER__DETECT__AFTER_KILL_SECS", "1"),
    ("MUSTER__RESPOND__APPROVALS", "0"),
    ("MUSTER__RESPOND__ACTIVE_AGENTS_SHARE_MAX", "1"),
];
const COUNTS: &str = "SELECT count(*) AS n, count(DISTINCT source_event_id) AS ids, \
     (SELECT sum(mapped) FROM ingest_ledger) AS mapped, (SELECT count(*) FROM quarantine) AS refused FROM events";
/// How long a writer's records are to last, about.
const PACE: Duration = Duration::from_secs(40);
const PATIENCE: Duration = Duration::from_secs(180);

/// A process that is started again after each kill, on its own folder.
struct Process {
    folder: PathBuf,
    role: &'static str,
    server: Option<Server>,
}

impl Process {
    fn start(&mut self, environment: &[(&str, &str)]) {
        let roles = serde_json::to_string(&self.role.split(',').collect::<Vec<_>>()).expect("is JSON");
        let own = [("MUSTER__SERVER__ROLES", roles.as_str())];
        self.server = Some(Server::start_with(&self.folder, &[environment, &own].concat()));
    }
}

/// Addresses of the processes that take records now; those that are down are empty.
type Doors = Arc<Mutex<Vec<String>>>;

/// Posts an agent's records in their order, each batch until some process has acknowledged it.
async fn write(doors: Doors, token: String, records: Vec<String>, seed: u64, acknowledged: Arc<AtomicUsize>) {
    let (http, mut chance) = (reqwest::Client::new(), Chance(seed));
    let batches = records.len().div_ceil(RECORDS_A_POST) as u64;
    for batch in records.chunks(RECORDS_A_POST) {
        loop {
            let door = {
                let doors = doors.lock().expect("is free");
                doors[chance.below(doors.len() as u64) as usize].clone()
            };
            let post = http.post(format!("{door}/v1/ingest/envoy")).bearer_auth(&token).body(batch.join("\n"));
            match post.timeout(Duration::from_secs(20)).send().await {
                Ok(response) if response.status().is_success() => break,
                Ok(response) if [429, 503].contains(&response.status().as_u16()) => {}
                Ok(response) => panic!("{}", response.text().await.unwrap_or_default()),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        acknowledged.fetch_add(batch.len(), Ordering::SeqCst);
        if batches > 1 {
            tokio::time::sleep(Duration::from_millis(chance.below(2 * PACE.as_millis() as u64 / batches))).await;
        }
    }
}

/// What the agents do, each in order: first what is usual, then what is odd.
fn usual() -> Vec<Vec<String>> {
    let fillers = (0..FILLERS).map(|filler| {
        (0..400).map(|i| envoy_record(&format!("f-{filler}-{i}"), &format!("filler-{filler}"), "/v1/stock")).collect()
    });
    AGENTS.iter().map(|agent| history(agent)).chain(fillers).collect()
}

fn odd(day: i64) -> Vec<String> {
    AGENTS[..ODD].iter().map(|agent| call(agent, day, 63, "DELETE", "/v1/customers/7")).collect()
}

/// In the middle a person dismisses an alert, and stops an agent; what the agent does after that.
async fn intervene(server: &Server, token: &str) -> String {
    let raised = server.sql(token, ALERTS).await;
    let alert = raised.iter().find(|alert| alert["agent_id"] == AGENTS[0]).expect("it did something odd");
    let path = format!("/v1/alerts/{}/verdict", alert["alert_id"].as_str().expect("an id"));
    let said = json!({"verdict": "dismissed", "why": "a cleanup"});
    let wanted = json!({"target": {"kind": "agent", "agent": STOPPED}, "reason": "to see that it stops"});
    for (path, body) in [(path.as_str(), said), ("/v1/orders", wanted)] {
        let request = server.http.post(format!("{}{path}", server.url)).bearer_auth(token).json(&body);
        let response = request.send().await.expect("answers");
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap_or_default());
    }
    let orders = "SELECT state FROM orders WHERE state IN ('executing', 'executed')";
    until("the order is in the log", async || !server.sql(token, orders).await.is_empty()).await;
    tokio::time::sleep(Duration::from_secs(AFTER_KILL_SECS + 3)).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("is later").as_secs() as i64;
    let mut record: Value = serde_json::from_str(&call(STOPPED, 0, 0, "GET", "/v1/invoices")).expect("is JSON");
    (record["start_time"], record["request_id"]) = (now.into(), "after-the-order".into());
    record.to_string()
}

/// Alerts of one process with the embedded log, of all agents and of the one that is stopped; the number of records, and the token.
async fn expected(folder: &Path) -> ([Vec<Value>; 2], usize, String) {
    let mut server = Server::start_with(folder, &SETTINGS);
    let token = server.token.take().expect("a first start shows one");
    let (doors, count) = (Arc::new(Mutex::new(vec![server.url.clone()])), Arc::new(AtomicUsize::new(0)));
    for (seed, records) in (0..).zip(usual()) {
        // A line after the other is what the agents' own order needs; all at once is faster.
        let body = records.join("\n");
        let (status, told) = server.post("/v1/ingest/envoy", &token, body).await;
        assert_eq!(status, 200, "{told} {seed}");
        count.fetch_add(records.len(), Ordering::SeqCst);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    write(doors.clone(), token.clone(), odd(31), 1, count.clone()).await;
    until("there is something to judge", async || server.sql(&token, ALERTS).await.len() >= ODD).await;
    let after = intervene(&server, &token).await;
    write(doors.clone(), token.clone(), odd(32), 1, count.clone()).await;
    write(doors, token.clone(), vec![after], 1, count.clone()).await;
    until("the stopped agent is seen", async || !server.sql(&token, OF_STOPPED).await.is_empty()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let alerts = [server.sql(&token, ALERTS).await, server.sql(&token, OF_STOPPED).await];
    (alerts, count.load(Ordering::SeqCst), token)
}

fn restart_broker() {
    let folder = std::env::var("MUSTER_KAFKA_FOLDER").expect("`.ci/kafka` names it");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/kafka");
    let done = Command::new(script).args(["restart", &folder, "kill"]).status().expect("the script runs");
    assert!(done.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_killed_and_counts_and_alerts_are_those_of_one_process() {
    let (Some(kafka), Some((endpoint, bucket))) = (kafka::settings("roles"), s3::server()) else { return };
    let parent = tempfile::tempdir().expect("a temporary folder");
    let alone = parent.path().join("alone");
    let (alerts, count, token) = expected(&alone).await;
    eprintln!("{} alerts, and of the one that is stopped {:?}", alerts[0].len(), alerts[1]);
    assert!(alerts[0].iter().any(|alert| alert["verdict"] == "dismissed"));
    assert!(alerts[1].iter().any(|alert| alert["detector"] == "after_kill"), "{:?}", alerts[1]);

    let lake = s3::place(&bucket, "roles");
    let environment = [&s3::environment(&endpoint, &lake)[..], &[("MUSTER__LOG__KAFKA", &*kafka)], &SETTINGS].concat();
    // Keys and tokens are an installation's.
    let process = |(number, role): (usize, &&'static str)| {
        let folder = parent.path().join(format!("{number}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        for file in ["installation.key", "signing.key", "tokens.json"] {
            std::fs::copy(alone.join(file), folder.join(file)).expect("is copied");
        }
        let mut process = Process { folder, role, server: None };
        process.start(&environment);
        process
    };
    let mut processes: Vec<Process> = ROLES.iter().enumerate().map(process).collect();

    let doors: Doors = Arc::new(Mutex::new(urls(&processes)));
    let taken = Arc::new(AtomicUsize::new(0));
    let write = |(seed, records)| tokio::spawn(write(doors.clone(), token.clone(), records, seed, taken.clone()));
    let writers: Vec<_> = (7..).zip(usual()).map(write).collect();
    let kills = number("MUSTER_KILLS").unwrap_or(KILLS);
    let mut chance = Chance(number("MUSTER_SEED").unwrap_or(0x5eed));
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(500 + chance.below(3_000))).await;
        if kill == kills / 2 {
            tokio::task::spawn_blocking(restart_broker).await.expect("the broker is there again");
        }
        let killed = &mut processes[chance.below(KILLED as u64) as usize];
        killed.server.take().expect("it runs").kill();
        doors.lock().expect("is free").clone_from(&urls(&processes));
        tokio::time::sleep(Duration::from_millis(chance.below(1_500))).await;
        let killed = processes.iter_mut().find(|process| process.server.is_none()).expect("one was killed");
        killed.start(&environment);
        eprintln!("kill {kill}: {} is there again, {} of {count} taken", killed.role, taken.load(Ordering::SeqCst));
        doors.lock().expect("is free").clone_from(&urls(&processes));
    }
    for writer in writers {
        writer.await.expect("every record is taken at last");
    }
    // What is odd is judged when what is usual is known everywhere.
    until("the detectors are through", async || judged(&processes, &token).await).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let one_by_one = async |records: Vec<String>| {
        for (seed, record) in (100..).zip(records) {
            self::write(doors.clone(), token.clone(), vec![record], seed, taken.clone()).await;
        }
    };
    one_by_one(odd(31)).await;
    let answering = || processes[KILLED].server.as_ref().expect("it was not killed");
    until("there is something to judge", async || answering().sql(&token, ALERTS).await.len() >= ODD).await;
    let after = intervene(answering(), &token).await;
    // Whoever judges on has it from the last cut.
    processes[DETECTS].server.take().expect("it runs").kill();
    processes[DETECTS].start(&environment);
    one_by_one(odd(32)).await;
    one_by_one(vec![after]).await;
    assert_eq!(taken.load(Ordering::SeqCst), count);
    let answering = processes[KILLED].server.as_ref().expect("it was not killed");
    let counts_of = async |query: &str| answering.sql(&token, query).await;
    until("the alerts are there", async || {
        counts_of(ALERTS).await.len() >= alerts[0].len() && counts_of(OF_STOPPED).await.len() >= alerts[1].len()
    })
    .await;
    until("the detectors are through", async || judged(&processes, &token).await).await;
    assert_eq!([counts_of(ALERTS).await, counts_of(OF_STOPPED).await], alerts);
    let counts = answering.sql(&token, COUNTS).await;
    let all = json!({"n": count, "ids": count, "mapped": count, "refused": 0});
    assert_eq!(counts, std::slice::from_ref(&all), "the tail is seen from everywhere");

    // Everything ends in order; what the tables then hold is the same.
    for process in &mut processes {
        assert!(process.server.take().expect("it runs").terminate().success(), "{}", process.role);
    }
    let (fine, told) = muster_with(&processes[3].folder, &["verify"], &environment);
    assert!(fine, "{told}");
    let (fine, told) = muster_with(&processes[3].folder, &["sql", "--format", "json", COUNTS], &environment);
    assert!(fine, "{told}");
    let found = told.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
    assert_eq!(found, Some(all));
}

fn urls(processes: &[Process]) -> Vec<String> {
    let doors = processes.iter().filter(|process| process.role == "ingest");
    doors.filter_map(|process| Some(process.server.as_ref()?.url.clone())).collect()
}

/// Whether both detectors have sequences, and nothing is left to judge in them.
async fn judged(processes: &[Process], token: &str) -> bool {
    let mut behind = Vec::new();
    for process in processes.iter().filter(|process| process.role == "detect") {
        let (_, status) = process.server.as_ref().expect("it runs").get("/v1/status", token).await;
        behind.push(status["roles"]["detect"]["behind"].as_u64());
    }
    // A tick may just have come.
    behind.iter().all(|behind| behind.is_some_and(|behind| behind < 4))
}

async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

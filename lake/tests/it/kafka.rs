//! The log in a real Apache Kafka, whose address is in `MUSTER_KAFKA` (`.ci/kafka` starts one). Without it the tests skip.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lake::clock::Clock;
use lake::files::Wholes;
use lake::files::sim::SimFiles;
use lake::hidden::Hidden;
use lake::kafka::{KafkaConfig, SaslMechanism, Security};
use lake::log::{Frame, Group, KafkaLogConfig, Log, LogConfig, LogError, Payload, Positions};
use lake::tables::{GROUP, Lake, LakeConfig};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use schemas::ledger::{Ledger, LedgerRow};
use schemas::{EventRow, Events, event, id};

const PARTITIONS: usize = 3;
const AGENTS: usize = 9;

fn broker() -> Option<KafkaConfig> {
    let Ok(bootstrap) = std::env::var("MUSTER_KAFKA") else {
        eprintln!("SKIPPED: MUSTER_KAFKA names no broker");
        return None;
    };
    Some(KafkaConfig { bootstrap: vec![bootstrap], ..KafkaConfig::default() })
}

fn topic(client: KafkaConfig, name: &str) -> KafkaLogConfig {
    let topic = format!("{name}-{}-{}", std::process::id(), fastrand::u64(..));
    KafkaLogConfig { client, topic, partitions: PARTITIONS, ..KafkaLogConfig::default() }
}

async fn open(kafka: &KafkaLogConfig, config: &LogConfig) -> Arc<Log> {
    let (kafka, config) = (kafka.clone(), config.clone());
    let opened = tokio::task::spawn_blocking(move || Log::connect(&kafka, &config, Clock::manual(7), &[GROUP]));
    opened.await.expect("no panic").expect("the log opens")
}

/// One event of each agent; `number` tells one group from the next.
fn group(number: usize) -> Group {
    let row = |agent: usize| {
        let name = format!("agent-{agent}");
        EventRow {
            event_id: format!("{number}-{agent}"),
            raw: format!("{{\"number\":{number}}}"),
            tenant: "acme".into(),
            door: "http".into(),
            source: "envoy".into(),
            log_partition: id::partition("acme", Some(&name), None, 64),
            agent_id: Some(name),
            ..EventRow::default()
        }
    };
    let rows: Vec<EventRow> = (0..AGENTS).map(row).collect();
    let count = rows.len() as i64;
    let (tenant, door, source) = ("acme".into(), "http".into(), "envoy".into());
    // One of them was noise.
    let ledger = LedgerRow {
        tenant,
        door,
        source,
        received: count + 1,
        mapped: count,
        noise: 1,
        events: count,
        ..LedgerRow::default()
    };
    Group { events: Some(event::batch(&rows)), ledger: Some(ledger), tick: Some(number as i64), ..Group::default() }
}

/// All frames of each sequence from a position on, read so many bytes at a time.
fn frames(log: &Log, from: &Positions, bytes_max: usize) -> Vec<Vec<Arc<Frame>>> {
    let mut all = Vec::new();
    for sequence in 0..log.sequences() {
        let (mut next, mut found) = (from.get(sequence), Vec::new());
        while next < log.end(sequence) {
            let read = log.read(sequence, next, bytes_max).expect("reads");
            next = read.last().expect("at least one frame").offset + 1;
            found.extend(read);
        }
        all.push(found);
    }
    all
}

fn events(frames: &[Vec<Arc<Frame>>]) -> Vec<EventRow> {
    let mut rows = Vec::new();
    for frame in frames.iter().flatten() {
        let Payload::Events(batch) = &frame.payload else { continue };
        let events = Events::new(batch).expect("has the columns");
        rows.extend((0..batch.num_rows()).map(|row| events.row(row)));
    }
    rows
}

fn ledger(frames: &[Vec<Arc<Frame>>]) -> LedgerRow {
    let mut sum = LedgerRow::default();
    for frame in frames.iter().flatten() {
        let Payload::Ledger(batch) = &frame.payload else { continue };
        let rows = Ledger::new(batch).expect("has the columns");
        for row in (0..batch.num_rows()).map(|row| rows.row(row)) {
            assert!(row.balances(), "{row:?}");
            sum.add(&row);
        }
    }
    sum
}

fn ids(rows: &[EventRow]) -> Vec<String> {
    let mut ids: Vec<String> = rows.iter().map(|row| row.event_id.clone()).collect();
    ids.sort();
    ids
}

fn expected(groups: impl Iterator<Item = usize>) -> Vec<String> {
    let mut ids: Vec<String> =
        groups.flat_map(|number| (0..AGENTS).map(move |agent| format!("{number}-{agent}"))).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_gives_back_what_was_appended_in_order_and_from_everywhere() {
    let Some(client) = broker() else { return };
    let kafka = topic(client, "round-trip");
    let log = open(&kafka, &LogConfig::default()).await;
    let start = log.ends();
    let (woken, appended) = tokio::join!(log.wait(&start), log.append(group(0)));
    woken.expect("wakes");
    assert_eq!(appended.expect("appends").events.iter().map(|rows| rows.count).sum::<u32>(), AGENTS as u32);
    for number in 1..20 {
        log.append(group(number)).await.expect("appends");
    }
    let memory = frames(&log, &Positions::default(), 1);
    let rows = events(&memory);
    assert_eq!(ids(&rows), expected(0..20));
    let mut last: HashMap<String, i64> = HashMap::new();
    for row in &rows {
        let before = last.insert(row.agent_id.clone().expect("an agent"), row.log_offset);
        assert!(before.is_none_or(|before| before < row.log_offset), "one agent's events stay in order");
    }
    for sequence in &memory {
        let ticks: Vec<i64> =
            sequence.iter().filter_map(|f| if let Payload::Tick(t) = f.payload { Some(t) } else { None }).collect();
        assert_eq!(ticks, (0..20).collect::<Vec<_>>(), "every sequence has every tick");
    }
    let sum = ledger(&memory);
    assert_eq!((sum.received, sum.mapped, sum.noise, sum.events), (200, 180, 20, 180));
    log.close();
    assert!(matches!(log.append(group(99)).await, Err(LogError::Closed)));
    assert!(matches!(log.wait(&log.ends()).await, Err(LogError::Closed)));

    // Without a cache, before and behind where the follower began, in large steps and small ones.
    let uncached = LogConfig { cache_bytes_max: 0, ..LogConfig::default() };
    let log = open(&kafka, &uncached).await;
    for bytes_max in [1, 5_000, 1 << 20] {
        let again = frames(&log, &Positions::default(), bytes_max);
        assert_eq!(format!("{again:?}"), format!("{memory:?}"));
    }
    let middle: Positions = log.ends().iter().map(|(_, end)| end / 2).collect();
    let half: Vec<Vec<Arc<Frame>>> = memory
        .iter()
        .enumerate()
        .map(|(at, frames)| frames.iter().filter(|frame| frame.offset >= middle.get(at)).cloned().collect())
        .collect();
    assert_eq!(format!("{:?}", frames(&log, &middle, 3_000)), format!("{half:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_duplicates_are_the_same_for_every_reader_across_restarts() {
    let Some(client) = broker() else { return };
    let kafka = topic(client, "duplicates");
    // About a group and a half of each partition's rows.
    let config = LogConfig { duplicates_window: 14, ..LogConfig::default() };
    let mut log = open(&kafka, &config).await;
    let mut random = fastrand::Rng::with_seed(5);
    for round in 0..30 {
        log.append(group(round)).await.expect("appends");
        if random.bool() {
            log.append(group(round - random.usize(0..3).min(round))).await.expect("appends");
        }
        if round % 10 == 9 {
            log.close();
            log = open(&kafka, &config).await;
        }
    }
    let all = frames(&log, &Positions::default(), 2_000);
    let sum = ledger(&all);
    assert_eq!((sum.mapped + sum.duplicates + sum.noise, sum.events), (sum.received, events(&all).len() as i64));
    assert!(sum.duplicates > 0 && sum.mapped > 30 * AGENTS as i64, "some lie within the window, some beyond it");
    let text = |frames: &[Vec<Arc<Frame>>]| format!("{frames:?}");
    for begin in 1..20 {
        log.close();
        log = open(&kafka, &config).await;
        let from: Positions = log.ends().iter().map(|(_, end)| end * begin / 20).collect();
        let from_there: Vec<Vec<Arc<Frame>>> = all
            .iter()
            .enumerate()
            .map(|(at, frames)| frames.iter().filter(|frame| frame.offset >= from.get(at)).cloned().collect())
            .collect();
        assert_eq!(text(&frames(&log, &from, 1_000)), text(&from_there), "begun at {from}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_tables_hold_each_row_once_whenever_the_process_ends() {
    let Some(client) = broker() else { return };
    let kafka = topic(client, "tables");
    let files = SimFiles::new();
    let clock = Clock::manual(7);
    let mut appended = 0;
    for round in 0..6 {
        let log = open(&kafka, &LogConfig::default()).await;
        let opened = Lake::open_folder(
            Arc::new(files.clone()),
            PathBuf::from("lake"),
            log.clone(),
            clock.clone(),
            LakeConfig::default(),
        );
        let lake = opened.await.expect("the lake opens");
        for _ in 0..5 {
            log.append(group(appended)).await.expect("appends");
            // A sender that was not answered repeats.
            log.append(group(appended)).await.expect("appends");
            appended += 1;
            let snapshot = lake.snapshot().await.expect("a snapshot");
            let table = snapshot.table("events").expect("is declared");
            let tail: usize = table.tail.iter().map(|batch| batch.num_rows()).sum();
            assert_eq!(table.state.size().rows as usize + tail, appended * AGENTS, "visible at once, and once");
        }
        if round % 2 == 0 {
            lake.flush().await.expect("is written");
            log.append(group(appended)).await.expect("appends");
            appended += 1;
        }
        let verified = lake.verify().await.expect("reads");
        assert!(verified.holds, "{:?}", verified.problems);
        // Round by round the process ends without a word.
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_restarts_in_the_middle_of_appends_and_nothing_is_lost_or_doubled() {
    let Some(client) = broker() else { return };
    let Ok(folder) = std::env::var("MUSTER_KAFKA_FOLDER") else {
        eprintln!("SKIPPED: MUSTER_KAFKA_FOLDER names no broker that may be restarted");
        return;
    };
    let kafka = topic(client, "restart");
    let log = open(&kafka, &LogConfig::default()).await;
    let restart = tokio::task::spawn_blocking(move || {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/kafka");
        std::process::Command::new(script).args(["restart", &folder, "kill"]).status().expect("the script runs")
    });
    let mut number = 0;
    while number < 200 || !restart.is_finished() {
        let all = (0..20).map(|_| {
            number += 1;
            let (log, number) = (log.clone(), number - 1);
            async move {
                while let Err(error) = log.append(group(number)).await {
                    assert!(error.retry_helps(), "{error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        });
        futures::future::join_all(all.collect::<Vec<_>>()).await;
    }
    assert!(restart.await.expect("no panic").success());
    let all = frames(&log, &Positions::default(), 1 << 20);
    assert_eq!(ids(&events(&all)), expected(0..number));
    eprintln!("{number} groups over a restart of the broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_reached_with_tls_and_a_password() {
    let Some(client) = broker() else { return };
    let (Ok(secure), Ok(ca)) = (std::env::var("MUSTER_KAFKA_SECURE"), std::env::var("MUSTER_KAFKA_CA")) else {
        eprintln!("SKIPPED: MUSTER_KAFKA_SECURE names no listener");
        return;
    };
    let client = KafkaConfig {
        bootstrap: vec![secure],
        security: Security::SaslSsl,
        sasl_mechanism: SaslMechanism::Plain,
        sasl_user: "muster".into(),
        sasl_password: Some(Hidden::new("secret\n")),
        ca_file: Some(ca.into()),
        timeout_ms: 5_000,
        ..client
    };
    let kafka = topic(client.clone(), "secure");
    let log = open(&kafka, &LogConfig::default()).await;
    log.append(group(0)).await.expect("appends");
    assert_eq!(ids(&events(&frames(&log, &Positions::default(), 1 << 20))), expected(0..1));
    let wrong = KafkaConfig { sasl_password: Some(Hidden::new("wrong")), ..client };
    let kafka = KafkaLogConfig { client: wrong, ..kafka };
    let refused = tokio::task::spawn_blocking(move || {
        Log::connect(&kafka, &LogConfig::default(), Clock::manual(7), &[GROUP]).map(drop)
    });
    assert!(matches!(refused.await.expect("no panic"), Err(LogError::Kafka { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_two_processes_write_one_lake_and_when_one_ends_the_other_takes_over() {
    let Some(client) = broker() else { return };
    let kafka = topic(client, "lakes");
    let (files, config) = (SimFiles::new(), LakeConfig { flush_secs: 1, ..LakeConfig::default() });
    let opened = async || {
        let log = open(&kafka, &LogConfig::default()).await;
        let files = Arc::new(files.clone());
        let lake = Lake::open_folder(files, PathBuf::from("lake"), log.clone(), Clock::system(), config.clone()).await;
        (log, lake.expect("the lake opens"))
    };
    let mut writers = Vec::new();
    for _ in 0..2 {
        let (log, lake) = opened().await;
        let share = log.join(GROUP).expect("joins");
        let (writing, of) = (lake.clone(), share.clone());
        let running = tokio::spawn(async move { writing.run(of, std::future::pending()).await });
        writers.push((log, share, running));
    }
    let until = async |what: &str, done: &mut dyn FnMut() -> bool| {
        for _ in 0..600 {
            if done() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never: {what}");
    };
    let shares: Vec<_> = writers.iter().map(|(_, share, _)| share.clone()).collect();
    until("both have some", &mut || shares.iter().all(|share| !share.now().is_empty())).await;

    let (log, reader) = opened().await;
    reader.follow(std::future::ready(())).await;
    let shown = async |groups: usize| {
        let table = reader.snapshot().await.expect("a snapshot").table("events").expect("is declared");
        let tail: usize = table.tail.iter().map(|batch| batch.num_rows()).sum();
        assert_eq!(table.state.size().rows as usize + tail, groups * AGENTS);
    };
    for number in 0..80 {
        log.append(group(number)).await.expect("appends");
        if number == 40 {
            let (log, _, running) = writers.remove(0);
            running.abort();
            tokio::task::spawn_blocking(move || log.close()).await.expect("no panic");
        }
        if number % 7 == 0 {
            reader.refresh().await.expect("is seen");
        }
        shown(number + 1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until("all is one's", &mut || shares[1].now().is_whole()).await;
    for _ in 0..600 {
        reader.refresh().await.expect("is seen");
        if reader.status().behind == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let table = reader.snapshot().await.expect("a snapshot").table("events").expect("is declared");
    assert_eq!((table.state.size().rows as usize, table.tail.len()), (80 * AGENTS, 0));
    let verified = reader.verify().await.expect("reads");
    assert!(verified.holds, "{:?}", verified.problems);
    assert!(!writers[0].2.is_finished(), "the other one goes on");
    writers[0].2.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_a_role_for_one_is_the_first_ones_until_it_ends() {
    let Some(client) = broker() else { return };
    for partitions in [1, PARTITIONS] {
        let kafka = KafkaLogConfig { partitions, ..topic(client.clone(), "only") };
        let opened = async |began: i64| {
            let kafka = kafka.clone();
            let opening = move || Log::connect(&kafka, &LogConfig::default(), Clock::manual(began), &[GROUP]);
            tokio::task::spawn_blocking(opening).await.expect("no panic").expect("the log opens")
        };
        let claim = async |log: &Arc<Log>| {
            let log = log.clone();
            tokio::task::spawn_blocking(move || log.claim("respond")).await.expect("no panic")
        };
        let (first, second, third) = (opened(1).await, opened(2).await, opened(3).await);
        claim(&first).await.expect("nobody has it");
        let (one, other) = tokio::join!(claim(&second), claim(&third));
        assert!(matches!(&one, Err(LogError::Taken { role }) if role == "respond"), "{one:?}");
        assert!(matches!(other, Err(LogError::Taken { .. })), "{other:?}");
        first.append(group(0)).await.expect("the one that has it goes on");
        tokio::task::spawn_blocking(move || first.close()).await.expect("no panic");
        claim(&second).await.expect("it is free");

        // One that comes back from a long silence is the elder.
        let elder = opened(0).await;
        claim(&elder).await.expect("goes to the first");
        let never: Positions = (0..partitions).map(|_| u64::MAX).collect();
        let ended = tokio::time::timeout(Duration::from_secs(20), second.wait(&never)).await;
        let ended = ended.expect("it ends").expect_err("the log stops");
        assert!(ended.to_string().contains("another process has the role `respond`"), "{ended}");
        elder.append(group(1)).await.expect("goes on");
    }
}

/// Deletes what a topic has up to these offsets, as its retention would.
async fn delete(kafka: &KafkaLogConfig, until: &Positions) {
    let admin: AdminClient<DefaultClientContext> = kafka.client.client().create().expect("an admin client");
    let mut list = TopicPartitionList::new();
    for (partition, offset) in until.iter() {
        let offset = Offset::Offset(offset as i64);
        list.add_partition_offset(&kafka.topic, partition as i32, offset).expect("an offset");
    }
    let done = admin.delete_records(&list, &AdminOptions::new()).await.expect("is deleted");
    done.elements().iter().for_each(|one| one.error().expect("is deleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_what_was_deleted_before_it_was_written_is_told_and_not_skipped() {
    let Some(client) = broker() else { return };
    let kafka = topic(client, "deleted");
    let (files, folder) = (SimFiles::new(), PathBuf::from("lake"));
    let opened = async || {
        let log = open(&kafka, &LogConfig::default()).await;
        let files = Arc::new(files.clone());
        let lake = Lake::open_folder(files, folder.clone(), log.clone(), Clock::system(), LakeConfig::default()).await;
        (log, lake.expect("the lake opens"))
    };
    let (log, lake) = opened().await;
    for number in 0..20 {
        log.append(group(number)).await.expect("appends");
        if number == 9 {
            lake.flush().await.expect("is written");
        }
    }
    let (next, mut first) = (lake.status().next, log.ends());
    first = first.iter().map(|(sequence, end)| if sequence == 1 { end - 3 } else { 0 }).collect();
    assert!(first.get(1) > next.get(1) + 1);
    delete(&kafka, &first).await;

    let (log, lake) = opened().await;
    assert!(matches!(log.read(1, next.get(1), 1 << 20), Err(LogError::Gone { .. })));
    assert!(lake.snapshot().await.is_err(), "half of the rows are no answer");
    let lost = lake.flush().await.expect_err("rows are missing").to_string();
    for part in [format!("{}/1", kafka.topic), format!("offset {} ", next.get(1)), format!("up to {}", first.get(1))] {
        assert!(lost.contains(&part), "{part}: {lost}");
    }
    assert!(lost.contains("retention") && lost.contains("docs/kafka.md"), "{lost}");
    let share = log.join(GROUP).expect("joins");
    let ended = tokio::time::timeout(Duration::from_secs(60), lake.run(share, std::future::pending())).await;
    let ended = ended.expect("it ends").expect_err("rows are missing");
    assert_eq!(ended.to_string(), lost);
    log.close();

    // As the page says.
    let kept = Wholes::in_folder(Arc::new(files.clone()), folder.clone(), Clock::system());
    let stored = kept.file(&format!("next-{}", kafka.topic));
    let mut accepted: Positions =
        serde_json::from_slice(&stored.read().await.expect("reads").expect("is there")).expect("positions");
    accepted.pass(1, first.get(1));
    stored.write(serde_json::to_vec(&accepted).expect("is JSON")).await.expect("is written");
    let (log, lake) = opened().await;
    lake.flush().await.expect("goes on");
    let table = lake.snapshot().await.expect("a snapshot").table("events").expect("is declared");
    let retained = events(&frames(&log, &next.iter().map(|(at, next)| next.max(first.get(at))).collect(), 1 << 20));
    assert_eq!(table.state.size().rows as usize, 10 * AGENTS + retained.len());
    assert!(retained.len() < 10 * AGENTS);
}

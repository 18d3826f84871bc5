//! What processes hand over to each other and what they go on from, at any cut.

use std::sync::Arc;

use detect::{Config, Engine, Shards};
use lake::clock::Clock;
use lake::files::sim::SimFiles;
use lake::files::{Files, Wholes};
use lake::log::{Divider, Log, LogConfig, Positions, Turn};
use respond::budget::Budget;
use schemas::{EventRow, event, id};

use super::exchange::{Exchange, Part};
use super::memory::{Cuts, Memory};

const START: i64 = 1_777_852_800_000_000;

fn log() -> Arc<Log> {
    let files: Arc<dyn Files> = Arc::new(SimFiles::new());
    let opened = Log::open(files, "ticks".into(), &LogConfig::default(), Clock::manual(START), &[super::GROUP]);
    opened.unwrap().0
}

fn part(sequence: usize, time: i64, bytes: usize) -> Part {
    let handed = (0..bytes).map(|at| (at * 31 + sequence) as u8).collect();
    Part { sequence, time, controls: vec![format!("{{\"tick\":{time}}}")], handed, ..Part::default() }
}

fn turn(count: usize, mine: &[usize]) -> Turn {
    let (divider, share) = Divider::new(count);
    divider.divide(|sequence| mine.contains(&sequence));
    share.now()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_come_whole_once_and_in_order_to_whoever_waits_for_them() {
    let log = log();
    let ticks = log.clone();
    let end = move |rules: &str, next, theirs: &[usize]| {
        Exchange::new(ticks.clone(), rules.into(), next, theirs.iter().copied())
    };
    let (one, other, foreign) = (end("a", 0, &[1]), end("a", 0, &[0]), end("b", 0, &[]));
    // Larger than a frame, of two sequences, repeated, and once by somebody with other rules.
    for time in [10, 20, 30] {
        foreign.send([part(1, time, 3)].iter()).await.unwrap();
        one.send([part(0, time, 900_000), part(2, time, 5)].iter()).await.unwrap();
        other.send([part(1, time, 300_000)].iter()).await.unwrap();
        one.send([part(0, time, 900_000)].iter()).await.unwrap();
    }
    let read = move || {
        let mut reader = end("a", 0, &[0, 1, 2]);
        let mut found = Vec::new();
        for after in [0, 10, 20] {
            let from = reader.position();
            assert!(reader.read(after).unwrap(), "{:?} is missing", reader.missing());
            let mut late = end("a", from, &[0, 1, 2]);
            assert!(late.read(after).unwrap(), "whoever begins at the position finds what is not yet taken");
            for sequence in 0..3 {
                assert_eq!(reader.next_of(sequence).map(|part| part.time), Some(after + 10));
                let taken = reader.take(sequence);
                assert_eq!(late.take(sequence), taken);
                found.extend(taken);
            }
        }
        assert!(!reader.read(30).unwrap());
        assert_eq!(reader.missing(), [0, 1, 2]);
        found
    };
    let found = tokio::task::spawn_blocking(read).await.unwrap();
    let expected =
        [10, 20, 30].into_iter().flat_map(|time| [part(0, time, 900_000), part(1, time, 300_000), part(2, time, 5)]);
    assert!(found.into_iter().eq(expected));
}

fn row(agent: &str, number: i64) -> EventRow {
    let time = START + number * 1_000_000;
    EventRow {
        event_id: id::digest([agent.as_bytes(), &number.to_le_bytes()]),
        time,
        received_at: time,
        event_day: id::day(time),
        tenant: "acme".into(),
        log_partition: id::partition("acme", Some(agent), None, 64),
        source: "envoy".into(),
        door: "http".into(),
        actor_kind: "agent".into(),
        agent_id: Some(agent.into()),
        attribution: "agent_only".into(),
        action: "GET /invoices".into(),
        effect: "read".into(),
        outcome: "success".into(),
        raw: "{}".into(),
        ..EventRow::default()
    }
}

#[tokio::test]
async fn a_cut_counts_when_it_is_whole_and_the_newest_two_are_kept() {
    let config = Config::default();
    let files: Arc<dyn Files> = Arc::new(SimFiles::new());
    let kept = Wholes::in_folder(files, "detect".into(), Clock::manual(START));
    let memory = Memory::of_cuts(kept.clone(), Cuts { topic: "muster".into(), sequences: 3 });
    assert!(memory.load(&config, &turn(3, &[0])).await.unwrap().is_none());

    let mut engine = Engine::new(&config);
    let mut states = Vec::new();
    for time in 1..=4i64 {
        let rows: Vec<EventRow> = (0..40).map(|agent| row(&format!("agent-{agent}"), time)).collect();
        engine.observe(&event::batch(&rows), &mut Vec::new()).unwrap();
        engine.tick(START + time, &mut Vec::new());
        states.push(engine.snapshot());
        let position: Positions = (0..3).map(|sequence| time as u64 * 10 + sequence).collect();
        // Whoever has which, each writes its own; of the last cut one part is missing.
        let parts = [&[1][..], if time < 4 { &[0, 2] } else { &[0] }];
        for mine in parts {
            let written = memory.files(&engine, &Budget::default(), &position, (time, 100), mine.iter().copied());
            memory.write(written.unwrap()).await.unwrap();
        }
    }
    let whole = memory.load(&config, &turn(3, &[0, 1, 2])).await.unwrap().unwrap();
    assert_eq!((whole.time, whole.exchange), (3, 100));
    assert_eq!(whole.position, [30, 31, 32].into_iter().collect());
    assert!(whole.engine.snapshot() == states[2]);
    let mut divided = memory.load(&config, &turn(3, &[1])).await.unwrap().unwrap();
    let other = memory.load(&config, &turn(3, &[0, 2])).await.unwrap().unwrap();
    assert_eq!((divided.position.get(1), divided.position.get(2)), (31, 0));
    divided.engine.take_over(Shards::of_sequence(0, 3).or(Shards::of_sequence(2, 3)), other.engine);
    assert!(divided.engine.snapshot() == states[2]);

    memory.prune().await.unwrap();
    let mut names = kept.names().await.unwrap();
    names.sort();
    let times: Vec<&str> =
        names.iter().filter_map(|name| name.split('/').nth(1)?.strip_prefix("0000000000000000000")).collect();
    assert_eq!(times, ["2", "2", "2", "3", "3", "3", "4", "4"]);

    // One that makes no sense is passed over, whichever part of it.
    kept.file(&format!("muster/{:020}/2", 3)).write(&b"nonsense"[..]).await.unwrap();
    let before = memory.load(&config, &turn(3, &[2])).await.unwrap().unwrap();
    assert_eq!((before.time, before.position.get(2)), (2, 22));
}

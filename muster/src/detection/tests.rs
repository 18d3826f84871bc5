//! What processes hand over to each other and what they go on from, at any cut.

use std::sync::Arc;
use std::time::Duration;

use detect::{Config, Engine, Shards};
use lake::clock::Clock;
use lake::files::sim::SimFiles;
use lake::files::{Files, Wholes};
use lake::log::{Divider, Group, Log, LogConfig, Positions, Turn};
use respond::budget::Budget;
use schemas::{EventRow, event};

use super::exchange::{Exchange, Part, reach};
use super::memory::{Cuts, Memory};
use super::samples::{START, row};

pub(super) fn log_in_memory() -> Arc<Log> {
    let files: Arc<dyn Files> = Arc::new(SimFiles::new());
    let opened = Log::open(files, "ticks".into(), &LogConfig::default(), Clock::manual(START), &[super::GROUP]);
    opened.unwrap().0
}

fn part(sequence: usize, time: i64, bytes: usize) -> Part {
    let handed = (0..bytes).map(|at| (at * 31 + sequence) as u8).collect();
    Part { sequence, time, controls: vec![format!("{{\"tick\":{time}}}")], handed, ..Part::default() }
}

pub(super) fn turn(count: usize, mine: &[usize]) -> Turn {
    let (divider, share) = Divider::new(count);
    divider.divide(|sequence| mine.contains(&sequence));
    share.now()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_come_whole_once_and_in_order_to_whoever_waits_for_them() {
    let log = log_in_memory();
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

#[tokio::test]
async fn what_others_handed_over_is_waited_for_but_not_for_ever() {
    let log = log_in_memory();
    let tick = || Group { tick: Some(START), ..Group::default() };
    log.append(tick()).await.unwrap();
    reach(&log, 1, Duration::ZERO).await.unwrap();
    let told = reach(&log, 2, Duration::ZERO).await.unwrap_err().to_string();
    assert!(told.contains("main/0 ends at 1, before 2"), "{told}");
    let (reached, appended) = tokio::join!(reach(&log, 2, Duration::from_secs(60)), log.append(tick()));
    appended.unwrap();
    reached.unwrap();
}

/// Three sequences' memory, where their files are, and an engine that knows more at every tick.
struct Cutting {
    memory: Memory,
    kept: Wholes,
    engine: Engine,
}

impl Cutting {
    fn new() -> Cutting {
        let files: Arc<dyn Files> = Arc::new(SimFiles::new());
        let kept = Wholes::in_folder(files, "detect".into(), Clock::manual(START));
        let memory = Memory::of_cuts(kept.clone(), Cuts { topic: "muster".into(), sequences: 3 });
        Cutting { memory, kept, engine: Engine::new(&Config::default()) }
    }

    fn learn(&mut self, time: i64) {
        let rows: Vec<EventRow> = (0..40).map(|agent| row(agent, START + time * 1_000_000, ("list", "read"))).collect();
        self.engine.observe(&event::batch(&rows), &mut Vec::new()).unwrap();
        self.engine.tick(START + time, &mut Vec::new());
    }

    /// Writes the parts of a cut that are of these sequences.
    async fn write(&self, time: i64, mine: &[usize]) {
        let position: Positions = (0..3).map(|sequence| time as u64 * 10 + sequence).collect();
        let mine = mine.iter().copied();
        let written = self.memory.files(&self.engine, &Budget::default(), &position, (time, 100), mine);
        self.memory.write(written.unwrap()).await.unwrap();
    }

    async fn damage(&self, time: i64, sequence: usize) {
        self.kept.file(&format!("muster/{time:020}/{sequence}")).write(&b"nonsense"[..]).await.unwrap();
    }

    /// The ticks of all files.
    async fn times(&self) -> Vec<i64> {
        let names = self.kept.names().await.unwrap();
        let mut times: Vec<i64> = names.iter().filter_map(|name| name.split('/').nth(1)?.parse().ok()).collect();
        times.sort();
        times
    }
}

#[tokio::test]
async fn a_cut_counts_when_it_is_whole_and_the_newest_two_are_kept() {
    let config = Config::default();
    let mut cutting = Cutting::new();
    assert!(cutting.memory.load(&config, &turn(3, &[0])).await.unwrap().is_none());
    let mut states = Vec::new();
    for time in 1..=7i64 {
        cutting.learn(time);
        states.push(cutting.engine.snapshot());
        // Whoever has which, each writes its own; of the last cut one part is missing.
        for mine in [&[1][..], if time < 7 { &[0, 2] } else { &[0] }] {
            cutting.write(time, mine).await;
        }
    }
    let memory = &cutting.memory;
    let whole = memory.load(&config, &turn(3, &[0, 1, 2])).await.unwrap().unwrap();
    assert_eq!((whole.time, whole.exchange), (6, 100));
    assert_eq!(whole.position, [60, 61, 62].into_iter().collect());
    assert!(whole.engine.snapshot() == states[5]);
    let mut divided = memory.load(&config, &turn(3, &[1])).await.unwrap().unwrap();
    let other = memory.load(&config, &turn(3, &[0, 2])).await.unwrap().unwrap();
    assert_eq!((divided.position.get(1), divided.position.get(2)), (61, 0));
    divided.engine.take_over(Shards::of_sequence(0, 3).or(Shards::of_sequence(2, 3)), other.engine);
    assert!(divided.engine.snapshot() == states[5]);

    memory.prune(&config).await.unwrap();
    assert_eq!(cutting.times().await, [5, 5, 5, 6, 6, 6, 7, 7]);

    // One that makes no sense is passed over, whichever part of it.
    cutting.damage(6, 2).await;
    let before = memory.load(&config, &turn(3, &[2])).await.unwrap().unwrap();
    assert_eq!((before.time, before.position.get(2)), (5, 52));
}

#[tokio::test]
async fn older_cuts_stay_until_a_newer_one_was_read_back() {
    let (config, all) = (Config::default(), turn(3, &[0, 1, 2]));
    let mut cutting = Cutting::new();
    let cut = async |cutting: &mut Cutting, time| {
        cutting.learn(time);
        cutting.write(time, &[0, 1, 2]).await;
    };
    let newest = async |cutting: &Cutting| cutting.memory.load(&config, &all).await.unwrap().map(|found| found.time);
    for time in [50, 60, 70, 80, 90, 95] {
        cut(&mut cutting, time).await;
    }
    // A later version wrote the last three, in part; what they were of is judged again from the one before.
    for (time, sequence) in [(80, 2), (90, 0), (95, 1)] {
        cutting.damage(time, sequence).await;
    }
    for again in [71, 72, 73] {
        cutting.memory.prune(&config).await.unwrap();
        let expected = if again == 71 { 70 } else { again - 1 };
        assert_eq!(newest(&cutting).await, Some(expected), "whoever begins now goes on from what can be read");
        cut(&mut cutting, again).await;
    }
    let each = |times: &[i64]| times.iter().flat_map(|time| [*time; 3]).collect::<Vec<_>>();
    cutting.memory.prune(&config).await.unwrap();
    assert_eq!(cutting.times().await, each(&[72, 73, 80, 90, 95]));
    // When they are come to again they can be read, and what was before them goes.
    for again in [80, 90, 95] {
        cut(&mut cutting, again).await;
    }
    cut(&mut cutting, 96).await;
    cutting.memory.prune(&config).await.unwrap();
    assert_eq!((newest(&cutting).await, cutting.times().await), (Some(96), each(&[95, 96])));
}

//! Several processes and one lake, over a log in a Kafka that librdkafka plays: each has a client, a lake and a share of its
//! own, and the test divides. Every row is once in what each of them shows, at every moment.

use std::future::ready;
use std::time::Duration;

use lake::log::{Divider, KafkaLogConfig, Positions, Share};
use lake::tables::is_missing_file;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::keep::{ANN, DAY_MICROS, admission, hold, holds_together, rule};
use super::*;

const PARTITIONS: usize = 3;

/// Brokers, a folder that all processes reach, and the time.
struct World {
    cluster: MockCluster<'static, DefaultProducerContext>,
    kafka: KafkaLogConfig,
    files: SimFiles,
    clock: Clock,
    config: LakeConfig,
}

impl World {
    fn new() -> World {
        let cluster = MockCluster::new(1).expect("brokers");
        let mut kafka = KafkaLogConfig { topic: "log".into(), partitions: PARTITIONS, ..KafkaLogConfig::default() };
        kafka.client.bootstrap = vec![cluster.bootstrap_servers()];
        cluster.create_topic(&kafka.topic, PARTITIONS as i32, 1).expect("a topic");
        let config = LakeConfig { small_files_max: 3, ..LakeConfig::default() };
        World { cluster, kafka, files: SimFiles::new(), clock: Clock::manual(NOW), config }
    }

    async fn process(&self) -> Process {
        let (kafka, clock) = (self.kafka.clone(), self.clock.clone());
        let log =
            tokio::task::spawn_blocking(move || Log::connect(&kafka, &LogConfig::default(), clock, &[GROUP])).await;
        let log = log.expect("no panic").expect("the log opens");
        let (divider, share) = Divider::new(PARTITIONS);
        Process { lake: self.lake(&log).await, log, divider, share }
    }

    async fn lake(&self, log: &Arc<Log>) -> Arc<Lake> {
        let (files, folder) = (Arc::new(self.files.clone()), PathBuf::from("lake"));
        let opened = Lake::open_folder(files, folder, log.clone(), self.clock.clone(), self.config.clone()).await;
        opened.expect("the lake opens")
    }
}

struct Process {
    log: Arc<Log>,
    lake: Arc<Lake>,
    divider: Divider,
    share: Share,
}

impl Process {
    /// Its lake with the share as it is divided, after one flush.
    async fn writes(&self) {
        again(async || self.lake.run(self.share.clone(), ready(())).await).await;
    }

    /// Ends without a word, and is there again.
    async fn crash(&mut self, world: &World) {
        self.lake = world.lake(&self.log).await;
    }

    /// Until its client has what is acknowledged.
    async fn sees(&self, end: &Positions) {
        while !self.log.ends().reaches(end) {
            self.log.wait(&self.log.ends()).await.expect("the log is open");
        }
    }

    /// Rows that are in no table.
    async fn tail(&self) -> u64 {
        let snapshot = self.lake.snapshot().await.expect("a snapshot");
        let tables = schemas::TABLES.iter().map(|table| snapshot.table(table.name).expect("is declared"));
        tables.flat_map(|table| table.tail).map(|batch| batch.num_rows() as u64).sum()
    }

    async fn counts(&self) -> (usize, usize) {
        let snapshot = self.lake.snapshot().await.expect("a snapshot");
        let [events, refused] = ["events", "quarantine"].map(|name| snapshot.table(name).expect("is declared"));
        (count(&events), count(&refused))
    }
}

/// Beside another one that keeps, a keeper may find that a file went.
async fn again<T>(mut work: impl AsyncFnMut() -> Result<T, LakeError>) -> T {
    let mut last = String::new();
    for _ in 0..5 {
        match work().await {
            Ok(done) => return done,
            Err(error) => last = error.to_string(),
        }
    }
    panic!("{last}")
}

/// An admission whose rows are spread over the partitions.
fn spread(number: usize) -> Group {
    let group = admission(number, "okta", NOW);
    let batch = group.events.as_ref().expect("has some");
    let events = schemas::Events::new(batch).expect("has the columns");
    let row = |at: usize| EventRow { log_partition: (number + at) as i32, ..events.row(at) };
    let rows: Vec<EventRow> = (0..batch.num_rows()).map(row).collect();
    Group { events: Some(event::batch(&rows)), ..group }
}

fn wanted(groups: usize) -> Vec<String> {
    super::keep::wanted(0..groups)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_division_and_any_crash_show_each_row_once_everywhere() {
    for seed in 0..2 {
        let mut random = fastrand::Rng::with_seed(seed);
        let world = World::new();
        let mut all = [world.process().await, world.process().await, world.process().await];
        all[2].lake.follow(ready(())).await;
        let mut appended = 0;
        for step in 0..25 {
            let at = random.usize(0..2);
            match random.u8(0..10) {
                0..4 => {
                    all[random.usize(0..3)].log.append(spread(appended)).await.expect("is acknowledged");
                    appended += 1;
                }
                // One may have what the other has too, and some may be nobody's.
                4 => {
                    let mine = random.u8(..);
                    all[at].divider.divide(|sequence| mine >> sequence & 1 == 1);
                    all[at].writes().await;
                }
                5 => {
                    all.iter().for_each(|process| process.divider.divide(|_| true));
                    tokio::join!(all[0].writes(), all[1].writes());
                }
                6 => all[at].crash(&world).await,
                7 => _ = again(async || all[at].lake.keep().await).await,
                8 => {
                    let keep = async |at: usize| _ = again(async || all[at].lake.keep().await).await;
                    tokio::join!(keep(0), keep(1), all[at].writes());
                }
                _ => all[random.usize(0..3)].lake.refresh().await.expect("is seen"),
            }
            let mut end = Positions::default();
            all.iter().for_each(|process| end.pass_all(&process.log.ends()));
            for (who, process) in all.iter().enumerate() {
                process.sees(&end).await;
                let there = process.counts().await;
                assert_eq!(there, (4 * appended, appended), "seed {seed}, step {step}, process {who}");
            }
        }
        let reader = &all[2];
        assert_eq!(ids(&reader.lake).await, wanted(appended), "seed {seed}");
        all[0].divider.divide(|_| true);
        all[0].writes().await;
        assert_eq!(all[0].lake.status().behind, 0);
        assert_eq!(ids(&reader.lake).await, wanted(appended), "seed {seed}");
        reader.lake.refresh().await.expect("is seen");
        assert_eq!((ids(&reader.lake).await, reader.lake.status().behind), (wanted(appended), 0), "seed {seed}");
        holds_together(&reader.lake, "by the one that only reads").await;
        holds_together(&all[0].lake, "by a writer").await;
        drop(world.cluster);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_follows_changes_nothing_and_one_that_writes_only_its_own() {
    let world = World::new();
    let (writer, reader) = (world.process().await, world.process().await);
    reader.lake.follow(ready(())).await;
    for number in 0..4 {
        writer.log.append(spread(number)).await.expect("is acknowledged");
    }
    reader.sees(&writer.log.ends()).await;
    let end = writer.log.ends();
    reader.lake.flush().await.expect("does nothing");
    let refused = [
        reader.lake.keep().await.map(drop),
        reader.lake.erase("acme", &[ANN.to_owned()], true).await.map(drop),
        reader.lake.hold(hold("case", &[])).await,
    ];
    assert!(refused.iter().all(|refused| matches!(refused, Err(LakeError::OnlyFollows))), "{refused:?}");
    assert_eq!(reader.lake.status().behind, end.iter().map(|(_, end)| end).sum::<u64>());

    let verified = reader.lake.verify().await.expect("reads");
    assert_eq!((verified.holds, verified.rows_waiting), (true, reader.tail().await), "{verified:?}");
    assert!(verified.rows_waiting > 4 * 4 + 4, "the ledger's rows wait too: {verified:?}");

    writer.divider.divide(|sequence| sequence == 1);
    writer.writes().await;
    let next = writer.lake.status().next;
    assert_eq!((next.get(0), next.get(1), next.get(2)), (0, end.get(1), 0));
    assert_eq!(writer.lake.status().behind, 0);
    reader.lake.refresh().await.expect("is seen");
    assert_eq!(reader.lake.status().next, next);
    assert_eq!(reader.lake.status().behind, end.get(0) + end.get(2));
    let fewer = reader.lake.verify().await.expect("reads").rows_waiting;
    assert!(fewer > 0 && fewer < verified.rows_waiting);
    let verified = writer.lake.verify().await.expect("reads");
    assert_eq!((verified.holds, verified.rows_waiting), (true, 0), "a writer writes them first: {verified:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_erased_from_what_all_write_and_no_hold_is_missed() {
    let mut world = World::new();
    world.config.retention = vec![rule("all", 30, &[])];
    let (one, two, reader) = (world.process().await, world.process().await, world.process().await);
    reader.lake.follow(ready(())).await;
    one.divider.divide(|sequence| sequence == 0);
    two.divider.divide(|sequence| sequence != 0);
    for number in 0..4 {
        one.log.append(spread(number)).await.expect("is acknowledged");
        two.sees(&one.log.ends()).await;
        tokio::join!(one.writes(), two.writes());
    }
    reader.lake.refresh().await.expect("is seen");

    // A hold that one process was told binds another.
    two.lake.hold(hold("case", &[ANN])).await.expect("is set");
    let refused = one.lake.erase("acme", &[ANN.to_owned()], false).await.map(drop);
    assert!(matches!(refused, Err(LakeError::Held { .. })), "{refused:?}");
    world.clock.set(NOW + 31 * DAY_MICROS);
    assert_eq!(again(async || one.lake.keep().await).await.removed_rows, 4 * 3, "all but what names Ann");
    two.lake.refresh().await.expect("is seen");
    assert_eq!(two.lake.keep().await.expect("keeps").removed_rows, 0);
    one.lake.release("case").await.expect("is let go");

    // Rows that another process has not written yet are erased too, and what another still shows is asked for again.
    world.clock.set(NOW);
    for number in 4..8 {
        two.log.append(spread(number)).await.expect("is acknowledged");
    }
    one.sees(&two.log.ends()).await;
    reader.sees(&two.log.ends()).await;
    reader.lake.refresh().await.expect("is seen");
    let before = reader.lake.snapshot().await.expect("a snapshot").table("events").expect("is declared");
    let erased = one.lake.erase("acme", &[ANN.to_owned()], false).await.expect("is erased");
    assert!(erased.rows() > 0 && erased.files_deleted > 0 && !erased.files_wait, "{erased:?}");
    let state = session();
    let provider = before.state.provider(Arc::new(state.clone())).await.expect("a provider");
    let gone = SessionContext::new_with_state(state).read_table(provider).expect("reads").collect().await;
    let gone = gone.expect_err("its files are deleted");
    assert!(is_missing_file(&gone), "{gone:?}");
    tokio::join!(one.writes(), two.writes());
    for process in [&one, &two, &reader] {
        process.lake.refresh().await.expect("is seen");
        let users = column(&process.lake, "events", "user_id").await.expect("reads");
        assert!(users.len() == 4 + 4 * 4 && !users.contains(&ANN.to_owned()), "{users:?}");
        holds_together(&process.lake, "erased").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_older_than_the_lake_ends_its_writer_alone() {
    let mut world = World::new();
    let writer = world.process().await;
    for number in 0..3 {
        writer.log.append(spread(number)).await.expect("is acknowledged");
    }
    writer.lake.flush().await.expect("is written");
    // A topic of the same name, but empty.
    let other = World::new();
    (world.kafka, world.cluster) = (other.kafka.clone(), other.cluster);
    let process = world.process().await;
    process.lake.follow(ready(())).await;
    assert_eq!(ids(&process.lake).await, wanted(3));
    process.divider.divide(|_| true);
    let ended = process.lake.run(process.share.clone(), ready(())).await;
    assert!(matches!(ended, Err(LakeError::LogBehind { .. })), "{ended:?}");
}

/// Waits until the process tells so of its lake.
async fn told(process: &Process, what: impl Fn(Option<&str>) -> bool) {
    for _ in 0..2_000 {
        if what(process.lake.status().error.as_deref()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never told: {:?}", process.lake.status().error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_here_late_is_waited_for_and_no_longer_than_that() {
    const SECOND: i64 = 1_000_000;
    let world = World::new();
    let writer = world.process().await;
    for number in 0..3 {
        writer.log.append(spread(number)).await.expect("is acknowledged");
    }
    writer.lake.flush().await.expect("is written");
    for comes in [true, false] {
        // A topic of the same name, of which nothing is here yet.
        let world = World { files: world.files.clone(), ..World::new() };
        let process = world.process().await;
        process.divider.divide(|_| true);
        let (lake, share) = (process.lake.clone(), process.share.clone());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(async move { lake.run(share, async { _ = stopped.await }).await });
        told(&process, |error| error.is_some_and(|error| error.contains("log/0") && error.contains("after 0 s"))).await;
        world.clock.set(NOW + 299 * SECOND);
        told(&process, |error| error.is_some_and(|error| error.contains("after 299 s"))).await;
        assert!(!running.is_finished());
        if !comes {
            world.clock.set(NOW + 300 * SECOND);
            let ended = running.await.expect("no panic").expect_err("the log is another lake's");
            assert!(matches!(ended, LakeError::LogBehind { .. }), "{ended:?}");
            assert!(ended.to_string().contains("after 300 s of waiting: the log is older than the lake"), "{ended}");
            continue;
        }
        for number in 0..3 {
            process.log.append(spread(number)).await.expect("is acknowledged");
        }
        world.clock.set(NOW + 301 * SECOND);
        told(&process, |error| error.is_none()).await;
        process.log.append(spread(3)).await.expect("is acknowledged");
        stop.send(()).expect("it runs");
        running.await.expect("no panic").expect("is written");
        assert_eq!((ids(&process.lake).await, process.lake.status().behind), (wanted(4), 0));
    }
}

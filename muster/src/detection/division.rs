//! Processes that divide the log's sequences, however that changes and wherever they begin again, raise the alerts of one
//! engine that judges all of it, and come to its state. Their log is in a Kafka that librdkafka plays, each has a client and
//! a share of its own, and the test divides; they meet on a log in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use detect::{Config, Engine};
use lake::clock::Clock;
use lake::files::sim::SimFiles;
use lake::files::{Files, Wholes};
use lake::log::{Divider, Group, KafkaLogConfig, Log, LogConfig, Payload, Share};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use respond::budget::Budget;
use schemas::alert::Alerts;
use schemas::ledger::LedgerRow;
use schemas::{AlertRow, EventRow, Judgement, OrderRow, VerdictRow, event, id, order, verdict};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::memory::{Cuts, Memory};
use super::samples::{START, row};
use super::tests::{log_in_memory, turn};
use super::{Detection, GROUP, control_of};

const PARTITIONS: usize = 4;
const AGENTS: i64 = 12;
const DAYS: i64 = 24;
const SECOND: i64 = 1_000_000;
const HALF: i64 = 43_200 * SECOND;
/// More than there are.
const ALERTS_DAY_MAX: u32 = 1_000;
const PATIENCE: Duration = Duration::from_secs(60);

enum Step {
    Rows(Vec<EventRow>),
    Order(OrderRow),
    Verdict(VerdictRow, Judgement),
    Tick(i64),
}

/// What all agents do in half a day; now and then some do what they never did.
fn work(day: i64, half: i64) -> Vec<EventRow> {
    let mut rows = Vec::new();
    for agent in 0..AGENTS {
        let time = START + (2 * day + half) * HALF + agent * 60 * SECOND;
        let calls: &[(&str, &str)] =
            if half == 0 { &[("list", "read"), ("get", "read")] } else { &[("note", "write")] };
        rows.extend((0..).zip(calls).map(|(number, call)| row(agent, time + number * SECOND, *call)));
        if half == 1 && day % 8 == 7 && agent % 3 != 2 {
            rows.push(row(agent, time + 5 * SECOND, ("wipe", "delete")));
        }
    }
    rows
}

fn stop(agent: &str, time: i64) -> OrderRow {
    OrderRow {
        order_id: "stopped".into(),
        time,
        event_day: id::day(time),
        tenant: "acme".into(),
        log_partition: id::partition("acme", Some(agent), None, 64),
        target_kind: "agent".into(),
        target_id: agent.into(),
        state: "executed".into(),
        ..OrderRow::default()
    }
}

fn dismissed(alert: &AlertRow, time: i64) -> VerdictRow {
    VerdictRow {
        time,
        event_day: id::day(time),
        tenant: alert.tenant.clone(),
        alert_id: alert.alert_id.clone(),
        verdict: Judgement::Dismissed.name().into(),
        ..VerdictRow::default()
    }
}

/// A stream, and what one engine makes of it.
struct Expected {
    steps: Vec<Step>,
    alerts: Vec<AlertRow>,
    /// The tick of the last cut, and the state there.
    cut: i64,
    state: Vec<u8>,
}

fn expected() -> Expected {
    let (mut engine, mut budget) = (Engine::new(&Config::default()), Budget::default());
    let (mut steps, mut alerts, mut cut, mut state) = (Vec::new(), Vec::new(), 0, Vec::new());
    for (day, half) in (0..DAYS).flat_map(|day| [(day, 0), (day, 1)]) {
        let rows = work(day, half);
        let mut raised = Vec::new();
        engine.observe(&event::batch(&rows), &mut raised).unwrap();
        steps.push(Step::Rows(rows));
        raised.iter_mut().for_each(|alert| _ = budget.weigh(alert, ALERTS_DAY_MAX));
        alerts.append(&mut raised);
        cut = START + (2 * day + half) * HALF + HALF / 2;
        // What is said takes effect behind the tick.
        let control = match (day, half) {
            (9, 0) => {
                let alert = &alerts[0];
                steps.push(Step::Verdict(dismissed(alert, cut), Judgement::Dismissed));
                Some(Judgement::Dismissed.control(&alert.tenant, &alert.alert_id))
            }
            (12, 1) => {
                let step = stop("agent-4", cut);
                let control = control_of(&step);
                steps.push(Step::Order(step));
                control
            }
            _ => None,
        };
        engine.tick(cut, &mut alerts);
        control.iter().for_each(|control| assert!(engine.control(control), "{control}"));
        state = engine.snapshot();
        // A second later nothing has come that a cut would be for.
        engine.tick(cut + SECOND, &mut alerts);
        steps.extend([Step::Tick(cut), Step::Tick(cut + SECOND)]);
    }
    alerts.sort_by(|a, b| a.alert_id.cmp(&b.alert_id));
    Expected { steps, alerts, cut, state }
}

struct World {
    _cluster: MockCluster<'static, DefaultProducerContext>,
    kafka: KafkaLogConfig,
    ticks: Arc<Log>,
    memory: Memory,
}

struct Process {
    log: Arc<Log>,
    divider: Divider,
    judging: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Else a test that fails waits for what judges.
        self.log.close();
    }
}

impl World {
    fn new() -> World {
        let cluster = MockCluster::new(1).unwrap();
        let mut kafka = KafkaLogConfig { topic: "log".into(), partitions: PARTITIONS, ..KafkaLogConfig::default() };
        kafka.client.bootstrap = vec![cluster.bootstrap_servers()];
        cluster.create_topic(&kafka.topic, PARTITIONS as i32, 1).unwrap();
        let files: Arc<dyn Files> = Arc::new(SimFiles::new());
        let kept = Wholes::in_folder(files, "detect".into(), Clock::manual(START));
        let memory = Memory::of_cuts(kept, Cuts { topic: "log".into(), sequences: PARTITIONS });
        World { _cluster: cluster, kafka, ticks: log_in_memory(), memory }
    }

    async fn log(&self) -> Arc<Log> {
        let kafka = self.kafka.clone();
        let connecting = move || Log::connect(&kafka, &LogConfig::default(), Clock::manual(START), &[GROUP]);
        tokio::task::spawn_blocking(connecting).await.unwrap().unwrap()
    }

    async fn process(&self) -> Process {
        let (log, (divider, share)) = (self.log().await, Divider::new(PARTITIONS));
        let judging = Some(self.judge(&log, share).await);
        Process { log, divider, judging }
    }

    async fn judge(&self, log: &Arc<Log>, share: Share) -> JoinHandle<anyhow::Result<()>> {
        let (ticks, memory) = (Some(self.ticks.clone()), self.memory.clone());
        let opened = Detection::open(log.clone(), ticks, share, memory, &Config::default(), ALERTS_DAY_MAX).await;
        let (detection, runtime) = (opened.unwrap(), Handle::current());
        tokio::task::spawn_blocking(move || detection.run(&runtime))
    }

    /// Until so many more parts were handed over, or nothing comes any more.
    async fn go_on(&self, parts: u64) {
        let (until, began) = (self.ticks.end(0) + parts, Instant::now());
        while self.ticks.end(0) < until && began.elapsed() < Duration::from_secs(1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The state at a tick, when all sequences have come to it.
    async fn state(&self, tick: i64) -> Vec<u8> {
        let (all, began) = (turn(PARTITIONS, &[0, 1, 2, 3]), Instant::now());
        loop {
            let found = self.memory.load(&Config::default(), &all).await.unwrap();
            match found {
                Some(found) if found.time >= tick => return found.engine.snapshot(),
                found => assert!(began.elapsed() < PATIENCE, "stuck at {:?}", found.map(|found| found.time)),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Process {
    /// Forgets everything and begins again, with nothing; what judged waits for the log's end.
    async fn crash(&mut self, world: &World) {
        let (divider, share) = Divider::new(PARTITIONS);
        std::mem::replace(&mut self.divider, divider).divide(|_| false);
        self.judging = Some(world.judge(&self.log, share).await);
    }

    async fn end(mut self) {
        let (log, judging) = (self.log.clone(), self.judging.take());
        tokio::task::spawn_blocking(move || log.close()).await.unwrap();
        judging.unwrap().await.unwrap().unwrap();
    }
}

/// `owners` says of each sequence whose it is.
fn divide(processes: &[Process], owners: [usize; PARTITIONS]) {
    for (number, process) in processes.iter().enumerate() {
        process.divider.divide(|sequence| owners[sequence] == number);
    }
}

async fn append(log: &Log, step: &Step, random: &mut fastrand::Rng) {
    let mut groups = Vec::new();
    match step {
        Step::Rows(rows) => {
            let mut rest = rows.as_slice();
            while !rest.is_empty() {
                let (rows, after) = rest.split_at(random.usize(1..=rest.len()));
                rest = after;
                let count = rows.len() as i64;
                let ledger = LedgerRow { received: count, mapped: count, events: count, ..LedgerRow::default() };
                groups.push(Group { events: Some(event::batch(rows)), ledger: Some(ledger), ..Group::default() });
            }
        }
        Step::Order(step) => groups.push(Group { orders: Some(order::batch([step])), ..Group::default() }),
        Step::Verdict(row, judgement) => {
            let control = Some(judgement.control(&row.tenant, &row.alert_id));
            groups.push(Group { verdicts: Some(verdict::batch([row])), control, ..Group::default() });
        }
        Step::Tick(time) => groups.push(Group { tick: Some(*time), ..Group::default() }),
    }
    for group in groups {
        log.append(group).await.unwrap();
    }
}

/// All alerts in the log, without their place in it.
fn alerts(log: &Log) -> Vec<AlertRow> {
    let mut found = Vec::new();
    for sequence in 0..PARTITIONS {
        let mut next = 0;
        while next < log.end(sequence) {
            for frame in log.read(sequence, next, 1 << 20).unwrap() {
                next = frame.offset + 1;
                let Payload::Alerts(batch) = &frame.payload else { continue };
                let rows = Alerts::new(batch).unwrap();
                found.extend((0..batch.num_rows()).map(|row| rows.row(row)));
            }
        }
    }
    for alert in &mut found {
        (alert.log_offset, alert.log_index) = (0, 0);
    }
    found.sort_by(|a, b| a.alert_id.cmp(&b.alert_id));
    found
}

async fn judge(expected: &Expected, seed: u64, count: usize) {
    let (world, mut random) = (World::new(), fastrand::Rng::with_seed(seed));
    let (mut processes, writer) = (Vec::new(), world.log().await);
    for _ in 0..count {
        processes.push(world.process().await);
    }
    let owners = |random: &mut fastrand::Rng| [(); PARTITIONS].map(|()| random.usize(0..count));
    divide(&processes, owners(&mut random));
    for (number, step) in expected.steps.iter().enumerate() {
        append(&writer, step, &mut random).await;
        if number == expected.steps.len() / 2 {
            // Told to end: what it knows it leaves behind, where all is its own.
            std::mem::replace(&mut processes[0], world.process().await).end().await;
            divide(&processes, owners(&mut random));
        }
        match random.u8(0..30) {
            0..2 => divide(&processes, owners(&mut random)),
            // For a moment all believe that all is theirs.
            2 => processes.iter().for_each(|process| process.divider.divide(|_| true)),
            3 => {
                processes[random.usize(0..count)].crash(&world).await;
                divide(&processes, owners(&mut random));
            }
            _ => continue,
        }
        world.go_on(random.u64(0..12)).await;
    }
    divide(&processes, owners(&mut random));
    let state = world.state(expected.cut).await;
    assert_eq!(alerts(&*world.log().await), expected.alerts, "seed {seed}, {count} processes");
    assert!(state == expected.state, "the states differ: seed {seed}, {count} processes");
    for process in processes {
        process.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_divide_the_sequences_anyhow_raise_the_alerts_of_one_engine() {
    let expected = expected();
    let raised = |detector: &str| expected.alerts.iter().filter(|alert| alert.detector == detector).count();
    assert!(raised("after_kill") > 0 && raised("combination") > 3, "{:?}", expected.alerts);
    tokio::join!(judge(&expected, 1, 1), judge(&expected, 2, 2), judge(&expected, 3, 3));
}

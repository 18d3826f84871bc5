//! The detectors' judgement of generated Envoy events of 100,000 agents, alike or skewed, with habits of days behind them; from
//! the vendor's JSON to alerts; and the snapshot of what they learned. Floor: the same events counted by agent and action in a hash map.
//!
//! Each case is measured in a process of its own, this program again with [`ALONE`] and the case's name: a second case in one
//! process would run in the memory that the first left in disorder, a tenth slower. The child measures once for every line it is
//! sent and answers in nanoseconds of processor time.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Cursor, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use benches::measure::thread_time;
use benches::workload::{Source, Spec};
use criterion::Criterion;
use detect::{Config, Engine};
use ingest::Sources;
use schemas::Events;

use crate::{group, mapping, taken};

/// Ten minutes of work a day: a session of eight calls an agent where all work alike.
const EVENTS: u64 = 800_000;
const SPAN_SECS: u32 = 600;
const AGENTS: u32 = 100_000;
const BATCH_ROWS: usize = 4_096;
const DAYS_BEFORE: i64 = 5;
const DAY_MICROS: i64 = 86_400_000_000;

/// What tells this program to be the child of a case.
pub(crate) const ALONE: &str = "--alone";
/// The cases, and whether all agents work alike in them.
const CASES: [(&str, bool); 6] = [
    ("100,000 agents, skewed", false),
    ("100,000 agents, alike", true),
    (JSON, false),
    (FLOOR, false),
    (SNAPSHOT, false),
    (RESTORE, false),
];
const JSON: &str = "vendor's JSON in, alerts out";
const FLOOR: &str = "floor: count in a hash map";
const SNAPSHOT: &str = "snapshot";
const RESTORE: &str = "restore";

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = group(criterion, "detect", EVENTS);
    for (case, _) in CASES {
        let mut child = None;
        group.bench_function(case, |bencher| {
            let child = child.get_or_insert_with(|| Alone::start(case));
            bencher.iter_custom(|rounds| (0..rounds).map(|_| child.once()).sum());
        });
    }
    group.finish();
}

/// The process of a case; it ends when its input does.
struct Alone {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Alone {
    fn start(case: &str) -> Alone {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program);
        child.args([ALONE, case]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().expect("this program can be started");
        let orders = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Alone { child, orders, answers }
    }

    fn once(&mut self) -> Duration {
        self.orders.write_all(b"\n").expect("the child waits for orders");
        let answer = self.answers.next().expect("the child answers").expect("a line of text");
        Duration::from_nanos(answer.parse().expect("nanoseconds"))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // It only measures, and may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures `case` whenever a line comes in.
pub(crate) fn alone(case: &str) {
    let (_, uniform) = CASES.into_iter().find(|(name, _)| *name == case).expect("a case of this group");
    let sources = Sources::load(None).expect("the built-in mappings are right");
    let spec = Spec {
        source: Source::Envoy,
        events: EVENTS,
        agents: AGENTS,
        uniform,
        span_secs: SPAN_SECS,
        ..Spec::default()
    };
    let pieces = mapping::pieces(spec, BATCH_ROWS);
    let batches = mapping::mapped(&pieces, &sources).map(|batch| framed(&batch)).collect();
    let mut week = Week { batches, engine: Engine::new(&Config::default()), day: 0 };
    (0..DAYS_BEFORE).for_each(|_| _ = week.next_day());
    match case {
        JSON => answer(|| week.day_of(mapping::mapped(&pieces, &sources))),
        FLOOR => answer(|| taken(|| count(&week.batches))),
        SNAPSHOT => answer(|| taken(|| week.engine.snapshot())),
        RESTORE => {
            let snapshot = week.engine.snapshot();
            tell(&week.engine, snapshot.len());
            answer(|| taken(|| Engine::restore(&Config::default(), &snapshot).is_ok()));
        }
        _ => answer(|| week.next_day()),
    }
}

fn answer(mut measure: impl FnMut() -> Duration) {
    let mut out = std::io::stdout();
    for _ in std::io::stdin().lines() {
        writeln!(out, "{}", measure().as_nanos()).expect("the parent listens");
    }
}

fn tell(engine: &Engine, snapshot: usize) {
    let ((bytes, largest), agents) = (engine.agent_bytes(), engine.agents());
    let mean = bytes / agents.max(1);
    let _ = writeln!(
        std::io::stderr(),
        "detect: {agents} agents of {mean} bytes, the largest {largest}; a snapshot of {snapshot} bytes"
    );
}

/// The same day again and again, each a day after the one before.
struct Week {
    batches: Vec<RecordBatch>,
    engine: Engine,
    day: i64,
}

impl Week {
    /// Processor time of judging the next day, with a tick after each batch.
    fn next_day(&mut self) -> Duration {
        let batches: Vec<RecordBatch> = self.batches.iter().map(|batch| later(batch, self.day * DAY_MICROS)).collect();
        self.day += 1;
        let start = thread_time();
        batches.iter().for_each(|batch| self.judge(batch));
        thread_time() - start
    }

    /// The same with what makes the batches, each judged before the next is made, as it is live.
    fn day_of(&mut self, mut batches: impl Iterator<Item = RecordBatch>) -> Duration {
        let mut taken = Duration::ZERO;
        loop {
            let start = thread_time();
            let Some(batch) = batches.next() else { break };
            taken += thread_time() - start;
            let batch = later(&batch, self.day * DAY_MICROS);
            let start = thread_time();
            self.judge(&batch);
            taken += thread_time() - start;
        }
        self.day += 1;
        taken
    }

    fn judge(&mut self, batch: &RecordBatch) {
        let mut alerts = Vec::new();
        self.engine.observe(batch, &mut alerts).expect("rows of events");
        let received = Events::new(batch).expect("rows of events").time;
        self.engine.tick(received.value(received.len() - 1), &mut alerts);
    }
}

/// The batch as it comes out of a frame of the log: its columns lie in one buffer.
fn framed(batch: &RecordBatch) -> RecordBatch {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).expect("the schema can be written");
    writer.write(batch).and_then(|()| writer.finish()).expect("memory can be written to");
    let mut reader = StreamReader::try_new(Cursor::new(bytes), None).expect("it was written just now");
    reader.next().expect("there is one batch").expect("it was written just now")
}

fn later(batch: &RecordBatch, by: i64) -> RecordBatch {
    let shifted = |column: &ArrayRef| match column.as_any().downcast_ref::<TimestampMicrosecondArray>() {
        Some(times) => {
            let times = times.unary::<_, TimestampMicrosecondType>(|time| time + by);
            Arc::new(times.with_data_type(column.data_type().clone())) as ArrayRef
        }
        None => column.clone(),
    };
    let columns = batch.columns().iter().map(shifted).collect();
    RecordBatch::try_new(batch.schema(), columns).expect("the columns are the same but for the time")
}

/// What any judgement must do at least: look at each event's agent and action.
pub(crate) fn count(batches: &[RecordBatch]) -> usize {
    let mut counts = HashMap::<(&str, &str), u64>::new();
    let read: Vec<Events> = batches.iter().map(|batch| Events::new(batch).expect("rows of events")).collect();
    for events in &read {
        for row in 0..events.action.len() {
            *counts.entry((events.agent_id.value(row), events.action.value(row))).or_default() += 1;
        }
    }
    counts.len()
}

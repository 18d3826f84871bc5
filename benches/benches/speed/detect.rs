//! The detectors' judgement of generated Envoy events of 100,000 agents, alike or skewed, with habits of days behind them; from
//! the vendor's JSON to alerts; and the snapshot of what they learned. Floor: the same events counted by agent and action in a hash map.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;
use benches::measure::thread_time;
use benches::workload::{Source, Spec};
use criterion::Criterion;
use detect::{Config, Engine};
use ingest::Sources;
use schemas::Events;

use crate::{Group, group, mapping, on_core};

/// Ten minutes of work a day: a session of eight calls an agent where all work alike.
const EVENTS: u64 = 800_000;
const SPAN_SECS: u32 = 600;
const AGENTS: u32 = 100_000;
const BATCH_ROWS: usize = 4_096;
const DAYS_BEFORE: i64 = 5;
const DAY_MICROS: i64 = 86_400_000_000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let sources = Sources::load(None).expect("the built-in mappings are right");
    let mut group = group(criterion, "detect", EVENTS);
    for uniform in [false, true] {
        let spec = Spec {
            source: Source::Envoy,
            events: EVENTS,
            agents: AGENTS,
            uniform,
            span_secs: SPAN_SECS,
            ..Spec::default()
        };
        let pieces = mapping::pieces(spec, BATCH_ROWS);
        let batches: Vec<RecordBatch> = mapping::mapped(&pieces, &sources).collect();
        if std::env::var_os("DUMP").is_some() {
            let f = std::fs::File::create(format!("/tmp/batches-{uniform}.arrow")).unwrap();
            let mut w = arrow::ipc::writer::FileWriter::try_new(f, &batches[0].schema()).unwrap();
            batches.iter().for_each(|b| w.write(b).unwrap());
            w.finish().unwrap();
            continue;
        }
        let mut week = Week { batches, engine: Engine::new(&Config::default()), day: 0 };
        (0..DAYS_BEFORE).for_each(|_| _ = week.next_day());
        let skew = if uniform { "alike" } else { "skewed" };
        judge(&mut group, &format!("100,000 agents, {skew}"), |_| week.next_day());
        if !uniform {
            judge(&mut group, "vendor's JSON in, alerts out", |_| week.day_of(mapping::mapped(&pieces, &sources)));
            on_core(&mut group, "floor: count in a hash map", || count(&week.batches));
            snapshot(&mut group, &week.engine);
        }
    }
    group.finish();
}

/// Measures days that each take so much processor time.
fn judge(group: &mut Group<'_>, name: &str, mut day: impl FnMut(u64) -> Duration) {
    group.bench_function(name, |bencher| bencher.iter_custom(|rounds| (0..rounds).map(&mut day).sum()));
}

fn snapshot(group: &mut Group<'_>, engine: &Engine) {
    let snapshot = engine.snapshot();
    let ((bytes, largest), agents) = (engine.agent_bytes(), engine.agents());
    let _ = writeln!(
        std::io::stderr(),
        "detect: {agents} agents of {} bytes, the largest {largest}; a snapshot of {} bytes",
        bytes / agents.max(1),
        snapshot.len()
    );
    on_core(group, "snapshot", || engine.snapshot());
    on_core(group, "restore", || Engine::restore(&Config::default(), &snapshot).is_ok());
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

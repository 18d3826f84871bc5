//! The detectors' judgement of generated Envoy events, and the snapshot of what they learned. Floor: the same events counted by
//! agent and action in a hash map.

use std::collections::HashMap;
use std::io::Write;

use arrow::array::{Array, RecordBatch};
use criterion::Criterion;
use detect::{Config, Engine};
use ingest::Sources;
use schemas::Events;

use crate::{group, mapping, on_core};

const EVENTS: u64 = 100_000;
const BATCH_ROWS: usize = 4_096;

pub(crate) fn bench(criterion: &mut Criterion) {
    let sources = Sources::load(None).expect("the built-in mappings are right");
    let pieces = mapping::pieces(EVENTS, BATCH_ROWS);
    let batches: Vec<RecordBatch> = mapping::mapped(&pieces, &sources).collect();
    let mut group = group(criterion, "detect", EVENTS);
    on_core(&mut group, "observe", || learned(batches.iter().cloned()));
    on_core(&mut group, "vendor's JSON in, alerts out", || learned(mapping::mapped(&pieces, &sources)));
    on_core(&mut group, "floor: count in a hash map", || count(&batches));
    let engine = learned(batches.iter().cloned());
    let snapshot = engine.snapshot();
    let (bytes, largest) = engine.agent_bytes();
    let _ = writeln!(
        std::io::stderr(),
        "detect: {} agents of {} bytes, the largest {largest}; a snapshot of {} bytes",
        engine.agents(),
        bytes / engine.agents().max(1),
        snapshot.len()
    );
    on_core(&mut group, "snapshot", || engine.snapshot());
    on_core(&mut group, "restore", || Engine::restore(&Config::default(), &snapshot).is_ok());
    group.finish();
}

fn learned(batches: impl Iterator<Item = RecordBatch>) -> Engine {
    let (mut engine, mut alerts) = (Engine::new(&Config::default()), Vec::new());
    for batch in batches {
        engine.observe(&batch, &mut alerts).expect("rows of events");
    }
    engine
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

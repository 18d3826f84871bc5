//! The log: one stream, whatever happens around it.

mod crash;
mod limits;
mod stream;
mod windowless;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use lake::clock::Clock;
use lake::files::Files;
use lake::log::{Appended, Embedded as Log, Frame, Group, LogConfig, LogError, Payload, Recovery};
use schemas::alert::{self, AlertRow};
use schemas::event::{self, EventRow, Events};
use schemas::ledger::LedgerRow;

/// An event whose id and raw record are these.
fn row(id: &str, raw: &str) -> EventRow {
    EventRow { event_id: id.to_owned(), raw: raw.to_owned(), ..EventRow::default() }
}

/// A group of events with the ledger row that counts them.
fn events<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> Group {
    let rows: Vec<EventRow> = rows.into_iter().map(|(id, raw)| row(id, raw)).collect();
    let count = rows.len() as i64;
    let ledger = LedgerRow { received: count, mapped: count, events: count, ..LedgerRow::default() };
    Group { events: Some(event::batch(&rows)), ledger: Some(ledger), ..Group::default() }
}

fn alerts(id: &str) -> RecordBatch {
    let alert = AlertRow { alert_id: id.to_owned(), event_ids: vec!["a".to_owned()], ..AlertRow::default() };
    alert::batch(&[alert])
}

fn small() -> LogConfig {
    LogConfig { segment_bytes_max: 40_000, ..LogConfig::default() }
}

fn open(files: &(impl Files + Clone + 'static), config: &LogConfig) -> Result<(Arc<Log>, Recovery), LogError> {
    let opened = Log::open(Arc::new(files.clone()), folder(), config, Clock::manual(7), &["lake", "detect"]);
    opened.map(|(log, recovery)| (Arc::new(log), recovery))
}

fn folder() -> PathBuf {
    PathBuf::from("data/log")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn append(log: &Log, group: Group) -> Result<Appended, LogError> {
    runtime().block_on(log.append(group))
}

/// Every group passes.
fn pass(log: &Log, next: u64) {
    ["lake", "detect"].iter().for_each(|group| log.passed(group, next));
}

/// All frames, read a few bytes at a time.
fn frames(log: &Log) -> Vec<Arc<Frame>> {
    let mut frames: Vec<Arc<Frame>> = Vec::new();
    let mut next = log.first();
    while next < log.end() {
        let read = log.read(next, 3000).expect("reads");
        assert_eq!(read.first().map(|frame| frame.offset), Some(next), "at least one frame, without a hole");
        next += read.len() as u64;
        frames.extend(read);
    }
    frames
}

/// Id, raw record and flags of each event in order; checks the log columns on the way.
fn stream(log: &Log) -> Vec<(String, String, Vec<String>)> {
    let mut rows = Vec::new();
    for frame in frames(log) {
        let Payload::Events(batch) = &frame.payload else { continue };
        let events = Events::new(batch).expect("has the columns");
        for i in 0..batch.num_rows() {
            let row = events.row(i);
            assert_eq!((row.log_offset as u64, row.log_index as usize), (frame.offset, i));
            rows.push((row.event_id, row.raw, row.flags));
        }
    }
    rows
}

//! The log: ordered, durable, typed frames. `append` returns when the group is fsynced; readers see it at once after.
//!
//! ```text
//! append(Group) ─▶ bounded queue ─▶ writer thread: duplicate filter ─▶ one frame a kind ─▶ one write, one fsync
//!                                          └─ ids seen                └─▶ cache of newest frames ─▶ readers
//! ```
//! A group is written whole or not at all: its frames are adjacent and the last one says so; recovery cuts a torn tail
//! back to the last whole group. Appends that wait together become one group. The duplicate filter runs where the order
//! is decided, so that every reader sees one stream (`docs/decisions/`). A failing fsync is fatal: [`LogError::Fatal`],
//! and every later call fails. A full disk is not: the file is cut back and the append fails alone.

mod config;
mod error;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use schemas::ledger::LedgerRow;
use serde_json::Value;

use crate::clock::Clock;
use crate::files::Files;

pub use config::LogConfig;
pub use error::LogError;

/// What one append writes, all of it or none.
#[derive(Debug, Default)]
pub struct Group {
    /// Rows of `events`. With events there is a ledger row, which the duplicate filter corrects.
    pub events: Option<RecordBatch>,
    pub quarantine: Option<RecordBatch>,
    pub ledger: Option<LedgerRow>,
    /// Rows of `alerts`; one whose id came before is dropped.
    pub alerts: Option<RecordBatch>,
    pub orders: Option<RecordBatch>,
    /// Changes of rules, configuration, registry or verdicts: what detection obeys besides events.
    pub control: Option<Value>,
    /// Time that passes, in microseconds since the Unix epoch.
    pub tick: Option<i64>,
}

/// What became of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Appended {
    /// Where the event rows are: the frame's offset and the index of this group's first row in it.
    pub events: Option<(u64, u32)>,
    /// Rows of the group's events that were dropped as duplicates (ascending, 0-based).
    pub duplicates: Vec<u32>,
    /// Rows that were kept under a new `event_id`, with the flag `id_conflict`, because their id came before with other bytes.
    pub conflicts: Vec<u32>,
    /// One past the last offset of the group: all frames below are durable.
    pub end: u64,
}

/// What a frame holds. Batches have their log columns filled.
#[derive(Clone, Debug)]
pub enum Payload {
    Events(RecordBatch),
    Quarantine(RecordBatch),
    Ledger(RecordBatch),
    Alerts(RecordBatch),
    Orders(RecordBatch),
    Control(Value),
    Tick(i64),
}

/// One frame as readers see it.
#[derive(Clone, Debug)]
pub struct Frame {
    pub offset: u64,
    /// When the frame was written, in microseconds since the Unix epoch: for measuring, never for deciding.
    pub written_at: i64,
    pub payload: Payload,
}

/// What opening the log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Frames retained.
    pub frames: u64,
    /// Bytes of a torn tail that were cut off: part of a write that was never acknowledged.
    pub truncated_bytes: u64,
    /// Why they were cut off.
    pub reason: Option<String>,
}

/// The embedded log.
#[derive(Debug)]
pub struct Log {}

impl Log {
    /// Opens the log in `folder`, creating it where there is none. `groups` are the readers that must pass a frame
    /// before it is released; until a group first says [`passed`](Self::passed), it holds everything.
    pub fn open(
        files: Arc<dyn Files>,
        folder: PathBuf,
        config: &LogConfig,
        clock: Clock,
        groups: &[&'static str],
    ) -> Result<(Arc<Log>, Recovery), LogError> {
        todo!()
    }

    /// Appends a group; durable when it returns. A caller that stops waiting does not take the group back.
    pub async fn append(&self, group: Group) -> Result<Appended, LogError> {
        todo!()
    }

    /// One past the last durable offset.
    pub fn end(&self) -> u64 {
        todo!()
    }

    /// The first retained offset.
    pub fn first(&self) -> u64 {
        todo!()
    }

    /// Resolves with [`end`](Self::end) once that is greater than `beyond`.
    pub async fn wait(&self, beyond: u64) -> Result<u64, LogError> {
        todo!()
    }

    /// Frames from `from` on, in order: at least one if `from < end`, then as many as `bytes_max` allows.
    pub fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<Arc<Frame>>, LogError> {
        todo!()
    }

    /// `group` durably needs nothing below `next` any more.
    pub fn passed(&self, group: &str, next: u64) {
        todo!()
    }

    /// Writes what is queued and stops; every later call fails with [`LogError::Closed`].
    pub fn close(&self) {
        todo!()
    }
}

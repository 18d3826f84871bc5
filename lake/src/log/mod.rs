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

use arrow::array::RecordBatch;
use schemas::ledger::LedgerRow;
use serde_json::Value;

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

//! Gathers the log's frames and writes them to the tables. The rules it keeps are in the folder's header.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};

use super::snapshot::Published;
use super::{LakeConfig, LakeError, TableState};
use crate::log::{Frame, Log, Payload};

/// A failed flush is tried again after this long.
const RETRY_MICROS: i64 = 1_000_000;

pub(crate) struct Writer {
    /// In the order of `schemas::TABLES`.
    tables: Vec<TableState>,
    /// Everything below is in the tables.
    next: u64,
    /// Frames from `next` on, without a gap.
    pending: Vec<Arc<Frame>>,
    pending_bytes: usize,
    /// When the first pending frame was gathered.
    since: i64,
    not_before: i64,
}

impl Writer {
    /// A writer that goes on where the tables end; `first` is the first frame that the log retains.
    pub(crate) fn new(tables: Vec<TableState>, first: u64) -> Self {
        let least = tables.iter().map(|t| t.position + 1).min().unwrap_or(0);
        let next = first.max(least.max(0) as u64);
        Writer { tables, next, pending: Vec::new(), pending_bytes: 0, since: 0, not_before: i64::MIN }
    }

    /// The table of this place in `schemas::TABLES`.
    pub(crate) fn table(&mut self, index: usize) -> &mut TableState {
        &mut self.tables[index]
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn publish(&self) -> Published {
        Published { next: self.next, tables: self.tables.clone() }
    }

    /// Gathers new frames, up to `bytes_max` of them.
    pub(crate) async fn fill(&mut self, log: &Arc<Log>, bytes_max: usize, now: i64) -> Result<(), LakeError> {
        loop {
            let from = self.pending.last().map_or(self.next, |frame| frame.offset + 1);
            if from >= log.end() || self.pending_bytes >= bytes_max {
                return Ok(());
            }
            if self.pending.is_empty() {
                self.since = now;
            }
            let (log, bytes_max) = (log.clone(), bytes_max - self.pending_bytes);
            let read = tokio::task::spawn_blocking(move || log.read(from, bytes_max)).await;
            for frame in read.map_err(|e| LakeError::Panicked(e.to_string()))?? {
                self.pending_bytes += rows(&frame.payload).map_or(0, |(_, batch)| bytes(batch));
                self.pending.push(frame);
            }
        }
    }

    pub(crate) fn due(&self, config: &LakeConfig, now: i64, at_once: bool) -> bool {
        let waited = at_once || now - self.since >= config.flush_secs as i64 * 1_000_000;
        let full = self.pending_bytes >= config.flush_bytes_max;
        !self.pending.is_empty() && self.may_try(now) && (waited || full)
    }

    pub(crate) fn may_try(&self, now: i64) -> bool {
        now >= self.not_before
    }

    pub(crate) fn wait_again(&mut self, now: i64) {
        self.not_before = now + RETRY_MICROS;
    }

    /// Writes the pending frames' rows to their tables. After an error it may be called again: what was written is left out.
    pub(crate) async fn write(&mut self, now: i64) -> Result<(), LakeError> {
        let Some(last) = self.pending.last().map(|frame| frame.offset) else { return Ok(()) };
        let mut of_table: Vec<Vec<(u64, RecordBatch)>> = vec![Vec::new(); self.tables.len()];
        for frame in &self.pending {
            if let Some((table, batch)) = rows(&frame.payload) {
                of_table[table].push((frame.offset, batch.clone()));
            }
        }
        for (table, rows) in self.tables.iter_mut().zip(of_table) {
            if !rows.is_empty() {
                table.append(&rows, last, now).await?;
            }
        }
        self.next = last + 1;
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }
}

/// The rows of a frame and the index of their table in `schemas::TABLES`; none for frames that are no rows.
pub(crate) fn rows(payload: &Payload) -> Option<(usize, &RecordBatch)> {
    match payload {
        Payload::Events(batch) => Some((0, batch)),
        Payload::Quarantine(batch) => Some((1, batch)),
        Payload::Ledger(batch) => Some((2, batch)),
        Payload::Alerts(batch) => Some((3, batch)),
        Payload::Orders(batch) => Some((4, batch)),
        Payload::Inventory(batch) => Some((5, batch)),
        Payload::Verdicts(batch) => Some((6, batch)),
        Payload::Control(_) | Payload::Tick(_) => None,
    }
}

/// The bytes of a batch's own rows: columns of one frame share a buffer, which would be counted once a column.
pub(crate) fn bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

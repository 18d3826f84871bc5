//! Gathers the log's frames and writes them to the tables. The rules it keeps are in the folder's header.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};

use super::delta::Placed;
use super::snapshot::Published;
use super::{LakeConfig, LakeError, TableState};
use crate::log::{Frame, Log, Payload, Positions};

/// A failed flush is tried again after this long.
const RETRY_MICROS: i64 = 1_000_000;

pub(crate) struct Writer {
    /// In the order of `schemas::TABLES`.
    tables: Vec<TableState>,
    /// Everything below is in the tables.
    next: Positions,
    /// Frames from `next` to `gathered`, without a gap.
    pending: Vec<Arc<Frame>>,
    gathered: Positions,
    pending_bytes: usize,
    /// When the first pending frame was gathered.
    since: i64,
    not_before: i64,
}

impl Writer {
    /// A writer that goes on where the tables end, and not before `next`.
    pub(crate) fn new(tables: Vec<TableState>, next: Positions) -> Self {
        let (pending, gathered) = (Vec::new(), next.clone());
        Writer { tables, next, pending, gathered, pending_bytes: 0, since: 0, not_before: i64::MIN }
    }

    /// The table of this place in `schemas::TABLES`.
    pub(crate) fn table(&mut self, index: usize) -> &mut TableState {
        &mut self.tables[index]
    }

    pub(crate) fn next(&self) -> &Positions {
        &self.next
    }

    pub(crate) fn publish(&self) -> Published {
        Published { next: self.next.clone(), tables: self.tables.clone() }
    }

    /// Gathers new frames, up to `bytes_max` of them.
    pub(crate) async fn fill(&mut self, log: &Arc<Log>, bytes_max: usize, now: i64) -> Result<(), LakeError> {
        loop {
            if self.gathered.reaches(&log.ends()) || self.pending_bytes >= bytes_max {
                return Ok(());
            }
            if self.pending.is_empty() {
                self.since = now;
            }
            let (log, from, bytes_max) = (log.clone(), self.gathered.clone(), bytes_max - self.pending_bytes);
            let read = tokio::task::spawn_blocking(move || log.read_all(&from, bytes_max)).await;
            for frame in read.map_err(|e| LakeError::Panicked(e.to_string()))?? {
                self.pending_bytes += rows(&frame.payload).map_or(0, |(_, batch)| bytes(batch));
                self.gathered.pass(frame.sequence, frame.offset + 1);
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
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut of_table: Vec<Vec<Placed>> = vec![Vec::new(); self.tables.len()];
        for frame in &self.pending {
            if let Some((table, batch)) = rows(&frame.payload) {
                let (sequence, offset, batch) = (frame.sequence, frame.offset, batch.clone());
                of_table[table].push(Placed { sequence, offset, batch });
            }
        }
        for (table, rows) in self.tables.iter_mut().zip(of_table) {
            if !rows.is_empty() {
                table.append(&rows, &self.gathered, now).await?;
            }
        }
        self.next = self.gathered.clone();
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

//! Gathers the log's frames and writes them to the tables. The rules it keeps are in the folder's header.
//!
//! While it writes it goes on gathering: frames that come meanwhile are still in memory then, and need not be read from the
//! disk and decoded.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};

use super::delta::Placed;
use super::snapshot::Published;
use super::{LOOK_MILLIS, LakeConfig, LakeError, TableState};
use crate::log::{Frame, Log, Payload, Positions, Turn};

/// A failed flush is tried again after this long.
const RETRY_MICROS: i64 = 1_000_000;

pub(crate) struct Writer {
    /// In the order of `schemas::TABLES`.
    tables: Vec<TableState>,
    /// Everything below is in the tables, whoever wrote it.
    next: Positions,
    /// The division that is written for; none while one is gone over to.
    turn: Option<Turn>,
    pending: Gathered,
    /// Gathered while what is pending was being written; pending with the next fill.
    ahead: Gathered,
    /// Frames of the turn's sequences from `next` to here are in one of the two; what is left out between them is in the tables.
    gathered: Positions,
    /// What another process left unwritten has waited already.
    at_once: bool,
    not_before: i64,
    /// When it was last looked what others wrote.
    looked_at: i64,
}

/// Frames of several sequences, each sequence's in order.
#[derive(Default)]
struct Gathered {
    frames: Vec<Arc<Frame>>,
    bytes: usize,
    /// When the first of them was gathered.
    since: i64,
}

impl Gathered {
    /// Takes new frames of `sequences` behind `at`, up to `bytes_max` of them in all.
    async fn fill(
        &mut self,
        log: &Arc<Log>,
        sequences: &[usize],
        at: &mut Positions,
        bytes_max: usize,
        now: i64,
    ) -> Result<(), LakeError> {
        while self.bytes < bytes_max && sequences.iter().any(|sequence| at.get(*sequence) < log.end(*sequence)) {
            if self.frames.is_empty() {
                self.since = now;
            }
            let (log, from, of, bytes_max) = (log.clone(), at.clone(), sequences.to_vec(), bytes_max - self.bytes);
            let read = tokio::task::spawn_blocking(move || log.read_of(&of, &from, bytes_max)).await;
            for frame in read.map_err(|e| LakeError::Panicked(e.to_string()))?? {
                self.bytes += rows(&frame.payload).map_or(0, |(_, batch)| bytes(batch));
                at.pass(frame.sequence, frame.offset + 1);
                self.frames.push(frame);
            }
        }
        Ok(())
    }

    /// Takes those that come behind its own.
    fn append(&mut self, behind: &mut Gathered) {
        if self.frames.is_empty() {
            self.since = behind.since;
        }
        self.frames.append(&mut behind.frames);
        self.bytes += std::mem::take(&mut behind.bytes);
    }

    fn clear(&mut self) {
        *self = Gathered::default();
    }
}

impl Writer {
    /// A writer of nothing yet, that knows what the tables say.
    pub(crate) fn new(tables: Vec<TableState>) -> Self {
        let (next, gathered, pending, ahead) = Default::default();
        Writer {
            tables,
            next,
            turn: None,
            pending,
            ahead,
            gathered,
            at_once: false,
            not_before: i64::MIN,
            looked_at: i64::MIN,
        }
    }

    /// The table of this place in `schemas::TABLES`.
    pub(crate) fn table(&mut self, index: usize) -> &mut TableState {
        &mut self.tables[index]
    }

    pub(crate) fn tables(&self) -> &[TableState] {
        &self.tables
    }

    pub(crate) fn next(&self) -> &Positions {
        &self.next
    }

    pub(crate) fn turn(&self) -> Option<&Turn> {
        self.turn.as_ref()
    }

    pub(crate) fn publish(&self) -> Published {
        Published { next: self.next.clone(), tables: self.tables.clone() }
    }

    /// Looks at the newest commit of every table. Whatever was known before to be in the tables is in these.
    pub(crate) async fn refresh(&mut self, now: i64) -> Result<(), LakeError> {
        for table in &mut self.tables {
            table.refresh().await?;
        }
        self.looked_at = now;
        Ok(())
    }

    pub(crate) fn looked_at(&self) -> i64 {
        self.looked_at
    }

    /// Takes note of what is in the tables: below `known`, which was told before they were looked at, and what all of them say.
    pub(crate) fn learn(&mut self, known: &Positions, sequences: usize) {
        self.next.pass_all(known);
        for sequence in 0..sequences {
            let least = self.tables.iter().map(|table| table.position(sequence) + 1).min().unwrap_or(0);
            self.next.pass(sequence, least.unsigned_abs());
        }
        self.gathered.pass_all(&self.next);
    }

    /// Writes for nobody until it begins again; what was gathered is dropped.
    pub(crate) fn leave(&mut self) {
        self.turn = None;
        self.pending.clear();
        self.ahead.clear();
    }

    /// Begins with the sequences of `turn`, each at `begin`.
    pub(crate) fn begin(&mut self, turn: Turn, begin: &Positions, at_once: bool) {
        self.leave();
        self.next.pass_all(begin);
        self.gathered = self.next.clone();
        (self.turn, self.at_once) = (Some(turn), at_once);
    }

    fn sequences(&self) -> Vec<usize> {
        self.turn.iter().flat_map(Turn::sequences).collect()
    }

    /// Whether everything of its sequences up to `end` is in the tables.
    pub(crate) fn reaches(&self, end: &Positions) -> bool {
        self.sequences().into_iter().all(|sequence| self.next.get(sequence) >= end.get(sequence))
    }

    /// Gathers new frames, up to `bytes_max` of them.
    pub(crate) async fn fill(&mut self, log: &Arc<Log>, bytes_max: usize, now: i64) -> Result<(), LakeError> {
        self.pending.append(&mut self.ahead);
        let sequences = self.sequences();
        self.pending.fill(log, &sequences, &mut self.gathered, bytes_max, now).await?;
        self.at_once &= !self.pending.frames.is_empty();
        Ok(())
    }

    pub(crate) fn due(&self, config: &LakeConfig, now: i64, at_once: bool) -> bool {
        let waited = at_once || self.at_once || now - self.pending.since >= config.flush_secs as i64 * 1_000_000;
        let full = self.pending.bytes >= config.flush_bytes_max;
        !self.pending.frames.is_empty() && self.may_try(now) && (waited || full)
    }

    pub(crate) fn may_try(&self, now: i64) -> bool {
        now >= self.not_before
    }

    pub(crate) fn wait_again(&mut self, now: i64) {
        self.not_before = now + RETRY_MICROS;
    }

    /// Writes the pending frames' rows to their tables, and gathers new frames meanwhile, up to `bytes_max` as at a fill. After
    /// an error it may be called again: what was written is left out.
    pub(crate) async fn write(&mut self, log: &Arc<Log>, bytes_max: usize, now: i64) -> Result<(), LakeError> {
        if self.pending.frames.is_empty() {
            return Ok(());
        }
        let mut of_table: Vec<Vec<Placed>> = vec![Vec::new(); self.tables.len()];
        let mut end = Positions::default();
        for frame in &self.pending.frames {
            end.pass(frame.sequence, frame.offset + 1);
            if let Some((table, batch)) = rows(&frame.payload) {
                let (sequence, offset, batch) = (frame.sequence, frame.offset, batch.clone());
                of_table[table].push(Placed { sequence, offset, batch });
            }
        }
        // Where writing fails again and again, what waits must not grow.
        let ahead_bytes_max = (2 * bytes_max).saturating_sub(self.pending.bytes);
        let sequences = self.sequences();
        let (tables, ahead, gathered) = (&mut self.tables, &mut self.ahead, &mut self.gathered);
        let writing = async {
            for (table, rows) in tables.iter_mut().zip(of_table) {
                if !rows.is_empty() {
                    table.append(&rows, &end, now).await?;
                }
            }
            Ok::<(), LakeError>(())
        };
        let gathering = async {
            // An error comes again with the next fill.
            while ahead.fill(log, &sequences, gathered, ahead_bytes_max, now).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(LOOK_MILLIS)).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            written = writing => written?,
            () = gathering => {}
        }
        self.next.pass_all(&end);
        self.pending.clear();
        self.at_once = false;
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

//! What can be queried at one moment: the tables as of one flush, and the rows that the log holds beyond it.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::writer::{bytes, rows};
use super::{LakeError, TableState};
use crate::log::{Frame, Log, Positions};

/// Frames are read from the log in steps of this size.
const STEP_BYTES: usize = 16 << 20;

/// The tables after a flush: every row of the log below `next` is in them.
pub(crate) struct Published {
    pub(crate) next: Positions,
    pub(crate) tables: Vec<TableState>,
}

/// All tables as of one moment.
pub struct Snapshot {
    published: Arc<Published>,
    frames: Vec<Arc<Frame>>,
}

/// One table of a [`Snapshot`]: its files, and beside them the rows that are not in a file yet.
pub struct TableSnapshot {
    pub state: TableState,
    /// In log order, with the table's columns; no row of it is in the files.
    pub tail: Vec<RecordBatch>,
    /// While this lives, an erasure does not delete the files.
    _published: Arc<Published>,
}

impl Snapshot {
    pub(crate) fn take(published: Arc<Published>, log: &Log, bytes_max: usize) -> Result<Self, LakeError> {
        let end = log.ends();
        let (mut frames, mut size, mut next) = (Vec::new(), 0, published.next.clone());
        for sequence in (0..log.sequences()).filter(|sequence| published.next.get(*sequence) == 0) {
            // Nothing of it was ever written: it begins where the log does.
            next.pass(sequence, log.first(sequence));
        }
        while !next.reaches(&end) {
            for frame in log.read_all(&next, STEP_BYTES)? {
                next.pass(frame.sequence, frame.offset + 1);
                // A frame that came since `end` was asked for belongs to a later moment.
                if frame.offset < end.get(frame.sequence) {
                    size += rows(&frame.payload).map_or(0, |(_, batch)| bytes(batch));
                    frames.push(frame);
                }
            }
            if size > bytes_max {
                return Err(LakeError::Behind { bytes_max });
            }
        }
        Ok(Snapshot { published, frames })
    }

    /// Every row below this offset is in the tables.
    pub(crate) fn next(&self) -> &Positions {
        &self.published.next
    }

    /// Rows of the log that are in no table yet.
    pub fn waiting_rows(&self) -> u64 {
        let waits = |frame: &Arc<Frame>| {
            let (table, batch) = rows(&frame.payload)?;
            let written = self.published.tables[table].position(frame.sequence);
            (frame.offset as i64 > written).then(|| batch.num_rows() as u64)
        };
        self.frames.iter().filter_map(waits).sum()
    }

    /// A table of `schemas::TABLES` by name.
    pub fn table(&self, name: &str) -> Option<TableSnapshot> {
        let index = self.published.tables.iter().position(|t| t.table.name == name)?;
        let state = self.published.tables[index].clone();
        let tail = self.frames.iter().filter_map(|frame| {
            let (table, batch) = rows(&frame.payload)?;
            (table == index && frame.offset as i64 > state.position(frame.sequence)).then(|| batch.clone())
        });
        Some(TableSnapshot { tail: tail.collect(), state, _published: self.published.clone() })
    }
}

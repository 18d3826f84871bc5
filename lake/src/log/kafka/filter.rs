//! The duplicate filter of a reader: which of a message's rows came before.
//!
//! In Kafka nobody knows the order before it is written, so the filter is in the readers, and all of them must say the same
//! wherever they began. So its answer depends on nothing but what lies in the partition within a stated distance before the
//! row: the last `rows_max` event rows, duplicates included, of the last [`MESSAGES_MAX`] messages. A row is a duplicate if
//! its id came there with the same bytes, and a conflict if its id came there only with others; an alert or a step
//! of an order is a duplicate if it came there. A reader that begins somewhere first reads that far back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use schemas::ledger::{self, Ledger};

use super::super::commit::{self, Judged};
use super::super::group::{alert_keys, event_keys, order_keys};
use super::super::{Frame, LogError, Payload};

/// Messages over which an id is known at most: more than a day of ticks, so that a quiet partition is soon read back.
pub(super) const MESSAGES_MAX: u64 = 1 << 17;
/// Keep the keys of alerts and orders apart from those of events.
const ALERT: u128 = 0x616c_6572_7400_0000_0000_0000_0000_0001;
const ORDER: u128 = 0x6f72_6465_7200_0000_0000_0000_0000_0002;

/// What a message holds that the filter compares: hashes of id and raw record of each event, and of each alert's id.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) offset: u64,
    pub(super) events: Vec<(u128, u128)>,
    pub(super) alerts: Vec<u128>,
    pub(super) orders: Vec<u128>,
}

impl Keys {
    pub(super) fn of(frames: &[Frame]) -> Result<Keys, LogError> {
        let mut keys = Keys { offset: frames.first().map_or(0, |frame| frame.offset), ..Keys::default() };
        for frame in frames {
            match &frame.payload {
                Payload::Events(batch) => keys.events = event_keys(batch)?,
                Payload::Alerts(batch) => keys.alerts = alert_keys(batch)?,
                Payload::Orders(batch) => keys.orders = order_keys(batch)?,
                _ => {}
            }
        }
        Ok(keys)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.alerts.is_empty() && self.orders.is_empty()
    }
}

/// Rows of a message that came before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) duplicates: Vec<u32>,
    /// Their id came with other bytes.
    pub(super) conflicts: Vec<u32>,
    alerts: Vec<u32>,
    orders: Vec<u32>,
}

impl Verdict {
    pub(super) fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    pub(super) fn rows(&self) -> usize {
        self.duplicates.len() + self.conflicts.len() + self.alerts.len() + self.orders.len()
    }
}

/// Where a key was seen last: the number of event rows before it, and its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    row: u64,
    offset: u64,
}

/// The keys within the distance.
#[derive(Debug)]
pub(super) struct Filter {
    rows_max: u64,
    row: u64,
    seen: HashMap<u128, Seen, ahash::RandomState>,
    order: VecDeque<(u128, Seen)>,
}

impl Filter {
    pub(super) fn new(rows_max: u64) -> Filter {
        Filter { rows_max, row: 0, seen: HashMap::default(), order: VecDeque::new() }
    }

    /// Judges the next message.
    pub(super) fn judge(&mut self, keys: &Keys) -> Verdict {
        let mut verdict = Verdict::default();
        if self.rows_max == 0 {
            return verdict;
        }
        for (row, (id, raw)) in (0..).zip(&keys.events) {
            let repeated = self.see(id.rotate_left(1) ^ raw, keys.offset);
            let known = self.see(*id, keys.offset);
            if repeated {
                verdict.duplicates.push(row);
            } else if known {
                verdict.conflicts.push(row);
            }
            self.row += 1;
        }
        let others = [(&keys.alerts, ALERT, &mut verdict.alerts), (&keys.orders, ORDER, &mut verdict.orders)];
        for (keys_of, kind, repeated) in others {
            for (row, id) in (0..).zip(keys_of) {
                if self.see(id ^ kind, keys.offset) {
                    repeated.push(row);
                }
            }
        }
        self.forget(keys.offset);
        verdict
    }

    /// Whether the key was seen within the distance; from now on it is seen here.
    fn see(&mut self, key: u128, offset: u64) -> bool {
        let here = Seen { row: self.row, offset };
        self.order.push_back((key, here));
        self.seen.insert(key, here).is_some_and(|seen| self.reaches(seen, here))
    }

    fn reaches(&self, seen: Seen, here: Seen) -> bool {
        here.row - seen.row <= self.rows_max && here.offset - seen.offset <= MESSAGES_MAX
    }

    fn forget(&mut self, offset: u64) {
        let here = Seen { row: self.row, offset };
        while let Some((key, seen)) = self.order.front().copied().filter(|(_, seen)| !self.reaches(*seen, here)) {
            self.order.pop_front();
            if self.seen.get(&key) == Some(&seen) {
                self.seen.remove(&key);
            }
        }
    }
}

/// The frames without what the verdict takes out. None is left out whole: a frame may be empty.
pub(super) fn apply(frames: Vec<Frame>, verdict: &Verdict) -> Result<Vec<Arc<Frame>>, LogError> {
    if verdict.is_empty() {
        return Ok(super::message::shared(frames));
    }
    let failed = |error: ArrowError| LogError::Fatal(error.to_string());
    let mut all = None;
    let mut out = Vec::with_capacity(frames.len());
    for mut frame in frames {
        frame.payload = match frame.payload {
            Payload::Events(batch) => {
                let judged = {
                    let events = commit::read(&batch)?;
                    let renamed = |row: &u32| (*row, commit::renamed(&events, *row as usize));
                    let conflicts = verdict.conflicts.iter().map(renamed).collect();
                    Judged { duplicates: verdict.duplicates.clone(), conflicts }
                };
                all = Some(batch.clone());
                Payload::Events(commit::apply(batch, &judged).map_err(failed)?)
            }
            Payload::Ledger(batch) => Payload::Ledger(corrected(batch, all.as_ref(), verdict)?),
            Payload::Alerts(batch) => Payload::Alerts(without(&batch, &verdict.alerts).map_err(failed)?),
            Payload::Orders(batch) => Payload::Orders(without(&batch, &verdict.orders).map_err(failed)?),
            payload => payload,
        };
        out.push(Arc::new(frame));
    }
    Ok(out)
}

fn without(batch: &RecordBatch, rows: &[u32]) -> Result<RecordBatch, ArrowError> {
    let mut keep = vec![true; batch.num_rows()];
    rows.iter().for_each(|row| keep[*row as usize] = false);
    filter_record_batch(batch, &BooleanArray::from(keep))
}

/// A message has one ledger row: that of its own rows.
fn corrected(batch: RecordBatch, events: Option<&RecordBatch>, verdict: &Verdict) -> Result<RecordBatch, LogError> {
    let (Some(events), false) = (events, verdict.duplicates.is_empty()) else { return Ok(batch) };
    let malformed =
        |error: schemas::SchemaError| LogError::Malformed { table: "ingest_ledger", reason: error.to_string() };
    let rows = Ledger::new(&batch).map_err(malformed)?;
    let mut rows: Vec<_> = (0..batch.num_rows()).map(|row| rows.row(row)).collect();
    if let Some(first) = rows.first_mut() {
        commit::correct(first, events, &verdict.duplicates)?;
    }
    Ok(ledger::batch(&rows))
}

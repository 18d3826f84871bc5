//! From waiting groups to the bytes of one commit: duplicates out, one frame a kind, each group told where its rows are.
//!
//! Frames of a commit have a fixed order: control, verdicts, events, quarantine, ledger, alerts, orders, inventory, ticks. So within one group
//! a change of rules comes before the events that it judges, and time passes after them.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, ListBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::buffer::Buffer;
use arrow::compute::{concat, filter_record_batch};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use schemas::nulls::nulls;
use schemas::{Events, event, id, ledger};

use super::columns::{self, Encoder};
use super::duplicates::{Verdict, Window};
use super::frame::{self, Header, Kind};
use super::group::{Prepared, id_key};
use super::{Appended, Frame, LogError, Payload, Rows};

/// Makes frames' bytes; kept from one commit to the next.
pub(super) struct Encoding {
    encoders: Vec<(Kind, Encoder)>,
    /// The commit's frames, one behind the other. Most parts are the batches' own bytes.
    parts: Vec<Buffer>,
}

impl Encoding {
    pub(super) fn new() -> Encoding {
        let encoder = |kind: Kind| kind.table().map(|table| (kind, Encoder::new(table)));
        Encoding { encoders: Kind::BATCHES.into_iter().filter_map(encoder).collect(), parts: Vec::new() }
    }

    /// Takes what was encoded.
    pub(super) fn take(&mut self) -> Vec<Buffer> {
        std::mem::take(&mut self.parts)
    }

    fn push(&mut self, header: &Header, kind: Kind, payload: &Payload) -> Result<(), ArrowError> {
        let parts = match payload {
            Payload::Events(batch)
            | Payload::Quarantine(batch)
            | Payload::Ledger(batch)
            | Payload::Alerts(batch)
            | Payload::Orders(batch)
            | Payload::Inventory(batch)
            | Payload::Verdicts(batch) => {
                let encoder = self.encoders.iter_mut().find(|(of, _)| *of == kind);
                encoder.expect("each kind of batch has an encoder").1.encode(batch)?
            }
            Payload::Control(value) => vec![Buffer::from(value.to_string().into_bytes())],
            Payload::Tick(micros) => vec![Buffer::from(micros.to_le_bytes())],
        };
        self.parts.push(Buffer::from(frame::header(header, &parts)));
        self.parts.extend(parts.into_iter().filter(|part| !part.is_empty()));
        Ok(())
    }
}

/// What one write puts into the log; its bytes are in the [`Encoding`].
#[derive(Debug, Default)]
pub(super) struct Commit {
    pub(super) frames: Vec<Arc<Frame>>,
    /// Events in it.
    pub(super) ids: u64,
    /// What to tell each group.
    pub(super) appended: Vec<Appended>,
}

/// The ids that the log has seen.
#[derive(Debug)]
pub(super) struct Windows {
    pub(super) events: Window,
    /// Alerts have a window of their own, which retention does not wait for: an alert can only be raised again by events
    /// that detection has not passed, and those are retained.
    pub(super) alerts: Window,
}

impl Windows {
    pub(super) fn settle(&mut self) {
        self.events.settle();
        self.alerts.settle();
    }

    pub(super) fn undo(&mut self) {
        self.events.undo();
        self.alerts.undo();
    }
}

/// Rows and what else a commit holds, by kind.
#[derive(Debug, Default)]
pub(super) struct Batches {
    pub(super) control: Vec<Payload>,
    pub(super) verdicts: Vec<RecordBatch>,
    pub(super) events: Vec<RecordBatch>,
    pub(super) quarantine: Vec<RecordBatch>,
    pub(super) ledger: Vec<ledger::LedgerRow>,
    pub(super) alerts: Vec<RecordBatch>,
    pub(super) orders: Vec<RecordBatch>,
    pub(super) inventory: Vec<RecordBatch>,
    pub(super) ticks: Vec<Payload>,
}

/// Makes the commit of `groups`, whose first frame is at `offset`. The windows then wait to be settled or undone.
pub(super) fn make(
    groups: Vec<Prepared>,
    offset: u64,
    written_at: i64,
    windows: &mut Windows,
    encoding: &mut Encoding,
) -> Result<Commit, LogError> {
    let mut batches = Batches::default();
    let mut appended = Vec::with_capacity(groups.len());
    let (mut rows, mut quarantined) = (0, 0);
    for group in groups {
        let refused = group.group.quarantine.as_ref().map_or(0, RecordBatch::num_rows) as u32;
        let (mut told, kept) = admit(group, windows, &mut batches)?;
        if refused > 0 {
            told.quarantine = vec![Rows { sequence: 0, offset: 0, index: quarantined, count: refused }];
            quarantined += refused;
        }
        if kept > 0 {
            told.events = vec![Rows { sequence: 0, offset: 0, index: rows, count: kept }];
            rows += kept;
        }
        appended.push(told);
    }
    let events_at = offset + batches.control.len() as u64 + u64::from(!batches.verdicts.is_empty());
    let mut commit = Commit { ids: u64::from(rows), appended, ..Commit::default() };
    commit.frames =
        encode(batches, offset, written_at, encoding).map_err(|error| LogError::Fatal(error.to_string()))?;
    let end = offset + commit.frames.len() as u64;
    for told in &mut commit.appended {
        told.end = end;
        told.events.iter_mut().for_each(|rows| rows.offset = events_at);
        told.quarantine.iter_mut().for_each(|refused| refused.offset = events_at + u64::from(rows > 0));
    }
    Ok(commit)
}

/// Sorts a group's rows by kind, without those that came before. Also tells how many events were kept.
fn admit(prepared: Prepared, windows: &mut Windows, batches: &mut Batches) -> Result<(Appended, u32), LogError> {
    let Prepared { group, event_keys, alert_keys, .. } = prepared;
    let mut told = Appended::default();
    let mut kept = 0;
    let mut ledger = group.ledger;
    if let Some(events) = group.events {
        let judged = judge(&events, &event_keys, &mut windows.events)?;
        kept = (events.num_rows() - judged.duplicates.len()) as u32;
        if let Some(ledger) = &mut ledger {
            correct(ledger, &events, &judged.duplicates)?;
        }
        if kept > 0 {
            batches.events.push(apply(events, &judged).map_err(|error| LogError::Fatal(error.to_string()))?);
        }
        told.duplicates = judged.duplicates;
        told.conflicts = judged.conflicts.into_iter().map(|(row, _)| row).collect();
    }
    if let Some(alerts) = group.alerts {
        let new = alert_keys.iter().map(|&key| windows.alerts.admit(key, 0) == Verdict::New);
        let alerts = filter_record_batch(&alerts, &new.collect::<Vec<_>>().into());
        let alerts = alerts.map_err(|error| LogError::Fatal(error.to_string()))?;
        batches.alerts.extend(Some(alerts).filter(|alerts| alerts.num_rows() > 0));
    }
    batches.control.extend(group.control.map(Payload::Control));
    batches.quarantine.extend(group.quarantine);
    batches.ledger.extend(ledger);
    batches.orders.extend(group.orders);
    batches.inventory.extend(group.inventory);
    batches.verdicts.extend(group.verdicts);
    batches.ticks.extend(group.tick.map(Payload::Tick));
    Ok((told, kept))
}

/// What the duplicate filter says of a batch of events.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) duplicates: Vec<u32>,
    /// Rows whose id came before with other bytes, with their new id.
    pub(super) conflicts: Vec<(u32, String)>,
}

fn judge(batch: &RecordBatch, keys: &[(u128, u128)], window: &mut Window) -> Result<Judged, LogError> {
    let events = read(batch)?;
    let mut judged = Judged::default();
    for (row, &(key, raw)) in keys.iter().enumerate() {
        match window.admit(key, raw) {
            Verdict::New => {}
            Verdict::Repeated => judged.duplicates.push(row as u32),
            Verdict::Conflicting => {
                let new = renamed(&events, row);
                match window.admit(id_key(&new), raw) {
                    Verdict::Repeated => judged.duplicates.push(row as u32),
                    Verdict::New | Verdict::Conflicting => judged.conflicts.push((row as u32, new)),
                }
            }
        }
    }
    Ok(judged)
}

/// The id under which a row is kept whose own came before with other bytes.
pub(super) fn renamed(events: &Events<'_>, row: usize) -> String {
    id::digest([events.event_id.value(row).as_bytes(), events.raw.value(row).as_bytes()])
}

/// Moves records from mapped to duplicates. A record is counted by its first event.
pub(super) fn correct(ledger: &mut ledger::LedgerRow, batch: &RecordBatch, duplicates: &[u32]) -> Result<(), LogError> {
    let events = read(batch)?;
    let records = duplicates.iter().filter(|&&row| events.event_index.value(row as usize) == 0).count() as i64;
    ledger.mapped -= records;
    ledger.duplicates += records;
    ledger.events -= duplicates.len() as i64;
    Ok(())
}

pub(super) fn apply(batch: RecordBatch, judged: &Judged) -> Result<RecordBatch, ArrowError> {
    let batch = if judged.conflicts.is_empty() { batch } else { rename(batch, &judged.conflicts)? };
    if judged.duplicates.is_empty() {
        return Ok(batch);
    }
    let mut keep = vec![true; batch.num_rows()];
    judged.duplicates.iter().for_each(|&row| keep[row as usize] = false);
    filter_record_batch(&batch, &BooleanArray::from(keep))
}

/// Gives rows their new id and the flag `id_conflict`.
fn rename(batch: RecordBatch, conflicts: &[(u32, String)]) -> Result<RecordBatch, ArrowError> {
    let events = Events::new(&batch).map_err(|error| ArrowError::SchemaError(error.to_string()))?;
    let mut ids: Vec<&str> = (0..batch.num_rows()).map(|row| events.event_id.value(row)).collect();
    conflicts.iter().for_each(|(row, new)| ids[*row as usize] = new);
    let ids = StringArray::from_iter_values(ids);
    let DataType::List(element) = events.flags.data_type().clone() else {
        return Err(ArrowError::SchemaError("flags is not a list".to_owned()));
    };
    let mut flags = ListBuilder::new(StringBuilder::new()).with_field(element);
    for row in 0..batch.num_rows() {
        let mut texts = schemas::table::strs_at(events.flags, row);
        if conflicts.binary_search_by_key(&(row as u32), |(row, _)| *row).is_ok() {
            texts.push("id_conflict".to_owned());
        }
        texts.iter().for_each(|text| flags.values().append_value(text));
        flags.append(!texts.is_empty());
    }
    let flags = flags.finish();
    let (schema, mut columns, _) = batch.into_parts();
    columns[event::col::event_id] = Arc::new(ids);
    columns[event::col::flags] = Arc::new(flags);
    RecordBatch::try_new(schema, columns)
}

pub(super) fn read(batch: &RecordBatch) -> Result<Events<'_>, LogError> {
    Events::new(batch).map_err(|error| LogError::Malformed { table: "events", reason: error.to_string() })
}

/// Writes one frame a kind, the last one marked.
pub(super) fn encode(
    batches: Batches,
    offset: u64,
    written_at: i64,
    encoding: &mut Encoding,
) -> Result<Vec<Arc<Frame>>, ArrowError> {
    encoding.parts.clear();
    let ledger = if batches.ledger.is_empty() { vec![] } else { vec![ledger::batch(&batches.ledger)] };
    let mut payloads = batches.control;
    // Right behind their control frames: no event comes between what a person said and the row that says so.
    joined(batches.verdicts, Payload::Verdicts, &mut payloads)?;
    joined(batches.events, Payload::Events, &mut payloads)?;
    joined(batches.quarantine, Payload::Quarantine, &mut payloads)?;
    joined(ledger, Payload::Ledger, &mut payloads)?;
    joined(batches.alerts, Payload::Alerts, &mut payloads)?;
    joined(batches.orders, Payload::Orders, &mut payloads)?;
    joined(batches.inventory, Payload::Inventory, &mut payloads)?;
    payloads.extend(batches.ticks);
    let count = payloads.len();
    let mut frames = Vec::with_capacity(count);
    for (place, payload) in payloads.into_iter().enumerate() {
        let offset = offset + place as u64;
        let (kind, payload) = placed(payload, offset)?;
        let header = Header { kind: kind as u8, last: place + 1 == count, place: place as u16, offset, written_at };
        encoding.push(&header, kind, &payload)?;
        frames.push(Arc::new(Frame { sequence: 0, offset, written_at, payload }));
    }
    Ok(frames)
}

fn joined(
    batches: Vec<RecordBatch>,
    make: fn(RecordBatch) -> Payload,
    payloads: &mut Vec<Payload>,
) -> Result<(), ArrowError> {
    match batches.as_slice() {
        [] => {}
        [one] => payloads.push(make(one.clone())),
        [first, ..] => payloads.push(make(joined_rows(first, &batches)?)),
    }
    Ok(())
}

/// The rows of `batches`, of which `first` is the first, as one batch.
fn joined_rows(first: &RecordBatch, batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let column = |(i, field): (usize, &Arc<Field>)| {
        if batches.iter().all(|batch| batch.column(i).null_count() == batch.num_rows()) {
            return Ok(nulls(field.data_type(), rows));
        }
        concat(&batches.iter().map(|batch| batch.column(i).as_ref()).collect::<Vec<_>>())
    };
    let columns = first.schema_ref().fields().iter().enumerate().map(column).collect::<Result<_, _>>()?;
    RecordBatch::try_new(first.schema(), columns)
}

/// The payload with its log columns filled.
pub(super) fn placed(payload: Payload, offset: u64) -> Result<(Kind, Payload), ArrowError> {
    let place = |kind: Kind, batch, make: fn(RecordBatch) -> Payload| {
        let table = kind.table().expect("a kind of batch has a table");
        Ok((kind, make(columns::place(batch, table, offset)?)))
    };
    match payload {
        Payload::Events(batch) => place(Kind::Events, batch, Payload::Events),
        Payload::Quarantine(batch) => place(Kind::Quarantine, batch, Payload::Quarantine),
        Payload::Ledger(batch) => place(Kind::Ledger, batch, Payload::Ledger),
        Payload::Alerts(batch) => place(Kind::Alerts, batch, Payload::Alerts),
        Payload::Orders(batch) => place(Kind::Orders, batch, Payload::Orders),
        Payload::Inventory(batch) => place(Kind::Inventory, batch, Payload::Inventory),
        Payload::Verdicts(batch) => place(Kind::Verdicts, batch, Payload::Verdicts),
        Payload::Control(_) => Ok((Kind::Control, payload)),
        Payload::Tick(_) => Ok((Kind::Tick, payload)),
    }
}

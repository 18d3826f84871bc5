//! A group cut into messages: each partition gets its rows, and each message the share of the ledger that counts them.
//!
//! A row goes to the partition `log_partition` modulo their number, so one agent's rows stay in order. Control frames and
//! ticks go to every partition, rows only to one. `received = mapped + noise + quarantined + duplicates` holds for each share
//! and in sum: a share counts its message's own rows, and what is of no row (noise, what a correction takes back) is in the
//! share at the tenant's home partition.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;
use schemas::ledger::LedgerRow;
use schemas::{Table, alert, event, id, inventory, order, quarantine, verdict};

use super::super::commit::Batches;
use super::super::{Group, Payload};

/// Values of `log_partition`.
const TAGS: u32 = 64;

/// What one message holds.
#[derive(Debug, Default)]
pub(super) struct Share {
    pub(super) partition: usize,
    pub(super) batches: Batches,
    pub(super) events: u32,
    pub(super) quarantined: u32,
    /// Only to be sent when all others are there: repeated, it would count twice.
    pub(super) late: bool,
}

/// The messages of a group, in the order in which they are to be sent; no batch in them has many more bytes than `bytes_max`.
pub(super) fn cut(mut group: Group, partitions: usize, bytes_max: usize) -> Result<Vec<Share>, ArrowError> {
    let mut shares: BTreeMap<(usize, usize), Share> = BTreeMap::new();
    let mut put = |batch: Option<RecordBatch>, table: &'static Table, list: fn(&mut Share) -> &mut Vec<RecordBatch>| {
        for (partition, rows) in batch.map_or(Ok(Vec::new()), |batch| by_partition(&batch, table, partitions))? {
            for (at, piece) in pieces(rows, bytes_max).into_iter().enumerate() {
                let share = shares.entry((partition, at)).or_default();
                share.partition = partition;
                list(share).push(piece);
            }
        }
        Ok::<(), ArrowError>(())
    };
    put(group.verdicts.take(), &verdict::TABLE, |share| &mut share.batches.verdicts)?;
    put(group.events.take(), &event::TABLE, |share| &mut share.batches.events)?;
    put(group.quarantine.take(), &quarantine::TABLE, |share| &mut share.batches.quarantine)?;
    put(group.alerts.take(), &alert::TABLE, |share| &mut share.batches.alerts)?;
    put(group.orders.take(), &order::TABLE, |share| &mut share.batches.orders)?;
    put(group.inventory.take(), &inventory::TABLE, |share| &mut share.batches.inventory)?;
    // With an admission it says that its records are there, as a door's cursor does: so it comes when they are.
    let (behind, before) = if group.ledger.is_some() { (group.control, None) } else { (None, group.control) };
    if let Some(control) = before {
        for partition in 0..partitions {
            let share = shares.entry((partition, 0)).or_default();
            share.partition = partition;
            share.batches.control.push(Payload::Control(control.clone()));
            share.late = !share.batches.verdicts.is_empty();
        }
    }
    if let Some(ledger) = group.ledger {
        account(&mut shares, ledger, partitions);
    }
    let mut shares: Vec<Share> = shares.into_values().collect();
    if let Some(control) = behind {
        shares.extend((0..partitions).map(|partition| {
            let batches = Batches { control: vec![Payload::Control(control.clone())], ..Batches::default() };
            Share { partition, batches, late: true, ..Share::default() }
        }));
    }
    if let Some(time) = group.tick {
        // In messages of their own: a reader that waits at a tick has taken everything before it.
        shares.extend((0..partitions).map(|partition| {
            let batches = Batches { ticks: vec![Payload::Tick(time)], ..Batches::default() };
            Share { partition, batches, ..Share::default() }
        }));
    }
    Ok(shares)
}

/// The rows of each partition, in their order.
fn by_partition(
    batch: &RecordBatch,
    table: &'static Table,
    partitions: usize,
) -> Result<Vec<(usize, RecordBatch)>, ArrowError> {
    let column = table.index_of("log_partition").expect("every table of the log has the log's columns");
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); partitions];
    for (row, tag) in (0..).zip(batch.column(column).as_primitive::<Int32Type>().values()) {
        rows[tag.unsigned_abs() as usize % partitions].push(row);
    }
    let found = rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
    let taken = found.map(|(partition, rows)| {
        let all = rows.len() == batch.num_rows();
        Ok((partition, if all { batch.clone() } else { take_record_batch(batch, &UInt32Array::from(rows))? }))
    });
    taken.collect()
}

/// The batch in pieces of at most `bytes_max`, or of one row.
fn pieces(batch: RecordBatch, bytes_max: usize) -> Vec<RecordBatch> {
    let bytes: usize = batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    let rows = batch.num_rows();
    if bytes <= bytes_max || rows < 2 {
        return vec![batch];
    }
    let mut all = pieces(batch.slice(0, rows / 2), bytes_max);
    all.extend(pieces(batch.slice(rows / 2, rows - rows / 2), bytes_max));
    all
}

/// Gives each share the part of the ledger row that counts its rows.
fn account(shares: &mut BTreeMap<(usize, usize), Share>, total: LedgerRow, partitions: usize) {
    let home_tag = id::partition(&total.tenant, None, None, TAGS);
    let home = home_tag.unsigned_abs() as usize % partitions;
    let blank = LedgerRow {
        received_at: total.received_at,
        event_day: total.event_day,
        tenant: total.tenant.clone(),
        door: total.door.clone(),
        source: total.source.clone(),
        ..LedgerRow::default()
    };
    let mut rest = total;
    for share in shares.values_mut() {
        share.events = share.batches.events.iter().map(|batch| batch.num_rows() as u32).sum();
        share.quarantined = share.batches.quarantine.iter().map(|batch| batch.num_rows() as u32).sum();
        if share.events == 0 && share.quarantined == 0 {
            continue;
        }
        let mapped: i64 = share.batches.events.iter().map(records).sum();
        let quarantined = i64::from(share.quarantined);
        let part = LedgerRow {
            log_partition: share.partition as i32,
            received: mapped + quarantined,
            mapped,
            quarantined,
            events: i64::from(share.events),
            ..blank.clone()
        };
        rest.received -= part.received;
        rest.mapped -= part.mapped;
        rest.quarantined -= part.quarantined;
        rest.events -= part.events;
        share.batches.ledger.push(part);
    }
    let counts = [rest.received, rest.mapped, rest.noise, rest.quarantined, rest.duplicates, rest.events, rest.masked];
    let counted = shares.values().any(|share| !share.batches.ledger.is_empty());
    if counted && counts == [0; 7] && rest.noise_rules.is_empty() && rest.redriven.is_empty() {
        return;
    }
    let share = shares.entry((home, 0)).or_default();
    share.partition = home;
    share.late |= !rest.redriven.is_empty();
    match share.batches.ledger.first_mut() {
        Some(part) => {
            part.add(&rest);
            part.noise_rules = rest.noise_rules;
            part.redriven = rest.redriven;
        }
        None => share.batches.ledger.push(LedgerRow { log_partition: home_tag, ..rest }),
    }
}

/// How many records the events are of: a record counts by its first event.
fn records(batch: &RecordBatch) -> i64 {
    let index = batch.column(event::col::event_index).as_primitive::<Int32Type>();
    index.values().iter().filter(|index| **index == 0).count() as i64
}

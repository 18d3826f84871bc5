//! What one append writes, checked and hashed before it waits for the writer: on the caller's thread, so that the single
//! writer has little left to do for a row.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use arrow::array::{Array, RecordBatch};
use schemas::ledger::LedgerRow;
use schemas::{Events, Table, alert, event, inventory, order, quarantine, verdict};
use serde_json::Value;
use siphasher::sip128::SipHasher13;

use super::{LogConfig, LogError};

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
    /// Rows of `inventory`.
    pub inventory: Option<RecordBatch>,
    /// Rows of `verdicts`; the control frame of each comes with them.
    pub verdicts: Option<RecordBatch>,
    /// Changes of rules, configuration, registry or verdicts: what detection obeys besides events.
    pub control: Option<Value>,
    /// Time that passes, in microseconds since the Unix epoch.
    pub tick: Option<i64>,
}

/// A group whose batches have exactly the declared columns, with what the duplicate filter compares.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) group: Group,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// Hashes of id and raw record of each event.
    pub(super) event_keys: Vec<(u128, u128)>,
    /// Hash of each alert's id.
    pub(super) alert_keys: Vec<u128>,
}

pub(super) fn prepare(group: Group, config: &LogConfig) -> Result<Prepared, LogError> {
    let Checked { group, rows, bytes } = check(group, config)?;
    let event_keys = group.events.as_ref().map_or_else(|| Ok(Vec::new()), event_keys)?;
    let alert_keys = group.alerts.as_ref().map_or_else(|| Ok(Vec::new()), alert_keys)?;
    Ok(Prepared { group, rows, bytes, event_keys, alert_keys })
}

/// A group whose batches have exactly the declared columns.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) group: Group,
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

pub(super) fn check(mut group: Group, config: &LogConfig) -> Result<Checked, LogError> {
    let (mut rows, mut bytes) = (0, 0);
    let batches: [(&mut Option<RecordBatch>, &'static Table); 6] = [
        (&mut group.events, &event::TABLE),
        (&mut group.quarantine, &quarantine::TABLE),
        (&mut group.alerts, &alert::TABLE),
        (&mut group.orders, &order::TABLE),
        (&mut group.inventory, &inventory::TABLE),
        (&mut group.verdicts, &verdict::TABLE),
    ];
    for (slot, table) in batches {
        let Some(batch) = slot.take().filter(|batch| batch.num_rows() > 0) else { continue };
        rows += batch.num_rows();
        bytes += batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum::<usize>();
        *slot = Some(declared(batch, table)?);
    }
    bytes += group.control.as_ref().map_or(0, |control| control.to_string().len());
    let (rows_max, bytes_max) = (config.group_rows_max, config.group_bytes_max);
    if rows > rows_max || bytes > bytes_max {
        return Err(LogError::TooLarge { rows, bytes, rows_max, bytes_max });
    }
    // A group without rows still takes a place in the queue.
    Ok(Checked { group, rows, bytes: bytes.max(1) })
}

/// `batch` with the declared schema; its columns must have the declared names, order and types.
fn declared(batch: RecordBatch, table: &'static Table) -> Result<RecordBatch, LogError> {
    let malformed = |reason: String| LogError::Malformed { table: table.name, reason };
    let schema = table.schema();
    let found = batch.schema();
    if !found.fields().iter().map(|f| f.name()).eq(schema.fields().iter().map(|f| f.name())) {
        return Err(malformed("its columns are not the declared ones".to_owned()));
    }
    RecordBatch::try_new(schema, batch.columns().to_vec()).map_err(|error| malformed(error.to_string()))
}

/// What the duplicate filter compares instead of texts: a keyed hash, since the keys never leave the process and nobody can make
/// two texts meet. A third of a digest's time, on a path that every record takes.
fn key(text: &str) -> u128 {
    static KEYS: LazyLock<(u64, u64)> = LazyLock::new(|| {
        let random = || RandomState::new().build_hasher().finish();
        (random(), random())
    });
    SipHasher13::new_with_keys(KEYS.0, KEYS.1).hash(text.as_bytes()).into()
}

/// What the duplicate filter compares: hashes of id and raw record of each event.
pub(super) fn event_keys(batch: &RecordBatch) -> Result<Vec<(u128, u128)>, LogError> {
    let events = Events::new(batch).map_err(|error| malformed("events", &error))?;
    let keys = |row| (key(events.event_id.value(row)), key(events.raw.value(row)));
    Ok((0..batch.num_rows()).map(keys).collect())
}

pub(super) fn alert_keys(batch: &RecordBatch) -> Result<Vec<u128>, LogError> {
    let alerts = alert::Alerts::new(batch).map_err(|error| malformed("alerts", &error))?;
    Ok((0..batch.num_rows()).map(|row| key(alerts.alert_id.value(row))).collect())
}

/// Hash of each step of an order.
pub(super) fn order_keys(batch: &RecordBatch) -> Result<Vec<u128>, LogError> {
    let orders = order::Orders::new(batch).map_err(|error| malformed("orders", &error))?;
    let name = |row| format!("{}/{}", orders.order_id.value(row), orders.step.value(row));
    Ok((0..batch.num_rows()).map(|row| key(&name(row))).collect())
}

/// The key of an id as [`event_keys`] has it.
pub(super) fn id_key(id: &str) -> u128 {
    key(id)
}

fn malformed(table: &'static str, error: &schemas::SchemaError) -> LogError {
    LogError::Malformed { table, reason: error.to_string() }
}

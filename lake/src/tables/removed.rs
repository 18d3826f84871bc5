//! What retention took out of a table, counted so that `verify` can tell it from a loss.
//!
//! The counts of all removals so far are in one small file a table, written before the commit that takes the rows away and
//! named by the removal's number. The commit carries that number (`txn{keep/removed}`), and only the file that the table's
//! newest commit names counts: a crash between file and commit leaves a file that nobody reads. The number is one more than
//! the last in its upper half and a checksum of the file in its lower, so that two processes that remove at once, of which one
//! wins, do not write the same file.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::LakeError;

/// Rows of one tenant, door and source that were removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    pub tenant: String,
    pub door: String,
    pub source: String,
    pub rows: i64,
    /// The least and the greatest offset among them.
    pub from: i64,
    pub to: i64,
}

impl Removed {
    pub fn covers(&self, offset: i64) -> bool {
        (self.from..=self.to).contains(&offset)
    }
}

/// The removals of one table by tenant, door and source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally(BTreeMap<(String, String, String), Removed>);

impl Tally {
    /// Counts the rows of `batch` that `gone` says.
    pub(super) fn count(&mut self, batch: &RecordBatch, gone: &[bool]) {
        let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let (tenants, doors, sources) = (text("tenant"), text("door"), text("source"));
        let offsets = batch.column_by_name("log_offset").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let value =
            |texts: Option<&arrow::array::StringArray>, row: usize| texts.map_or("", |t| t.value(row)).to_owned();
        for row in (0..gone.len()).filter(|row| gone[*row]) {
            let offset = offsets.map_or(0, |offsets| offsets.value(row));
            self.add(Removed {
                tenant: value(tenants, row),
                door: value(doors, row),
                source: value(sources, row),
                rows: 1,
                from: offset,
                to: offset,
            });
        }
    }

    pub(super) fn add(&mut self, more: Removed) {
        let key = (more.tenant.clone(), more.door.clone(), more.source.clone());
        match self.0.get_mut(&key) {
            None => drop(self.0.insert(key, more)),
            Some(there) => {
                there.rows += more.rows;
                there.from = there.from.min(more.from);
                there.to = there.to.max(more.to);
            }
        }
    }

    pub(super) fn rows(&self) -> i64 {
        self.0.values().map(|removed| removed.rows).sum()
    }

    pub(super) fn into_list(self) -> Vec<Removed> {
        self.0.into_values().collect()
    }
}

/// The number of the removal after `number` that leaves `removed`.
pub(super) fn after(number: i64, removed: &[Removed]) -> i64 {
    (((number >> 32) + 1) << 32) | i64::from(crc32c::crc32c(&written(removed)))
}

fn written(removed: &[Removed]) -> Vec<u8> {
    serde_json::to_vec_pretty(removed).expect("texts and numbers are JSON")
}

fn path(root: &Path, table: &str, number: i64) -> Path {
    root.clone().join("removed").join(format!("{table}-{number:020}.json"))
}

/// What was removed up to a removal.
pub(super) async fn load(
    store: &Arc<dyn ObjectStore>,
    root: &Path,
    table: &str,
    number: i64,
) -> Result<Vec<Removed>, LakeError> {
    if number == 0 {
        return Ok(Vec::new());
    }
    let path = path(root, table, number);
    let bytes = store.get(&path).await.map_err(LakeError::Store)?.bytes().await.map_err(LakeError::Store)?;
    serde_json::from_slice(&bytes).map_err(|error| LakeError::Root(format!("{path}: {error}")))
}

/// Writes what will have been removed by a removal.
pub(super) async fn store(
    store: &Arc<dyn ObjectStore>,
    root: &Path,
    table: &str,
    number: i64,
    removed: &[Removed],
) -> Result<(), LakeError> {
    store.put(&path(root, table, number), written(removed).into()).await.map(|_| ()).map_err(LakeError::Store)
}

/// Forgets the file of a removal that a later one replaced.
pub(super) async fn forget(store: &Arc<dyn ObjectStore>, root: &Path, table: &str, number: i64) {
    if number > 0
        && let Err(error) = store.delete(&path(root, table, number)).await
    {
        // It only takes room.
        tracing::debug!(table, number, %error, "an old count of removals stays");
    }
}

//! Legal holds: rows that neither retention nor erasure may touch until a person lets them go.
//!
//! A hold names a tenant, and if it likes ids and a span of time; the rows it fits stay in the tables, where they are
//! queried as before, while what is beside them goes. They are not copied elsewhere: a second place would be one more
//! that tenants, SQL and erasure had to know. Holds are one small file in the lake, durable before a hold counts as set,
//! and a commit that takes rows away was computed with the holds of its own moment (see `keep`).

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::LakeError;
use super::names::naming;

/// So many holds at a time.
pub const HOLDS_MAX: usize = 1_000;
const FILE: &str = "holds.json";

/// Rows that stay whatever else goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hold {
    pub name: String,
    pub tenant: String,
    /// Rows that name one of these; empty: all rows of the tenant.
    pub ids: Vec<String>,
    /// From this time on, in microseconds since the Unix epoch.
    pub from: Option<i64>,
    /// Before this time.
    pub to: Option<i64>,
    pub reason: String,
    pub set_by: String,
    pub set_at: i64,
}

impl Hold {
    /// Of each row, whether it is held.
    fn rows(&self, batch: &RecordBatch) -> Vec<bool> {
        let mut held = of_tenant(batch, &self.tenant);
        let time = batch.column_by_name("time").or_else(|| batch.column_by_name("received_at"));
        if let Some(times) = time.and_then(|time| time.as_primitive_opt::<TimestampMicrosecondType>()) {
            let within = |time: i64| self.from.is_none_or(|from| time >= from) && self.to.is_none_or(|to| time < to);
            held.iter_mut().zip(times.values()).for_each(|(held, time)| *held &= within(*time));
        }
        if !self.ids.is_empty() && held.contains(&true) {
            held.iter_mut().zip(naming(batch, &self.ids)).for_each(|(held, named)| *held &= named);
        }
        held
    }
}

/// Of each row, whether it is the tenant's.
pub(super) fn of_tenant(batch: &RecordBatch, tenant: &str) -> Vec<bool> {
    let tenants = batch.column_by_name("tenant").and_then(|column| column.as_string_opt::<i32>());
    let tenants = tenants.expect("every table has a tenant");
    (0..batch.num_rows()).map(|row| tenants.value(row) == tenant).collect()
}

/// Of each row, which hold keeps it first.
pub(super) fn held<'a>(batch: &RecordBatch, holds: &'a [Hold]) -> Vec<Option<&'a Hold>> {
    let mut rows = vec![None; batch.num_rows()];
    for hold in holds {
        for (row, held) in rows.iter_mut().zip(hold.rows(batch)) {
            if held && row.is_none() {
                *row = Some(hold);
            }
        }
    }
    rows
}

fn path(root: &Path) -> Path {
    root.clone().join(FILE)
}

/// The holds that are set; none where none ever was.
pub(super) async fn load(store: &Arc<dyn ObjectStore>, root: &Path) -> Result<Vec<Hold>, LakeError> {
    let bytes = match store.get(&path(root)).await {
        Ok(found) => found.bytes().await.map_err(LakeError::Store)?,
        Err(object_store::Error::NotFound { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(LakeError::Store(error)),
    };
    serde_json::from_slice(&bytes).map_err(|error| LakeError::Root(format!("{FILE}: {error}")))
}

pub(super) async fn store(store: &Arc<dyn ObjectStore>, root: &Path, holds: &[Hold]) -> Result<(), LakeError> {
    let bytes = serde_json::to_vec_pretty(holds).expect("texts and numbers are JSON");
    store.put(&path(root), bytes.into()).await.map(|_| ()).map_err(LakeError::Store)
}

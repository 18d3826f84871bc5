//! Erasure of one user: every row of a tenant that names the user is written again without the name.
//!
//! Rows stay, since what an agent did is evidence; who it did it for is gone, the raw record with it (`names`). First all
//! tables are looked through, and where a hold keeps a row that names the user nothing is changed at all. Then file by
//! file is replaced; after a crash in the middle the same erasure again does the rest. Last, when no query reads them any
//! more, the files that were replaced are deleted, and the log is told to let its segments go. What is out of reach here
//! is the caller's to say: the control log, what detectors remember, copies that others made.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use object_store::ObjectStoreExt;
use schemas::TABLES;
use serde::{Deserialize, Serialize};

use super::data::{Data, Why};
use super::holds::{Hold, held, of_tenant};
use super::names::{erase, naming};
use super::{LET_GO, Lake, LakeError, TableState, lock};
use crate::log::Positions;

/// Longer than a query may take.
const QUERIES_PATIENCE: Duration = Duration::from_secs(90);

/// Rows of one table that name the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub table: String,
    pub rows: u64,
    pub files: u64,
}

/// What an erasure found, and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    pub tables: Vec<Named>,
    /// Files deleted from the disk.
    pub files_deleted: u64,
    /// Frames of the log below this offset may name the user until their segments are released.
    pub log_until: Positions,
    /// Whether files that were replaced stay for now, because a query still reads them.
    pub files_wait: bool,
}

impl Erasure {
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|named| named.rows).sum()
    }
}

/// What a look at a file found.
struct Found {
    rows: u64,
    /// Holds that keep rows which name the user.
    holds: Vec<String>,
}

impl Lake {
    /// Erases the user of a tenant that `ids` name, as far as the log goes now; with `dry` only counts.
    pub async fn erase(&self, tenant: &str, ids: &[String], dry: bool) -> Result<Erasure, LakeError> {
        let _keeping = self.keeping.lock().await;
        let _running = self.running("erasure");
        let log_until = self.log.ends();
        self.flush().await?;
        let mut erasure = Erasure { log_until: log_until.clone(), ..Erasure::default() };
        let who = Arc::new(Who { tenant: tenant.to_owned(), ids: ids.to_vec() });
        let mut work = Vec::new();
        let mut holds = Vec::new();
        for (index, declared) in TABLES.iter().enumerate() {
            let table = self.newest(index).await?;
            let mut named = Named { table: declared.name.to_owned(), rows: 0, files: 0 };
            for file in table.data() {
                let found = self.look(&table, &file, &who).await?;
                holds.extend(found.holds);
                if found.rows > 0 {
                    named.rows += found.rows;
                    named.files += 1;
                    work.push((index, file));
                }
            }
            erasure.tables.push(named);
        }
        refuse(holds)?;
        if dry {
            return Ok(erasure);
        }
        for (index, file) in &work {
            self.erase_file(*index, file, &who).await?;
        }
        lock(&self.kept).erased_rows += erasure.rows();
        erasure.files_wait = !self.drained(QUERIES_PATIENCE).await;
        if !erasure.files_wait {
            for index in 0..TABLES.len() {
                // Also where nothing was found: an erasure before this one may have been cut off here.
                erasure.files_deleted += self.vacuum(index, 0).await?;
            }
        }
        let let_go = self.root.clone().join(LET_GO);
        self.store.put(&let_go, log_until.get(0).to_string().into()).await.map_err(LakeError::Store)?;
        self.log.let_go(&log_until);
        Ok(erasure)
    }

    async fn look(&self, table: &TableState, file: &Data, who: &Arc<Who>) -> Result<Found, LakeError> {
        let (who, holds) = (who.clone(), lock(&self.holds).clone());
        let look = move |batches: super::keep::Batches<'_>| {
            let mut found = Found { rows: 0, holds: Vec::new() };
            for batch in batches {
                let batch = batch?;
                let named = who.names(&batch);
                found.rows += named.iter().filter(|named| **named).count() as u64;
                found.holds.extend(kept_back(&batch, &named, &holds));
            }
            Ok(found)
        };
        self.looked(table, file, look).await
    }

    async fn erase_file(&self, index: usize, file: &Data, who: &Arc<Who>) -> Result<(), LakeError> {
        loop {
            let holds = lock(&self.holds).clone();
            let table = self.newest(index).await?;
            refuse(self.look(&table, file, who).await?.holds)?;
            let (whose, declared) = (who.clone(), table.table);
            let without = move |batch: RecordBatch| Ok(erase(&batch, &whose.ids, &whose.names(&batch))?);
            let come = self.merged(&table, std::slice::from_ref(file), without).await?;
            let mut writer = self.writer.lock().await;
            if !Arc::ptr_eq(&holds, &lock(&self.holds)) {
                continue;
            }
            let now = self.clock.now_micros();
            let gone = std::slice::from_ref(file);
            if !writer.table(index).replace(gone, come.into_iter().collect(), Why::Erasure, now).await? {
                return Err(LakeError::Root(format!("table {}: {} went during the erasure", declared.name, file.path)));
            }
            self.publish(&writer);
            return Ok(());
        }
    }
}

/// Who is erased.
struct Who {
    tenant: String,
    ids: Vec<String>,
}

impl Who {
    /// Of each row, whether it is the tenant's and names the user.
    fn names(&self, batch: &RecordBatch) -> Vec<bool> {
        let mut named = of_tenant(batch, &self.tenant);
        if named.contains(&true) {
            named.iter_mut().zip(naming(batch, &self.ids)).for_each(|(row, names)| *row &= names);
        }
        named
    }
}

/// The holds that keep a row of `named`.
fn kept_back(batch: &RecordBatch, named: &[bool], holds: &[Hold]) -> Vec<String> {
    if holds.is_empty() || !named.contains(&true) {
        return Vec::new();
    }
    let held = held(batch, holds);
    let mut names: Vec<String> = held
        .iter()
        .zip(named)
        .filter(|(_, named)| **named)
        .filter_map(|(hold, _)| Some(hold.as_ref()?.name.clone()))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn refuse(mut holds: Vec<String>) -> Result<(), LakeError> {
    holds.sort();
    holds.dedup();
    if holds.is_empty() { Ok(()) } else { Err(LakeError::Held { holds }) }
}

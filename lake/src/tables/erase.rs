//! Erasure of one user: every row of a tenant that names the user is written again without the name.
//!
//! Rows stay, since what an agent did is evidence; who it did it for is gone, the raw record with it (`names`). First all
//! tables are looked through, and where a hold keeps a row that names the user nothing is changed at all. Then file by
//! file is replaced; after a crash in the middle the same erasure again does the rest. Last, when no query reads them any
//! more, the files that were replaced are deleted, and the log is told to let its segments go. Other processes see it within
//! seconds; a query of theirs that still reads a file which is gone is asked again by itself (`LakeError::Replaced`). What is
//! out of reach here is the caller's to say: the control log, what detectors remember, copies that others made.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use object_store::ObjectStoreExt;
use schemas::TABLES;
use serde::{Deserialize, Serialize};

use super::data::{Data, Why};
use super::holds::{Hold, held, of_tenant};
use super::keep::TRIES_MAX;
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

    fn count(&mut self, file: &Naming) {
        self.tables[file.table].rows += file.rows;
        self.tables[file.table].files += 1;
    }
}

/// A file with rows that name the user.
struct Naming {
    /// Which of `schemas::TABLES`.
    table: usize,
    data: Data,
    rows: u64,
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
        self.may_change()?;
        let _keeping = self.keeping.lock().await;
        let _running = self.running("erasure");
        let log_until = self.log.ends();
        // Also what other processes would write: a row that is not in a table cannot be changed there.
        self.flush_all().await?;
        let tables = TABLES.iter().map(|table| Named { table: table.name.to_owned(), rows: 0, files: 0 });
        let mut erasure = Erasure { log_until: log_until.clone(), tables: tables.collect(), ..Erasure::default() };
        let who = Arc::new(Who { tenant: tenant.to_owned(), ids: ids.to_vec() });
        let mut work = self.naming(&who).await?;
        if dry {
            work.iter().for_each(|file| erasure.count(file));
            return Ok(erasure);
        }
        for tried in 1.. {
            let mut gone = false;
            for file in &work {
                if self.erase_file(file.table, &file.data, &who).await? {
                    erasure.count(file);
                } else {
                    gone = true;
                }
            }
            if !gone {
                break;
            }
            if tried == TRIES_MAX {
                return Err(LakeError::Replaced);
            }
            // Another process replaced them: what they became names the user as they did.
            work = self.naming(&who).await?;
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

    /// The files that name the user; refused where a hold keeps a row that does.
    async fn naming(&self, who: &Arc<Who>) -> Result<Vec<Naming>, LakeError> {
        self.known_holds().await?;
        let (mut found, mut holds) = (Vec::new(), Vec::new());
        for index in 0..TABLES.len() {
            let table = self.newest(index).await?;
            for data in table.data() {
                let look = self.look(&table, &data, who).await?;
                holds.extend(look.holds);
                if look.rows > 0 {
                    found.push(Naming { table: index, data, rows: look.rows });
                }
            }
        }
        refuse(holds)?;
        Ok(found)
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

    /// `false` where the file is no longer in the table.
    async fn erase_file(&self, index: usize, file: &Data, who: &Arc<Who>) -> Result<bool, LakeError> {
        for _ in 0..TRIES_MAX {
            let holds = lock(&self.holds).clone();
            let table = self.newest(index).await?;
            let gone = std::slice::from_ref(file);
            if !table.names(gone) {
                return Ok(false);
            }
            refuse(self.look(&table, file, who).await?.holds)?;
            let whose = who.clone();
            let without = move |batch: RecordBatch| Ok(erase(&batch, &whose.ids, &whose.names(&batch))?);
            let come = self.merged(&table, gone, without).await?;
            let mut writer = self.writer.lock().await;
            writer.table(index).refresh().await?;
            if !Arc::ptr_eq(&holds, &self.known_holds().await?) {
                continue;
            }
            let (come, now) = (come.into_iter().collect(), self.clock.now_micros());
            if writer.table(index).replace(gone, come, Why::Erasure, now).await? {
                self.publish(&writer);
                return Ok(true);
            }
        }
        Err(LakeError::Replaced)
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

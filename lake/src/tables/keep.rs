//! Keeping the tables in order: small files merged, rows that are too old deleted, files that no table names cleared away.
//!
//! One pass goes through all tables, one replacing at a time. Files are read and merged with no lock held but `keeping`;
//! the writer's lock is held for the commit alone. **Beside queries**: what a commit replaces stays on the disk for
//! `vacuum_minutes`, longer than a query may take. **Beside holds**: a commit that takes rows away is made only if no
//! hold changed since it was computed, else it is computed again; a hold counts as set under the same lock. **Beside a
//! crash**: a commit is there or not; files of one that never came are vacuumed.
//!
//! **Beside other processes** one keeps, that which writes sequence 0. Should two, a commit is made against the very snapshot
//! that it was decided on, and where another came first it is decided again. A hold that was set in another process is in
//! its file, and then in a commit of each table, before it counts as set: who takes rows away refreshes the table, reads the
//! file and commits, so it knows the hold or is refused.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use bytes::Bytes;
use deltalake::DeltaTable;
use deltalake::operations::vacuum::{Clock as VacuumClock, VacuumMode};
use parquet::errors::ParquetError;
use schemas::{TABLES, Table};
use serde::{Deserialize, Serialize};

use super::data::{Data, Why};
use super::encode::DataFile;
use super::holds::{self, HOLDS_MAX, Hold, held};
use super::merge::{merge, rows};
use super::removed::{self, Tally};
use super::retention::Rules;
use super::{Lake, LakeConfig, LakeError, Published, TableState, lock};

/// So many files are merged at a time: a batch of each is in memory.
const MERGED_FILES_MAX: usize = 32;
/// A file that is so many times as large as all smaller ones together waits until there are more of them.
const LOPSIDED: u64 = 4;
/// So often a replacing is decided again because another process's commit came first.
pub(super) const TRIES_MAX: usize = 20;
const HOUR_MICROS: i64 = 3_600_000_000;
/// How often it is looked whether a pass is due.
const LOOK_SECS: u64 = 5;

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Files that were merged, and the files that they became.
    pub merged_files: u64,
    pub merged_into: u64,
    /// Rows that were deleted because they were too old.
    pub removed_rows: u64,
    /// Files on the disk that no table named.
    pub vacuumed_files: u64,
}

/// How keeping stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeepStatus {
    /// What is being done now: `compaction`, `retention`, `vacuum`, `erasure`, `verify`.
    pub running: Option<&'static str>,
    /// When the last pass ended, in microseconds since the Unix epoch.
    pub last_at: Option<i64>,
    /// Why the last pass failed.
    pub error: Option<String>,
    /// Since start.
    pub total: Kept,
    /// Rows from which a user was erased, since start.
    pub erased_rows: u64,
    pub holds: usize,
}

/// What is remembered from one pass to the next.
#[derive(Default)]
pub(super) struct Keeping {
    /// When the first row of a file that was looked at is too old, under these holds.
    due: HashMap<String, i64>,
    holds: Arc<Vec<Hold>>,
}

/// Says what runs, until it is dropped.
pub(super) struct Running<'a>(&'a Lake);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.0.kept).running = None;
    }
}

impl Lake {
    /// Keeps the tables in order every `keep_minutes`, until `shutdown` resolves.
    pub async fn keep_running(&self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let every = self.config.keep_minutes as i64 * 60_000_000;
        let mut next = self.clock.now_micros() + every;
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(Duration::from_secs(LOOK_SECS)) => {}
            }
            if every == 0 || self.clock.now_micros() < next || !self.turn().has(0) {
                continue;
            }
            // A pass is cut off by the end of the process as by a crash: its commits are whole or not there.
            let pass = tokio::select! {
                () = &mut shutdown => return,
                pass = self.keep() => pass,
            };
            if let Err(error) = pass {
                tracing::error!(%error, "keeping the tables in order failed and is tried again");
            }
            next = self.clock.now_micros() + every;
        }
    }

    /// One pass, now.
    pub async fn keep(&self) -> Result<Kept, LakeError> {
        self.may_change()?;
        let mut keeping = self.keeping.lock().await;
        let mut kept = Kept::default();
        let done = self.pass(&mut keeping, &mut kept).await;
        let mut status = lock(&self.kept);
        status.total.add(&kept);
        status.error = done.as_ref().err().map(ToString::to_string);
        status.last_at = Some(self.clock.now_micros());
        done.map(|()| kept)
    }

    async fn pass(&self, keeping: &mut Keeping, kept: &mut Kept) -> Result<(), LakeError> {
        for index in 0..TABLES.len() {
            self.retain(index, keeping, kept).await?;
            self.compact(index, kept).await?;
            kept.vacuumed_files += self.vacuum(index, self.config.vacuum_minutes).await?;
        }
        Ok(())
    }

    pub fn keep_status(&self) -> KeepStatus {
        lock(&self.kept).clone()
    }

    pub(super) fn running(&self, what: &'static str) -> Running<'_> {
        lock(&self.kept).running = Some(what);
        Running(self)
    }

    /// A table as of its newest commit, which is shown from now on: one of which nobody heard that it came may be among what was
    /// not seen, and then there is nothing left to do that would show it.
    pub(super) async fn newest(&self, index: usize) -> Result<TableState, LakeError> {
        let mut writer = self.writer.lock().await;
        writer.table(index).refresh().await?;
        self.publish(&writer);
        Ok(writer.table(index).clone())
    }

    async fn compact(&self, index: usize, kept: &mut Kept) -> Result<(), LakeError> {
        let _running = self.running("compaction");
        let mut tries = 1;
        loop {
            let table = self.newest(index).await?;
            let Some(files) = choose(table.data(), self.clock.now_micros(), &self.config) else { return Ok(()) };
            let file = self.merged(&table, &files, Ok).await?;
            let mut writer = self.writer.lock().await;
            let come = file.into_iter().collect();
            writer.table(index).refresh().await?;
            if writer.table(index).replace(&files, come, Why::Compaction, self.clock.now_micros()).await? {
                kept.merged_files += files.len() as u64;
                kept.merged_into += 1;
            } else if tries == TRIES_MAX {
                return Err(LakeError::Replaced);
            } else {
                tries += 1;
            }
            self.publish(&writer);
        }
    }

    async fn retain(&self, index: usize, keeping: &mut Keeping, kept: &mut Kept) -> Result<(), LakeError> {
        let rules = Rules::of(&self.config.retention, TABLES[index].name);
        let Some(least) = rules.least_micros() else { return Ok(()) };
        let _running = self.running("retention");
        let table = self.newest(index).await?;
        let files = table.data();
        let holds = self.known_holds().await?;
        if !Arc::ptr_eq(&keeping.holds, &holds) {
            // What was held may be too old now.
            (keeping.due, keeping.holds) = (HashMap::new(), holds);
        }
        let there: HashSet<String> = files.iter().map(|file| key(&table, file)).collect();
        let own = format!("{}/", TABLES[index].name);
        keeping.due.retain(|path, _| !path.starts_with(&own) || there.contains(path));
        for file in files {
            let now = self.clock.now_micros();
            let first = file.received.map_or(i64::MIN, |(first, _)| first.saturating_add(least));
            let due = keeping.due.get(&key(&table, &file)).copied().unwrap_or(first);
            if due <= now {
                self.retain_file(index, &table, &file, &rules, keeping, kept).await?;
            }
        }
        Ok(())
    }

    /// Takes the rows of a file that are too old and not held.
    async fn retain_file(
        &self,
        index: usize,
        table: &TableState,
        file: &Data,
        rules: &Rules,
        keeping: &mut Keeping,
        kept: &mut Kept,
    ) -> Result<(), LakeError> {
        for _ in 0..TRIES_MAX {
            let (now, holds) = (self.clock.now_micros(), lock(&self.holds).clone());
            let (rule, hold) = (rules.clone(), holds.clone());
            let (old, due) = self.looked(table, file, move |batches| too_old(batches, &rule, &hold, now)).await?;
            if old.rows() == 0 {
                // Only of a file that stays: one whose rows could not be taken now is looked at again.
                keeping.due.insert(key(table, file), due);
                return Ok(());
            }
            let (rule, hold) = (rules.clone(), holds.clone());
            let left = move |batch: RecordBatch| {
                let stays = BooleanArray::from(stays(&batch, &rule, &hold, now));
                Ok(filter_record_batch(&batch, &stays)?)
            };
            let left = self.merged(table, std::slice::from_ref(file), left).await?;
            let mut writer = self.writer.lock().await;
            let table = writer.table(index);
            table.refresh().await?;
            if !Arc::ptr_eq(&holds, &self.known_holds().await?) {
                continue;
            }
            let gone = std::slice::from_ref(file);
            if !table.names(gone) {
                return Ok(());
            }
            let rows = old.rows() as u64;
            let (name, number) = (table.table.name, table.removals().await?);
            let mut all = Tally::default();
            let before = removed::load(&self.store, &self.root, name, number).await?;
            before.into_iter().chain(old.into_list()).for_each(|removed| all.add(removed));
            let all = all.into_list();
            let after = removed::after(number, &all);
            removed::store(&self.store, &self.root, name, after, &all).await?;
            if !table.replace(gone, left.into_iter().collect(), Why::Removal(after), now).await? {
                // The file may be the very one that the other commit names.
                continue;
            }
            kept.removed_rows += rows;
            removed::forget(&self.store, &self.root, name, number).await;
            self.publish(&writer);
            return Ok(());
        }
        Err(LakeError::Replaced)
    }

    /// Deletes what no table has named for `minutes`.
    pub(super) async fn vacuum(&self, index: usize, minutes: u64) -> Result<u64, LakeError> {
        let _running = self.running("vacuum");
        let state = self.newest(index).await?;
        let failed = |source| LakeError::Delta { table: state.table.name, source };
        let mut table = DeltaTable::new(state.log_store.clone());
        table.load().await.map_err(failed)?;
        // At once means also what was replaced in this very millisecond.
        let age = i64::try_from(minutes).unwrap_or(i64::MAX).saturating_mul(60_000);
        let age = chrono::Duration::milliseconds(if age == 0 { -1 } else { age });
        let vacuum = table
            .vacuum()
            .with_retention_period(age)
            .with_enforce_retention_duration(false)
            .with_clock(Arc::new(Time(self.clock.clone())));
        // Where files are deleted at once, a file whose commit is being made must not look like a leftover.
        let mode = if minutes == 0 { VacuumMode::Lite } else { VacuumMode::Full };
        let (_, done) = vacuum.with_mode(mode).await.map_err(failed)?;
        Ok(done.files_deleted.len() as u64)
    }

    /// What `look` says of a file's rows.
    pub(super) async fn looked<T: Send + 'static>(
        &self,
        table: &TableState,
        file: &Data,
        look: impl FnOnce(Batches<'_>) -> Result<T, ParquetError> + Send + 'static,
    ) -> Result<T, LakeError> {
        let (bytes, declared) = (table.read(file).await?, table.table);
        blocking(declared, move || look(&mut rows(declared, bytes)?)).await
    }

    /// Files of one day as one, each batch changed on the way; none where no row is left.
    pub(super) async fn merged(
        &self,
        table: &TableState,
        files: &[Data],
        mut change: impl FnMut(RecordBatch) -> Result<RecordBatch, ParquetError> + Send + 'static,
    ) -> Result<Option<DataFile>, LakeError> {
        let declared = table.table;
        let mut all: Vec<Bytes> = Vec::with_capacity(files.len());
        for file in files {
            all.push(table.read(file).await?);
        }
        let day = files.first().and_then(Data::day_number);
        let day = day.ok_or_else(|| LakeError::Root(format!("table {}: a file lies in no day", declared.name)))?;
        let count = files.iter().map(|file| file.rows as usize).sum();
        blocking(declared, move || merge(declared, day, all, count, &mut change)).await
    }

    /// Whether nobody reads any more what was published before now; waits so long for it.
    pub(super) async fn drained(&self, patience: Duration) -> bool {
        let before: Vec<_> = lock(&self.shown).clone();
        let waiting = async {
            while before.iter().any(|shown: &std::sync::Weak<Published>| shown.strong_count() > 0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(patience, waiting).await.is_ok()
    }

    /// The holds that are set now; where other processes may set some, from their file.
    pub(super) async fn known_holds(&self) -> Result<Arc<Vec<Hold>>, LakeError> {
        let known = lock(&self.holds).clone();
        if !self.log.is_shared() {
            return Ok(known);
        }
        let now = holds::load(&self.store, &self.root).await?;
        if now == *known {
            return Ok(known);
        }
        let now = Arc::new(now);
        lock(&self.kept).holds = now.len();
        *lock(&self.holds) = now.clone();
        Ok(now)
    }

    /// A process that only follows changes nothing.
    pub(super) fn may_change(&self) -> Result<(), LakeError> {
        if self.only_follows() { Err(LakeError::OnlyFollows) } else { Ok(()) }
    }

    pub fn holds(&self) -> Vec<Hold> {
        lock(&self.holds).to_vec()
    }

    /// Sets a hold, or changes the one of its name: when this returns, nothing it fits is taken away any more.
    pub async fn hold(&self, hold: Hold) -> Result<(), LakeError> {
        let refused = |why| Err(LakeError::HoldRefused(hold.name.clone(), why));
        if hold.name.trim().is_empty() || hold.reason.trim().is_empty() {
            return refused("it needs a name and a reason");
        }
        if hold.ids.iter().any(|id| id.trim().is_empty()) {
            return refused("an id is empty");
        }
        let mut all = self.known_holds().await?.to_vec();
        all.retain(|there| there.name != hold.name);
        if all.len() >= HOLDS_MAX {
            return refused("there are as many holds as there may be");
        }
        all.push(hold);
        self.set_holds(all).await
    }

    /// Lets a hold go.
    pub async fn release(&self, name: &str) -> Result<Hold, LakeError> {
        let mut all = self.known_holds().await?.to_vec();
        let Some(at) = all.iter().position(|hold| hold.name == name) else {
            return Err(LakeError::NoHold(name.to_owned()));
        };
        let hold = all.remove(at);
        self.set_holds(all).await?;
        Ok(hold)
    }

    async fn set_holds(&self, all: Vec<Hold>) -> Result<(), LakeError> {
        self.may_change()?;
        let mut writer = self.writer.lock().await;
        holds::store(&self.store, &self.root, &all).await?;
        lock(&self.kept).holds = all.len();
        *lock(&self.holds) = Arc::new(all);
        for index in (0..TABLES.len()).filter(|_| self.log.is_shared()) {
            writer.table(index).mark_holds(self.clock.now_micros()).await?;
        }
        Ok(())
    }
}

/// The rows of a file, a batch at a time.
pub(super) type Batches<'a> = &'a mut dyn Iterator<Item = Result<RecordBatch, ParquetError>>;

async fn blocking<T: Send + 'static>(
    table: &'static Table,
    work: impl FnOnce() -> Result<T, ParquetError> + Send + 'static,
) -> Result<T, LakeError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| LakeError::Panicked(error.to_string()))?;
    done.map_err(|source| LakeError::Parquet { table: table.name, source })
}

/// The name of a file among those of all tables.
fn key(table: &TableState, file: &Data) -> String {
    format!("{}/{}", table.table.name, file.path)
}

/// Of each row, whether it stays.
fn stays(batch: &RecordBatch, rules: &Rules, holds: &[Hold], now: i64) -> Vec<bool> {
    let ends = rules.ends(batch);
    let held = if ends.iter().any(|end| *end <= now) { held(batch, holds) } else { vec![None; ends.len()] };
    ends.iter().zip(held).map(|(end, held)| *end > now || held.is_some()).collect()
}

/// The rows that are too old and not held, and when the first of the others will be.
fn too_old(batches: Batches<'_>, rules: &Rules, holds: &[Hold], now: i64) -> Result<(Tally, i64), ParquetError> {
    let (mut old, mut due) = (Tally::default(), i64::MAX);
    for batch in batches {
        let batch = batch?;
        let ends = rules.ends(&batch);
        due = ends.iter().copied().filter(|end| *end > now).min().unwrap_or(i64::MAX).min(due);
        let gone: Vec<bool> = stays(&batch, rules, holds, now).into_iter().map(|stays| !stays).collect();
        old.count(&batch, &gone);
    }
    Ok((old, due))
}

/// The files to merge next: of one day, small ones first, until they make a large one.
fn choose(files: Vec<Data>, now: i64, config: &LakeConfig) -> Option<Vec<Data>> {
    let mut days: HashMap<String, Vec<Data>> = HashMap::new();
    for file in files.into_iter().filter(|file| file.bytes < config.file_bytes_max / 2) {
        days.entry(file.day().to_owned()).or_default().push(file);
    }
    let mut days: Vec<Vec<Data>> = days.into_values().collect();
    days.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a[0].day().cmp(b[0].day())));
    days.into_iter().find_map(|day| of_day(day, now, config))
}

fn of_day(mut small: Vec<Data>, now: i64, config: &LakeConfig) -> Option<Vec<Data>> {
    small.sort_by(|a, b| a.bytes.cmp(&b.bytes).then_with(|| a.path.cmp(&b.path)));
    let quiet = small.iter().all(|file| now - file.made_at >= HOUR_MICROS);
    let enough = if quiet { 2 } else { config.small_files_max };
    let (mut chosen, mut bytes): (Vec<Data>, u64) = (Vec::new(), 0);
    for file in small {
        let full = chosen.len() >= MERGED_FILES_MAX || bytes + file.bytes > config.file_bytes_max;
        let lopsided = !quiet && chosen.len() >= enough && file.bytes > bytes * LOPSIDED;
        if full || lopsided {
            break;
        }
        bytes += file.bytes;
        chosen.push(file);
    }
    (chosen.len() >= enough).then_some(chosen)
}

impl Kept {
    fn add(&mut self, more: &Kept) {
        self.merged_files += more.merged_files;
        self.merged_into += more.merged_into;
        self.removed_rows += more.removed_rows;
        self.vacuumed_files += more.vacuumed_files;
    }
}

/// The clock as vacuum asks for it.
#[derive(Debug)]
struct Time(crate::clock::Clock);

impl VacuumClock for Time {
    fn current_timestamp_millis(&self) -> i64 {
        self.0.now_micros() / 1_000
    }
}

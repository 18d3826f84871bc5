//! The log's rows in Delta tables, exactly once, and both together as one snapshot to query.
//!
//! Each table (`schemas::TABLES`) is a folder below the lake's root, partitioned by `event_day`. The writer takes the log's
//! frames in order and makes one commit for each table that has rows among them. Where the log is in Kafka, several processes
//! write one lake, each the rows of its own sequences (`run`).
//!
//! **Why no row is missing or doubled.** A table's commit carries, for each sequence of the log, `txn{log/<topic>/<partition>,
//! version = last offset of the flush}` (`log/main/0` for the embedded log), so:
//! 1. *A table holds exactly its rows at or below its txn.* A flush covers all frames between the last one and its end, and
//!    leaves out the rows at or below the txn of the very snapshot it commits against (`delta`). A crash between two tables'
//!    commits, or after all of them, only makes some rows be left out the next time; so does another process that writes the
//!    same sequence. A flush says nothing of sequences it has no frames of.
//! 2. *Below `next`, everything is in the tables.* `next` moves past a flush when the last of its commits is durable; a
//!    table without rows in it keeps its older txn and lacks nothing. Only then is the log told [`passed`](Log::passed), so
//!    what the log has released is in the tables. This never becomes false, so the `next` of several processes are merged
//!    into one, the greatest of each sequence. A stored one that a slower process overwrote is older than true, which costs
//!    reading, not rows.
//! 3. *At start* the writer reads again from the least txn among the tables, or from the log's first frame, or from the
//!    `next` that was stored after the last flush, whichever is latest (by 2, what came before is in the tables). Were
//!    the stored one lost, a table that never had a row would only make the writer read the whole log again.
//! 4. *A [`Snapshot`]* takes the tables' states and `next` in one look, then the frames from `next` on, less the rows at
//!    or below each table's txn. If a flush releases them in between (`Gone`) it looks again: the new state is there
//!    before the frames go. What others write is looked at in this order: the stored `next`, then the tables, which hold
//!    all below it (by 2), then both are shown.
//!
//! A file whose commit never came (a crash before it) is in no table; it stays until the folder is vacuumed. The embedded log
//! is one process's, by the lock of its folder, and so is its lake.
//!
//! **Keeping** (`keep`: compaction, retention, vacuum; `erase`: a user's erasure) replaces files by files in commits of its
//! own, one at a time, each under the writer's lock and without its `txn`: to the rules above the table is as before. Beside
//! other processes such a commit is made right behind the snapshot it was decided on, or not at all.
//! `holds` says what must stay, `removed` counts what went, `verify` reconciles log, ledger and tables.

mod data;
mod delta;
mod encode;
mod erase;
mod holds;
mod keep;
mod merge;
mod names;
mod owner;
mod removed;
mod retention;
mod run;
mod snapshot;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use deltalake::DeltaTableError;
use object_store::ObjectStore;
use object_store::path::Path;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

pub use delta::{Size, TableState};
pub use erase::{Erasure, Named};
pub use holds::{HOLDS_MAX, Hold};
pub use keep::{KeepStatus, Kept};
pub use names::ERASED;
pub use removed::Removed;
pub use retention::RetentionRule;
pub use snapshot::{Snapshot, TableSnapshot};
pub use verify::{Count, Verification};

use crate::clock::Clock;
use crate::files::store::FileStore;
use crate::files::{Bucket, Files, S3Config, Whole};
use crate::log::{Log, LogError, Positions, Share};
use keep::Keeping;
use snapshot::Published;
use writer::Writer;

/// The column that the tables are partitioned by.
const DAY: &str = "event_day";
/// Where below the root the writer's position is stored.
const NEXT: &str = "next";
/// Where below the root the end of what the log was told to let go is stored.
const LET_GO: &str = "let_go";
/// The group under which the log knows the writer.
pub const GROUP: &str = "lake";
/// How often the writer looks for new frames. Nobody waits for it: what is not yet written is read from the log. But at a
/// quarter of a second, frames left the log's cache before they were looked for whenever many came.
const LOOK_MILLIS: u64 = 50;

/// Settings of the Delta tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LakeConfig {
    /// `s3://BUCKET/PREFIX`: tables and detectors' snapshots are there. Without it they are in the data folder.
    pub url: Option<String>,
    /// How that bucket is reached.
    pub s3: S3Config,
    /// Rows wait at most this long before they are written to the tables. They can be queried at once.
    pub flush_secs: u64,
    /// How long the log in Kafka may be here behind what another process wrote to the tables from it. After that it counts as
    /// older than the lake, or another lake's, and the process that writes the tables ends.
    pub log_behind_secs: u64,
    /// Rows of this many bytes are written to the tables without waiting longer.
    pub flush_bytes_max: usize,
    /// Rows that a query may read from the log because the tables lag behind; more is refused.
    pub tail_bytes_max: usize,
    /// How often a server merges small files, deletes what is too old, and clears away files that no table names. 0: only
    /// `muster keep` does.
    pub keep_minutes: u64,
    /// So large a file of a table may become by merging, about.
    pub file_bytes_max: u64,
    /// So many small files of one day are merged; fewer once the youngest of them is an hour old.
    pub small_files_max: usize,
    /// Files that a table no longer names are deleted after this long. Longer than any query may take.
    pub vacuum_minutes: u64,
    /// How long rows are kept. Of each row the first rule that fits decides; a row that none fits is kept for ever.
    pub retention: Vec<RetentionRule>,
}

impl Default for LakeConfig {
    fn default() -> Self {
        LakeConfig {
            url: None,
            s3: S3Config::default(),
            flush_secs: 30,
            log_behind_secs: 300,
            flush_bytes_max: 40 << 20,
            tail_bytes_max: 512 << 20,
            keep_minutes: 10,
            file_bytes_max: 64 << 20,
            small_files_max: 8,
            vacuum_minutes: 60,
            retention: Vec::new(),
        }
    }
}

impl LakeConfig {
    /// All that is wrong with the settings.
    pub fn problems(&self) -> Vec<String> {
        let checks = [
            (self.flush_secs >= 1, "flush_secs: must be at least 1"),
            ((1..=86_400).contains(&self.log_behind_secs), "log_behind_secs: must be from 1 to 86,400"),
            (self.flush_bytes_max >= 1 << 20, "flush_bytes_max: must be at least 1 MiB"),
            (
                self.flush_bytes_max <= 1 << 29,
                "flush_bytes_max: must be at most 512 MiB: a flush, twice as much after one that failed, is sorted in memory",
            ),
            (self.tail_bytes_max >= self.flush_bytes_max, "tail_bytes_max: must be at least flush_bytes_max"),
            (self.file_bytes_max >= 1 << 20, "file_bytes_max: must be at least 1 MiB"),
            (self.file_bytes_max <= 256 << 20, "file_bytes_max: must be at most 256 MiB, files are merged in memory"),
            (self.small_files_max >= 2, "small_files_max: must be at least 2"),
            (self.vacuum_minutes >= 5, "vacuum_minutes: must be at least 5, queries may still read the files"),
        ];
        let found = checks.into_iter().filter(|(fine, _)| !fine).map(|(_, problem)| problem.to_owned());
        let url = self.url.as_deref().and_then(|url| crate::files::s3::place(url).err());
        found
            .chain(url.map(|problem| format!("url: {problem}")))
            .chain(self.s3.problems())
            .chain(self.retention.iter().enumerate().flat_map(|(at, rule)| rule.problems(at)))
            .collect()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    #[error("table {table}: {source}")]
    Delta { table: &'static str, source: DeltaTableError },
    #[error("table {table} has other columns than this version writes: {found}")]
    Columns { table: &'static str, found: String },
    #[error("lake root: {0}")]
    Root(String),
    #[error("the lake is another installation's ({found}): it has one log, and this is not it")]
    Foreign { found: String },
    #[error("the writer's position: {0}")]
    Next(object_store::Error),
    #[error("the lake's own files: {0}")]
    Store(object_store::Error),
    #[error("rows are under legal hold ({}): nothing is erased that a hold keeps", .holds.join(", "))]
    Held { holds: Vec<String> },
    #[error("there is no hold {0:?}")]
    NoHold(String),
    #[error("hold {0:?} cannot be set: {1}")]
    HoldRefused(String, &'static str),
    #[error("table {table}: {source}")]
    Parquet { table: &'static str, source: parquet::errors::ParquetError },
    #[error(
        "table {table} holds rows up to offset {position} of the log {name}, but that log ends at {end} here{}",
        verdict(*.waited_secs, *.last)
    )]
    LogBehind { name: String, table: &'static str, position: i64, end: u64, waited_secs: u64, last: bool },
    #[error(
        "table {table} was written from the embedded log: a lake is of one log, and Kafka's rows go into one of their own"
    )]
    OtherLog { table: &'static str },
    #[error(
        "the tables need the log {name} from offset {next} on, but Kafka has deleted it up to {first}: its retention is \
         shorter than the tables stood still; what is between them is lost to the tables, and how to go on without it is in \
         docs/kafka.md (`Retention`)"
    )]
    Lost { name: String, next: u64, first: u64 },
    #[error("the tables are behind by more than tail_bytes_max ({bytes_max} bytes); retry when they have caught up")]
    Behind { bytes_max: usize },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("a file of the tables is not there: it was replaced while it was asked for; ask again")]
    Replaced,
    #[error("this process only reads the tables: ask one that has the role `lake`")]
    OnlyFollows,
    #[error("a lake task panicked: {0}")]
    Panicked(String),
}

/// Whether the innermost cause is a file that is not there: what other processes replace, they clear away without knowing who
/// reads it here.
pub fn is_missing_file(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(object_store::Error::NotFound { .. }) = error.downcast_ref() {
            return true;
        }
        cause = error.source();
    }
    // The reader of a file's footer hands on the text alone.
    let text = error.to_string();
    text.contains("Object at location") && text.contains("not found")
}

impl LakeError {
    /// Whether it is for want of room on the disk.
    pub(crate) fn is_full(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = cause {
            let io = error.downcast_ref::<std::io::Error>();
            if io.is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// How far the tables are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LakeStatus {
    /// Every row below this offset is in the tables.
    pub next: Positions,
    /// Frames in the log that are not: of this process's sequences; of all, where it writes none at all.
    pub behind: u64,
    /// Why the last flush failed, none once one has succeeded; or why what others wrote cannot be seen.
    pub error: Option<String>,
}

/// The tables, their writer, and snapshots of both tables and log.
pub struct Lake {
    store: Arc<dyn ObjectStore>,
    stored_next: Whole,
    log: Arc<Log>,
    clock: Clock,
    config: LakeConfig,
    root: Path,
    writer: tokio::sync::Mutex<Writer>,
    /// Which sequences this process writes: all, until it runs beside others; none where it only follows.
    share: Mutex<Option<Share>>,
    published: Mutex<Arc<Published>>,
    /// What was published before and may still be read.
    shown: Mutex<Vec<Weak<Published>>>,
    error: Mutex<Option<String>>,
    /// Why what others wrote cannot be seen.
    unseen: Mutex<Option<String>>,
    /// Held by whoever replaces files: compaction, retention, erasure, one at a time; always taken before `writer`.
    keeping: tokio::sync::Mutex<Keeping>,
    kept: Mutex<KeepStatus>,
    /// Changed only under the writer's lock, so that a commit knows the holds of its moment.
    holds: Mutex<Arc<Vec<Hold>>>,
}

impl Lake {
    /// Opens the tables in a folder of the file layer, making those that do not exist.
    pub async fn open_folder(
        files: Arc<dyn Files>,
        folder: PathBuf,
        log: Arc<Log>,
        clock: Clock,
        config: LakeConfig,
    ) -> Result<Arc<Lake>, LakeError> {
        let store = if log.is_shared() { FileStore::shared } else { FileStore::new };
        let store = Arc::new(store(files, folder, clock.clone()));
        Lake::open(store, log, clock, config).await
    }

    /// Opens the tables in a bucket, making those that do not exist. A bucket can be reached from anywhere, but a lake has
    /// one log: it is `owner`'s from the first time on.
    pub async fn open_bucket(
        bucket: &Bucket,
        owner: &str,
        log: Arc<Log>,
        clock: Clock,
        config: LakeConfig,
    ) -> Result<Arc<Lake>, LakeError> {
        owner::claim(&bucket.store, owner).await?;
        Lake::open(bucket.store.clone(), log, clock, config).await
    }

    /// Opens the tables at the root of `store`, making those that do not exist.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        log: Arc<Log>,
        clock: Clock,
        config: LakeConfig,
    ) -> Result<Arc<Lake>, LakeError> {
        // Neither `file:` nor `s3:`, for which the readers would bring stores of their own.
        let root = &Url::parse("lake://root/").map_err(|e| LakeError::Root(e.to_string()))?;
        let apps: Arc<[String]> = (0..log.sequences()).map(|sequence| format!("log/{}", log.name(sequence))).collect();
        let mut tables = Vec::with_capacity(schemas::TABLES.len());
        for table in schemas::TABLES {
            tables.push(TableState::open(store.clone(), root, table, apps.clone()).await?);
        }
        let root = Path::from_url_path(root.path()).map_err(|e| LakeError::Root(e.to_string()))?;
        let name = match &*log {
            Log::Embedded(_) => NEXT.to_owned(),
            Log::Kafka(_) => format!("{NEXT}-{}", log.name(0).trim_end_matches("/0")),
        };
        let stored_next = Whole::new(store.clone(), root.clone().join(name));
        let before = stored(&stored_next, NEXT).await?;
        let mut writer = Writer::new(tables);
        writer.learn(&before, log.sequences());
        let published = Mutex::new(Arc::new(writer.publish()));
        let held = holds::load(&store, &root).await?;
        log.let_go(&stored(&Whole::new(store.clone(), root.clone().join(LET_GO)), LET_GO).await?);
        let lake = Lake {
            store,
            stored_next,
            clock,
            config,
            root,
            writer: tokio::sync::Mutex::new(writer),
            share: Mutex::new(Some(Share::whole(log.sequences()))),
            published,
            shown: Mutex::default(),
            error: Mutex::default(),
            unseen: Mutex::default(),
            keeping: tokio::sync::Mutex::default(),
            kept: Mutex::new(KeepStatus { holds: held.len(), ..KeepStatus::default() }),
            holds: Mutex::new(Arc::new(held)),
            log,
        };
        if !lake.log.is_shared() {
            // Whose a sequence of a shared log is, is not known yet.
            lake.begin(&mut *lake.writer.lock().await, lake.turn(), run::BEHIND_PATIENCE).await?;
        }
        Ok(Arc::new(lake))
    }

    fn publish(&self, writer: &Writer) {
        let before = std::mem::replace(&mut *lock(&self.published), Arc::new(writer.publish()));
        let mut shown = lock(&self.shown);
        shown.retain(|shown| shown.strong_count() > 0);
        shown.push(Arc::downgrade(&before));
    }

    /// All tables and what the log holds beyond them, as of one moment.
    pub async fn snapshot(&self) -> Result<Snapshot, LakeError> {
        loop {
            let published = lock(&self.published).clone();
            if self.log.is_shared() {
                let sequences: Vec<usize> = (0..self.log.sequences()).collect();
                // Tables that hold more of a frame than the tail of another would be of different moments. Where the log stays
                // behind, its writer says so and ends; what there is can be asked for.
                let (tables, next) = (&published.tables, &published.next);
                if let Err(error) = self.caught_up(tables, next, &sequences, run::BEHIND_PATIENCE).await {
                    tracing::warn!(%error, "the log is not here as far as the tables are");
                }
            }
            let (log, bytes_max) = (self.log.clone(), self.config.tail_bytes_max);
            let from = published.next.clone();
            let taken = tokio::task::spawn_blocking(move || Snapshot::take(published, &log, bytes_max)).await;
            match taken.map_err(|e| LakeError::Panicked(e.to_string()))? {
                // Released after a flush, whose state is there already.
                Err(LakeError::Log(LogError::Gone { .. })) if lock(&self.published).next != from => {}
                taken => return taken,
            }
        }
    }

    pub fn status(&self) -> LakeStatus {
        let (next, end) = (lock(&self.published).next.clone(), self.log.ends());
        let (turn, all) = (self.turn(), self.only_follows());
        let own = end.iter().filter(|(sequence, _)| all || turn.has(*sequence));
        let at = |sequence| next.get(sequence).max(self.log.first(sequence));
        let behind = own.map(|(sequence, end)| end.saturating_sub(at(sequence))).sum();
        let error = lock(&self.error).clone().or_else(|| lock(&self.unseen).clone());
        LakeStatus { behind, next, error }
    }
}

/// What the error of a log that is behind comes to.
fn verdict(waited_secs: u64, last: bool) -> String {
    let waited = if waited_secs > 0 || !last { format!(", after {waited_secs} s of waiting") } else { String::new() };
    let means = if last { ": the log is older than the lake, or another lake's" } else { "" };
    waited + means
}

/// Positions that are stored in a file of their own; 0 where there is none.
async fn stored(file: &Whole, name: &str) -> Result<Positions, LakeError> {
    let Some(stored) = file.read().await.map_err(LakeError::Next)? else { return Ok(Positions::default()) };
    let text = std::str::from_utf8(&stored).unwrap_or("");
    let wrong = |_| LakeError::Root(format!("`{name}` does not hold a position of the log but `{text}`"));
    serde_json::from_str(text).map_err(wrong)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

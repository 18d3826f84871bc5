//! One Delta table that the log is written into, exactly once.
//!
//! Delta accepts the same application transaction twice, and even a lower one after a higher: the guard is here. Before each
//! commit the newest snapshot is loaded and its `txn` read; rows at or below it are in the table already and are left
//! out; the commit is made against that snapshot, and Delta refuses it if another commit of the same application came
//! between: then it is looked again. Commits of other applications in between are let through, so several processes append
//! beside each other; what a commit leaves may hold theirs too, and then the positions are read anew. A commit whose
//! outcome is unknown (an error after the put) is settled in the same way at the next try.
//!
//! Only what every reader knows: reader version 1, writer version 2, no table features.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Field;
use deltalake::datafusion::catalog::TableProvider;
use deltalake::datafusion::execution::SessionState;
use deltalake::delta_datafusion::DeltaScanNext;
use deltalake::kernel::engine::arrow_conversion::TryFromArrow;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake::kernel::{Action, Add, EagerSnapshot, StructField, Transaction};
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore, get_actions};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::table::state::DeltaTableState;
use deltalake::{DeltaTable, DeltaTableError, TableProperty};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};
use schemas::{Column, Table};
use url::Url;

use super::encode::{DataFile, encode};
use super::{DAY, LakeError};
use crate::log::Positions;

/// The application that wrote from the embedded log.
const EMBEDDED_APP: &str = "log/main/0";
/// Commits between checkpoints; a reader replays at most so many small files.
const CHECKPOINT_COMMITS: u64 = 50;
/// How long the table's own log keeps what a checkpoint covers.
const LOG_RETENTION: &str = "interval 7 days";

/// So often a commit is tried beside those of others.
const TRIES_MAX: usize = 20;
/// Says that the legal holds changed.
const HOLDS_APP: &str = "keep/holds";

/// Rows of one frame of the log, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) sequence: usize,
    pub(crate) offset: u64,
    pub(crate) batch: RecordBatch,
}

/// A table as of one snapshot: its files, and the log's offsets up to which they hold every row of this table.
#[derive(Clone)]
pub struct TableState {
    pub table: &'static Table,
    /// For each sequence of the log: rows with an offset up to this one are in the table; -1 before the first.
    positions: Vec<i64>,
    /// Under which name the position in each sequence stands in the table's log.
    apps: Arc<[String]>,
    pub(super) log_store: LogStoreRef,
    pub(super) state: DeltaTableState,
}

impl TableState {
    /// Opens the table below `root`, making it where it does not exist.
    pub(crate) async fn open(
        store: Arc<dyn ObjectStore>,
        root: &Url,
        table: &'static Table,
        apps: Arc<[String]>,
    ) -> Result<Self, LakeError> {
        let failed = |source| LakeError::Delta { table: table.name, source };
        let url = root.join(&format!("{}/", table.name)).map_err(|e| LakeError::Root(e.to_string()))?;
        let path = Path::from_url_path(url.path()).map_err(|e| LakeError::Root(e.to_string()))?;
        let prefixed: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(store.clone(), path));
        let log_store: LogStoreRef = default_logstore(prefixed, store, &url, &StorageConfig::default());
        let exists = log_store.is_delta_table_location().await.map_err(failed)?;
        if !exists && let Err(error) = create(table, &log_store).await {
            // Another process may have been faster.
            if !log_store.is_delta_table_location().await.map_err(failed)? {
                return Err(failed(error));
            }
        }
        let mut state = DeltaTableState::try_new(log_store.as_ref(), None).await.map_err(failed)?;
        let missing = missing(table, &state)?;
        if !missing.is_empty() {
            tracing::info!(table = table.name, columns = missing.len(), "the table gets columns of this version");
            let added = add_columns(&log_store, &missing).await;
            state = DeltaTableState::try_new(log_store.as_ref(), None).await.map_err(failed)?;
            // Here too.
            if !self::missing(table, &state)?.is_empty() {
                added.map_err(failed)?;
            }
        }
        let mut opened = TableState { table, positions: Vec::new(), apps, log_store, state };
        opened.positions = opened.committed(&opened.state).await.map_err(failed)?;
        let embedded = opened.apps.iter().any(|app| app == EMBEDDED_APP);
        if !embedded && opened.version_of(EMBEDDED_APP).await.map_err(failed)?.is_some() {
            return Err(LakeError::OtherLog { table: table.name });
        }
        Ok(opened)
    }

    async fn version_of(&self, app: &str) -> Result<Option<i64>, DeltaTableError> {
        self.state.transaction_version(self.log_store.as_ref(), app).await
    }

    /// The last offset of each sequence that a snapshot says is in the table.
    async fn committed(&self, state: &DeltaTableState) -> Result<Vec<i64>, DeltaTableError> {
        let mut committed = Vec::with_capacity(self.apps.len());
        for app in self.apps.iter() {
            let version = state.transaction_version(self.log_store.as_ref(), app).await?;
            committed.push(version.unwrap_or(-1));
        }
        Ok(committed)
    }

    /// The same for a later snapshot than the one in hand, from the commits between them: to ask for each sequence reads the
    /// table's log once for each.
    async fn committed_since(&self, state: &DeltaTableState) -> Result<Vec<i64>, DeltaTableError> {
        let (mut positions, from) = (self.positions.clone(), self.state.version() + 1);
        if state.version() >= from + CHECKPOINT_COMMITS {
            return self.committed(state).await;
        }
        for version in from..=state.version() {
            let Some(commit) = self.log_store.read_commit_entry(version).await? else {
                // Cleared away behind a checkpoint.
                return self.committed(state).await;
            };
            for action in get_actions(version, &commit)? {
                let Action::Txn(txn) = action else { continue };
                if let Some(sequence) = self.apps.iter().position(|app| *app == txn.app_id) {
                    positions[sequence] = txn.version;
                }
            }
        }
        Ok(positions)
    }

    /// Looks at the newest commit.
    pub(super) async fn refresh(&mut self) -> Result<(), LakeError> {
        let table = self.table.name;
        let failed = |source| LakeError::Delta { table, source };
        let mut state = self.state.clone();
        state.update(self.log_store.as_ref(), None).await.map_err(failed)?;
        self.take(state).await.map_err(failed)
    }

    /// Goes over to a later snapshot; the positions are its own.
    pub(super) async fn take(&mut self, state: DeltaTableState) -> Result<(), DeltaTableError> {
        self.positions = self.committed_since(&state).await?;
        self.state = state;
        Ok(())
    }

    /// Rows of a sequence with an offset up to this one are in the table; -1 before the first.
    pub fn position(&self, sequence: usize) -> i64 {
        self.positions.get(sequence).copied().unwrap_or(-1)
    }

    /// Appends those of `rows` (each in log order) that the table does not hold yet, as one commit that says the table holds
    /// all its rows below `next`; of a sequence that is not in `next` it says nothing.
    pub(crate) async fn append(&mut self, rows: &[Placed], next: &Positions, now: i64) -> Result<(), LakeError> {
        let name = self.table.name;
        let mut tries = 1;
        loop {
            self.refresh().await?;
            let missing =
                |placed: &&Placed| placed.offset as i64 > self.position(placed.sequence) && placed.batch.num_rows() > 0;
            let missing: Vec<Placed> = rows.iter().filter(missing).cloned().collect();
            if missing.is_empty() {
                return Ok(());
            }
            match self.append_missing(missing, next, now).await {
                Err(error) if error.is_conflict() && tries < TRIES_MAX => {
                    tracing::debug!(table = name, %error, "another commit came between; it is looked again");
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    /// Fails with a conflict where a commit of one of the sequences came since the snapshot in hand.
    pub(super) async fn append_missing(
        &mut self,
        rows: Vec<Placed>,
        next: &Positions,
        now: i64,
    ) -> Result<(), LakeError> {
        let table = self.table;
        let failed = |source| LakeError::Delta { table: table.name, source };
        let last = rows.iter().map(|placed| placed.offset).max().unwrap_or(0);
        let batches: Vec<RecordBatch> = rows.into_iter().map(|placed| placed.batch).collect();
        let encoded = tokio::task::spawn_blocking(move || encode(table, &batches)).await;
        let files = encoded.map_err(|e| LakeError::Panicked(e.to_string()))?.map_err(|e| failed(e.into()))?;
        let mut actions = Vec::with_capacity(files.len());
        for file in files {
            actions.push(Action::Add(self.put(file, &format!("part-{last:020}"), now).await.map_err(failed)?));
        }
        self.commit(actions, next, now).await.map_err(failed)
    }

    /// Writes a file. Its name is its content's, so a retry that comes to the same file writes the same bytes.
    pub(super) async fn put(&self, file: DataFile, name: &str, now: i64) -> Result<Add, DeltaTableError> {
        let day = chrono::NaiveDate::from_epoch_days(file.day).map(|d| d.to_string()).unwrap_or_default();
        let digest = schemas::id::digest([file.bytes.as_slice()]);
        let path = format!("{DAY}={day}/{name}-{digest}.parquet");
        let size = file.bytes.len() as i64;
        self.log_store.object_store(None).put(&Path::from(path.as_str()), file.bytes.into()).await?;
        Ok(Add {
            path,
            partition_values: HashMap::from([(DAY.to_owned(), Some(day))]),
            size,
            modification_time: now / 1_000,
            data_change: true,
            stats: Some(file.stats),
            ..Default::default()
        })
    }

    async fn commit(&mut self, actions: Vec<Action>, next: &Positions, now: i64) -> Result<(), DeltaTableError> {
        let checkpoint = (self.state.version() + 2).is_multiple_of(CHECKPOINT_COMMITS);
        let mut positions = self.positions.clone();
        let mut transactions = Vec::new();
        for (sequence, (position, app)) in positions.iter_mut().zip(self.apps.iter()).enumerate() {
            let last = next.get(sequence) as i64 - 1;
            if last > *position {
                *position = last;
                transactions.push(Transaction::new_with_last_update(app, last, Some(now / 1_000)));
            }
        }
        let properties = CommitProperties::default()
            .with_application_transactions(transactions)
            .with_cleanup_expired_logs(Some(checkpoint));
        let partition_by = Some(vec![DAY.to_owned()]);
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by, predicate: None };
        let commit = CommitBuilder::from(properties).with_actions(actions);
        let done = commit.build(Some(&self.state), self.log_store.clone(), operation).await?.snapshot();
        if done.version() > self.state.version() + 1 {
            return self.take(done).await;
        }
        (self.state, self.positions) = (done, positions);
        Ok(())
    }

    /// A commit that changes nothing but this: whoever takes rows away against a snapshot before it is refused.
    pub(super) async fn mark_holds(&mut self, now: i64) -> Result<(), LakeError> {
        let table = self.table.name;
        let failed = |source| LakeError::Delta { table, source };
        let mut tries = 1;
        loop {
            self.refresh().await?;
            let marked = Transaction::new_with_last_update(HOLDS_APP, now, Some(now / 1_000));
            let properties = CommitProperties::default().with_application_transaction(marked);
            let properties = properties.with_max_retries(0).with_cleanup_expired_logs(Some(false));
            let operation = DeltaOperation::Update { predicate: None };
            let commit = CommitBuilder::from(properties).with_actions(Vec::new());
            let commit = commit.build(Some(&self.state), self.log_store.clone(), operation).await;
            match commit.map_err(failed) {
                Ok(done) => return self.take(done.snapshot()).await.map_err(failed),
                Err(error) if error.is_conflict() && tries < TRIES_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The table's files for a SQL session.
    pub async fn provider(&self, session: Arc<SessionState>) -> Result<Arc<dyn TableProvider>, LakeError> {
        let snapshot: Arc<EagerSnapshot> = Arc::new(self.state.snapshot().clone());
        let scan = DeltaScanNext::builder().with_log_store(self.log_store.clone()).with_eager_snapshot(snapshot);
        let scan = scan.with_session(session).build().await;
        let scan = scan.map_err(|e| LakeError::Delta { table: self.table.name, source: e.into() })?;
        Ok(Arc::new(scan))
    }

    /// Reader and writer version that the table asks of others.
    #[cfg(test)]
    pub(crate) fn protocol(&self) -> (i32, i32) {
        let protocol = self.state.protocol();
        (protocol.min_reader_version(), protocol.min_writer_version())
    }

    /// Number of the table's commits, files and rows.
    pub fn size(&self) -> Size {
        let data = self.state.log_data();
        let rows = data.iter().map(|file| file.num_records().unwrap_or(0) as u64).sum();
        Size { version: self.state.version(), files: data.num_files() as u64, rows }
    }
}

impl LakeError {
    /// Whether a commit of somebody else came between: it is to be looked again.
    pub(super) fn is_conflict(&self) -> bool {
        let LakeError::Delta { source, .. } = self else { return false };
        match source {
            DeltaTableError::VersionAlreadyExists(_) => true,
            DeltaTableError::Transaction { source } => {
                matches!(source, TransactionError::CommitConflict(_) | TransactionError::MaxCommitAttempts(_))
            }
            _ => false,
        }
    }
}

/// How large a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    pub version: u64,
    pub files: u64,
    pub rows: u64,
}

/// The columns that a table of an older version lacks. It must have all others, and none that this version does not know;
/// their order says nothing, since Delta and every reader here go by name.
fn missing(table: &'static Table, state: &DeltaTableState) -> Result<Vec<&'static Column>, LakeError> {
    let found: Vec<String> = state.schema().fields().map(|f| f.name().to_string()).collect();
    let missing: Vec<&Column> = table.columns.iter().filter(|c| !found.iter().any(|name| name == c.name)).collect();
    let unknown = found.iter().any(|name| table.index_of(name).is_none());
    if unknown || missing.iter().any(|column| column.required) {
        return Err(LakeError::Columns { table: table.name, found: found.join(", ") });
    }
    Ok(missing)
}

/// Adds optional columns at the table's end: a commit of metadata alone. Rows written before read as null there. A crash
/// before the commit leaves the table as it was, and the next start adds them.
async fn add_columns(log_store: &LogStoreRef, columns: &[&Column]) -> Result<(), DeltaTableError> {
    let fields = columns.iter().map(|column| field(column)).collect::<Result<Vec<_>, _>>()?;
    let mut table = DeltaTable::new(log_store.clone());
    table.load().await?;
    table.add_columns().with_fields(fields).await?;
    Ok(())
}

fn field(column: &Column) -> Result<StructField, DeltaTableError> {
    let field = Field::new(column.name, column.kind.data_type(), !column.required);
    Ok(StructField::try_from_arrow(&field)?.with_metadata([("comment", column.doc)]))
}

async fn create(table: &'static Table, log_store: &LogStoreRef) -> Result<(), DeltaTableError> {
    let columns = table.columns.iter().map(field).collect::<Result<Vec<_>, _>>()?;
    CreateBuilder::new()
        .with_log_store(log_store.clone())
        .with_table_name(table.name)
        .with_comment(table.doc)
        .with_columns(columns)
        .with_partition_columns([DAY])
        .with_configuration_property(TableProperty::CheckpointInterval, Some(CHECKPOINT_COMMITS.to_string()))
        .with_configuration_property(TableProperty::LogRetentionDuration, Some(LOG_RETENTION))
        .with_save_mode(SaveMode::Ignore)
        .await?;
    Ok(())
}

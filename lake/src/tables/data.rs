//! A table's data files as keeping sees them: which there are, and some of them replaced by others in one commit.
//!
//! A replacing commit never touches the writer's `txn`: it moves rows between files or takes rows away, and says nothing
//! of how far the log is written. It is made against the very snapshot that it was decided on, or not at all: Delta's own
//! check lets two compactions of the same file both through, and an erasure beside a compaction, which would double its rows.

use std::collections::HashSet;

use bytes::Bytes;
use chrono::DateTime;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Remove, Transaction};
use deltalake::protocol::DeltaOperation;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;

use super::delta::TableState;
use super::encode::DataFile;
use super::{DAY, LakeError};

/// Numbers the commits that take rows away; see `removed`.
pub(super) const REMOVED_APP: &str = "keep/removed";

/// A data file of a table.
#[derive(Clone, Debug)]
pub(super) struct Data {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    /// When it came, in microseconds since the Unix epoch.
    pub(super) made_at: i64,
    /// Least and greatest `received_at`, where the table has the column.
    pub(super) received: Option<(i64, i64)>,
    remove: Remove,
}

impl Data {
    /// The folder of its day.
    pub(super) fn day(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// Days since the Unix epoch.
    pub(super) fn day_number(&self) -> Option<i32> {
        let day = self.day().strip_prefix(DAY)?.strip_prefix('=')?;
        let day: chrono::NaiveDate = day.parse().ok()?;
        Some(day.to_epoch_days())
    }
}

/// Why files are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The same rows in fewer files.
    Compaction,
    /// Some rows go: the number of the removal.
    Removal(i64),
    /// Some rows no longer name somebody.
    Erasure,
}

impl TableState {
    fn failed(&self) -> impl Fn(deltalake::DeltaTableError) -> LakeError + use<> {
        let table = self.table.name;
        move |source| LakeError::Delta { table, source }
    }

    pub(super) fn data(&self) -> Vec<Data> {
        let data = self.state.log_data();
        let files = data.iter().map(|file| {
            let stats = file.stats().and_then(|stats| serde_json::from_str::<Value>(&stats).ok()).unwrap_or_default();
            let time = |bound: &str| {
                let text = stats[bound]["received_at"].as_str()?;
                Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros())
            };
            Data {
                path: file.path().into_owned(),
                bytes: file.size().max(0) as u64,
                rows: file.num_records().unwrap_or(0) as u64,
                made_at: file.modification_time().saturating_mul(1_000),
                received: time("minValues").zip(time("maxValues")),
                remove: file.remove_action(true),
            }
        });
        files.collect()
    }

    pub(super) async fn read(&self, data: &Data) -> Result<Bytes, LakeError> {
        let store = self.log_store.object_store(None);
        let read = async { store.get(&Path::from(data.path.as_str())).await?.bytes().await };
        read.await.map_err(|error| self.failed()(error.into()))
    }

    /// The last removal that a commit of this table carries; 0 before the first.
    pub(super) async fn removals(&self) -> Result<i64, LakeError> {
        let version = self.state.transaction_version(self.log_store.as_ref(), REMOVED_APP).await;
        Ok(version.map_err(self.failed())?.unwrap_or(0))
    }

    /// Whether all of them are in the table.
    pub(super) fn names(&self, files: &[Data]) -> bool {
        let there: HashSet<String> = self.state.log_data().iter().map(|file| file.path().into_owned()).collect();
        files.iter().all(|data| there.contains(&data.path))
    }

    /// Replaces `gone` by `come` in one commit right behind the snapshot in hand, so the caller refreshes it first and then
    /// looks at what must hold. `false` where one of `gone` is not in the table, or another commit came between.
    pub(super) async fn replace(
        &mut self,
        gone: &[Data],
        come: Vec<DataFile>,
        why: Why,
        now: i64,
    ) -> Result<bool, LakeError> {
        if !self.names(gone) {
            return Ok(false);
        }
        let changes_rows = why != Why::Compaction;
        let mut actions = Vec::with_capacity(gone.len() + come.len());
        for data in gone {
            let (data_change, deletion_timestamp) = (changes_rows, Some(now / 1_000));
            actions.push(Action::Remove(Remove { data_change, deletion_timestamp, ..data.remove.clone() }));
        }
        let name = format!("kept-{:020}", self.state.version());
        for file in come {
            let mut add = self.put(file, &name, now).await.map_err(self.failed())?;
            add.data_change = changes_rows;
            actions.push(Action::Add(add));
        }
        let properties = CommitProperties::default().with_cleanup_expired_logs(Some(false));
        let mut properties = properties.with_max_retries(0);
        let predicate = |text: &str| Some(text.to_owned());
        let operation = match why {
            Why::Compaction => DeltaOperation::Optimize { predicate: None, target_size: 0 },
            Why::Removal(number) => {
                let removal = Transaction::new_with_last_update(REMOVED_APP, number, Some(now / 1_000));
                properties = properties.with_application_transaction(removal);
                DeltaOperation::Delete { predicate: predicate("retention") }
            }
            Why::Erasure => DeltaOperation::Update { predicate: predicate("erasure") },
        };
        let commit = CommitBuilder::from(properties).with_actions(actions);
        let commit = commit.build(Some(&self.state), self.log_store.clone(), operation).await;
        match commit.map_err(self.failed()) {
            Ok(done) => self.take(done.snapshot()).await.map_err(self.failed()).map(|()| true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

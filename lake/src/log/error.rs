//! What can go wrong, and whether a retry helps. Cloned to every caller whose append shared one write.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The disk is full, or `log_bytes_max` is reached because a reader lags. Nothing was written.
    #[error("the log is full: {0}")]
    Full(String),
    /// `queue_bytes_max` or `queue_groups_max` is reached: the writer does not keep up.
    #[error("the log is overloaded: {0}")]
    Overloaded(String),
    /// One append beyond `group_rows_max` or `group_bytes_max`.
    #[error(
        "append of {rows} rows and {bytes} bytes is larger than one group may be ({rows_max} rows, {bytes_max} bytes)"
    )]
    TooLarge { rows: usize, bytes: usize, rows_max: usize, bytes_max: usize },
    /// The batch does not have the declared columns: a bug of the caller.
    #[error("batch of table {table} cannot be appended: {reason}")]
    Malformed { table: &'static str, reason: String },
    #[error("the log begins at offset {first}; what came before was released")]
    Gone { first: u64 },
    #[error("the log is closed")]
    Closed,
    /// Durability is in doubt: the process must end and recover from the log.
    #[error("the log stopped: {0}")]
    Fatal(String),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: Arc<io::Error> },
    #[error("{segment} is corrupt at byte {at}: {reason}")]
    Corrupt { segment: PathBuf, at: u64, reason: String },
    /// The brokers did not do what they were asked; `place` is topic or partition. What was to be appended may be there all the same: when it is sent again, the
    /// duplicate filter knows it.
    #[error("kafka {place}: {reason}")]
    Kafka { place: String, reason: String },
    #[error("another process has the role `{role}`, which one alone may have")]
    Taken { role: String },
    #[error("log settings: {0}")]
    Config(String),
}

impl LogError {
    /// Whether the same append may succeed later.
    pub fn retry_helps(&self) -> bool {
        matches!(self, LogError::Full(_) | LogError::Overloaded(_) | LogError::Io { .. } | LogError::Kafka { .. })
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            return LogError::Full(format!("{}: {source}", path.display()));
        }
        LogError::Io { path: path.to_owned(), source: Arc::new(source) }
    }

    /// A sync failed: what the file holds is unknown from here on.
    pub(crate) fn sync(path: &Path, source: &io::Error) -> Self {
        LogError::Fatal(format!("{}: cannot be made durable: {source}", path.display()))
    }

    pub(crate) fn corrupt(segment: &Path, at: u64, reason: impl Into<String>) -> Self {
        LogError::Corrupt { segment: segment.to_owned(), at, reason: reason.into() }
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WriteZero};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | WriteZero)
}

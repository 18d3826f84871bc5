//! Why a query has no answer, in words for the person who asked.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use lake::tables::LakeError;

use crate::session::VIEWS;

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is no SQL, or names what is not there.
    #[error("{0}")]
    Invalid(String),
    /// Understood, and not done here.
    #[error("{0}")]
    Refused(String),
    #[error("the query's text has {bytes} bytes; text_bytes_max is {bytes_max}")]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("the query has {count} operators and brackets; operators_max is {count_max}")]
    TooDeep { count: usize, count_max: usize },
    #[error("{0}")]
    Memory(String),
    #[error("the query took longer than timeout_secs ({0} s) and was stopped; narrow it by event_day or time")]
    Timeout(u64),
    #[error("{0} queries are running (concurrency_max); retry when one has ended")]
    Busy(usize),
    #[error("no {what} with id {id}")]
    NotFound { what: &'static str, id: String },
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A fault of ours, not of the query.
    #[error("{0}")]
    Internal(String),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        let text = plain(error.find_root());
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => {
                QueryError::Memory(format!("the query needs more memory than memory_bytes_max: {text}"))
            }
            DataFusionError::SQL(..) | DataFusionError::SchemaError(..) | DataFusionError::NotImplemented(_) => {
                QueryError::Invalid(text)
            }
            DataFusionError::Plan(_) if text.contains("not found") && text.contains("table") => {
                QueryError::Invalid(format!("{text}; there are {}", VIEWS.join(", ")))
            }
            DataFusionError::Plan(_) | DataFusionError::Execution(_) | DataFusionError::ArrowError(..) => {
                QueryError::Invalid(text)
            }
            DataFusionError::Diagnostic(..) | DataFusionError::Collection(_) => QueryError::Invalid(text),
            _ => QueryError::Internal(text),
        }
    }
}

/// The message without a backtrace and without the names of catalog and schema, which nobody wrote.
fn plain(error: &DataFusionError) -> String {
    let text = match error {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let mut names: Vec<&str> = valid_fields.iter().map(|f| f.name()).collect();
                names.sort_by_key(|name| distance(&field.name, name));
                let near = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
                format!("no column {}; the nearest are {near}", field.name)
            }
            other => other.to_string(),
        },
        other => other.strip_backtrace(),
    };
    text.replace("muster.public.", "")
}

/// How unlike two names are: edits from one to the other, less where one holds the other.
fn distance(a: &str, b: &str) -> usize {
    let edits = datafusion::common::utils::datafusion_strsim::levenshtein(a, b);
    if b.contains(a) || a.contains(b) { edits / 3 } else { edits }
}

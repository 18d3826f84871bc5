//! Why a query has no answer, in words for the person who asked.
//!
//! The engine wraps an error once for each layer it passes, each with a preface for developers. What is told is the
//! innermost cause alone, and what to do about it. A cause in the query's own expressions is the asker's
//! ([`QueryError::Invalid`]); what is left is ours ([`QueryError::Internal`]).

use std::error::Error;

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use lake::tables::{LakeError, is_missing_file};

use crate::session::VIEWS;

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is no SQL, names what is not there, or computes what cannot be computed.
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
    #[error("a fault of the server, not of the query: {0}")]
    Internal(String),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        if is_missing_file(&error) {
            return LakeError::Replaced.into();
        }
        let mut told = of_engine(&error);
        let mut cause: &dyn Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
            if let Some(error) = cause.downcast_ref::<DataFusionError>() {
                told = of_engine(error);
            } else if let Some(error) = cause.downcast_ref::<ArrowError>() {
                told = of_values(error);
            }
        }
        // A bad pattern in the query, whose type is no crate's that we use.
        let text = cause.to_string();
        let pattern = text.starts_with("regex parse error") || text.starts_with("Compiled regex exceeds");
        if pattern { QueryError::Invalid(text) } else { told }
    }
}

impl From<ArrowError> for QueryError {
    fn from(error: ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

/// What one layer says of itself; a layer within says it better.
fn of_engine(error: &DataFusionError) -> QueryError {
    let text = match error {
        DataFusionError::ResourcesExhausted(_) => {
            let advice = "select fewer columns, or narrow the query by event_day or time";
            return QueryError::Memory(format!("the query needs more memory than memory_bytes_max; {advice}"));
        }
        DataFusionError::SQL(error, _) => syntax(error),
        DataFusionError::SchemaError(error, _) => schema(error),
        DataFusionError::NotImplemented(text) if text.contains("OuterReferenceColumn") => {
            "this form of correlated subquery is not supported; write it as a join".to_owned()
        }
        DataFusionError::NotImplemented(text) => format!("this is not supported: {text}"),
        DataFusionError::Plan(text) if text.contains("not found") && text.contains("table") => {
            format!("{text}; there are {}", VIEWS.join(", "))
        }
        DataFusionError::Plan(text) | DataFusionError::Execution(text) | DataFusionError::Configuration(text) => {
            text.clone()
        }
        DataFusionError::Internal(text) => return QueryError::Internal(text.clone()),
        other => return QueryError::Internal(other.strip_backtrace()),
    };
    let text = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default();
    // A request to report a bug, in the midst of advice about the types of arguments.
    let text = text.rsplit("github.com/apache/datafusion/issues. ").next().unwrap_or_default();
    // The names of catalog and schema, which nobody wrote.
    QueryError::Invalid(text.replace("muster.public.", ""))
}

/// An error in computing with values. The query chose what to compute.
fn of_values(error: &ArrowError) -> QueryError {
    QueryError::Invalid(match error {
        ArrowError::CastError(text) | ArrowError::ParseError(text) => {
            format!("{text}; try_cast gives NULL where a value does not fit")
        }
        ArrowError::DivideByZero => "division by zero; nullif(divisor, 0) gives NULL instead".to_owned(),
        ArrowError::ArithmeticOverflow(text) => format!("{text}; cast to a wider type, such as DOUBLE"),
        ArrowError::OffsetOverflowError(_) => "a text or list grew beyond 2 GiB; aggregate fewer rows".to_owned(),
        ArrowError::NotYetImplemented(text) => format!("this is not supported: {text}"),
        ArrowError::InvalidArgumentError(text) | ArrowError::JsonError(text)
            if text.starts_with("Unsupported data type for JSON") =>
        {
            "a column's type cannot be written as JSON; take text with ->> instead of ->, or cast it".to_owned()
        }
        ArrowError::ComputeError(text)
        | ArrowError::InvalidArgumentError(text)
        | ArrowError::SchemaError(text)
        | ArrowError::JsonError(text)
        | ArrowError::CsvError(text) => text.clone(),
        other => return QueryError::Internal(other.to_string()),
    })
}

fn syntax(error: &ParserError) -> String {
    match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => format!("not valid SQL: {text}"),
        ParserError::RecursionLimitExceeded => "the query nests too deep".to_owned(),
    }
}

fn schema(error: &SchemaError) -> String {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut names: Vec<&str> = valid_fields.iter().map(|f| f.name()).collect();
            names.sort_by_key(|name| distance(&field.name, name));
            let near = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
            format!("no column {}; the nearest are {near}", field.name)
        }
        other => other.to_string(),
    }
}

/// How unlike two names are: edits from one to the other, less where one holds the other.
fn distance(a: &str, b: &str) -> usize {
    let edits = datafusion::common::utils::datafusion_strsim::levenshtein(a, b);
    if b.contains(a) || a.contains(b) { edits / 3 } else { edits }
}

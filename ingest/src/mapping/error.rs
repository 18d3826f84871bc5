//! What is wrong with a mapping file, and where.

use std::fmt;

/// One problem of a mapping file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingError {
    pub file: String,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    pub key: String,
    pub message: String,
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, key, message } = self;
        write!(f, "{file}")?;
        if *line > 0 {
            write!(f, ":{line}")?;
        }
        if !key.is_empty() {
            write!(f, ": {key}")?;
        }
        write!(f, ": {message}")
    }
}

impl std::error::Error for MappingError {}

/// The name nearest to a mistyped one, as an addition to a message.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let distance = |known: &str| strsim::damerau_levenshtein(name, known);
    let best = known.into_iter().map(|k| (distance(k), k)).min();
    match best {
        Some((distance, known)) if distance <= 1 + name.len() / 3 => format!("; did you mean `{known}`?"),
        _ => String::new(),
    }
}

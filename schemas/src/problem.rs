//! What is wrong with a file that people write, and where: file, line, key and the reason.

use std::fmt;

use serde::Serialize;

/// One problem of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: String,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    pub key: String,
    pub message: String,
}

impl Problem {
    /// A problem of the file as a whole.
    pub fn of_file(file: &str, message: impl Into<String>) -> Problem {
        Problem { file: file.to_owned(), line: 0, key: String::new(), message: message.into() }
    }

    /// A problem at the byte `at` of `text`.
    pub fn at(file: &str, text: &str, at: usize, key: &str, message: impl Into<String>) -> Problem {
        Problem { file: file.to_owned(), line: line_of(text, at), key: key.to_owned(), message: message.into() }
    }
}

impl fmt::Display for Problem {
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

impl std::error::Error for Problem {}

/// The line of a byte of `text`, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count()
}

/// The name nearest to a mistyped one, as an addition to a message.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let distance = |known: &str| strsim::damerau_levenshtein(name, known);
    let best = known.into_iter().map(|k| (distance(k), k)).min();
    match best {
        Some((distance, known)) if distance <= 1 + name.len() / 3 => format!("; did you mean `{known}`?"),
        _ => String::new(),
    }
}

//! What a command prints: tables for people, JSON lines or CSV for programs. The only place that writes to standard output.

use std::io::Write;

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::util::display::{DurationFormat, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;
use clap::ValueEnum;
use serde_json::Value;

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people
    #[default]
    Table,
    /// One JSON object a line
    Json,
    /// Comma-separated values with a header
    Csv,
}

/// The reader of our output went away, as `head` does: no failure of ours.
#[derive(Debug)]
struct ReaderGone;

impl std::fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody reads the output")
    }
}

impl std::error::Error for ReaderGone {}

/// Whether an error is that standard output was closed (and not some other connection that broke).
pub(crate) fn is_reader_gone(error: &anyhow::Error) -> bool {
    let inner = |cause: &std::io::Error| cause.get_ref().is_some_and(|inner| inner.is::<ReaderGone>());
    error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(inner))
}

/// Standard output, telling a closed pipe apart from other errors.
pub(crate) struct Output(std::io::StdoutLock<'static>);

impl Output {
    pub(crate) fn lock() -> Output {
        Output(std::io::stdout().lock())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes).map_err(marked)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush().map_err(marked)
    }
}

fn marked(error: std::io::Error) -> std::io::Error {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => std::io::Error::other(ReaderGone),
        _ => error,
    }
}

/// Writes text to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = Output::lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes a line to standard error; if even that fails there is nobody to tell.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints rows in the form asked for.
pub(crate) fn rows(batches: &[RecordBatch], format: Format) -> Result<()> {
    // An answer has a limit of rows; made whole, its only failure while printing is the printing.
    let text = match format {
        Format::Table => {
            let options = FormatOptions::new()
                .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.3fZ"))
                .with_duration_format(DurationFormat::Pretty);
            format!("{}\n", pretty_format_batches_with_options(batches, &options)?)
        }
        Format::Json => {
            let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
            writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
            writer.finish()?;
            String::from_utf8(writer.into_inner())?
        }
        Format::Csv => {
            let mut text = Vec::new();
            let mut writer = arrow::csv::Writer::new(&mut text);
            for batch in batches {
                writer.write(&query::answer::flat(batch)?)?;
            }
            drop(writer);
            String::from_utf8(text)?
        }
    };
    print(&text)
}

/// Prints JSON objects one a line.
pub(crate) fn json_lines(values: &[Value]) -> Result<()> {
    let mut text = String::new();
    for value in values {
        text.push_str(&value.to_string());
        text.push('\n');
    }
    print(&text)
}

/// A number with thin groups of three digits: `12 345`.
pub(crate) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap_or("")).collect();
    format!("{}{}", if number < 0 { "-" } else { "" }, groups.join(" "))
}

//! A query's answer and the forms it can be written in.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::{JsonArray, JsonFormat, LineDelimited};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_schema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::QueryError;

/// Columns and rows.
#[derive(Clone, Debug)]
pub struct Answer {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    /// Whether there were more rows than `rows_max`.
    pub truncated: bool,
}

/// A form that programs read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One object: `columns`, `rows` (objects), `truncated`.
    #[default]
    Json,
    /// One row a line, an object.
    Ndjson,
    /// A header and one row a line; lists are written as text.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

impl Answer {
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    pub fn write(&self, format: Format) -> Result<Vec<u8>, QueryError> {
        match format {
            Format::Json => self.json(),
            Format::Ndjson => Ok(self.objects::<LineDelimited>()?),
            Format::Csv => Ok(self.csv()?),
            Format::Arrow => Ok(self.arrow()?),
        }
    }

    /// A table for people.
    pub fn table(&self) -> Result<String, QueryError> {
        Ok(pretty_format_batches_with_schema(self.schema.clone(), &self.batches)?.to_string())
    }

    /// The rows as values of a type that names their columns.
    pub fn rows_as<T: DeserializeOwned>(&self) -> Result<Vec<T>, QueryError> {
        let lines = self.objects::<LineDelimited>()?;
        let rows = serde_json::Deserializer::from_slice(&lines).into_iter().collect::<Result<_, _>>();
        rows.map_err(|e| QueryError::Internal(e.to_string()))
    }

    fn json(&self) -> Result<Vec<u8>, QueryError> {
        let column = |f: &Arc<Field>| json!({"name": f.name(), "type": f.data_type().to_string()});
        let columns: Vec<Value> = self.schema.fields().iter().map(column).collect();
        let rows = self.objects::<JsonArray>()?;
        let mut text = format!(r#"{{"columns":{},"truncated":{},"rows":"#, json!(columns), self.truncated).into_bytes();
        text.extend_from_slice(if rows.is_empty() { b"[]" } else { &rows });
        text.push(b'}');
        Ok(text)
    }

    fn objects<F: JsonFormat>(&self) -> Result<Vec<u8>, ArrowError> {
        let mut text = Vec::new();
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, F>(&mut text);
        self.batches.iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()?;
        drop(writer);
        Ok(text)
    }

    fn csv(&self) -> Result<Vec<u8>, ArrowError> {
        let mut text = Vec::new();
        let mut writer = arrow::csv::Writer::new(&mut text);
        writer.write(&flat(&RecordBatch::new_empty(self.schema.clone()))?)?;
        self.batches.iter().try_for_each(|batch| writer.write(&flat(batch)?))?;
        drop(writer);
        Ok(text)
    }

    fn arrow(&self) -> Result<Vec<u8>, ArrowError> {
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &self.schema)?;
        self.batches.iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()?;
        writer.into_inner()
    }
}

/// The batch with nested columns written as text, for forms without nesting.
pub fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !field.data_type().is_nested() {
            fields.push(field.clone());
            columns.push(column.clone());
            continue;
        }
        let options = FormatOptions::default();
        let formatter = ArrayFormatter::try_new(column, &options)?;
        let text = (0..column.len()).map(|row| column.is_valid(row).then(|| formatter.value(row).to_string()));
        columns.push(Arc::new(text.collect::<StringArray>()));
        fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

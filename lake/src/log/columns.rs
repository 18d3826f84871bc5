//! Batches as Arrow IPC messages, and back into the columns that this version declares.
//!
//! A segment's header holds the schema message of each table as it was when the segment was begun, so a frame is the
//! record batch message alone. Reading is by column name: a column that came later is null, one that went is left out;
//! so a later version may add optional columns and must not change a column's type.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, StreamEncoder, write_message};
use schemas::Table;
use schemas::nulls::nulls;

/// Buffers aligned to 8 bytes, which is what their types need: at the usual 64, a frame of few rows is mostly padding.
fn options() -> IpcWriteOptions {
    IpcWriteOptions::try_new(8, false, MetadataVersion::V5).expect("8 is one of the alignments")
}

pub(super) fn schema_message(table: &Table) -> Vec<u8> {
    let options = options();
    let mut tracker = DictionaryTracker::new(false);
    let generator = IpcDataGenerator::default();
    let message = generator.schema_to_bytes_with_dictionary_tracker(&table.schema(), &mut tracker, &options);
    let mut bytes = Vec::new();
    write_message(&mut bytes, message, &options).expect("writing a schema to memory cannot fail");
    bytes
}

/// Encodes batches of one table. Kept from one batch to the next, because an encoder's first message is the schema's.
pub(super) struct Encoder(StreamEncoder);

impl Encoder {
    pub(super) fn new(table: &Table) -> Encoder {
        let schema = table.schema();
        let encoder = StreamEncoder::try_new_with_options(&schema, options());
        let mut encoder = encoder.expect("the declared columns have types that the format knows");
        encoder.encode(&RecordBatch::new_empty(schema)).expect("encoding to memory cannot fail");
        Encoder(encoder)
    }

    /// The record batch message of `batch`, in parts: most are the columns' own bytes, not copied.
    pub(super) fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<Buffer>, ArrowError> {
        self.0.encode(batch)
    }
}

/// How many rows the batch of a message has, from the message's head alone.
pub(super) fn rows(message: &[u8]) -> Result<u64, ArrowError> {
    let malformed = ArrowError::IpcError;
    // A marker and the length of the head lie before it.
    let length = message.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let head = length.and_then(|length| message.get(8..)?.get(..length as usize));
    let head = head.ok_or_else(|| malformed("the message has no head".to_owned()))?;
    let head = arrow::ipc::root_as_message(head).map_err(|error| malformed(error.to_string()))?;
    let batch = head.header_as_record_batch().ok_or_else(|| malformed("the message holds no batch".to_owned()))?;
    u64::try_from(batch.length()).map_err(|error| malformed(error.to_string()))
}

/// The batch of a message that was written with `schema`, in the columns of `table`.
pub(super) fn decode(schema: &[u8], mut payload: Buffer, table: &Table) -> Result<RecordBatch, ArrowError> {
    let mut decoder = StreamDecoder::new();
    if decoder.decode(&mut Buffer::from(schema))?.is_some() {
        return Err(ArrowError::IpcError("a schema message holds a batch".to_owned()));
    }
    let batch = decoder.decode(&mut payload)?;
    by_name(&batch.ok_or_else(|| ArrowError::IpcError("the message holds no batch".to_owned()))?, table)
}

fn by_name(batch: &RecordBatch, table: &Table) -> Result<RecordBatch, ArrowError> {
    let schema = table.schema();
    if batch.schema_ref() == &schema {
        return Ok(batch.clone());
    }
    let column = |column: &schemas::Column| match batch.column_by_name(column.name) {
        Some(array) => array.clone(),
        None => nulls(&column.kind.data_type(), batch.num_rows()),
    };
    RecordBatch::try_new(schema, table.columns.iter().map(column).collect())
}

/// `batch` as the rows of the frame at `offset`.
pub(super) fn place(batch: RecordBatch, table: &Table, offset: u64) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let (schema, mut columns, _) = batch.into_parts();
    let mut set = |name: &str, array: ArrayRef| {
        columns[table.index_of(name).expect("every table of the log has the log's columns")] = array;
    };
    set("log_offset", Arc::new(Int64Array::from_value(offset.cast_signed(), rows)));
    set("log_index", Arc::new(Int32Array::from_iter_values(0..i32::try_from(rows).unwrap_or(i32::MAX))));
    RecordBatch::try_new(schema, columns)
}

#[cfg(test)]
mod tests {
    use arrow::array::new_null_array;
    use arrow::datatypes::{DataType, Field, Schema};
    use schemas::event::{self, EventRow, Events};

    use super::*;

    #[test]
    fn a_batch_reads_back() {
        let batch = event::batch(&[EventRow { event_id: "a".into(), scopes: vec!["s".into()], ..EventRow::default() }]);
        let parts = Encoder::new(&event::TABLE).encode(&batch).expect("encodes");
        let bytes = parts.iter().map(Buffer::as_slice).collect::<Vec<_>>().concat();
        assert_eq!(rows(&bytes).expect("has a head"), 1);
        (0..bytes.len().min(200)).for_each(|cut| drop(rows(&bytes[..cut])));
        let read = decode(&schema_message(&event::TABLE), Buffer::from_vec(bytes), &event::TABLE).expect("decodes");
        assert_eq!(read, batch);
    }

    #[test]
    fn an_older_version_reads_by_name() {
        let batch = event::batch(&[EventRow { event_id: "a".into(), ..EventRow::default() }]);
        let optional = event::col::purpose;
        let keep: Vec<usize> = (0..batch.num_columns()).rev().filter(|&i| i != optional).collect();
        let old = batch.project(&keep).expect("projects");
        let mut fields: Vec<_> = old.schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("went_away", DataType::Int32, true)));
        let mut columns = old.columns().to_vec();
        columns.push(new_null_array(&DataType::Int32, 1));
        let old = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("makes a batch");
        let read = by_name(&old, &event::TABLE).expect("reads");
        assert_eq!(Events::new(&read).expect("has the columns").row(0).event_id, "a");
        assert_eq!(read, batch);
    }
}

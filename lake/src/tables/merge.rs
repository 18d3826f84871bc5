//! Several data files of one day as one: sorted as each of them is, with a change on the way.
//!
//! Not Delta's own optimize or delete: neither keeps the order nor the bloom filters that queries rest on. Rows are read a
//! small batch a file at a time, so that memory is the files' own bytes and little more. Pure: bytes in, bytes out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use schemas::Table;
use schemas::nulls::nulls;

use super::DAY;
use super::encode::{DataFile, SORT, properties, stats};

/// Rows of a file that are in memory at a time.
const BATCH_ROWS: usize = 512;

/// What is done with rows on the way: fewer rows, or other values in the columns that are no sort keys.
pub(super) type Change<'a> = &'a mut dyn FnMut(RecordBatch) -> Result<RecordBatch, ParquetError>;

/// The rows of `files`, all of one day of `table`, changed, as one file; none where no row is left.
pub(super) fn merge(
    table: &Table,
    day: i32,
    files: Vec<Bytes>,
    rows: usize,
    change: Change<'_>,
) -> Result<Option<DataFile>, ParquetError> {
    let schema = schema(table);
    let mut merging = Merging::open(&schema, files)?;
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties(table, rows)))?;
    let mut kept = 0;
    while let Some(batch) = merging.next()? {
        let batch = change(batch)?;
        kept += batch.num_rows();
        writer.write(&batch)?;
    }
    let metadata = writer.close()?;
    Ok((kept > 0).then(|| DataFile { day, stats: stats(table, &metadata), bytes }))
}

/// The rows of one file, in its order: what a look at them needs.
pub(super) fn rows(
    table: &Table,
    file: Bytes,
) -> Result<impl Iterator<Item = Result<RecordBatch, ParquetError>>, ParquetError> {
    let schema = schema(table);
    let reader = reader(file)?;
    Ok(reader.map(move |batch| by_name(&batch?, &schema)))
}

/// The columns that a data file has: the day is its folder's name.
fn schema(table: &Table) -> SchemaRef {
    let fields = table.schema().fields().iter().filter(|f| f.name() != DAY).cloned().collect::<Vec<_>>();
    Arc::new(Schema::new(fields))
}

fn reader(file: Bytes) -> Result<ParquetRecordBatchReader, ParquetError> {
    ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(BATCH_ROWS).build()
}

/// The batch of a file that an older version wrote, perhaps without a column.
fn by_name(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ParquetError> {
    let column = |field: &Arc<arrow::datatypes::Field>| -> Result<ArrayRef, ParquetError> {
        match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
            Some(column) => Ok(arrow::compute::cast(column, field.data_type())?),
            None => Ok(nulls(field.data_type(), batch.num_rows())),
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// A file being read: the batch at hand, its sort keys, and the row that comes next.
struct Cursor {
    reader: ParquetRecordBatchReader,
    batch: RecordBatch,
    keys: Rows,
    row: usize,
}

struct Merging {
    schema: SchemaRef,
    converter: RowConverter,
    cursors: Vec<Cursor>,
}

impl Merging {
    fn open(schema: &SchemaRef, files: Vec<Bytes>) -> Result<Merging, ParquetError> {
        let fields = keys(&RecordBatch::new_empty(schema.clone()));
        let fields = fields.iter().map(|key| SortField::new(key.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let mut merging = Merging { schema: schema.clone(), converter, cursors: Vec::with_capacity(files.len()) };
        for file in files {
            let batch = RecordBatch::new_empty(schema.clone());
            let keys = merging.converter.empty_rows(0, 0);
            let mut cursor = Cursor { reader: reader(file)?, batch, keys, row: 0 };
            if merging.advance(&mut cursor)? {
                merging.cursors.push(cursor);
            }
        }
        Ok(merging)
    }

    /// Takes the file's next batch; false after the last.
    fn advance(&self, cursor: &mut Cursor) -> Result<bool, ParquetError> {
        for batch in cursor.reader.by_ref() {
            let batch = by_name(&batch?, &self.schema)?;
            if batch.num_rows() > 0 {
                cursor.keys = self.converter.convert_columns(&keys(&batch))?;
                (cursor.batch, cursor.row) = (batch, 0);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next rows in order: up to where the first file's batch ends.
    fn next(&mut self) -> Result<Option<RecordBatch>, ParquetError> {
        let mut places = Vec::with_capacity(BATCH_ROWS);
        while let Some(least) = self.least() {
            let cursor = &mut self.cursors[least];
            places.push((least, cursor.row));
            cursor.row += 1;
            if cursor.row == cursor.batch.num_rows() {
                break;
            }
        }
        if places.is_empty() {
            return Ok(None);
        }
        let batches: Vec<&RecordBatch> = self.cursors.iter().map(|cursor| &cursor.batch).collect();
        let batch = interleave_record_batch(&batches, &places)?;
        let mut going = Vec::with_capacity(self.cursors.len());
        for mut cursor in std::mem::take(&mut self.cursors) {
            if cursor.row < cursor.batch.num_rows() || self.advance(&mut cursor)? {
                going.push(cursor);
            }
        }
        self.cursors = going;
        Ok(Some(batch))
    }

    /// The file whose next row comes first; of equal ones the first file.
    fn least(&self) -> Option<usize> {
        let key = |cursor: &usize| self.cursors[*cursor].keys.row(self.cursors[*cursor].row);
        (0..self.cursors.len()).min_by(|a, b| key(a).cmp(&key(b)))
    }
}

fn keys(batch: &RecordBatch) -> Vec<ArrayRef> {
    SORT.iter().filter_map(|name| batch.column_by_name(name).cloned()).collect()
}

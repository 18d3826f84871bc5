//! Column kinds, the row builder, and the macro that declares a table.
//!
//! A declaration is a list of `name: required|optional Kind { doc, unit, ocsf, ecs, otel }`. From it `table!` makes
//! the static [`Table`], one index constant a column (`col::agent_id`), a reader that borrows the typed arrays of a
//! batch, and an owned row. The mapping engine fills columns by index through [`RowBuilder`]; code that knows its
//! columns uses the row. There is no third way into a batch.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Float64Builder, Int32Builder, Int64Builder,
    ListArray, ListBuilder, RecordBatch, StringArray, StringBuilder, StructArray, StructBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::nulls::nulls;

/// What a column holds. Lists name their items `element`, as Delta readers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Str,
    /// Microseconds since the Unix epoch, UTC.
    Time,
    /// Days since the Unix epoch, UTC.
    Date,
    Bool,
    I32,
    I64,
    F64,
    /// A list of texts.
    Strs,
    /// A list of delegation hops, root principal first.
    Hops,
    /// Bytes that need not be text.
    Bytes,
}

/// One column of a table: the only place where it is described.
#[derive(Debug)]
pub struct Column {
    pub name: &'static str,
    pub group: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub doc: &'static str,
    /// Unit or set of values; empty where the meaning says it all.
    pub unit: &'static str,
    /// OCSF attribute path with the version that has it.
    pub ocsf: &'static str,
    pub ecs: &'static str,
    pub otel: &'static str,
}

/// A declared table.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    pub doc: &'static str,
    pub columns: &'static [Column],
}

/// One principal of a delegation chain (RFC 8693 section 4.1, flattened; root first).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// `user`, `agent` or `service`.
    pub kind: String,
    pub id: String,
    pub issuer: Option<String>,
}

/// A batch does not have the columns of the table it is said to be of.
#[derive(Debug)]
pub struct SchemaError {
    pub table: &'static str,
    pub column: &'static str,
    pub found: Option<DataType>,
}

impl std::fmt::Display for SchemaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { table, column, found } = self;
        match found {
            Some(found) => write!(f, "column {column} of table {table} has the unexpected type {found}"),
            None => write!(f, "column {column} of table {table} is missing"),
        }
    }
}

impl std::error::Error for SchemaError {}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Str,
        Kind::Time,
        Kind::Date,
        Kind::Bool,
        Kind::I32,
        Kind::I64,
        Kind::F64,
        Kind::Strs,
        Kind::Hops,
        Kind::Bytes,
    ];

    pub fn data_type(self) -> DataType {
        match self {
            Kind::Str => DataType::Utf8,
            Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Date => DataType::Date32,
            Kind::Bool => DataType::Boolean,
            Kind::I32 => DataType::Int32,
            Kind::I64 => DataType::Int64,
            Kind::F64 => DataType::Float64,
            Kind::Strs => DataType::List(strs_item()),
            Kind::Hops => DataType::List(hops_item()),
            Kind::Bytes => DataType::Binary,
        }
    }

    /// The name of the kind in documentation.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Str => "text",
            Kind::Time => "timestamp (µs, UTC)",
            Kind::Date => "date",
            Kind::Bool => "boolean",
            Kind::I32 => "int32",
            Kind::I64 => "int64",
            Kind::F64 => "float64",
            Kind::Strs => "list of text",
            Kind::Hops => "list of {kind, id, issuer}",
            Kind::Bytes => "bytes",
        }
    }
}

fn strs_item() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Utf8, true))
}

fn hop_fields() -> Fields {
    Fields::from(vec![
        Field::new("kind", DataType::Utf8, true),
        Field::new("id", DataType::Utf8, true),
        Field::new("issuer", DataType::Utf8, true),
    ])
}

fn hops_item() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Struct(hop_fields()), true))
}

impl Table {
    pub fn schema(&self) -> SchemaRef {
        let field = |c: &Column| Field::new(c.name, c.kind.data_type(), !c.required);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// The array of column `index` as the concrete type `A`.
    pub fn array<'a, A: 'static>(&self, batch: &'a RecordBatch, index: usize) -> Result<&'a A, SchemaError> {
        let column = &self.columns[index];
        let missing = |found| SchemaError { table: self.name, column: column.name, found };
        // Batches that this process made have the declared order; older or projected ones are found by name.
        let array = match batch.schema_ref().fields().get(index) {
            Some(field) if field.name() == column.name => batch.column(index),
            _ => batch.column_by_name(column.name).ok_or_else(|| missing(None))?,
        };
        array.as_any().downcast_ref::<A>().ok_or_else(|| missing(Some(array.data_type().clone())))
    }
}

enum Slot {
    Str(StringBuilder),
    Time(TimestampMicrosecondBuilder),
    Date(Date32Builder),
    Bool(BooleanBuilder),
    I32(Int32Builder),
    I64(Int64Builder),
    F64(Float64Builder),
    Strs(ListBuilder<StringBuilder>),
    Hops(ListBuilder<StructBuilder>),
    Bytes(BinaryBuilder),
}

impl Slot {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Str => Slot::Str(StringBuilder::new()),
            Kind::Time => Slot::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            Kind::Date => Slot::Date(Date32Builder::new()),
            Kind::Bool => Slot::Bool(BooleanBuilder::new()),
            Kind::I32 => Slot::I32(Int32Builder::new()),
            Kind::I64 => Slot::I64(Int64Builder::new()),
            Kind::F64 => Slot::F64(Float64Builder::new()),
            Kind::Strs => Slot::Strs(ListBuilder::new(StringBuilder::new()).with_field(strs_item())),
            Kind::Hops => {
                let hops = StructBuilder::from_fields(hop_fields(), 0);
                Slot::Hops(ListBuilder::new(hops).with_field(hops_item()))
            }
            Kind::Bytes => Slot::Bytes(BinaryBuilder::new()),
        }
    }

    fn append_nulls(&mut self, n: usize) {
        match self {
            Slot::Str(b) => b.append_nulls(n),
            Slot::Time(b) => b.append_nulls(n),
            Slot::Date(b) => b.append_nulls(n),
            Slot::Bool(b) => b.append_nulls(n),
            Slot::I32(b) => b.append_nulls(n),
            Slot::I64(b) => b.append_nulls(n),
            Slot::F64(b) => b.append_nulls(n),
            Slot::Strs(b) => b.append_nulls(n),
            Slot::Hops(b) => b.append_nulls(n),
            Slot::Bytes(b) => b.append_nulls(n),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Slot::Str(b) => ArrayBuilder::finish(b),
            Slot::Time(b) => ArrayBuilder::finish(b),
            Slot::Date(b) => ArrayBuilder::finish(b),
            Slot::Bool(b) => ArrayBuilder::finish(b),
            Slot::I32(b) => ArrayBuilder::finish(b),
            Slot::I64(b) => ArrayBuilder::finish(b),
            Slot::F64(b) => ArrayBuilder::finish(b),
            Slot::Strs(b) => ArrayBuilder::finish(b),
            Slot::Hops(b) => ArrayBuilder::finish(b),
            Slot::Bytes(b) => ArrayBuilder::finish(b),
        }
    }
}

/// Fills a table's columns a row at a time, by column index. A column is set at most once a row; what is not set when
/// the row ends is null. Setting a column of another kind, or ending a row without a required column, is a bug and panics,
/// the latter when the batch is finished.
pub struct RowBuilder {
    table: &'static Table,
    schema: SchemaRef,
    slots: Vec<Slot>,
    /// Rows that each column has. Most columns of a row are null: a column catches up when it gets a value, so that
    /// ending a row costs the same whatever the number of columns.
    filled: Vec<usize>,
    rows: usize,
    /// Bytes of each column's texts in the batch before, and its rows.
    text_bytes: Vec<usize>,
    rows_before: usize,
}

macro_rules! setter {
    ($name:ident, $slot:ident, $type:ty) => {
        #[inline]
        pub fn $name(&mut self, column: usize, value: $type) {
            self.mark(column);
            match &mut self.slots[column] {
                Slot::$slot(builder) => builder.append_value(value),
                _ => panic!("column {} is not {}", self.table.columns[column].name, stringify!($slot)),
            }
        }
    };
    ($name:ident, all $slot:ident, $type:ty) => {
        /// Gives this value to all rows since the column's last one.
        pub fn $name(&mut self, column: usize, value: $type) {
            let rows = self.rows - std::mem::replace(&mut self.filled[column], self.rows);
            match &mut self.slots[column] {
                Slot::$slot(builder) => builder.append_value_n(value, rows),
                _ => panic!("column {} is not {}", self.table.columns[column].name, stringify!($slot)),
            }
        }
    };
}

impl RowBuilder {
    pub fn new(table: &'static Table) -> Self {
        let slots = table.columns.iter().map(|c| Slot::new(c.kind)).collect();
        let none = vec![0; table.columns.len()];
        let (filled, text_bytes) = (none.clone(), none);
        RowBuilder { table, schema: table.schema(), slots, filled, rows: 0, text_bytes, rows_before: 0 }
    }

    /// Rows ended since the last [`finish`](Self::finish).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Makes room for texts as long as those of the batch before, while there are no rows yet; of one column it is known
    /// how many bytes there will be, and no other is given more: a batch before may have had few rows, and long ones.
    pub fn reserve(&mut self, rows: usize, (column, bytes): (usize, usize)) {
        if self.rows > 0 {
            return;
        }
        for (i, slot) in self.slots.iter_mut().enumerate() {
            let before = self.text_bytes[i] * rows / self.rows_before.max(1);
            let room = if i == column { bytes } else { (before + before / 8).min(bytes) };
            if let (1.., Slot::Str(builder)) = (room, slot) {
                *builder = StringBuilder::with_capacity(rows, room);
            }
        }
    }

    /// Whether the row under construction has a value in `column`.
    #[inline]
    pub fn is_set(&self, column: usize) -> bool {
        self.filled[column] > self.rows
    }

    #[inline]
    fn mark(&mut self, column: usize) {
        let filled = std::mem::replace(&mut self.filled[column], self.rows + 1);
        if filled != self.rows {
            self.catch_up(column, filled);
        }
    }

    /// Makes null the rows that ended without a value.
    #[inline(never)]
    fn catch_up(&mut self, column: usize, filled: usize) {
        let Column { name, required, .. } = self.table.columns[column];
        assert!(filled <= self.rows, "column {name} is set twice in one row");
        assert!(!required, "required column {name} of {} is not set", self.table.name);
        self.slots[column].append_nulls(self.rows - filled);
    }

    setter!(str, Str, &str);
    setter!(time, Time, i64);
    setter!(date, Date, i32);
    setter!(bool, Bool, bool);
    setter!(i32, I32, i32);
    setter!(i64, I64, i64);
    setter!(f64, F64, f64);
    setter!(bytes, Bytes, &[u8]);
    setter!(all_str, all Str, &str);
    setter!(all_time, all Time, i64);
    setter!(all_i32, all I32, i32);
    setter!(all_i64, all I64, i64);

    pub fn strs<S: AsRef<str>>(&mut self, column: usize, values: impl IntoIterator<Item = S>) {
        self.mark(column);
        let Slot::Strs(builder) = &mut self.slots[column] else {
            panic!("column {} is not Strs", self.table.columns[column].name)
        };
        for value in values {
            builder.values().append_value(value.as_ref());
        }
        builder.append(true);
    }

    pub fn hops(&mut self, column: usize, hops: &[Hop]) {
        self.mark(column);
        let Slot::Hops(builder) = &mut self.slots[column] else {
            panic!("column {} is not Hops", self.table.columns[column].name)
        };
        for hop in hops {
            let parts = [Some(hop.kind.as_str()), Some(hop.id.as_str()), hop.issuer.as_deref()];
            for (i, part) in parts.into_iter().enumerate() {
                let field = builder.values().field_builder::<StringBuilder>(i);
                field.expect("a hop has three text fields").append_option(part);
            }
            builder.values().append(true);
        }
        builder.append(true);
    }

    /// Ends the row: what was not set becomes null.
    #[inline]
    pub fn end_row(&mut self) {
        self.rows += 1;
    }

    /// The rows so far as a batch; the builder is empty afterwards and keeps its columns.
    pub fn finish(&mut self) -> RecordBatch {
        let arrays = (0..self.slots.len()).map(|column| self.finish_column(column)).collect();
        self.rows_before = std::mem::take(&mut self.rows);
        RecordBatch::try_new(self.schema.clone(), arrays).expect("builders make the declared columns")
    }

    fn finish_column(&mut self, column: usize) -> ArrayRef {
        let Table { name, columns, .. } = self.table;
        assert!(!self.is_set(column), "a row of {name} is not ended");
        let reserved = self.text_bytes[column] > 0;
        if let Slot::Str(builder) = &self.slots[column] {
            self.text_bytes[column] = builder.values_slice().len();
        }
        let filled = std::mem::take(&mut self.filled[column]);
        if filled == 0 && !columns[column].required {
            if reserved {
                // The room was made in vain, and goes.
                self.slots[column].finish();
            }
            return nulls(self.schema.field(column).data_type(), self.rows);
        }
        if filled < self.rows {
            self.catch_up(column, filled);
        }
        self.slots[column].finish()
    }
}

/// The texts of row `row` of a `Strs` column.
pub fn strs_at(array: &ListArray, row: usize) -> Vec<String> {
    strs_in(array, row).map(str::to_owned).collect()
}

/// The same without copying them.
pub fn strs_in(array: &ListArray, row: usize) -> impl Iterator<Item = &str> + Clone {
    use arrow::array::Array;
    let texts = array.values().as_any().downcast_ref::<StringArray>().expect("a Strs column holds texts");
    items(array, row).filter(|item| texts.is_valid(*item)).map(|item| texts.value(item))
}

/// Whether one of them is `text`.
pub fn has(array: &ListArray, row: usize, text: &str) -> bool {
    strs_in(array, row).any(|one| one == text)
}

/// The hops of row `row` of a `Hops` column.
pub fn hops_at(array: &ListArray, row: usize) -> Vec<Hop> {
    let own = |(kind, id, issuer): (&str, &str, Option<&str>)| Hop {
        kind: kind.to_owned(),
        id: id.to_owned(),
        issuer: issuer.map(str::to_owned),
    };
    hops_in(array, row).map(own).collect()
}

/// Kind, id and issuer of each, without copying them.
pub fn hops_in(
    array: &ListArray,
    row: usize,
) -> impl DoubleEndedIterator<Item = (&str, &str, Option<&str>)> + ExactSizeIterator + Clone {
    use arrow::array::Array;
    let hops = array.values().as_any().downcast_ref::<StructArray>().expect("a Hops column holds structs");
    let text =
        |field: usize| hops.column(field).as_any().downcast_ref::<StringArray>().expect("a hop has three text fields");
    let (kinds, ids, issuers) = (text(0), text(1), text(2));
    items(array, row).map(move |item| {
        let issuer = issuers.is_valid(item).then(|| issuers.value(item));
        (kinds.value(item), ids.value(item), issuer)
    })
}

/// Where the items of row `row` lie.
fn items(array: &ListArray, row: usize) -> std::ops::Range<usize> {
    use arrow::array::Array;
    let offsets = array.value_offsets();
    if array.is_null(row) { 0..0 } else { offsets[row] as usize..offsets[row + 1] as usize }
}

/// Declares a table: `mod` items `TABLE`, `col`, a reader and a row. See [`crate::event`] for the largest use.
macro_rules! table {
    (
        $name:literal, $doc:literal, reader $reader:ident, row $row:ident;
        $( $group:literal {
            $( $column:ident : $need:ident $kind:ident = $text:literal
               $(, unit $unit:literal)? $(, ocsf $ocsf:literal)? $(, ecs $ecs:literal)? $(, otel $otel:literal)? ; )*
        } )*
    ) => {
        #[doc = $doc]
        pub static TABLE: $crate::table::Table = $crate::table::Table {
            name: $name,
            doc: $doc,
            columns: &[ $( $( $crate::table::Column {
                name: stringify!($column),
                group: $group,
                kind: $crate::table::Kind::$kind,
                required: $crate::table::table!(@required $need),
                doc: $text,
                unit: concat!($($unit)?),
                ocsf: concat!($($ocsf)?),
                ecs: concat!($($ecs)?),
                otel: concat!($($otel)?),
            }, )* )* ],
        };

        /// The index of each column.
        #[allow(non_upper_case_globals, non_camel_case_types)]
        pub mod col {
            enum Index { $( $( $column, )* )* }
            $( $( #[doc = $text] pub const $column: usize = Index::$column as usize; )* )*
        }

        /// The typed arrays of a batch of this table.
        #[derive(Clone, Copy)]
        pub struct $reader<'a> { $( $( #[doc = $text] pub $column: &'a $crate::table::table!(@array $kind), )* )* }

        impl<'a> $reader<'a> {
            pub fn new(batch: &'a arrow::array::RecordBatch) -> Result<Self, $crate::table::SchemaError> {
                Ok($reader { $( $( $column: TABLE.array(batch, col::$column)?, )* )* })
            }

            /// Row `row`, owned.
            pub fn row(&self, row: usize) -> $row {
                #[allow(unused_imports)]
                use arrow::array::Array as _;
                $row { $( $( $column: $crate::table::table!(@get $need $kind self.$column, row), )* )* }
            }
        }

        /// One row, owned. Times are microseconds since the Unix epoch.
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $row { $( $( #[doc = $text] pub $column: $crate::table::table!(@own $need $kind), )* )* }

        impl $row {
            /// Appends this row to a builder of this table.
            pub fn append_to(&self, rows: &mut $crate::table::RowBuilder) {
                $( $( $crate::table::table!(@set $need $kind rows, col::$column, &self.$column); )* )*
                rows.end_row();
            }
        }

        /// The rows as one batch of this table.
        pub fn batch<'a>(rows: impl IntoIterator<Item = &'a $row>) -> arrow::array::RecordBatch {
            let mut builder = $crate::table::RowBuilder::new(&TABLE);
            for row in rows {
                row.append_to(&mut builder);
            }
            builder.finish()
        }
    };

    (@required required) => { true };
    (@required optional) => { false };

    (@array Str) => { arrow::array::StringArray };
    (@array Time) => { arrow::array::TimestampMicrosecondArray };
    (@array Date) => { arrow::array::Date32Array };
    (@array Bool) => { arrow::array::BooleanArray };
    (@array I32) => { arrow::array::Int32Array };
    (@array I64) => { arrow::array::Int64Array };
    (@array F64) => { arrow::array::Float64Array };
    (@array Strs) => { arrow::array::ListArray };
    (@array Hops) => { arrow::array::ListArray };
    (@array Bytes) => { arrow::array::BinaryArray };

    (@own $need:ident Strs) => { Vec<String> };
    (@own $need:ident Hops) => { Vec<$crate::table::Hop> };
    (@own required $kind:ident) => { $crate::table::table!(@value $kind) };
    (@own optional $kind:ident) => { Option<$crate::table::table!(@value $kind)> };
    (@value Str) => { String };
    (@value Time) => { i64 };
    (@value Date) => { i32 };
    (@value Bool) => { bool };
    (@value I32) => { i32 };
    (@value I64) => { i64 };
    (@value F64) => { f64 };
    (@value Bytes) => { Vec<u8> };

    (@get $need:ident Strs $array:expr, $row:expr) => { $crate::table::strs_at($array, $row) };
    (@get $need:ident Hops $array:expr, $row:expr) => { $crate::table::hops_at($array, $row) };
    (@get required $kind:ident $array:expr, $row:expr) => { $array.value($row).into() };
    (@get optional $kind:ident $array:expr, $row:expr) => {
        $array.is_valid($row).then(|| $array.value($row).into())
    };

    (@set $need:ident Strs $rows:expr, $column:expr, $value:expr) => {
        if !$value.is_empty() { $rows.strs($column, $value) }
    };
    (@set $need:ident Hops $rows:expr, $column:expr, $value:expr) => {
        if !$value.is_empty() { $rows.hops($column, $value) }
    };
    (@set required $kind:ident $rows:expr, $column:expr, $value:expr) => {
        $crate::table::table!(@one $kind $rows, $column, $value)
    };
    (@set optional $kind:ident $rows:expr, $column:expr, $value:expr) => {
        if let Some(value) = $value { $crate::table::table!(@one $kind $rows, $column, value) }
    };
    (@one Str $rows:expr, $column:expr, $value:expr) => { $rows.str($column, $value) };
    (@one Time $rows:expr, $column:expr, $value:expr) => { $rows.time($column, *$value) };
    (@one Date $rows:expr, $column:expr, $value:expr) => { $rows.date($column, *$value) };
    (@one Bool $rows:expr, $column:expr, $value:expr) => { $rows.bool($column, *$value) };
    (@one I32 $rows:expr, $column:expr, $value:expr) => { $rows.i32($column, *$value) };
    (@one I64 $rows:expr, $column:expr, $value:expr) => { $rows.i64($column, *$value) };
    (@one F64 $rows:expr, $column:expr, $value:expr) => { $rows.f64($column, *$value) };
    (@one Bytes $rows:expr, $column:expr, $value:expr) => { $rows.bytes($column, $value) };
}
pub(crate) use table;

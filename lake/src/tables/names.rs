//! Which rows name somebody, and the same rows without the name.
//!
//! A row names an id where any text of it, the raw record included, holds the id as a word of its own, whatever the case:
//! `ann@acme.example` is not named by `joann@acme.example` nor by `ann@acme.example.org`. What the raw record says in
//! another writing (percent-encoded, escaped) names it only where a column says it too. Pure.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, GenericBinaryBuilder, ListArray, ListBuilder, RecordBatch, StringArray,
    StringBuilder, StructArray,
};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// What stands where a name stood.
pub const ERASED: &str = "erased";
const ERASED_RAW: &str = r#"{"erased":true}"#;
/// Of a row that named the user: what else says something of a person.
const PERSONAL: &[&str] = &["user_name", "src_ip", "user_agent", "prompt_hash"];

/// Of each row, whether it names one of `ids`.
pub(super) fn naming(batch: &RecordBatch, ids: &[String]) -> Vec<bool> {
    let mut rows = vec![false; batch.num_rows()];
    for column in batch.columns() {
        or(&mut rows, &flags(column, ids));
    }
    rows
}

fn or(rows: &mut [bool], more: &[bool]) {
    rows.iter_mut().zip(more).for_each(|(row, more)| *row |= more);
}

fn flags(array: &ArrayRef, ids: &[String]) -> Vec<bool> {
    match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            texts.iter().map(|text| text.is_some_and(|text| holds_any(text.as_bytes(), ids))).collect()
        }
        DataType::Binary => {
            let all = array.as_binary::<i32>();
            all.iter().map(|bytes| bytes.is_some_and(|bytes| holds_any(bytes, ids))).collect()
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let inner = flags(list.values(), ids);
            let range = |row: usize| list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize;
            (0..list.len()).map(|row| list.is_valid(row) && inner[range(row)].contains(&true)).collect()
        }
        DataType::Struct(_) => {
            let mut rows = vec![false; array.len()];
            array.as_struct().columns().iter().for_each(|column| or(&mut rows, &flags(column, ids)));
            rows
        }
        _ => vec![false; array.len()],
    }
}

fn holds_any(text: &[u8], ids: &[String]) -> bool {
    ids.iter().any(|id| find(text, id.as_bytes(), 0).is_some())
}

/// Where `id` stands as a word of its own in `text`, from byte `from` on.
fn find(text: &[u8], id: &[u8], from: usize) -> Option<usize> {
    let (low, high) = (id.first()?.to_ascii_lowercase(), id.first()?.to_ascii_uppercase());
    let mut at = from;
    while let Some(next) = text.get(at..).and_then(|rest| memchr::memchr2(low, high, rest)) {
        let start = at + next;
        let end = start + id.len();
        let same = text.get(start..end).is_some_and(|found| found.eq_ignore_ascii_case(id));
        if same && !goes_before(text[..start].last()) && !goes_on(text.get(end), text.get(end + 1)) {
            return Some(start);
        }
        at = start + 1;
    }
    None
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'@' | b'+') || byte >= 0x80
}

/// Whether the byte before an id makes it the end of a longer word.
fn goes_before(byte: Option<&u8>) -> bool {
    byte.is_some_and(|byte| is_word(*byte) || *byte == b'.')
}

/// Whether the byte behind an id makes it the beginning of a longer word: a full stop does where a word goes on behind it.
fn goes_on(byte: Option<&u8>, beyond: Option<&u8>) -> bool {
    match byte {
        Some(b'.') => beyond.is_some_and(u8::is_ascii_alphanumeric),
        byte => byte.is_some_and(|byte| is_word(*byte)),
    }
}

/// The batch with nothing left of `ids` in the rows of `named`: each name replaced, what else is personal taken out, the
/// raw record gone, and `events` flagged.
pub(super) fn erase(batch: &RecordBatch, ids: &[String], named: &[bool]) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let name = field.name().as_str();
        let column = match name {
            "raw" => without_raw(column, named),
            "flags" if schema.column_with_name("event_index").is_some() => flagged(column, named)?,
            _ if field.is_nullable() && PERSONAL.contains(&name) => {
                let gone = named.iter().map(|named| Some(*named)).collect::<arrow::array::BooleanArray>();
                arrow::compute::nullif(column, &gone)?
            }
            _ => replaced(column, ids, named)?,
        };
        columns.push(column);
    }
    RecordBatch::try_new(schema, columns)
}

fn without_raw(column: &ArrayRef, named: &[bool]) -> ArrayRef {
    if let Some(bytes) = column.as_binary_opt::<i32>() {
        let rows = named
            .iter()
            .enumerate()
            .map(|(row, named)| if *named { Some(&b""[..]) } else { bytes.is_valid(row).then(|| bytes.value(row)) });
        return Arc::new(rows.collect::<BinaryArray>());
    }
    let texts = column.as_string::<i32>();
    let rows = named
        .iter()
        .enumerate()
        .map(|(row, named)| if *named { Some(ERASED_RAW) } else { texts.is_valid(row).then(|| texts.value(row)) });
    Arc::new(rows.collect::<StringArray>())
}

fn flagged(column: &ArrayRef, named: &[bool]) -> Result<ArrayRef, ArrowError> {
    let list = column.as_list::<i32>();
    let DataType::List(element) = column.data_type() else {
        return Err(ArrowError::SchemaError("flags is not a list".to_owned()));
    };
    let mut flags = ListBuilder::new(StringBuilder::new()).with_field(element.clone());
    for (row, named) in named.iter().enumerate() {
        let mut texts = schemas::table::strs_at(list, row);
        if *named && !texts.iter().any(|text| text == ERASED) {
            texts.push(ERASED.to_owned());
        }
        texts.iter().for_each(|text| flags.values().append_value(text));
        flags.append(!texts.is_empty());
    }
    Ok(Arc::new(flags.finish()))
}

fn replaced(array: &ArrayRef, ids: &[String], named: &[bool]) -> Result<ArrayRef, ArrowError> {
    let hit = flags(array, ids);
    if !hit.contains(&true) {
        return Ok(array.clone());
    }
    match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            let mut out = StringBuilder::new();
            for (row, text) in texts.iter().enumerate() {
                match text {
                    Some(text) if named[row] && hit[row] => out.append_value(without(text, ids)),
                    text => out.append_option(text),
                }
            }
            Ok(Arc::new(out.finish()))
        }
        DataType::Binary => {
            let mut out = GenericBinaryBuilder::<i32>::new();
            for (row, bytes) in array.as_binary::<i32>().iter().enumerate() {
                out.append_option(bytes.filter(|_| !(named[row] && hit[row])));
            }
            Ok(Arc::new(out.finish()))
        }
        DataType::List(element) => {
            let list = array.as_list::<i32>();
            let mut inner = vec![false; list.values().len()];
            for (row, ends) in list.value_offsets().windows(2).enumerate() {
                inner[ends[0] as usize..ends[1] as usize].fill(named[row]);
            }
            let values = replaced(list.values(), ids, &inner)?;
            Ok(Arc::new(ListArray::try_new(element.clone(), list.offsets().clone(), values, list.nulls().cloned())?))
        }
        DataType::Struct(fields) => {
            let all = array.as_struct();
            let columns = all.columns().iter().map(|column| replaced(column, ids, named));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, all.nulls().cloned())?))
        }
        _ => Ok(array.clone()),
    }
}

/// The text with each of `ids` replaced.
fn without(text: &str, ids: &[String]) -> String {
    let mut text = text.to_owned();
    for id in ids {
        let mut at = 0;
        // An id is a whole word between bytes that are no part of a longer character.
        while let Some(start) = find(text.as_bytes(), id.as_bytes(), at) {
            text.replace_range(start..start + id.len(), ERASED);
            at = start + ERASED.len();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use schemas::Hop;
    use schemas::event::{self, EventRow, Events};

    use super::*;

    fn ids() -> Vec<String> {
        vec!["ann@acme.example".to_owned(), "00u7".to_owned()]
    }

    #[test]
    fn a_name_is_a_word_of_its_own_whatever_the_case() {
        for text in
            ["ann@acme.example", "\"sub\":\"Ann@Acme.Example\"", "for ann@acme.example.", "(00u7)", "users/00u7/x"]
        {
            assert!(holds_any(text.as_bytes(), &ids()), "{text}");
        }
        for text in ["", "joann@acme.example", "ann@acme.example.org", "100u7", "00u77", "x.ann@acme.example", "00u7-b"]
        {
            assert!(!holds_any(text.as_bytes(), &ids()), "{text}");
        }
        assert_eq!(without("00u7, 00u7 and 00u77", &ids()), "erased, erased and 00u77");
    }

    #[test]
    fn nothing_of_a_name_is_left_and_other_rows_stay() {
        let ann = || Some("ann@acme.example".to_owned());
        let hop = Hop { kind: "user".into(), id: "ann@acme.example".into(), issuer: Some("https://id".into()) };
        let rows = [
            EventRow { user_id: ann(), user_name: Some("Ann".into()), raw: "{\"n\":\"Ann Lee\"}".into(), ..row() },
            EventRow { resource_id: Some("users/ANN@acme.example".into()), src_ip: Some("10.0.0.1".into()), ..row() },
            EventRow { delegation: vec![hop], flags: vec!["backfill".into()], ..row() },
            EventRow { user_id: Some("joann@acme.example".into()), raw: "{\"a\":1}".into(), ..row() },
        ];
        let batch = event::batch(&rows);
        let named = naming(&batch, &ids());
        assert_eq!(named, [true, true, true, false]);
        let erased = erase(&batch, &ids(), &named).expect("the columns stay as they are");
        assert_eq!(naming(&erased, &ids()), [false; 4]);
        let events = Events::new(&erased).expect("has the columns");
        assert_eq!(events.row(3), rows[3]);
        let first = events.row(0);
        assert_eq!((first.user_id.as_deref(), first.user_name, &*first.raw), (Some(ERASED), None, ERASED_RAW));
        assert_eq!(events.row(1).resource_id.as_deref(), Some("users/erased"));
        assert_eq!(
            (events.row(2).delegation[0].id.as_str(), events.row(2).flags),
            (ERASED, vec!["backfill".to_owned(), ERASED.to_owned()])
        );
    }

    fn row() -> EventRow {
        EventRow { tenant: "acme".into(), raw: "{}".into(), ..EventRow::default() }
    }
}

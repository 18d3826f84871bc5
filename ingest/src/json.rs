//! Prints what a mapping makes of records: one JSON object a line, an event's columns that hold something plus
//! `record`, the 0-based number of its record; a quarantined or noise record as `{"record": n, "quarantined": …}`.

use std::io::{self, Write};

use arrow::array::{Array, RecordBatch};
use schemas::event::{Events, TABLE};
use schemas::{EventRow, Kind};
use serde_json::{Map, Value, json};

use crate::context::{Normalized, Outcome};

/// Writes the lines of a piece whose first record has the number `first`.
pub fn normalize_json(normalized: &Normalized, first: u32, out: &mut impl Write) -> io::Result<()> {
    let rows = normalized.events.as_ref().map_or_else(Vec::new, event_objects);
    let mut rows = rows.into_iter().zip(&normalized.event_record).peekable();
    for (number, outcome) in (first..).zip(&normalized.outcomes) {
        while let Some((mut row, _)) = rows.next_if(|(_, record)| **record == number) {
            row.insert("record".to_owned(), number.into());
            line(out, &Value::Object(row))?;
        }
        match outcome {
            Outcome::Mapped { .. } => {}
            Outcome::Noise { rule } => {
                line(out, &json!({"record": number, "noise": rule, "quarantined": format!("noise:{rule}")}))?;
            }
            Outcome::Quarantined { reason, field, detail } => {
                line(out, &json!({"record": number, "quarantined": reason.name(), "field": field, "detail": detail}))?;
            }
        }
    }
    Ok(())
}

fn line(out: &mut impl Write, value: &Value) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// Events as JSON objects: times as RFC 3339 texts, columns without a value left out.
pub fn event_objects(batch: &RecordBatch) -> Vec<Map<String, Value>> {
    let events = Events::new(batch).expect("the batch is one of events");
    (0..events.event_id.len()).map(|row| event_object(&events.row(row))).collect()
}

fn event_object(row: &EventRow) -> Map<String, Value> {
    let Ok(Value::Object(mut object)) = serde_json::to_value(row) else { return Map::new() };
    object.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty()));
    for column in TABLE.columns {
        let Some(value) = object.get_mut(column.name) else { continue };
        match (column.kind, value.as_i64()) {
            (Kind::Time, Some(micros)) => *value = time(micros).into(),
            (Kind::Date, Some(days)) => *value = time(days * 86_400_000_000)[..10].into(),
            _ => {}
        }
    }
    object
}

fn time(micros: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

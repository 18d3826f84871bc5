//! Who did it: records of the corpus whose agent, user, delegation and credential were decided by hand, by somebody who had
//! not seen the mapping. `tests/who/<source>.toml` holds the decisions; the records are read from the corpus, and the test
//! says that it skips where that is absent.

use std::collections::BTreeMap;

use ingest::{Limits, event_objects, normalize};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::corpus::streams;
use crate::support::{context, file};

#[derive(Deserialize)]
struct Decided {
    #[serde(default)]
    record: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    stream: String,
    /// From 1.
    line: usize,
    why: String,
    /// Columns: a text, a list of texts that are equally right, or `false` for one that must be empty. For `delegation`
    /// the ids of the chain, root first.
    #[serde(flatten)]
    columns: BTreeMap<String, Value>,
}

#[test]
fn what_was_decided_by_hand_holds() {
    let Some(streams) = streams() else { return };
    let mut wrong = Vec::new();
    let mut count = 0;
    for mapping in crate::properties::sources().iter() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/who/{}.toml", mapping.name()));
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        let decided: Decided = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", mapping.name()));
        for record in decided.record {
            let stream = streams.iter().find(|s| s.name == record.stream);
            let body = &stream.unwrap_or_else(|| panic!("no stream {}", record.stream)).body;
            let line = body.split(|b| *b == b'\n').nth(record.line - 1).expect("the stream has the line");
            let found = normalize(mapping, line, &context(&file()), &Limits::default());
            let events = found.events.as_ref().map_or_else(Vec::new, event_objects);
            let differences = |event: &Map<String, Value>| -> Vec<String> {
                let columns = record.columns.iter().filter(|(column, _)| *column != "sha1");
                columns.filter_map(|(column, wanted)| differs(column, wanted, event)).collect()
            };
            let best = events.iter().map(differences).min_by_key(Vec::len);
            count += 1;
            match best {
                None => wrong.push(format!("{}:{}: {:?}", record.stream, record.line, found.outcomes)),
                Some(differences) if differences.is_empty() => {}
                Some(differences) => {
                    let what = differences.join("; ");
                    wrong.push(format!(
                        "{} {}:{}: {what} ({})",
                        mapping.name(),
                        record.stream,
                        record.line,
                        record.why
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} records:\n{}", wrong.len(), wrong.join("\n"));
}

fn differs(column: &str, wanted: &Value, event: &Map<String, Value>) -> Option<String> {
    let found = event.get(column).cloned().unwrap_or(Value::Null);
    let right = match (wanted, column) {
        (Value::Bool(_), _) => found.is_null(),
        (Value::Array(ids), "delegation") => {
            let hops = found.as_array().map_or(&[][..], Vec::as_slice);
            hops.iter().map(|hop| &hop["id"]).eq(ids.iter())
        }
        (Value::Array(right), _) => right.contains(&found),
        (wanted, _) => *wanted == found,
    };
    (!right).then(|| format!("{column}: expected {wanted}, found {found}"))
}

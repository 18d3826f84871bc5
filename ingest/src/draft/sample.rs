//! Sample records: how they are framed, and what every path in them holds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::split::split;

/// So many records of a sample are looked at.
const RECORDS_MAX: usize = 2000;
/// So many paths are told; records with more are no log records but documents.
const PATHS_MAX: usize = 2000;
/// So many different values of a path are kept.
const VALUES_MAX: usize = 64;
const DEPTH_MAX: usize = 10;
/// Under one of these an object wraps its records.
const WRAPPERS: &[&str] =
    &["records", "events", "data", "items", "logs", "entries", "value", "values", "results", "hits", "messages"];
/// Keys that tell the elements of a list apart.
const TELLING: &[&str] = &["type", "name", "key"];

/// The records of a sample.
#[derive(Debug, Default)]
pub(super) struct Sample {
    pub(super) records: Vec<Value>,
    /// Path of the array in a wrapping object.
    pub(super) envelope: Option<String>,
    /// Records that are no JSON objects.
    pub(super) unread: usize,
    pub(super) fields: BTreeMap<String, Field>,
    pub(super) paths_left_out: bool,
}

/// What a path holds over the sample.
#[derive(Debug, Default)]
pub(super) struct Field {
    /// Records that hold something there.
    pub(super) records: usize,
    /// The different values as text, the first so many.
    pub(super) values: BTreeSet<String>,
    pub(super) more_values: bool,
    /// An array of plain values.
    pub(super) list: bool,
}

impl Sample {
    pub(super) fn read(bytes: &[u8]) -> Sample {
        let mut sample = Sample::default();
        for span in split(bytes, &[]).records.iter().take(RECORDS_MAX) {
            match serde_json::from_slice(&bytes[span.start..span.end]) {
                Ok(value @ Value::Object(_)) => sample.records.push(value),
                _ => sample.unread += 1,
            }
        }
        sample.unwrap();
        let records = std::mem::take(&mut sample.records);
        for record in &records {
            let mut found = BTreeMap::new();
            flatten(record, "", 0, &mut found);
            for (path, (values, list)) in found {
                if sample.fields.len() >= PATHS_MAX && !sample.fields.contains_key(&path) {
                    sample.paths_left_out = true;
                    continue;
                }
                let field = sample.fields.entry(path).or_default();
                field.records += 1;
                field.list |= list;
                for value in values {
                    let room = field.values.len() < VALUES_MAX;
                    field.more_values |= !room && !field.values.contains(&value);
                    if room {
                        field.values.insert(value);
                    }
                }
            }
        }
        sample.records = records;
        sample
    }

    /// Takes the records out of objects that only wrap them.
    fn unwrap(&mut self) {
        let Some(path) = self.records.first().and_then(wrapped) else { return };
        let pointer = format!("/{}", path.replace('.', "/"));
        let inside = |record: &Value| record.pointer(&pointer).and_then(Value::as_array).cloned();
        let inner: Vec<Value> = self.records.iter().filter_map(inside).flatten().take(RECORDS_MAX).collect();
        self.records = inner.into_iter().filter(Value::is_object).collect();
        self.envelope = Some(path);
    }

    /// Share of records in which a path holds something, in percent.
    pub(super) fn percent(&self, field: &Field) -> usize {
        (field.records * 100).checked_div(self.records.len()).unwrap_or(0)
    }
}

/// Where an object's records are, if it only wraps them.
fn wrapped(record: &Value) -> Option<String> {
    let object = record.as_object()?;
    let holds = |value: &Value| value.as_array().is_some_and(|items| items.first().is_some_and(Value::is_object));
    let wraps = |key: &str| WRAPPERS.contains(&key.to_ascii_lowercase().as_str());
    for (key, value) in object {
        if holds(value) && (object.len() == 1 || wraps(key)) && plain(key) {
            return Some(key.clone());
        }
        let inner = value.as_object().filter(|_| wraps(key) && plain(key)).into_iter().flatten();
        if let Some((below, _)) = { inner }.find(|(below, value)| wraps(below) && plain(below) && holds(value)) {
            return Some(format!("{key}.{below}"));
        }
    }
    None
}

fn plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-@".contains(&b))
}

type Found = BTreeMap<String, (Vec<String>, bool)>;

/// A plain value as text; nothing where it says nothing.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.is_empty() || text == "-" || text == "null" => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// An object that is written in a text.
pub(super) fn nested(text: &str) -> Option<Value> {
    text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten().filter(Value::is_object)
}

fn flatten(value: &Value, path: &str, depth: usize, found: &mut Found) {
    if depth > DEPTH_MAX {
        return;
    }
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if let Some(path) = below(path, key) {
                    flatten(value, &path, depth + 1, found);
                }
            }
        }
        Value::Array(items) => array(items, path, depth, found),
        Value::String(text) if nested(text).is_some() => {
            nested(text).iter().for_each(|value| flatten(value, path, depth + 1, found));
        }
        value => {
            if let Some(text) = text(value) {
                found.entry(path.to_owned()).or_default().0.push(text);
            }
        }
    }
}

fn array(items: &[Value], path: &str, depth: usize, found: &mut Found) {
    let texts: Vec<String> = items.iter().filter_map(text).collect();
    if !texts.is_empty() {
        let entry = found.entry(path.to_owned()).or_default();
        entry.0.extend(texts);
        entry.1 = true;
    }
    let objects: Vec<&Value> = items.iter().filter(|item| item.is_object()).collect();
    for (number, item) in objects.iter().enumerate() {
        let told = TELLING.iter().find_map(|key| Some((key, item.get(key)?.as_str().filter(|text| plain(text))?)));
        match told {
            Some((key, text)) => flatten(item, &format!("{path}[{key}={text}]"), depth + 1, found),
            None if number == 0 => flatten(item, &format!("{path}[0]"), depth + 1, found),
            None => {}
        }
    }
}

/// The path of a key, as mappings write it; none for a key that they cannot.
fn below(path: &str, key: &str) -> Option<String> {
    if key.is_empty() || key.contains(['"', '\'', '|']) || key.chars().any(char::is_control) {
        return None;
    }
    let key = if plain(key) { key.to_owned() } else { format!("\"{key}\"") };
    Some(if path.is_empty() { key } else { format!("{path}.{key}") })
}

//! Fixtures: examples beside a mapping, with what they must become. They run for users' mappings as for built-in ones.
//!
//! `<source>.fixtures.toml` holds `[[fixture]]` tables: `record` (a text as the vendor writes it), and either `event`
//! (columns and their expected values; `false` for a column that must be empty), `noise` (a rule) or `quarantined` (a
//! reason). `mask` lists texts that must not be stored.

use std::path::Path;

use serde_json::{Map, Value};

use crate::context::{Carrier, Context, Limits, Normalized, Outcome};
use crate::json::event_objects;
use crate::mapping::{Mapping, Sources};
use crate::normalize::normalize;

/// What a run of fixtures found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub passed: usize,
    /// One line each: which fixture, which column, what was expected and found.
    pub failures: Vec<String>,
}

/// A key for fixtures: credential ids that are keyed hashes come out the same everywhere.
pub const FIXTURE_KEY: [u8; 32] = [7; 32];
/// The time at which fixtures are received: 2026-01-01.
const RECEIVED_AT: i64 = 1_767_225_600_000_000;

/// Runs the fixtures of `mapping` in `folder`.
pub fn run(mapping: &Mapping, folder: &Path) -> Report {
    let path = folder.join(format!("{}.fixtures.toml", mapping.name()));
    match std::fs::read_to_string(&path) {
        Ok(text) => check(mapping, &text, None),
        Err(error) => Report { passed: 0, failures: vec![format!("{}: {error}", path.display())] },
    }
}

/// Runs the embedded fixtures of a built-in mapping; each record must also be recognised as this source's.
pub fn run_built_in(mapping: &Mapping, sources: &Sources) -> Report {
    match schemas::sources::FIXTURES.iter().find(|(name, _)| *name == mapping.name()) {
        Some((_, text)) => check(mapping, text, Some(sources)),
        None => Report { passed: 0, failures: vec![format!("{} has no fixtures", mapping.name())] },
    }
}

fn check(mapping: &Mapping, text: &str, sources: Option<&Sources>) -> Report {
    let mut report = Report::default();
    let fixtures: Value = match toml::from_str(text) {
        Ok(fixtures) => fixtures,
        Err(error) => return Report { passed: 0, failures: vec![error.to_string()] },
    };
    let list = fixtures["fixture"].as_array().cloned().unwrap_or_default();
    if list.is_empty() {
        report.failures.push("there is no [[fixture]]".to_owned());
    }
    for (number, fixture) in list.iter().enumerate() {
        let title = fixture["title"].as_str().unwrap_or("untitled");
        let mut problems = Vec::new();
        one(mapping, fixture, &mut problems);
        if let Some(sources) = sources {
            let record = fixture["record"].as_str().unwrap_or_default();
            let found = sources.detect(record.as_bytes());
            if found.one().map(|m| m.name()) != Some(mapping.name()) && fixture.get("quarantined").is_none() {
                problems.push(format!("detection: {found}"));
            }
        }
        report.passed += usize::from(problems.is_empty());
        report.failures.extend(problems.iter().map(|p| format!("{} fixture {number} ({title}): {p}", mapping.name())));
    }
    report
}

/// The records of a built-in mapping's embedded fixtures.
pub fn records(source: &str) -> Vec<String> {
    let fixtures = embedded(source);
    let list = fixtures["fixture"].as_array().into_iter().flatten();
    list.filter_map(|fixture| fixture["record"].as_str().map(str::to_owned)).collect()
}

fn embedded(source: &str) -> Value {
    let text = schemas::sources::FIXTURES.iter().find(|(name, _)| *name == source).map_or("", |(_, text)| text);
    toml::from_str(text).unwrap_or_default()
}

/// The embedded fixtures of a built-in mapping as a section of its reference page: each record, and what it becomes.
pub fn page(mapping: &Mapping) -> String {
    let fixtures = embedded(mapping.name());
    let mut page = "\n## Examples\n".to_owned();
    for fixture in fixtures["fixture"].as_array().into_iter().flatten() {
        let record = fixture["record"].as_str().unwrap_or_default();
        let normalized = normalized(mapping, record);
        let mut became: Vec<String> = Vec::new();
        for mut event in normalized.events.as_ref().map_or_else(Vec::new, event_objects) {
            event.retain(|column, value| !PLACES.contains(&column.as_str()) && !value.is_null());
            became.push(serde_json::to_string_pretty(&event).unwrap_or_default());
        }
        for outcome in &normalized.outcomes {
            match outcome {
                Outcome::Mapped { .. } => {}
                Outcome::Noise { rule } => became.push(format!("noise: {rule}")),
                Outcome::Quarantined { reason, detail, .. } => {
                    became.push(format!("quarantined: {}: {detail}", reason.name()));
                }
            }
        }
        let title = fixture["title"].as_str().unwrap_or("untitled");
        page.push_str(&format!("\n### {title}\n\n```\n{}\n```\n\nbecomes\n\n", record.trim_end()));
        page.push_str(&format!("```json\n{}\n```\n", became.join("\n")));
    }
    page
}

/// Columns that say where a record was, and not what it says.
const PLACES: [&str; 12] = [
    "event_id",
    "received_at",
    "event_day",
    "tenant",
    "source",
    "door",
    "event_index",
    "log_partition",
    "log_offset",
    "log_index",
    "record",
    "raw",
];

fn normalized(mapping: &Mapping, record: &str) -> Normalized {
    let context = Context {
        tenant: "fixtures",
        instance: "",
        door: "file",
        live: true,
        received_at: RECEIVED_AT,
        carrier: &Carrier::File { name: "fixtures".to_owned(), offset: 0 },
        partitions: 64,
        secret_key: &FIXTURE_KEY,
    };
    normalize(mapping, record.as_bytes(), &context, &Limits::default())
}

fn one(mapping: &Mapping, fixture: &Value, problems: &mut Vec<String>) {
    let record = fixture["record"].as_str().unwrap_or_default();
    let normalized = normalized(mapping, record);
    let events = normalized.events.as_ref().map_or_else(Vec::new, event_objects);
    for secret in fixture["mask"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !record.contains(secret) {
            problems.push(format!("`{secret}` is not in the record"));
        }
        if events.iter().any(|event| Value::Object(event.clone()).to_string().contains(secret)) {
            problems.push(format!("`{secret}` is stored"));
        }
    }
    match normalized.outcomes.first() {
        Some(Outcome::Mapped { .. }) if fixture.get("event").is_some() => {
            let expected = match &fixture["event"] {
                Value::Array(expected) => expected.clone(),
                one => vec![one.clone()],
            };
            if expected.len() != events.len() {
                problems.push(format!("expected {} events, found {}", expected.len(), events.len()));
            }
            expected.iter().zip(&events).for_each(|(expected, event)| compare(expected, event, problems));
        }
        Some(Outcome::Noise { rule }) if fixture["noise"] == **rule => {}
        Some(Outcome::Quarantined { reason, .. }) if fixture["quarantined"] == *reason.name() => {}
        outcome => problems.push(format!("became {outcome:?}")),
    }
}

fn compare(expected: &Value, event: &Map<String, Value>, problems: &mut Vec<String>) {
    let null = Value::Null;
    for (column, wanted) in expected.as_object().into_iter().flatten() {
        let found = event.get(column).unwrap_or(&null);
        let empty = *wanted == Value::Bool(false);
        let same = if empty { found.is_null() } else { same(wanted, found) };
        if !same {
            problems.push(format!("{column}: expected {wanted}, found {found}"));
        }
    }
    if schemas::event::TABLE.columns.iter().any(|c| c.required && !event.contains_key(c.name)) {
        problems.push("a required column is empty".to_owned());
    }
}

/// Equal, where a time may leave out the digits of its fraction that are zero.
fn same(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::String(a), Value::String(b)) if b.ends_with("Z") && a.ends_with("Z") => {
            let plain = |text: &str| text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.').to_owned();
            let dotted =
                |text: &str| if text.contains('.') { plain(text) } else { text.trim_end_matches('Z').to_owned() };
            dotted(a).trim_end_matches('0') == dotted(b).trim_end_matches('0')
        }
        _ => wanted == found,
    }
}

//! Fixtures: examples beside a mapping, with what they must become. They run for users' mappings as for built-in ones.
//!
//! `<source>.fixtures.toml` holds `[[fixture]]` tables: `record` (a text as the vendor writes it), and either `event`
//! (columns and their expected values; `false` for a column that must be empty; for `delegation` the hops or only their
//! ids), `noise` (a rule) or `quarantined` (a reason). `mask` lists texts that must not be stored.

use std::path::Path;

use schemas::problem::{Problem, nearest};
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use crate::context::{Carrier, Context, Limits, Normalized, Outcome};
use crate::json::event_objects;
use crate::mapping::{Mapping, Sources};
use crate::normalize::normalize;

/// What a run of fixtures found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub passed: usize,
    /// Each with file, line and key: which fixture, which column, what was expected and found.
    pub failures: Vec<Problem>,
}

/// A key for fixtures: credential ids that are keyed hashes come out the same everywhere.
pub const FIXTURE_KEY: [u8; 32] = [7; 32];
/// The time at which fixtures are received: 2026-01-01.
const RECEIVED_AT: i64 = 1_767_225_600_000_000;

/// Runs the fixtures of `mapping` in `folder`.
pub fn run(mapping: &Mapping, folder: &Path) -> Report {
    let path = folder.join(format!("{}.fixtures.toml", mapping.name()));
    match std::fs::read_to_string(&path) {
        Ok(text) => check(mapping, &path.display().to_string(), &text, None),
        Err(error) => Report::broken(Problem::of_file(&path.display().to_string(), error.to_string())),
    }
}

/// Runs the embedded fixtures of a built-in mapping; each record must also be recognised as this source's.
pub fn run_built_in(mapping: &Mapping, sources: &Sources) -> Report {
    match schemas::sources::FIXTURES.iter().find(|(name, _)| *name == mapping.name()) {
        Some((_, text)) => check(mapping, &mapping.file().replace(".toml", ".fixtures.toml"), text, Some(sources)),
        None => Report::broken(Problem::of_file(mapping.file(), "it has no fixtures")),
    }
}

impl Report {
    fn broken(problem: Problem) -> Report {
        Report { passed: 0, failures: vec![problem] }
    }
}

/// A key of a fixture (`event.agent_id`; empty for the whole) and what is wrong there.
type Flaw = (String, String);

fn check(mapping: &Mapping, file: &str, text: &str, sources: Option<&Sources>) -> Report {
    let parsed = DeTable::parse(text).and_then(|places| Ok((places, toml::from_str::<Value>(text)?)));
    let (places, fixtures) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            return Report::broken(Problem::at(file, text, at, "", error.message()));
        }
    };
    let list = fixtures["fixture"].as_array().map_or(&[][..], Vec::as_slice);
    if list.is_empty() {
        return Report::broken(Problem::of_file(file, "there is no [[fixture]]"));
    }
    let mut report = Report::default();
    for (number, fixture) in list.iter().enumerate() {
        let title = fixture["title"].as_str().unwrap_or("untitled");
        let mut flaws = Vec::new();
        one(mapping, fixture, &mut flaws);
        if let Some(sources) = sources {
            let record = fixture["record"].as_str().unwrap_or_default();
            let found = sources.detect(record.as_bytes());
            if found.one().map(|m| m.name()) != Some(mapping.name()) && fixture.get("quarantined").is_none() {
                flaws.push(("record".to_owned(), format!("detection: {found}")));
            }
        }
        report.passed += usize::from(flaws.is_empty());
        report.failures.extend(flaws.into_iter().map(|(key, what)| {
            let at = place(places.get_ref(), number, &key);
            let key = if key.is_empty() { key } else { format!(".{key}") };
            Problem::at(file, text, at, &format!("fixture[{number}]{key}"), format!("{what} ({title})"))
        }));
    }
    report
}

/// Where a key of a fixture stands; where it does not, the table that it would stand in.
fn place(places: &DeTable<'_>, number: usize, key: &str) -> usize {
    let Some(fixture) = places.get("fixture").and_then(|list| list.get_ref().as_array()?.get(number)) else { return 0 };
    let mut at = fixture.span().start;
    let mut value = fixture;
    for part in key.split('.') {
        let inner = match value.get_ref() {
            DeValue::Array(items) => {
                part.parse().ok().and_then(|n: usize| items.get(n)).map(|item| (item.span(), item))
            }
            DeValue::Table(table) => table.get_key_value(part).map(|(key, item)| (key.span(), item)),
            _ => None,
        };
        let Some((span, item)) = inner else { break };
        (at, value) = (span.start, item);
    }
    at
}

/// Runs fixtures that are not in a file yet.
pub(crate) fn check_text(mapping: &Mapping, file: &str, text: &str) -> Report {
    check(mapping, file, text, None)
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

/// What a record becomes when it is a fixture's.
pub(crate) fn normalized(mapping: &Mapping, record: &str) -> Normalized {
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

fn one(mapping: &Mapping, fixture: &Value, flaws: &mut Vec<Flaw>) {
    let record = fixture["record"].as_str().unwrap_or_default();
    let normalized = normalized(mapping, record);
    let events = normalized.events.as_ref().map_or_else(Vec::new, event_objects);
    for secret in fixture["mask"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !record.contains(secret) {
            flaws.push(("mask".to_owned(), format!("`{secret}` is not in the record")));
        }
        if events.iter().any(|event| Value::Object(event.clone()).to_string().contains(secret)) {
            flaws.push(("mask".to_owned(), format!("`{secret}` is stored")));
        }
    }
    match normalized.outcomes.first() {
        Some(Outcome::Mapped { .. }) if fixture.get("event").is_some() => {
            let (expected, several) = match &fixture["event"] {
                Value::Array(expected) => (expected.as_slice(), true),
                one => (std::slice::from_ref(one), false),
            };
            if expected.len() != events.len() {
                let what = format!("expected {} events, found {}", expected.len(), events.len());
                flaws.push(("event".to_owned(), what));
            }
            for (number, (expected, event)) in expected.iter().zip(&events).enumerate() {
                let under = if several { format!("event.{number}") } else { "event".to_owned() };
                compare(&under, expected, event, flaws);
            }
        }
        Some(Outcome::Noise { rule }) if fixture["noise"] == **rule => {}
        Some(Outcome::Quarantined { reason, .. }) if fixture["quarantined"] == *reason.name() => {}
        Some(outcome) => flaws.push((String::new(), became(outcome))),
        None => flaws.push(("record".to_owned(), "there is no record in it".to_owned())),
    }
}

/// In plain words, for a fixture that expects something else.
fn became(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Mapped { events } => format!("the record became {events} events, and the fixture has no `event`"),
        Outcome::Noise { rule } => format!("the record became noise by the rule `{rule}`"),
        Outcome::Quarantined { reason, detail, .. } => {
            format!("the record went to quarantine: {}, {detail}", reason.name())
        }
    }
}

fn compare(under: &str, expected: &Value, event: &Map<String, Value>, flaws: &mut Vec<Flaw>) {
    for (column, wanted) in expected.as_object().into_iter().flatten() {
        let found = event.get(column).unwrap_or(&Value::Null);
        let empty = *wanted == Value::Bool(false);
        let same = match (wanted, &**column) {
            _ if empty => found.is_null(),
            (Value::Array(ids), "delegation") if ids.iter().all(Value::is_string) => {
                found.as_array().is_some_and(|hops| hops.iter().map(|hop| &hop["id"]).eq(ids))
            }
            _ => same(wanted, found),
        };
        if schemas::event::TABLE.index_of(column).is_none() {
            let near = nearest(column, schemas::event::TABLE.columns.iter().map(|c| c.name));
            flaws.push((format!("{under}.{column}"), format!("unknown column{near}")));
        } else if !same {
            let wanted = if empty { "nothing".to_owned() } else { wanted.to_string() };
            flaws.push((format!("{under}.{column}"), format!("expected {wanted}, found {found}")));
        }
    }
    if let Some(column) = schemas::event::TABLE.columns.iter().find(|c| c.required && !event.contains_key(c.name)) {
        flaws.push((under.to_owned(), format!("the required column {} is empty", column.name)));
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

//! A first mapping from sample records: what is plain is mapped, what could be is written beside it, what is not is left out.
//!
//! The draft is a file that compiles, with a fixture that passes: `muster sources test` holds for it from the start, so that
//! whoever finishes it changes one thing at a time. Nothing is guessed silently: each line says what speaks for it, and
//! [`Draft::checks`] says what a person must decide. Of the sample's values only words of the vendor's own (actions, results)
//! come into the draft; the fixture has stand-ins for the rest (`stand_in`).
//!
//! ```text
//! bytes ─▶ sample (framing, paths, values) ─▶ guess (names and forms) ─▶ write (TOML) ─▶ compiled, its fixture run
//! ```

mod guess;
mod sample;
mod stand_in;
mod write;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::context::Outcome;
use crate::fixtures;
use crate::json::event_objects;
use crate::mapping::Mapping;
use guess::{ACTION, Candidate, OUTCOME, RULES, Rule, TIME};
use sample::Sample;
use stand_in::StandIns;

/// A drafted mapping with its fixture.
#[derive(Debug)]
pub struct Draft {
    pub mapping: String,
    pub fixtures: String,
    pub records: usize,
    /// Columns that are mapped, with where from.
    pub columns: Vec<(String, String)>,
    /// Paths that nothing speaks for.
    pub unused: usize,
    /// What a person must decide.
    pub checks: Vec<String>,
}

/// What was chosen for a column.
struct Choice<'a> {
    rule: &'static Rule,
    /// The best first; the others are written beside it.
    candidates: Vec<Candidate<'a>>,
}

impl Choice<'_> {
    fn path(&self) -> &str {
        self.candidates.first().map_or("", |c| c.path)
    }

    fn values(&self) -> impl Iterator<Item = &str> {
        self.candidates.first().into_iter().flat_map(|c| c.field.values.iter().map(String::as_str))
    }
}

/// Drafts the mapping `name` from sample records.
pub fn draft(name: &str, bytes: &[u8]) -> Result<Draft, String> {
    let sample = Sample::read(bytes);
    if sample.records.is_empty() {
        return Err(match sample.unread {
            0 => "the sample holds no record".to_owned(),
            n => format!(
                "none of the sample's {n} records is a JSON object; lines of text need a regular expression each: see \
                 `framing.text` in docs/mappings.md"
            ),
        });
    }
    let top = guess::top(&sample);
    let choices: Vec<Choice<'_>> = RULES
        .iter()
        .map(|rule| Choice { rule, candidates: guess::candidates(rule, &sample, top) })
        .filter(|choice| !choice.candidates.is_empty())
        .collect();
    let plan = write::Plan::new(name, &sample, &choices);
    // Keys of secrets that the general net does not know are found by trying.
    let mut masks = BTreeSet::new();
    for _ in 0..2 {
        let mapping = plan.mapping(&masks);
        let compiled = Mapping::parse(name, &format!("{name}.toml"), &mapping)
            .map_err(|problems| format!("the draft does not compile: {}", problems[0]))?;
        let mut stand_ins = StandIns::default();
        let record = stand_ins.record(&sample.records[0], &|text| plan.is_word(text)).to_string();
        let normalized = fixtures::normalized(&compiled, &record);
        let events = normalized.events.as_ref().map_or_else(Vec::new, event_objects);
        let stored =
            |secret: &str| events.iter().any(|event| Value::Object(event.clone()).to_string().contains(secret));
        let more: Vec<String> =
            stand_ins.secrets.iter().filter(|(_, secret)| stored(secret)).map(|(key, _)| key.clone()).collect();
        if !more.is_empty() && masks.is_empty() {
            masks.extend(more);
            continue;
        }
        let (masked, open): (Vec<_>, Vec<_>) = stand_ins.secrets.into_iter().partition(|(_, secret)| !stored(secret));
        let mut checks = plan.checks();
        checks.extend(open.iter().map(|(key, _)| {
            format!("`{key}` looks like a secret and would be stored: do not map it, and add it to `mask`")
        }));
        let secrets: Vec<String> = masked.into_iter().map(|(_, secret)| secret).collect();
        let quarantined = match normalized.outcomes.first() {
            Some(Outcome::Quarantined { reason, .. }) => Some(reason.name()),
            _ => None,
        };
        let fixtures = write::fixture(&record, &secrets, events.first(), quarantined);
        let report = fixtures::check_text(&compiled, &format!("{name}.fixtures.toml"), &fixtures);
        if let Some(problem) = report.failures.first() {
            return Err(format!("the draft's fixture fails: {problem}"));
        }
        let (records, columns, unused) = (sample.records.len(), plan.columns(), plan.unused().len());
        return Ok(Draft { mapping, fixtures, records, columns, unused, checks });
    }
    Err("the draft cannot be made to mask what looks like a secret".to_owned())
}

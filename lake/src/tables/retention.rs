//! How long rows are kept: rules, the first that fits a row decides.
//!
//! A row's age counts from `received_at`: a record of last year that was imported today is new here, and one whose clock
//! runs ahead does not outlive the others. Classes are computed when rows are old enough to go, not stored with them, so
//! that a changed rule holds for what is there already.

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::TimestampMicrosecondType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const DAY_MICROS: i64 = 86_400_000_000;
/// The tables whose rows say when they were received, but for the ledger, which is never deleted.
const TABLES: [&str; 3] = ["events", "quarantine", "alerts"];
const DAYS_MAX: u32 = 36_500;

/// One class of rows and how long it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionRule {
    /// Name of the class, for people.
    pub class: String,
    /// Days from receipt on. 0: for ever.
    pub days: u32,
    /// The tables it is for: `events`, `quarantine`, `alerts`.
    pub tables: Vec<String>,
    /// Only rows of these tenants. Empty: of all.
    pub tenants: Vec<String>,
    /// Only rows of these sources. Empty: of all.
    pub sources: Vec<String>,
    /// Only events with one of these effects (`read`, `write`, `admin` …). Empty: with any.
    pub effects: Vec<String>,
}

impl Default for RetentionRule {
    fn default() -> Self {
        RetentionRule {
            class: String::new(),
            days: 0,
            tables: vec!["events".to_owned(), "quarantine".to_owned()],
            tenants: Vec::new(),
            sources: Vec::new(),
            effects: Vec::new(),
        }
    }
}

impl RetentionRule {
    pub(super) fn problems(&self, at: usize) -> Vec<String> {
        let mut problems = Vec::new();
        if self.class.is_empty() {
            problems.push(format!("retention[{at}].class: a class needs a name"));
        }
        if self.days > DAYS_MAX {
            problems.push(format!("retention[{at}].days: must be at most {DAYS_MAX}"));
        }
        for table in self.tables.iter().filter(|table| !TABLES.contains(&table.as_str())) {
            problems.push(format!("retention[{at}].tables: `{table}` is none of {}", TABLES.join(", ")));
        }
        problems
    }

    fn fits(&self, row: &Row<'_>) -> bool {
        let among = |wanted: &[String], found: Option<&str>| {
            wanted.is_empty() || found.is_some_and(|found| wanted.iter().any(|wanted| wanted == found))
        };
        among(&self.tenants, row.tenant) && among(&self.sources, row.source) && among(&self.effects, row.effect)
    }
}

struct Row<'a> {
    tenant: Option<&'a str>,
    source: Option<&'a str>,
    effect: Option<&'a str>,
}

/// The rules for one table.
#[derive(Clone, Debug)]
pub(super) struct Rules(Vec<RetentionRule>);

impl Rules {
    pub(super) fn of(rules: &[RetentionRule], table: &str) -> Rules {
        Rules(rules.iter().filter(|rule| rule.tables.iter().any(|name| name == table)).cloned().collect())
    }

    /// From this age on a row may have to go; none where all are kept for ever.
    pub(super) fn least_micros(&self) -> Option<i64> {
        self.0.iter().filter(|rule| rule.days > 0).map(|rule| i64::from(rule.days) * DAY_MICROS).min()
    }

    /// Of each row, when it is too old.
    pub(super) fn ends(&self, batch: &RecordBatch) -> Vec<i64> {
        let texts = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let (tenants, sources, effects) = (texts("tenant"), texts("source"), texts("effect"));
        let received = batch.column_by_name("received_at");
        let received = received.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        let end = |row: usize| {
            let fitted = Row { tenant: at(tenants, row), source: at(sources, row), effect: at(effects, row) };
            let rule = self.0.iter().find(|rule| rule.fits(&fitted)).filter(|rule| rule.days > 0);
            match (rule, received) {
                (Some(rule), Some(received)) => received.value(row).saturating_add(i64::from(rule.days) * DAY_MICROS),
                _ => i64::MAX,
            }
        };
        (0..batch.num_rows()).map(end).collect()
    }
}

fn at(texts: Option<&StringArray>, row: usize) -> Option<&str> {
    texts.filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row))
}

//! What a path finds in an answer, as texts; `^.` goes to the item that the list was asked for.

use std::collections::HashMap;
use std::sync::Arc;

use schemas::Kind;
use serde_json::Value;

use super::plan::ColumnPlan;
use crate::mapping::path::{self, Step};
use crate::time::{self, Unit};

/// An item, and the one that its list was asked for.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) value: Value,
    pub(super) parent: Option<Arc<Item>>,
}

/// Items by the text of their key.
pub(super) type Index = HashMap<String, Arc<Item>>;

/// One place that a value is taken from.
#[derive(Debug)]
pub(super) enum Take {
    Text(String),
    Path { up: usize, steps: Vec<Step> },
}

#[derive(Debug)]
pub(super) struct Condition {
    pub(super) take: Take,
    pub(super) texts: Vec<String>,
}

impl Take {
    pub(super) fn parse(text: &str) -> Result<Take, String> {
        if let Some(quoted) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
            return Ok(Take::Text(quoted.to_owned()));
        }
        let (mut up, mut rest) = (0, text);
        while let Some(after) = rest.strip_prefix("^.") {
            (up, rest) = (up + 1, after);
        }
        Ok(Take::Path { up, steps: path::parse(rest).map_err(|problem| format!("`{text}`: {problem}"))? })
    }

    /// Appends the texts found; says whether the field is there at all.
    fn texts(&self, item: &Item, out: &mut Vec<String>) -> bool {
        let (up, steps) = match self {
            Take::Text(text) => {
                out.push(text.clone());
                return true;
            }
            Take::Path { up, steps } => (*up, steps),
        };
        let mut item = item;
        for _ in 0..up {
            let Some(parent) = &item.parent else { return false };
            item = parent;
        }
        select(&item.value, steps).into_iter().for_each(|value| text(value, out));
        exists(&item.value, steps)
    }
}

impl Condition {
    fn holds(&self, item: &Item) -> bool {
        let mut found = Vec::new();
        self.take.texts(item, &mut found);
        let is = |wanted: &str| found.iter().any(|text| text == wanted);
        let mut wanted = self.texts.iter().filter(|text| !text.starts_with('!')).peekable();
        let nothing_wanted = wanted.peek().is_none();
        let any = wanted.any(|wanted| match wanted.as_str() {
            "*" => !found.is_empty(),
            "" => found.is_empty(),
            wanted => is(wanted),
        });
        (nothing_wanted || any) && !self.texts.iter().filter_map(|text| text.strip_prefix('!')).any(is)
    }
}

pub(super) fn all_hold(conditions: &[Condition], item: &Item) -> bool {
    conditions.iter().all(|condition| condition.holds(item))
}

/// The first text at a path.
pub(super) fn first(value: &Value, steps: &[Step]) -> Option<String> {
    let mut texts = Vec::new();
    select(value, steps).into_iter().for_each(|value| text(value, &mut texts));
    texts.into_iter().next()
}

/// Whether the field that a path begins with is there, whatever it holds.
pub(super) fn exists(value: &Value, steps: &[Step]) -> bool {
    let keys = steps.iter().position(|step| !matches!(step, Step::Key(_))).unwrap_or(steps.len());
    !select(value, &steps[..keys]).is_empty()
}

/// All values at a path; none of them is there twice.
pub(super) fn select<'a>(value: &'a Value, steps: &[Step]) -> Vec<&'a Value> {
    let mut found = vec![value];
    for step in steps {
        found = found.into_iter().flat_map(|value| children(value, step)).collect();
    }
    found
}

fn children<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Key(key), Value::Object(fields)) => {
            let field =
                fields.get(key).or_else(|| fields.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v));
            field.into_iter().collect()
        }
        (Step::All, Value::Array(values)) => values.iter().collect(),
        (Step::All, Value::Object(fields)) => fields.values().collect(),
        (Step::Number(number), Value::Array(values)) => values.get(*number).into_iter().collect(),
        (Step::Field { key, values: wanted, is }, Value::Array(values)) => {
            let matches = |value: &&Value| {
                let found = children(value, &Step::Key(key.clone())).first().and_then(|v| v.as_str());
                found.is_some_and(|found| wanted.iter().any(|text| text == found)) == *is
            };
            values.iter().filter(matches).collect()
        }
        _ => Vec::new(),
    }
}

fn text(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) if !text.trim().is_empty() => out.push(text.trim().to_owned()),
        Value::Number(number) => out.push(number.to_string()),
        Value::Bool(truth) => out.push(truth.to_string()),
        Value::Array(values) => values.iter().for_each(|value| text(value, out)),
        _ => {}
    }
}

/// A column's value.
#[derive(Debug, PartialEq)]
pub(super) enum Cell {
    Text(String),
    Texts(Vec<String>),
    Time(i64),
    Bool(bool),
}

impl ColumnPlan {
    /// The column's value in `item`, if there is one; a flag goes to `flags` where the field says that there is none.
    pub(super) fn read(&self, item: &Item, indexes: &[Index], flags: &mut Vec<&'static str>) -> Option<Cell> {
        let mut there = false;
        let mut texts = Vec::new();
        for take in &self.take {
            there |= take.texts(item, &mut texts);
            if !texts.is_empty() && self.kind != Kind::Strs {
                break;
            }
        }
        let cell = self.cell(self.shaped(texts, indexes), flags);
        if cell.is_none() {
            flags.extend(if there { self.empty } else { self.absent });
        }
        cell
    }

    fn shaped(&self, mut texts: Vec<String>, indexes: &[Index]) -> Vec<String> {
        if let Some(prefix) = &self.prefix {
            texts =
                texts.iter().filter_map(|text| Some(text.strip_prefix(prefix.as_str())?.trim().to_owned())).collect();
        }
        if let Some(separator) = &self.split {
            let parts = texts.iter().flat_map(|text| text.split(separator.as_str()));
            texts = parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        }
        if !self.map.is_empty() {
            texts = texts.iter().filter_map(|text| self.map.get(text).cloned()).collect();
        }
        if let Some((index, take)) = &self.via {
            // What no list names keeps its own name: an id that leads nowhere still tells two agents apart.
            texts = texts.into_iter().map(|text| joined(&text, &indexes[*index], take).unwrap_or(text)).collect();
        }
        texts
    }

    fn cell(&self, texts: Vec<String>, flags: &mut Vec<&'static str>) -> Option<Cell> {
        if self.kind == Kind::Strs {
            return (!texts.is_empty()).then_some(Cell::Texts(texts));
        }
        let text = texts.into_iter().next()?;
        match self.kind {
            Kind::Bool => text.parse().ok().map(Cell::Bool),
            Kind::Time => {
                // Directories write an end that never comes so.
                if self.column == schemas::inventory::col::expires_at && text.starts_with("9999") {
                    flags.push("no_expiry");
                }
                time::from_text(&text, Unit::BySize).filter(|micros| *micros > 0).map(Cell::Time)
            }
            _ => Some(Cell::Text(text)),
        }
    }
}

fn joined(text: &str, index: &Index, take: &[Take]) -> Option<String> {
    let item = index.get(text)?;
    let mut texts = Vec::new();
    for take in take {
        take.texts(item, &mut texts);
    }
    texts.into_iter().next()
}

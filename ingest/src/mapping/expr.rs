//! What a column is made of: terms in the order in which they are tried, each a condition, a source and functions.

use std::borrow::Cow;

use ahash::AHashMap;
use regex::Regex;
use schemas::glob::like;
use simd_json::{Node, StaticNode};

use super::decoded::Decoded;
use super::function::Function;
use super::trie::Slot;
use crate::walk::{Found, Slots, size};

/// A value on its way into a column.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Value<'a> {
    #[default]
    None,
    Text(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
}

#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) when: Vec<Condition>,
    pub(crate) source: Source,
    pub(crate) functions: Vec<Function>,
}

#[derive(Clone, Debug)]
pub(crate) enum Source {
    Slot(Slot),
    Literal(String),
    /// All parts one after another; nothing where one is missing.
    Join(Vec<Term>),
    /// The name of the record's form.
    Format,
    /// When the record came in, for those that carry no time.
    Received,
}

/// What a condition is about.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Slot(Slot),
    Format,
}

#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) subject: Subject,
    pub(crate) test: Test,
}

#[derive(Clone, Debug)]
pub(crate) enum Test {
    Present(bool),
    /// The field is in the record and holds nothing.
    Empty,
    Like {
        globs: Vec<String>,
        is: bool,
    },
    Matches(Regex),
}

/// `glob → texts`, first match wins.
#[derive(Debug, Default)]
pub(crate) struct Table {
    exact: AHashMap<String, usize>,
    globs: Vec<(String, usize)>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn push(&mut self, glob: &str, row: Vec<String>) {
        let number = self.rows.len();
        if glob.contains('*') {
            self.globs.push((glob.to_owned(), number));
        } else {
            self.exact.entry(glob.to_ascii_lowercase()).or_insert(number);
        }
        self.rows.push(row);
    }

    /// Number of the first row whose glob fits.
    pub(crate) fn find(&self, text: &str) -> Option<usize> {
        let exact = if text.bytes().any(|b| b.is_ascii_uppercase()) {
            self.exact.get(&text.to_ascii_lowercase()).copied()
        } else {
            self.exact.get(text).copied()
        };
        let limit = exact.unwrap_or(usize::MAX);
        let glob = self.globs.iter().take_while(|(_, n)| *n < limit).find(|(g, _)| like(g, text)).map(|(_, n)| *n);
        glob.or(exact)
    }
}

/// A walked record, and what terms need besides it.
pub(crate) struct Record<'a, 't> {
    pub(crate) tape: &'a [Node<'t>],
    pub(crate) slots: &'a Slots,
    /// `json`, or the name of the text format that the line had.
    pub(crate) format: &'a str,
    pub(crate) received_at: i64,
    pub(crate) decoded: &'a Decoded,
    /// Texts by which the vendor says that there is nothing.
    pub(crate) absent: &'a [String],
    pub(crate) tables: &'a [Table],
    pub(crate) regexes: &'a [Regex],
    pub(crate) secret_key: &'a [u8; 32],
}

impl<'a> Record<'a, '_> {
    /// What the first term gives that gives something.
    pub(crate) fn eval(&self, terms: &'a [Term]) -> Value<'a> {
        self.find(terms).map_or(Value::None, |(_, value)| value)
    }

    /// The first term that gives something, and what it gives.
    #[inline]
    pub(crate) fn find(&self, terms: &'a [Term]) -> Option<(&'a Term, Value<'a>)> {
        terms.iter().map(|term| (term, self.term(term))).find(|(_, value)| value.is_some())
    }

    fn term(&self, term: &'a Term) -> Value<'a> {
        if self.has_nothing(&term.source) || !self.holds(&term.when) {
            return Value::None;
        }
        let value = self.source(&term.source);
        if term.functions.is_empty() { value } else { self.apply(value, &term.functions) }
    }

    /// Most paths of a mapping are not in the record: that is seen before any condition is looked at.
    #[inline]
    fn has_nothing(&self, source: &Source) -> bool {
        let is_nothing = |slot: Slot| matches!(self.slots.first[slot as usize], Found::Nothing | Found::Empty);
        matches!(source, Source::Slot(slot) if is_nothing(*slot))
    }

    /// Whether no term can give anything, as far as that is seen at once.
    #[inline]
    pub(crate) fn is_blank(&self, terms: &[Term]) -> bool {
        terms.iter().all(|term| self.has_nothing(&term.source))
    }

    pub(crate) fn holds(&self, conditions: &[Condition]) -> bool {
        conditions.iter().all(|c| self.condition(c))
    }

    fn condition(&self, condition: &Condition) -> bool {
        let slot = match &condition.subject {
            Subject::Slot(slot) => *slot,
            Subject::Format => return condition.test.fits(Some(self.format)),
        };
        match &condition.test {
            Test::Present(wanted) => self.present(slot) == *wanted,
            Test::Empty => !matches!(self.slots.first[slot as usize], Found::Nothing) && !self.present(slot),
            Test::Like { globs, is } => {
                let fits = |text: &str| globs.iter().any(|glob| like(glob, text));
                self.values(slot).any(|found| self.any(found, &fits)) == *is
            }
            Test::Matches(regex) => self.values(slot).any(|found| self.any(found, &|text| regex.is_match(text))),
        }
    }

    /// Whether any text of a value fits: of a list each element.
    fn any(&self, found: &'a Found, fits: &impl Fn(&str) -> bool) -> bool {
        let one = |value: Value<'a>| value.as_text().is_some_and(|text| fits(&text));
        match found {
            Found::Tape(at) => match self.tape[*at as usize] {
                Node::Array { len, .. } => self.elements(*at as usize, len).any(one),
                _ => one(self.node(*at as usize)),
            },
            found => one(self.scalar(found)),
        }
    }

    fn present(&self, slot: Slot) -> bool {
        self.values(slot).any(|found| match found {
            Found::Nothing | Found::Empty => false,
            Found::Text(text) => !self.is_absent(text),
            Found::Tape(at) => match &self.tape[*at as usize] {
                Node::String(text) => !self.is_absent(text),
                Node::Static(value) => *value != StaticNode::Null,
                Node::Object { .. } | Node::Array { .. } => true,
            },
        })
    }

    fn is_absent(&self, text: &str) -> bool {
        text.len() <= ABSENT_BYTES_MAX && self.absent.iter().any(|a| a == text)
    }

    fn values(&self, slot: Slot) -> impl Iterator<Item = &'a Found> + use<'a> {
        let more = self.slots.more.iter().filter(move |(s, _)| *s == slot).map(|(_, found)| found);
        std::iter::once(&self.slots.first[slot as usize]).chain(more)
    }

    fn source(&self, source: &'a Source) -> Value<'a> {
        match source {
            Source::Slot(slot) => self.slot(*slot),
            Source::Literal(text) => Value::Text(Cow::Borrowed(text)),
            Source::Format => Value::Text(Cow::Borrowed(self.format)),
            Source::Received => Value::Int(self.received_at),
            Source::Join(parts) => {
                let mut joined = String::new();
                for part in parts {
                    match self.term(part).as_text() {
                        Some(text) => joined.push_str(&text),
                        None => return Value::None,
                    }
                }
                Value::Text(Cow::Owned(joined))
            }
        }
    }

    /// The first value of a slot that is one.
    pub(crate) fn slot(&self, slot: Slot) -> Value<'a> {
        match &self.slots.first[slot as usize] {
            Found::Nothing | Found::Empty => Value::None,
            first => match self.scalar(first) {
                Value::None if !self.slots.more.is_empty() => {
                    self.values(slot).map(|f| self.scalar(f)).find(Value::is_some).unwrap_or_default()
                }
                value => value,
            },
        }
    }

    fn scalar(&self, found: &'a Found) -> Value<'a> {
        match found {
            Found::Nothing | Found::Empty => Value::None,
            Found::Text(text) => self.text(text),
            Found::Tape(at) => self.node(*at as usize),
        }
    }

    fn text(&self, text: &'a str) -> Value<'a> {
        if self.is_absent(text) { Value::None } else { Value::Text(Cow::Borrowed(text)) }
    }

    fn node(&self, at: usize) -> Value<'a> {
        match self.tape[at] {
            Node::String(text) => self.text(text),
            Node::Static(StaticNode::Null) | Node::Object { .. } => Value::None,
            Node::Static(StaticNode::Bool(value)) => Value::Bool(value),
            Node::Static(StaticNode::I64(value)) => Value::Int(value),
            Node::Static(StaticNode::U64(value)) => i64::try_from(value).map_or(Value::Float(value as f64), Value::Int),
            Node::Static(StaticNode::F64(value)) => Value::Float(value),
            Node::Array { len, .. } => self.elements(at, len).find(Value::is_some).unwrap_or_default(),
        }
    }

    /// The scalar elements of an array.
    fn elements(&self, at: usize, len: usize) -> impl Iterator<Item = Value<'a>> + '_ {
        let mut next = at + 1;
        (0..len).map(move |_| {
            let element = next;
            next += size(&self.tape[element]);
            if matches!(self.tape[element], Node::Array { .. }) { Value::None } else { self.node(element) }
        })
    }

    /// All values of the first term that gives any.
    pub(crate) fn list(&self, terms: &'a [Term]) -> Vec<Cow<'a, str>> {
        let mut list = Vec::new();
        for term in terms.iter().filter(|t| !self.has_nothing(&t.source) && self.holds(&t.when)) {
            let Source::Slot(slot) = term.source else {
                self.push(self.source(&term.source), &term.functions, &mut list);
                if list.is_empty() { continue } else { return list }
            };
            for found in self.values(slot) {
                match found {
                    Found::Tape(at) => match self.tape[*at as usize] {
                        Node::Array { len, .. } => {
                            self.elements(*at as usize, len).for_each(|v| self.push(v, &term.functions, &mut list));
                        }
                        _ => self.push(self.node(*at as usize), &term.functions, &mut list),
                    },
                    found => self.push(self.scalar(found), &term.functions, &mut list),
                }
            }
            if !list.is_empty() {
                return list;
            }
        }
        list
    }

    fn push(&self, value: Value<'a>, functions: &'a [Function], list: &mut Vec<Cow<'a, str>>) {
        let split = functions.iter().position(|f| matches!(f, Function::Split(_)));
        let Some(at) = split else {
            list.extend(self.apply(value, functions).into_text());
            return;
        };
        let Function::Split(separators) = &functions[at] else { return };
        let Some(text) = self.apply(value, &functions[..at]).into_text() else { return };
        for piece in text.split(|c: char| separators.contains(&c)).map(str::trim).filter(|p| !p.is_empty()) {
            let piece = self.apply(Value::Text(Cow::Owned(piece.to_owned())), &functions[at + 1..]);
            list.extend(piece.into_text());
        }
    }

    fn apply(&self, value: Value<'a>, functions: &'a [Function]) -> Value<'a> {
        let mut value = value;
        for function in functions {
            if !value.is_some() {
                break;
            }
            value = function.apply(value, self);
        }
        value
    }

    /// Where on the tape the object or array of a slot stands.
    pub(crate) fn container(&self, slot: Slot) -> Option<usize> {
        match self.slots.first[slot as usize] {
            Found::Tape(at) if !matches!(self.tape[at as usize], Node::Static(_)) => Some(at as usize),
            _ => None,
        }
    }
}

/// Longer texts are never one of those that say that there is nothing.
pub(crate) const ABSENT_BYTES_MAX: usize = 40;

impl Test {
    pub(crate) fn fits(&self, text: Option<&str>) -> bool {
        match self {
            Test::Present(wanted) => text.is_some() == *wanted,
            Test::Empty => text.is_none(),
            Test::Matches(regex) => text.is_some_and(|text| regex.is_match(text)),
            Test::Like { globs, is } => text.is_some_and(|text| globs.iter().any(|g| like(g, text))) == *is,
        }
    }
}

impl<'a> Value<'a> {
    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        !matches!(self, Value::None)
    }

    pub(crate) fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::None => None,
            Value::Text(text) => Some(Cow::Borrowed(text)),
            Value::Int(value) => Some(Cow::Owned(value.to_string())),
            Value::Float(value) => Some(Cow::Owned(value.to_string())),
            Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        }
    }

    pub(crate) fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Value::Text(text) => Some(text),
            other => other.as_text().map(|text| Cow::Owned(text.into_owned())),
        }
    }

    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::Text(text) => text.trim().parse().ok().filter(|n: &f64| n.is_finite()),
            Value::None | Value::Bool(_) => None,
        }
    }

    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            Value::Text(text) => text.trim().parse().ok().or_else(|| self.number().and_then(whole)),
            _ => self.number().and_then(whole),
        }
    }
}

/// A number rounded to the nearest whole one, where that fits.
fn whole(number: f64) -> Option<i64> {
    let rounded = number.round();
    (rounded.abs() < 9.2e18).then_some(rounded as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_that_fits_counts() {
        let mut table = Table::default();
        for (number, glob) in ["a.b.c", "a.*", "a.b", "*"].into_iter().enumerate() {
            table.push(glob, vec![number.to_string()]);
        }
        assert_eq!([table.find("A.B.C"), table.find("a.b"), table.find("x")], [Some(0), Some(1), Some(3)]);
    }
}

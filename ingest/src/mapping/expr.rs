//! What a column is made of: terms in the order in which they are tried, each a condition, a source and functions.

use std::borrow::Cow;

use ahash::AHashMap;
use regex::Regex;
use schemas::glob::like;
use simd_json::{Node, StaticNode};

use super::decoded::Decoded;
use super::function::{Function, pieces};
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

/// Texts by which the vendor says that there is nothing.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    texts: Vec<String>,
    /// Most texts are longer than all of them.
    bytes_max: usize,
}

impl Absent {
    pub(crate) fn new(texts: Vec<String>) -> Absent {
        Absent { bytes_max: texts.iter().map(String::len).max().unwrap_or(0), texts }
    }

    #[inline(always)]
    fn has(&self, text: &str) -> bool {
        text.len() <= self.bytes_max && self.texts.iter().any(|absent| absent == text)
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
    pub(crate) absent: &'a Absent,
    pub(crate) tables: &'a [Table],
    pub(crate) regexes: &'a [Regex],
    pub(crate) secret_key: &'a [u8; 32],
}

impl<'a> Record<'a, '_> {
    /// What the first term gives that gives something.
    pub(crate) fn eval(&self, terms: &'a [Term]) -> Value<'a> {
        self.first(terms, |_, value| std::mem::take(value)).unwrap_or_default()
    }

    /// Shows the first term that gives something, and what it gives. It is not handed over: the processor copies a value in
    /// two reads, and waits until all writes that put it together are done.
    #[inline(always)]
    pub(crate) fn first<R>(&self, terms: &'a [Term], f: impl FnOnce(&'a Term, &mut Value<'a>) -> R) -> Option<R> {
        for term in terms {
            if self.has_nothing(&term.source) || !(term.when.is_empty() || self.holds(&term.when)) {
                continue;
            }
            let mut found = self.source(&term.source);
            if !term.functions.is_empty() {
                let mut made = self.apply(&found, &term.functions);
                if made.is_some() {
                    return Some(f(term, &mut made));
                }
            } else if found.is_some() {
                return Some(f(term, &mut found));
            }
        }
        None
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

    #[inline]
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
    fn any(&self, found: Found, fits: &impl Fn(&str) -> bool) -> bool {
        let one = |value: Value<'a>| value.as_text().is_some_and(|text| fits(&text));
        match found {
            Found::Tape(at) => match self.tape[at as usize] {
                Node::Array { len, .. } => self.elements(at as usize, len).any(one),
                _ => one(self.node(at as usize)),
            },
            found => one(self.scalar(found)),
        }
    }

    fn present(&self, slot: Slot) -> bool {
        self.values(slot).any(|found| match found {
            Found::Nothing | Found::Empty => false,
            Found::Text(text) => !self.absent.has(&self.slots.texts[text as usize]),
            Found::Tape(at) => match &self.tape[at as usize] {
                Node::String(text) => !self.absent.has(text),
                Node::Static(value) => *value != StaticNode::Null,
                Node::Object { .. } | Node::Array { .. } => true,
            },
        })
    }

    fn values(&self, slot: Slot) -> impl Iterator<Item = Found> + use<'a> {
        let more = self.slots.more.iter().filter(move |(s, _)| *s == slot).map(|(_, found)| *found);
        std::iter::once(self.slots.first[slot as usize]).chain(more)
    }

    #[inline(always)]
    fn source(&self, source: &'a Source) -> Value<'a> {
        match source {
            Source::Slot(slot) => self.slot(*slot),
            Source::Literal(text) => Value::Text(Cow::Borrowed(text)),
            Source::Format => Value::Text(Cow::Borrowed(self.format)),
            Source::Received => Value::Int(self.received_at),
            Source::Join(parts) => self.join(parts),
        }
    }

    fn join(&self, parts: &'a [Term]) -> Value<'a> {
        let mut joined = String::with_capacity(JOIN_BYTES);
        for part in parts {
            let put = |text: Cow<'_, str>| joined.push_str(&text);
            if self.first(std::slice::from_ref(part), |_, value| value.as_text().map_or((), put)).is_none() {
                return Value::None;
            }
        }
        Value::Text(Cow::Owned(joined))
    }

    /// The first value of a slot that is one.
    #[inline(always)]
    pub(crate) fn slot(&self, slot: Slot) -> Value<'a> {
        if self.slots.more.is_empty() { self.scalar(self.slots.first[slot as usize]) } else { self.first_value(slot) }
    }

    fn first_value(&self, slot: Slot) -> Value<'a> {
        self.values(slot).map(|found| self.scalar(found)).find(Value::is_some).unwrap_or_default()
    }

    #[inline(always)]
    fn scalar(&self, found: Found) -> Value<'a> {
        match found {
            Found::Nothing | Found::Empty => Value::None,
            Found::Text(text) => self.text(&self.slots.texts[text as usize]),
            Found::Tape(at) => self.node(at as usize),
        }
    }

    #[inline(always)]
    fn text(&self, text: &'a str) -> Value<'a> {
        if self.absent.has(text) { Value::None } else { Value::Text(Cow::Borrowed(text)) }
    }

    #[inline(always)]
    fn node(&self, at: usize) -> Value<'a> {
        match self.tape[at] {
            Node::String(text) => self.text(text),
            Node::Static(StaticNode::Null) | Node::Object { .. } => Value::None,
            Node::Static(StaticNode::Bool(value)) => Value::Bool(value),
            Node::Static(StaticNode::I64(value)) => Value::Int(value),
            Node::Static(StaticNode::U64(value)) => i64::try_from(value).map_or(Value::Float(value as f64), Value::Int),
            Node::Static(StaticNode::F64(value)) => Value::Float(value),
            Node::Array { len, .. } => self.first_of(at, len),
        }
    }

    fn first_of(&self, at: usize, len: usize) -> Value<'a> {
        self.elements(at, len).find(Value::is_some).unwrap_or_default()
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
                    Found::Tape(at) => match self.tape[at as usize] {
                        Node::Array { len, .. } => {
                            self.elements(at as usize, len).for_each(|v| self.push(v, &term.functions, &mut list));
                        }
                        _ => self.push(self.node(at as usize), &term.functions, &mut list),
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
            list.extend(self.apply(&value, functions).into_text());
            return;
        };
        let Function::Split(separators) = &functions[at] else { return };
        let mut put = |piece| match &functions[at + 1..] {
            [] => list.push(piece),
            rest => list.extend(self.apply(&Value::Text(piece), rest).into_text()),
        };
        match self.apply(&value, &functions[..at]).into_text() {
            Some(Cow::Borrowed(text)) => pieces(text, separators).for_each(|piece| put(Cow::Borrowed(piece))),
            Some(Cow::Owned(text)) => pieces(&text, separators).for_each(|piece| put(Cow::Owned(piece.to_owned()))),
            None => {}
        }
    }

    fn apply(&self, value: &Value<'a>, functions: &'a [Function]) -> Value<'a> {
        match functions {
            _ if !value.is_some() => Value::None,
            [] => value.clone(),
            [only] => only.apply(value, self),
            [first, rest @ ..] => self.apply(&first.apply(value, self), rest),
        }
    }

    /// Where on the tape the object or array of a slot stands.
    pub(crate) fn container(&self, slot: Slot) -> Option<usize> {
        match self.slots.first[slot as usize] {
            Found::Tape(at) if !matches!(self.tape[at as usize], Node::Static(_)) => Some(at as usize),
            _ => None,
        }
    }
}

/// Most joined texts are no longer.
const JOIN_BYTES: usize = 64;
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

    #[inline(always)]
    pub(crate) fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::None => None,
            Value::Text(text) => Some(Cow::Borrowed(text)),
            Value::Int(value) => Some(Cow::Owned(value.to_string())),
            Value::Float(value) => Some(Cow::Owned(value.to_string())),
            Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        }
    }

    #[inline(always)]
    pub(crate) fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Value::None => None,
            Value::Text(text) => Some(text),
            Value::Int(value) => Some(Cow::Owned(value.to_string())),
            Value::Float(value) => Some(Cow::Owned(value.to_string())),
            Value::Bool(value) => Some(Cow::Borrowed(if value { "true" } else { "false" })),
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

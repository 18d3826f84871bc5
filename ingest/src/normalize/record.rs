//! One record: parse, walk, and decide what it becomes.

use serde_json::Value as Json;
use simd_json::{INPUT_PADDING, Node, Tape};

use super::fill::required;
use super::{Parse, Refusal, Run, Scratch};
use crate::context::{Outcome, Reason};
use crate::mapping::expr::{Condition, Record};
use crate::mapping::trie::NodeId;
use crate::mapping::{Level, Mapping};
use crate::text::TextFormat;
use crate::walk::{Found, Slots, size};
use crate::{raw, text};

/// A parsed and walked record, and where it came from.
pub(super) struct Walked<'a, 't> {
    pub(super) tape: &'a [Node<'t>],
    pub(super) raw: &'a str,
    pub(super) format: Option<&'a str>,
    pub(super) offset: u64,
}

impl<'m> Run<'m> {
    /// Admits one record; `size` is its whole length where it was cut.
    pub(super) fn record(&mut self, parse: &mut Parse, bytes: &[u8], offset: u64, size: u64) {
        let max = self.limits.record_bytes_max;
        if size > max as u64 {
            let detail = format!("the record has {size} bytes, the limit is {max}");
            return self.quarantine(bytes, size, (Reason::TooLarge, None, detail));
        }
        if let Err(refusal) = self.one(bytes, offset, parse, true) {
            self.quarantine(bytes, size, refusal);
        }
    }

    fn one(&mut self, bytes: &[u8], offset: u64, parse: &mut Parse, outer: bool) -> Result<(), Refusal> {
        let raw = std::str::from_utf8(bytes).map_err(|error| (Reason::NotUtf8, None, error.to_string()))?;
        let mut line = line_of(self.mapping, raw)?;
        loop {
            match self.parsed(raw, line.as_ref(), offset, parse, outer)? {
                Turn::Done => return Ok(()),
                Turn::Envelope(path) => return self.inside(bytes, offset, parse, path),
                Turn::Line(found) => line = Some(found),
            }
        }
    }

    /// Parses and walks the record, or the fields of its text line.
    fn parsed(
        &mut self,
        raw: &str,
        line: Option<&Line<'_>>,
        offset: u64,
        parse: &mut Parse,
        outer: bool,
    ) -> Result<Turn<'m>, Refusal> {
        let Parse { bytes: buffer, buffers, tape: kept, slots } = parse;
        buffer.clear();
        buffer.extend_from_slice(line.map_or(raw, |l| &l.json).as_bytes());
        let length = buffer.len();
        buffer.resize(length + INPUT_PADDING, 0);
        let mut tape = std::mem::replace(kept, Tape(Vec::new())).reset();
        let result = match simd_json::fill_tape_padded(buffer, length, buffers, &mut tape) {
            Ok(()) => {
                let walked = Walked { tape: &tape.0, raw, format: line.map(|l| l.format), offset };
                self.walked(&walked, slots, outer)
            }
            Err(error) => {
                // A text line's JSON is our own, so its positions say nothing to the sender.
                let found = if line.is_none() { not_json(raw) } else { None };
                Err((Reason::NotJson, None, found.unwrap_or_else(|| error.to_string())))
            }
        };
        *kept = tape.reset();
        result
    }

    /// Walks a parsed record, which may turn out to be an envelope, or to hold a text line.
    fn walked(&mut self, walked: &Walked<'_, '_>, slots: &mut Slots, outer: bool) -> Result<Turn<'m>, Refusal> {
        if !matches!(walked.tape.first(), Some(Node::Object { .. })) {
            return Err((Reason::NotObject, None, "a record is an object".to_owned()));
        }
        let mapping = self.mapping;
        slots.clear(mapping.trie.slots);
        slots.walk(&mapping.trie, walked.tape, &mapping.explode_first, mapping.beside);
        if outer && let Some(path) = envelope(mapping, walked.tape, slots) {
            return Ok(Turn::Envelope(path));
        }
        if walked.format.is_none()
            && let Some(line) = line_inside(mapping, walked, slots)
        {
            return Ok(Turn::Line(line));
        }
        self.become_something(walked, slots)?;
        Ok(Turn::Done)
    }

    /// The records inside an envelope, each by itself.
    fn inside(&mut self, bytes: &[u8], offset: u64, parse: &mut Parse, path: usize) -> Result<(), Refusal> {
        let mapping = self.mapping;
        for (start, end) in raw::inside(bytes, &mapping.envelopes[path].1) {
            let element = &bytes[start..end];
            if let Err(refusal) = self.one(element, offset + start as u64, parse, false) {
                self.quarantine(element, element.len() as u64, refusal);
            }
        }
        Ok(())
    }

    fn become_something(&mut self, walked: &Walked<'_, '_>, slots: &mut Slots) -> Result<(), Refusal> {
        let mapping = self.mapping;
        let exploded = slots.exploded.take();
        let record = view(mapping, walked, slots, self.context.secret_key);
        if let Some(rule) = mapping.noise.iter().find(|rule| record.holds(&rule.when)) {
            self.outcomes.push(Outcome::Noise { rule: rule.name.clone() });
            return Ok(());
        }
        let number = self.number();
        let events = match exploded {
            Some((node, at)) => self.explode(walked, slots, node, at)?,
            None => {
                let columns = mapping.columns_of(&record);
                let required = required(&record, columns)?;
                let masked = self.mask(walked.raw);
                self.fill(walked, &record, columns, required, 0, masked);
                1
            }
        };
        self.event_record.extend(std::iter::repeat_n(number, events as usize));
        self.outcomes.push(Outcome::Mapped { events });
        Ok(())
    }

    /// One event for each element; all of them are looked at before the first is written.
    fn explode(&mut self, walked: &Walked<'_, '_>, slots: &mut Slots, node: NodeId, at: usize) -> Result<u32, Refusal> {
        let mapping = self.mapping;
        let Some(explode) = mapping.explode.iter().find(|e| e.levels[0].node == node) else { return Ok(0) };
        let mut count = 0;
        self.level(walked, slots, &explode.levels, at, &mut |run, record| {
            count += 1;
            if count > run.limits.record_events_max {
                let max = run.limits.record_events_max;
                return Err((Reason::TooManyEvents, None, format!("the record holds more than {max} events")));
            }
            required(record, mapping.columns_of(record)).map(|_| ())
        })?;
        if count == 0 {
            return Err((Reason::NoAction, Some("action"), "the record's list of events is empty".to_owned()));
        }
        let masked = self.mask(walked.raw);
        let mut index = 0;
        self.level(walked, slots, &explode.levels, at, &mut |run, record| {
            let columns = mapping.columns_of(record);
            let required = required(record, columns)?;
            run.fill(walked, record, columns, required, index, masked);
            index += 1;
            Ok(())
        })?;
        Ok(index as u32)
    }

    /// Calls `f` with each element below the array or object at `at`, the innermost level's.
    fn level(
        &mut self,
        walked: &Walked<'_, '_>,
        slots: &mut Slots,
        levels: &[Level],
        at: usize,
        f: &mut dyn FnMut(&mut Self, &Record<'_, '_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mapping = self.mapping;
        let secret_key = self.context.secret_key;
        let (level, inner) = (&levels[0], &levels[1..]);
        let deeper: &[NodeId] = inner.first().map_or(&[], |next| std::slice::from_ref(&next.node));
        let place = (&mapping.trie, walked.tape);
        let beside = slots.beside.take();
        for (number, (key, element)) in elements(walked.tape, at, level.entry.is_some()).enumerate() {
            let mark = slots.mark();
            match level.entry {
                Some(value) => {
                    key.into_iter().zip(mapping.key_slot).for_each(|(key, slot)| slots.put_text(slot, key));
                    slots.walk_entry(place, element, value);
                }
                None => slots.walk_element(place, element, level.node, number, deeper),
            }
            if let (Some(array), Some(node)) = (beside, mapping.beside)
                && let Some((_, twin)) = elements(walked.tape, array, false).nth(number)
            {
                slots.walk_element(place, twin, node, number, &[]);
            }
            let result = match (inner.is_empty(), slots.exploded.take()) {
                (true, _) => f(self, &view(mapping, walked, slots, secret_key)),
                (false, Some((_, at))) => self.level(walked, slots, inner, at, f),
                (false, None) => Ok(()),
            };
            slots.undo(mark);
            result?;
        }
        slots.beside = beside;
        Ok(())
    }

    /// Masks the raw record into the scratch; whether anything was masked.
    fn mask(&mut self, raw: &str) -> bool {
        let count = self.mapping.masker.mask(raw, &mut self.scratch.masked);
        self.masked += i64::from(count);
        count > 0
    }
}

/// What a look at a record says is to be done next.
enum Turn<'m> {
    Done,
    Envelope(usize),
    Line(Line<'m>),
}

/// A text line's fields as JSON, and the name of its form.
struct Line<'m> {
    json: String,
    format: &'m str,
}

/// The line that a record is, where it is no JSON.
fn line_of<'m>(mapping: &'m Mapping, raw: &str) -> Result<Option<Line<'m>>, Refusal> {
    if raw.starts_with('{') || mapping.formats.is_empty() {
        return Ok(None);
    }
    let Some((format, fields)) = text::fields(&mapping.formats, raw) else {
        let known: Vec<&str> = mapping.formats.iter().map(|f| f.name.as_str()).collect();
        return Err((Reason::UnknownFormat, None, format!("neither JSON nor one of: {}", known.join(", "))));
    };
    Ok(Some(Line { json: Json::Object(fields).to_string(), format }))
}

/// The text line that stands in a field of a JSON record; the record goes with it as `$outer`.
fn line_inside<'m>(mapping: &'m Mapping, walked: &Walked<'_, '_>, slots: &Slots) -> Option<Line<'m>> {
    mapping.lines.iter().find_map(|slot| {
        let Found::Tape(at) = slots.first[*slot as usize] else { return None };
        let Node::String(text) = walked.tape[at as usize] else { return None };
        let (format, fields) = text::fields(&mapping.formats, text.trim())?;
        let mut json = Json::Object(fields).to_string();
        json.pop();
        json.push_str(if json.len() > 1 { ",\"$outer\":" } else { "\"$outer\":" });
        json.push_str(walked.raw);
        json.push('}');
        Some(Line { json, format })
    })
}

/// The elements of an array, or the entries of an object with their keys; an object that is not `entries` is its only
/// element.
fn elements<'a, 't>(
    tape: &'a [Node<'t>],
    at: usize,
    entries: bool,
) -> impl Iterator<Item = (Option<&'t str>, usize)> + use<'a, 't> {
    let (len, keyed, mut next) = match tape[at] {
        Node::Array { len, .. } => (len, false, at + 1),
        Node::Object { len, .. } if entries => (len, true, at + 1),
        _ => (1, false, at),
    };
    (0..len).map(move |_| {
        let key = match tape[next] {
            Node::String(key) if keyed => Some(key),
            _ => None,
        };
        next += usize::from(keyed);
        let element = next;
        next += size(&tape[element]);
        (key, element)
    })
}

fn view<'a, 't>(mapping: &'a Mapping, walked: &Walked<'a, 't>, slots: &'a Slots, key: &'a [u8; 32]) -> Record<'a, 't> {
    Record {
        tape: walked.tape,
        slots,
        format: walked.format,
        absent: &mapping.absent,
        tables: &mapping.tables,
        regexes: &mapping.regexes,
        secret_key: key,
    }
}

/// Where and why a text is no JSON: the fast parser does not say.
fn not_json(raw: &str) -> Option<String> {
    let error = serde_json::from_str::<serde::de::IgnoredAny>(raw).err()?;
    if error.is_eof() { Some(format!("the record is cut off: {error}")) } else { Some(error.to_string()) }
}

/// Which envelope the record is, where it is one.
fn envelope(mapping: &Mapping, tape: &[Node<'_>], slots: &Slots) -> Option<usize> {
    mapping.envelopes.iter().position(|(slot, _)| match slots.first[*slot as usize] {
        Found::Tape(at) => matches!(tape[at as usize], Node::Object { .. } | Node::Array { .. }),
        _ => false,
    })
}

/// How much of a record the mapping asks for, where the record is one of its own; else how much of it the record has.
pub(crate) fn recognises(mapping: &Mapping, bytes: &[u8]) -> Likeness {
    let mut scratch: Scratch = mapping.take_scratch();
    let likeness = recognise(mapping, bytes, scratch.parse.get_or_insert_default(), true).unwrap_or_default();
    mapping.give_scratch(scratch);
    likeness
}

/// How much a record looks like one of a mapping's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Likeness {
    /// All conditions hold.
    pub(crate) is_own: bool,
    /// Conditions that hold.
    pub(crate) met: usize,
    pub(crate) asked: usize,
}

fn recognise(mapping: &Mapping, bytes: &[u8], parse: &mut Parse, outer: bool) -> Option<Likeness> {
    let raw = std::str::from_utf8(bytes).ok()?;
    if !raw.starts_with('{') {
        return mapping.formats.iter().find(|f| f.regex.is_match(raw)).map(line_likeness);
    }
    let mut buffer = bytes.to_vec();
    let mut tape = Tape(Vec::new());
    simd_json::fill_tape(&mut buffer, &mut parse.buffers, &mut tape).ok()?;
    parse.slots.clear(mapping.trie.slots);
    parse.slots.walk(&mapping.trie, &tape.0, &[], None);
    if outer && let Some(path) = envelope(mapping, &tape.0, &parse.slots) {
        let (start, end) = *raw::inside(bytes, &mapping.envelopes[path].1).first()?;
        return recognise(mapping, &bytes[start..end], parse, false);
    }
    let walked = Walked { tape: &tape.0, raw, format: None, offset: 0 };
    if let Some(line) = line_inside(mapping, &walked, &parse.slots) {
        return mapping.formats.iter().find(|f| f.name == line.format).map(line_likeness);
    }
    let record = view(mapping, &walked, &parse.slots, &[0; 32]);
    let met = |when: &Vec<Condition>| {
        let met = when.iter().filter(|c| record.holds(std::slice::from_ref(*c))).count();
        Likeness { is_own: met == when.len(), met, asked: when.len() }
    };
    mapping.recognise.iter().map(met).max()
}

/// A line that fits is as telling as the shortest line that would.
fn line_likeness(format: &TextFormat) -> Likeness {
    Likeness { is_own: true, met: format.line_bytes_min, asked: format.line_bytes_min }
}

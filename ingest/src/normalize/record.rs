//! One record: parse, walk, and decide what it becomes.

use simd_json::{INPUT_PADDING, Node, Tape};

use super::fill::required;
use super::{Parse, Refusal, Run};
use crate::context::{Outcome, Reason};
use crate::mapping::decoded::Decoded;
use crate::mapping::expr::Record;
use crate::mapping::trie::NodeId;
use crate::mapping::{Level, Mapping};
use crate::walk::{Found, Slots, size};
use crate::{raw, text};

/// A parsed and walked record, and where it came from.
pub(super) struct Walked<'a, 't> {
    pub(super) tape: &'a [Node<'t>],
    pub(super) raw: &'a str,
    pub(super) format: &'a str,
    /// Whether `tape` is that of a line in `raw`, or of its fields.
    pub(super) is_line: bool,
    pub(super) offset: u64,
    pub(super) received_at: i64,
    pub(super) secret_key: &'a [u8; 32],
    pub(super) decoded: Decoded,
}

/// The form of a record that is no text line.
pub(super) const JSON: &str = "json";

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
        let raw = simdutf8::basic::from_utf8(bytes).or_else(|_| std::str::from_utf8(bytes));
        let raw = raw.map_err(|error| (Reason::NotUtf8, None, error.to_string()))?;
        let mut line = line_of(self.mapping, raw)?;
        loop {
            match self.parsed(raw, line.as_ref(), offset, parse, outer)? {
                Turn::Done => return Ok(()),
                Turn::Envelope(path) => {
                    let bytes = line.as_ref().map_or(bytes, |line| line.json.as_bytes());
                    return self.inside(bytes, offset, parse, path);
                }
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
                let walked = Walked {
                    tape: &tape.0,
                    raw,
                    format: line.map_or(JSON, |l| l.format),
                    is_line: line.is_some(),
                    offset,
                    received_at: self.context.received_at,
                    secret_key: self.context.secret_key,
                    decoded: Decoded::default(),
                };
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
        if !walked.is_line
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
        let record = view(mapping, walked, slots);
        if let Some(rule) = mapping.noise.iter().find(|rule| record.holds(&rule.when)) {
            self.outcomes.push(Outcome::Noise { rule: rule.name.clone() });
            return Ok(());
        }
        let number = self.number();
        let events = match exploded {
            Some((node, at)) => self.explode(walked, slots, node, at)?,
            None => self.whole(walked, slots)?,
        };
        self.event_record.extend(std::iter::repeat_n(number, events as usize));
        // `push` would put it together elsewhere, and copy it.
        self.outcomes.extend(std::iter::once_with(|| Outcome::Mapped { events }));
        Ok(())
    }

    /// One event for the whole record.
    fn whole(&mut self, walked: &Walked<'_, '_>, slots: &Slots) -> Result<u32, Refusal> {
        let record = view(self.mapping, walked, slots);
        let columns = self.mapping.columns_of(&record);
        let required = required(&record, columns)?;
        let masked = self.mask(walked.raw);
        self.fill(walked, &record, columns, required, 0, masked);
        Ok(1)
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
            // What the record says besides may be enough.
            slots.walk_beside((&mapping.trie, walked.tape), mapping.beside);
            let empty = "the record's list of events is empty, and without it there is";
            return self.whole(walked, slots).map_err(|(reason, field, detail)| {
                (reason, field, format!("{empty} no {}: {detail}", field.unwrap_or("event")))
            });
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
                (true, _) => f(self, &view(mapping, walked, slots)),
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

/// A line's JSON, which for a text line is that of its fields, and the name of its form.
pub(super) struct Line<'m> {
    pub(super) json: String,
    pub(super) format: &'m str,
}

/// The line that a record is, where it is no JSON.
pub(super) fn line_of<'m>(mapping: &'m Mapping, raw: &str) -> Result<Option<Line<'m>>, Refusal> {
    if raw.starts_with('{') || mapping.formats.is_empty() {
        return Ok(None);
    }
    let Some((format, json)) = text::fields(&mapping.formats, raw, &|key| mapping.trie.has(key)) else {
        let known: Vec<&str> = mapping.formats.iter().map(|f| f.name.as_str()).collect();
        return Err((Reason::UnknownFormat, None, format!("neither JSON nor one of: {}", known.join(", "))));
    };
    Ok(Some(Line { json, format }))
}

/// The line, a text or a JSON object, that stands in a field of a JSON record; the record goes with it as `$outer`.
pub(super) fn line_inside<'m>(mapping: &'m Mapping, walked: &Walked<'_, '_>, slots: &Slots) -> Option<Line<'m>> {
    mapping.lines.iter().find_map(|slot| {
        let Found::Tape(at) = slots.first[*slot as usize] else { return None };
        let Node::String(text) = walked.tape[at as usize] else { return None };
        let text = text.trim();
        if text.starts_with('{') && text.ends_with('}') {
            return Some(Line { json: with_outer(text, walked.raw), format: JSON });
        }
        let (format, json) = text::fields(&mapping.formats, text, &|key| mapping.trie.has(key))?;
        Some(Line { json: with_outer(&json, walked.raw), format })
    })
}

/// A JSON object with another one inside, as `$outer`.
fn with_outer(object: &str, outer: &str) -> String {
    let open = object.strip_suffix('}').unwrap_or(object);
    let comma = if open.trim_end().len() > 1 { "," } else { "" };
    format!("{open}{comma}\"$outer\":{outer}}}")
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

pub(super) fn view<'a, 't>(mapping: &'a Mapping, walked: &'a Walked<'a, 't>, slots: &'a Slots) -> Record<'a, 't> {
    Record {
        tape: walked.tape,
        slots,
        format: walked.format,
        received_at: walked.received_at,
        decoded: &walked.decoded,
        absent: &mapping.absent,
        tables: &mapping.tables,
        regexes: &mapping.regexes,
        secret_key: walked.secret_key,
    }
}

/// Where and why a text is no JSON: the fast parser does not say.
fn not_json(raw: &str) -> Option<String> {
    let error = serde_json::from_str::<serde::de::IgnoredAny>(raw).err()?;
    if error.is_eof() { Some(format!("the record is cut off: {error}")) } else { Some(error.to_string()) }
}

/// Which envelope the record is, where it is one.
pub(super) fn envelope(mapping: &Mapping, tape: &[Node<'_>], slots: &Slots) -> Option<usize> {
    mapping.envelopes.iter().position(|(slot, _)| match slots.first[*slot as usize] {
        Found::Tape(at) => matches!(tape[at as usize], Node::Object { .. } | Node::Array { .. }),
        _ => false,
    })
}

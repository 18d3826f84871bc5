//! One record: parse, walk, and decide what it becomes.

use serde_json::{Map, Value as Json};
use simd_json::{INPUT_PADDING, Node, Tape};

use super::fill::required;
use super::{Parse, Refusal, Run, Scratch};
use crate::context::{Outcome, Reason};
use crate::mapping::Mapping;
use crate::mapping::expr::Record;
use crate::raw;
use crate::walk::{Slots, size};

/// A parsed and walked record, and where it came from.
pub(super) struct Walked<'a, 't> {
    pub(super) tape: &'a [Node<'t>],
    pub(super) raw: &'a str,
    pub(super) format: Option<&'a str>,
    pub(super) offset: u64,
}

impl Run<'_> {
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
        let Parse { bytes: buffer, buffers, tape: kept, slots } = parse;
        let mut tape = std::mem::replace(kept, Tape(Vec::new())).reset();
        let result = match line_or_json(self.mapping, bytes, buffer) {
            Ok((raw, format)) => {
                let length = buffer.len() - INPUT_PADDING;
                match simd_json::fill_tape_padded(buffer, length, buffers, &mut tape) {
                    Ok(()) => {
                        let walked = Walked { tape: &tape.0, raw, format, offset };
                        self.walked(&walked, slots, outer)
                    }
                    Err(error) => {
                        // A text line's JSON is our own, so its positions say nothing to the sender.
                        let found = if format.is_none() { not_json(raw) } else { None };
                        Err((Reason::NotJson, None, found.unwrap_or_else(|| error.to_string())))
                    }
                }
            }
            Err(refusal) => Err(refusal),
        };
        *kept = tape.reset();
        match result? {
            Some(path) => self.inside(bytes, offset, parse, path),
            None => Ok(()),
        }
    }

    /// Walks a parsed record; gives the number of the envelope where it is one.
    fn walked(&mut self, walked: &Walked<'_, '_>, slots: &mut Slots, outer: bool) -> Result<Option<usize>, Refusal> {
        if !matches!(walked.tape.first(), Some(Node::Object { .. })) {
            return Err((Reason::NotObject, None, "a record is an object".to_owned()));
        }
        slots.clear(self.mapping.trie.slots);
        slots.walk(&self.mapping.trie, walked.tape, 0, self.mapping.explode);
        if outer && let Some(path) = envelope(self.mapping, walked.tape, slots) {
            return Ok(Some(path));
        }
        self.become_something(walked, slots)?;
        Ok(None)
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
        let record = view(mapping, walked, slots, self.context.secret_key);
        if let Some(rule) = mapping.noise.iter().find(|rule| record.holds(&rule.when)) {
            self.outcomes.push(Outcome::Noise { rule: rule.name.clone() });
            return Ok(());
        }
        let number = self.number();
        let events = match (mapping.explode, slots.exploded) {
            (Some(node), Some(array)) => self.explode(walked, slots, array, node)?,
            _ => {
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

    /// One event for each element of an array; all of them are looked at before the first is written.
    fn explode(&mut self, walked: &Walked<'_, '_>, slots: &mut Slots, array: usize, node: u32) -> Result<u32, Refusal> {
        let mapping = self.mapping;
        let Node::Array { len, .. } = walked.tape[array] else {
            return Err((Reason::NotObject, None, "the events of this record are no array".to_owned()));
        };
        if len > self.limits.record_events_max {
            let detail = format!("the record holds {len} events, the limit is {}", self.limits.record_events_max);
            return Err((Reason::TooManyEvents, None, detail));
        }
        if len == 0 {
            return Err((Reason::NoAction, Some("action"), "the record's list of events is empty".to_owned()));
        }
        let masked = self.mask(walked.raw);
        for write in [false, true] {
            let mut at = array + 1;
            for number in 0..len {
                let mark = slots.walk_element(&mapping.trie, walked.tape, at, node, number);
                let record = view(mapping, walked, slots, self.context.secret_key);
                let columns = mapping.columns_of(&record);
                let required = required(&record, columns)?;
                if write {
                    self.fill(walked, &record, columns, required, number as i32, masked);
                }
                slots.undo(mark);
                at += size(&walked.tape[at]);
            }
        }
        Ok(len as u32)
    }

    /// Masks the raw record into the scratch; whether anything was masked.
    fn mask(&mut self, raw: &str) -> bool {
        let count = self.mapping.masker.mask(raw, &mut self.scratch.masked);
        self.masked += i64::from(count);
        count > 0
    }
}

/// Fills the parse buffer with JSON: the record itself, or the fields of a text line. Gives the record as text and the
/// name of the line's format.
fn line_or_json<'m, 'b>(
    mapping: &'m Mapping,
    bytes: &'b [u8],
    buffer: &mut Vec<u8>,
) -> Result<(&'b str, Option<&'m str>), Refusal> {
    let raw = std::str::from_utf8(bytes).map_err(|error| (Reason::NotUtf8, None, error.to_string()))?;
    buffer.clear();
    let mut format = None;
    if raw.starts_with('{') || mapping.formats.is_empty() {
        buffer.extend_from_slice(bytes);
    } else {
        let (name, fields) = line_fields(mapping, raw)?;
        format = Some(name);
        serde_json::to_writer(&mut *buffer, &fields).map_err(|e| (Reason::UnknownFormat, None, e.to_string()))?;
    }
    buffer.resize(buffer.len() + INPUT_PADDING, 0);
    Ok((raw, format))
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
        crate::walk::Found::Tape(at) => matches!(tape[at as usize], Node::Object { .. } | Node::Array { .. }),
        _ => false,
    })
}

/// The fields of a text line: the groups of the first format that fits.
fn line_fields<'m>(mapping: &'m Mapping, line: &str) -> Result<(&'m str, Map<String, Json>), Refusal> {
    for format in &mapping.formats {
        let Some(groups) = format.regex.captures(line) else { continue };
        let mut fields = Map::new();
        for name in format.regex.capture_names().flatten() {
            if let Some(group) = groups.name(name) {
                fields.insert(name.to_owned(), Json::String(group.as_str().to_owned()));
            }
        }
        return Ok((&format.name, fields));
    }
    let known: Vec<&str> = mapping.formats.iter().map(|f| f.name.as_str()).collect();
    Err((Reason::UnknownFormat, None, format!("neither JSON nor one of: {}", known.join(", "))))
}

/// How much of a record the mapping asks for, where the record is one of its own.
pub(crate) fn recognises(mapping: &Mapping, bytes: &[u8]) -> Option<usize> {
    let mut scratch: Scratch = mapping.take_scratch();
    let asked = recognise(mapping, bytes, scratch.parse.get_or_insert_default(), true);
    mapping.give_scratch(scratch);
    asked
}

fn recognise(mapping: &Mapping, bytes: &[u8], parse: &mut Parse, outer: bool) -> Option<usize> {
    if !bytes.starts_with(b"{") {
        let line = std::str::from_utf8(bytes).ok()?;
        return line_fields(mapping, line).ok().map(|(_, fields)| fields.len());
    }
    let mut buffer = bytes.to_vec();
    let mut tape = Tape(Vec::new());
    simd_json::fill_tape(&mut buffer, &mut parse.buffers, &mut tape).ok()?;
    parse.slots.clear(mapping.trie.slots);
    parse.slots.walk(&mapping.trie, &tape.0, 0, mapping.explode);
    if outer && let Some(path) = envelope(mapping, &tape.0, &parse.slots) {
        let (start, end) = *raw::inside(bytes, &mapping.envelopes[path].1).first()?;
        return recognise(mapping, &bytes[start..end], parse, false);
    }
    let raw = std::str::from_utf8(bytes).ok()?;
    let walked = Walked { tape: &tape.0, raw, format: None, offset: 0 };
    let record = view(mapping, &walked, &parse.slots, &[0; 32]);
    mapping.recognise.iter().filter(|when| record.holds(when)).map(Vec::len).max()
}

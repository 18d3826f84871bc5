//! Whether a record is one of a mapping's, and how much it looks like one.

use simd_json::Tape;

use super::record::{JSON, Line, Walked, envelope, line_inside, line_of, view};
use super::{Parse, Scratch};
use crate::mapping::Mapping;
use crate::mapping::decoded::Decoded;
use crate::mapping::expr::{Condition, Subject};
use crate::raw;

/// How much a record looks like one of a mapping's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Likeness {
    /// All conditions hold.
    pub(crate) is_own: bool,
    /// Conditions that hold.
    pub(crate) met: usize,
    pub(crate) asked: usize,
}

/// How much of a record the mapping asks for, where the record is one of its own; else how much of it the record has.
pub(crate) fn recognises(mapping: &Mapping, bytes: &[u8]) -> Likeness {
    let mut scratch: Scratch = mapping.take_scratch();
    let parse = scratch.parse.get_or_insert_default();
    let likeness = std::str::from_utf8(bytes).ok().and_then(|raw| recognise(mapping, raw, parse, true));
    mapping.give_scratch(scratch);
    likeness.unwrap_or_default()
}

fn recognise(mapping: &Mapping, raw: &str, parse: &mut Parse, outer: bool) -> Option<Likeness> {
    if raw.starts_with('{') {
        return likeness(mapping, raw, None, parse, outer);
    }
    let format = mapping.formats.iter().find(|format| format.regex.is_match(raw))?;
    if !is_asked(mapping, &format.name) {
        return Some(by_form(mapping, &format.name));
    }
    likeness(mapping, raw, line_of(mapping, raw).ok()?.as_ref(), parse, outer)
}

fn likeness(mapping: &Mapping, raw: &str, line: Option<&Line<'_>>, parse: &mut Parse, outer: bool) -> Option<Likeness> {
    let text = line.map_or(raw, |line| &line.json);
    let mut buffer = text.as_bytes().to_vec();
    let mut tape = Tape(Vec::new());
    simd_json::fill_tape(&mut buffer, &mut parse.buffers, &mut tape).ok()?;
    parse.slots.clear(mapping.trie.slots);
    parse.slots.walk(&mapping.trie, &tape.0, &[], None);
    if outer && let Some(path) = envelope(mapping, &tape.0, &parse.slots) {
        let (start, end) = *raw::inside(text.as_bytes(), &mapping.envelopes[path].1).first()?;
        return recognise(mapping, &text[start..end], parse, false);
    }
    let walked = Walked {
        tape: &tape.0,
        raw,
        format: line.map_or(JSON, |line| line.format),
        is_line: line.is_some(),
        offset: 0,
        received_at: 0,
        secret_key: &[0; 32],
        decoded: Decoded::default(),
    };
    if line.is_none()
        && let Some(line) = line_inside(mapping, &walked, &parse.slots)
    {
        if line.format != JSON && !is_asked(mapping, line.format) {
            return Some(by_form(mapping, line.format));
        }
        return likeness(mapping, raw, Some(&line), parse, outer);
    }
    let record = view(mapping, &walked, &parse.slots);
    let met = |when: &Vec<Condition>| {
        let met = when.iter().filter(|c| record.holds(std::slice::from_ref(*c))).count();
        Likeness { is_own: met == when.len(), met, asked: when.len() }
    };
    let asked = |when: &&Vec<Condition>| walked.format == JSON || when.iter().any(|c| is_about(c, walked.format));
    let found = mapping.recognise.iter().filter(asked).map(met).max()?;
    let form = by_form(mapping, walked.format);
    Some(Likeness { met: found.met + form.met, asked: found.asked + form.asked, ..found })
}

/// Whether the mapping asks for more than the form of such a line.
fn is_asked(mapping: &Mapping, format: &str) -> bool {
    mapping.recognise.iter().flatten().any(|condition| is_about(condition, format))
}

fn is_about(condition: &Condition, format: &str) -> bool {
    matches!(condition.subject, Subject::Format) && condition.test.fits(Some(format))
}

/// A line that fits is as telling as the shortest line that would.
fn by_form(mapping: &Mapping, format: &str) -> Likeness {
    let bytes = mapping.formats.iter().find(|f| f.name == format).map_or(0, |f| f.line_bytes_min);
    Likeness { is_own: true, met: bytes, asked: bytes }
}

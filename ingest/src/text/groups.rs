//! The named groups of a line, found with as little work as the expression allows.
//!
//! Finding groups costs ten times what finding a match costs, for each byte that is looked at, unless each byte tells what
//! it belongs to. Most expressions end in a group of anything (`(?P<rest>.*)$`): then only what stands before is looked at,
//! and the group is the rest of the line. Groups that nobody wants are not found at all. A mapping may cut an expression in
//! parts, so that a part in which each byte tells is quick whatever stands before it; what is found is the same.

use regex::Regex;
use regex_syntax::hir::{Capture, Dot, Hir, HirKind, Look, Repetition};

#[derive(Debug)]
pub(super) struct Groups {
    names: Vec<String>,
    parts: Vec<Part>,
    /// The only group is the whole line.
    is_whole: bool,
}

/// A part of the expression, which goes on where the one before ended.
#[derive(Debug)]
struct Part {
    regex: Regex,
    names: Vec<(usize, String)>,
    /// The groups that reach to the end of the line.
    open: Vec<String>,
}

impl Groups {
    /// `parts` are those of an expression that is right.
    pub(super) fn new(parts: &[String], wanted: &dyn Fn(&str) -> bool) -> Groups {
        let parsed: Option<Vec<Hir>> =
            parts.iter().map(|part| Some(wanted_groups(&regex_syntax::parse(part).ok()?, wanted))).collect();
        let parsed = parsed.unwrap_or_default();
        let is_whole = matches!(&parsed[..], [only] if is_whole(only));
        let last = parsed.len().saturating_sub(1);
        let parts: Option<Vec<Part>> = parsed.iter().enumerate().map(|(n, hir)| Part::new(hir, n, n == last)).collect();
        let parts = parts.unwrap_or_default();
        let names = parts.iter().flat_map(|part| part.names.iter().map(|(_, name)| name.clone())).collect();
        Groups { names, parts, is_whole }
    }

    /// Calls `f` with each group that is there; whether the line fits `regex`, of which these are the parts.
    pub(super) fn each<'a>(&'a self, regex: &Regex, line: &'a str, f: &mut dyn FnMut(&'a str, &'a str)) -> bool {
        // What `.` does not go over is left to the full expression.
        if memchr::memchr(b'\n', line.as_bytes()).is_some() {
            return self.full(regex, line, f);
        }
        if self.is_whole {
            let fits = regex.is_match(line);
            self.names.iter().filter(|_| fits).for_each(|name| f(name, line));
            return fits;
        }
        let mut found = Vec::with_capacity(self.names.len());
        let mut rest = line;
        for (number, part) in self.parts.iter().enumerate() {
            match part.find(rest, &mut found) {
                Some(end) => rest = &rest[end..],
                None if number == 0 => return false,
                // The parts before might have ended elsewhere.
                None => return self.full(regex, line, f),
            }
        }
        found.into_iter().for_each(|(name, text)| f(name, text));
        true
    }

    fn full<'a>(&'a self, regex: &Regex, line: &'a str, f: &mut dyn FnMut(&'a str, &'a str)) -> bool {
        let Some(groups) = regex.captures(line) else { return false };
        for name in &self.names {
            if let Some(group) = groups.name(name) {
                f(name, group.as_str());
            }
        }
        true
    }
}

impl Part {
    fn new(hir: &Hir, number: usize, is_last: bool) -> Option<Part> {
        let mut open = Vec::new();
        let head = if is_last { without_rest(hir, &mut open) } else { None };
        let head = head.unwrap_or_else(|| hir.clone());
        let anchored = if number > 0 { Hir::concat(vec![Hir::look(Look::Start), head]) } else { head };
        let regex = Regex::new(&anchored.to_string()).ok()?;
        let named = regex.capture_names().enumerate().filter_map(|(n, name)| Some((n, name?.to_owned())));
        Some(Part { names: named.collect(), open, regex })
    }

    /// Finds its groups at the beginning of a text; gives where it ended.
    fn find<'a>(&'a self, text: &'a str, found: &mut Vec<(&'a str, &'a str)>) -> Option<usize> {
        let groups = self.regex.captures(text)?;
        for (number, name) in &self.names {
            if let Some(group) = groups.get(*number) {
                found.push((name, if self.open.contains(name) { &text[group.start()..] } else { group.as_str() }));
            }
        }
        groups.get(0).map(|whole| whole.end())
    }
}

/// The expression without the groups that nobody wants: few groups are found faster than many.
fn wanted_groups(hir: &Hir, wanted: &dyn Fn(&str) -> bool) -> Hir {
    let inner = |hir: &Hir| wanted_groups(hir, wanted);
    match hir.kind() {
        HirKind::Capture(capture) if !capture.name.as_deref().is_some_and(wanted) => inner(&capture.sub),
        HirKind::Capture(capture) => Hir::capture(Capture { sub: Box::new(inner(&capture.sub)), ..capture.clone() }),
        HirKind::Repetition(repetition) => {
            Hir::repetition(Repetition { sub: Box::new(inner(&repetition.sub)), ..repetition.clone() })
        }
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(inner).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(inner).collect()),
        _ => hir.clone(),
    }
}

fn is_look(hir: &Hir, look: Look) -> bool {
    matches!(hir.kind(), HirKind::Look(found) if *found == look)
}

/// `^(?P<all>…)$`, and no group inside.
fn is_whole(hir: &Hir) -> bool {
    let HirKind::Concat(parts) = hir.kind() else { return false };
    let [start, capture, end] = &parts[..] else { return false };
    matches!(capture.kind(), HirKind::Capture(_))
        && hir.properties().explicit_captures_len() == 1
        && is_look(start, Look::Start)
        && is_look(end, Look::End)
}

/// The expression without `.*` at its end; `open` gets the groups that end with it.
fn without_rest(hir: &Hir, open: &mut Vec<String>) -> Option<Hir> {
    match hir.kind() {
        HirKind::Concat(parts) => {
            let (last, before) = parts.split_last()?;
            let (last, before) = if is_look(last, Look::End) { before.split_last()? } else { (last, before) };
            let last = without_rest(last, open)?;
            Some(Hir::concat(before.iter().cloned().chain([last]).collect()))
        }
        HirKind::Capture(capture) => {
            let sub = Box::new(without_rest(&capture.sub, open)?);
            open.extend(capture.name.as_deref().map(str::to_owned));
            Some(Hir::capture(Capture { sub, ..capture.clone() }))
        }
        HirKind::Repetition(any) if any.min == 0 && any.max.is_none() && any.greedy => {
            let dot = *any.sub == Hir::dot(Dot::AnyCharExceptLF) || *any.sub == Hir::dot(Dot::AnyChar);
            dot.then(Hir::empty)
        }
        _ => None,
    }
}

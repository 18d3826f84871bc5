//! The named groups of a line, found with as little work as the expression allows.
//!
//! Finding groups costs ten times what finding a match costs, for each byte that is looked at. Most expressions end in a
//! group of anything (`(?P<rest>.*)$`): then only what stands before is looked at, and the group is the rest of the line.
//! Groups that nobody wants are not found at all.

use regex::Regex;
use regex_syntax::hir::{Capture, Dot, Hir, HirKind, Look, Repetition};

#[derive(Debug)]
pub(super) struct Groups {
    /// Number and name of each.
    names: Vec<(usize, String)>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// The expression, without groups that nobody wants and without the `.*` at its end, and the groups that reach to the
    /// end of the line.
    Head(Regex, Vec<usize>),
    /// The only group is the whole line.
    Whole,
}

impl Groups {
    pub(super) fn new(regex: &Regex, wanted: &dyn Fn(&str) -> bool) -> Groups {
        let parsed = regex_syntax::parse(regex.as_str()).ok().map(|hir| wanted_groups(&hir, wanted));
        let whole = parsed.as_ref().is_some_and(is_whole);
        let mut open = Vec::new();
        let head = parsed.and_then(|hir| Regex::new(&without_rest(&hir, &mut open).unwrap_or(hir).to_string()).ok());
        let head = head.unwrap_or_else(|| regex.clone());
        let named = |regex: &Regex| -> Vec<(usize, String)> {
            regex.capture_names().enumerate().filter_map(|(n, name)| Some((n, name?.to_owned()))).collect()
        };
        let names = named(&head);
        let open = names.iter().filter(|(_, name)| open.contains(name)).map(|(number, _)| *number).collect();
        Groups { names, way: if whole { Way::Whole } else { Way::Head(head, open) } }
    }

    /// Calls `f` with each group that is there; whether the line fits.
    pub(super) fn each<'a>(&'a self, regex: &Regex, line: &'a str, f: &mut dyn FnMut(&'a str, &'a str)) -> bool {
        // What `.` does not go over is left to the full expression.
        let plain = memchr::memchr(b'\n', line.as_bytes()).is_none();
        let (head, open) = match &self.way {
            Way::Head(head, open) if plain => (head, open),
            Way::Whole if plain => {
                let fits = regex.is_match(line);
                self.names.iter().filter(|_| fits).for_each(|(_, name)| f(name, line));
                return fits;
            }
            _ => return self.full(regex, line, f),
        };
        let Some(groups) = head.captures(line) else { return false };
        for (number, name) in &self.names {
            if let Some(group) = groups.get(*number) {
                f(name, if open.contains(number) { &line[group.start()..] } else { group.as_str() });
            }
        }
        true
    }

    fn full<'a>(&'a self, regex: &Regex, line: &'a str, f: &mut dyn FnMut(&'a str, &'a str)) -> bool {
        let Some(groups) = regex.captures(line) else { return false };
        for (_, name) in &self.names {
            if let Some(group) = groups.name(name) {
                f(name, group.as_str());
            }
        }
        true
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

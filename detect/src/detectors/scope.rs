//! A scope used that was never granted.
//!
//! Where the record states both what was granted and what the call needed, and the call was let through all the same. Some
//! sources write the two in different words (OAuth scopes, and permissions of the API): a source is believed from its first
//! call whose used scopes were all among the granted. A granted `*`, or one that ends in it, grants what begins so.
//!
//! Left out: scopes granted and never used are no event; the roster lists them.
//!
//! ```text
//! usual 30: list read invoices {scopes=invoices.read,mail scopes_used=invoices.read}
//! then: list read invoices {scopes=invoices.read,mail scopes_used=invoices.read,invoices.write}
//! quiet: list read invoices {scopes=invoices.read,mail scopes_used=mail}
//! ```

use schemas::glob::like;
use schemas::table::strs_in;
use serde::{Deserialize, Serialize};

use super::{About, Detector, Drain, FACT_BITS, Report, Seen, Term};
use crate::Config;
use crate::explain::Case;
use crate::hash::Of;

pub(super) struct Scope;

const SOURCES_MAX: usize = 256;

/// The source that the tenant was last told of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told(u32);

impl Detector for Scope {
    const ABOUT: About = About {
        name: "scope",
        version: 1,
        doc: "a scope used that was never granted",
        source: include_str!("scope.rs"),
        hard: true,
        floor_bits: |_| FACT_BITS,
    };
    type State = Told;
    /// Sources that write granted and used scopes in the same words.
    type Shared = Vec<u32>;
    type Note = u32;

    #[inline]
    fn score(_: &Told, shared: &Vec<u32>, seen: &Seen<'_>) -> f64 {
        let found =
            !shared.is_empty() && seen.let_through() && excess(seen).is_some() && shared.contains(&source(seen));
        if found { FACT_BITS } else { 0.0 }
    }

    fn report(_: &Told, _: &Vec<u32>, seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let scope = excess(seen).unwrap_or_default();
        let granted: Vec<&str> = strs_in(seen.row.events.scopes, seen.row.at).collect();
        let text = format!("{scope} was used; granted were {}", granted.join(", "));
        Report {
            title: format!("{} used the scope {scope}, which it was not granted", case.who),
            terms: vec![Term { name: "scope", bits: FACT_BITS, text }],
        }
    }

    #[inline]
    fn learn(state: &mut Told, seen: &Seen<'_>, _: bool) -> Option<u32> {
        if !states_both(seen) || excess(seen).is_some() {
            return None;
        }
        let source = source(seen);
        (std::mem::replace(&mut state.0, source) != source).then_some(source)
    }

    fn fold(shared: &mut Vec<u32>, notes: Drain<'_, u32>, _: &Config, _: i64) {
        for source in notes {
            if shared.len() < SOURCES_MAX && !shared.contains(&source) {
                shared.push(source);
            }
        }
    }
}

fn states_both(seen: &Seen<'_>) -> bool {
    seen.row.uses_scopes && seen.row.scopes.is_some()
}

/// The first scope used that is not among the granted.
fn excess<'a>(seen: &Seen<'a>) -> Option<&'a str> {
    let (events, at) = (seen.row.events, seen.row.at);
    if !states_both(seen) {
        return None;
    }
    let granted = |used: &str| strs_in(events.scopes, at).any(|granted| like(granted, used));
    strs_in(events.scopes_used, at).find(|used| !granted(used))
}

fn source(seen: &Seen<'_>) -> u32 {
    seen.print(Of::Source, seen.row.events.source.value(seen.row.at))
}

//! A chain of delegation that comes back to where it was: a calls b calls a.
//!
//! Authority that returns to its holder by way of another is how a confused deputy is made. The same hop twice in a row is
//! no loop: some vendors name an agent and its session.
//!
//! ```text
//! usual 30: list read invoices {delegation=agent:a>agent:b>agent:b}
//! then: list read invoices {delegation=agent:a>agent:b>agent:a}
//! quiet: list read invoices {delegation=agent:a>agent:b>agent:b}
//! ```

use schemas::table::hops_in;

use super::{About, Detector, FACT_BITS, Report, Seen, Term};
use crate::explain::Case;

pub(super) struct DelegationLoop;

/// Hops that are looked at.
const HOPS_MAX: usize = 16;

impl Detector for DelegationLoop {
    const ABOUT: About = About {
        name: "delegation_loop",
        version: 1,
        doc: "a chain of delegation that comes back to where it was",
        source: include_str!("delegation_loop.rs"),
        hard: true,
        floor_bits: |_| FACT_BITS,
    };
    type State = ();
    type Shared = ();
    type Note = ();

    #[inline]
    fn score(_: &(), _: &(), seen: &Seen<'_>) -> f64 {
        if returns(seen).is_some() { FACT_BITS } else { 0.0 }
    }

    fn report(_: &(), _: &(), seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let hops = hops_in(seen.row.events.delegation, seen.row.at).take(HOPS_MAX);
        let chain: Vec<&str> = hops.map(|(_, id, _)| id).collect();
        let who = returns(seen).unwrap_or_default();
        Report {
            title: format!("the delegation of {} comes back to {who}", case.who),
            terms: vec![Term { name: "loop", bits: FACT_BITS, text: chain.join(" → ") }],
        }
    }
}

/// The first hop that comes again after another.
fn returns<'a>(seen: &Seen<'a>) -> Option<&'a str> {
    if seen.row.hops < 3 {
        return None;
    }
    let hops = hops_in(seen.row.events.delegation, seen.row.at).take(HOPS_MAX);
    let again = |(i, hop)| {
        hops.clone().skip(i + 2).zip(hops.clone().skip(i + 1)).any(|(later, before)| later == hop && before != hop)
    };
    hops.clone().enumerate().find(|found| again(*found)).map(|(_, (_, id, _))| id)
}

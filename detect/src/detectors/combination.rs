//! A combination of calls that is unusual for this agent: what it does, after what, on what.
//!
//! `weight * (-log2 P(action) - log2 P(order) - log2 P(resource))`, each probability backed off from the agent's own
//! history to its job's, its cohort's and its tenant's ([`crate::habits`]). The same odd call by agents at other jobs adds
//! `3 * log2(1 + jobs)`: one injection that reaches many is a campaign. One number for three questions beats three detectors:
//! measured on hijacked agents, the sum separates far better than any part, and each part stays visible as a term.
//!
//! ```text
//! usual 30: list read invoices, get read invoices/17
//! then: list read invoices, read read vault/secrets/prod
//! quiet: get read invoices/99, list read invoices
//! ```

use super::{About, Detector, Report, Seen, Term};
use crate::evidence::History;
use crate::explain::Case;
use crate::impact::HARM;

pub(super) struct Combination;

/// Bits for each doubling of the jobs at which the same odd call was seen.
const ELSEWHERE_BITS: f64 = 3.0;

impl Detector for Combination {
    const ABOUT: About = About {
        name: "combination",
        version: 2,
        doc: "a combination of calls that is unusual for this agent",
        source: include_str!("combination.rs"),
        hard: false,
        floor_bits: |config| config.combination_bits,
    };
    type State = ();
    type Shared = ();
    type Note = ();

    fn score(_: &(), _: &(), Seen { evidence, .. }: &Seen<'_>) -> f64 {
        match evidence.history {
            History::Own if evidence.impact >= HARM => evidence.weighed_bits() + elsewhere_bits(evidence.elsewhere),
            _ => 0.0,
        }
    }

    fn report(_: &(), _: &(), Seen { evidence, .. }: &Seen<'_>, case: &Case<'_>) -> Report {
        let term = |name, bits: f64, text: String| Term { name, bits: evidence.weight * bits, text };
        let weighed = case.weighed();
        let mut terms = vec![
            term("action", evidence.action_bits, format!("{} {weighed}", case.own_times())),
            term("order", evidence.order_bits, format!("{} {weighed}", case.follows())),
            term("resource", evidence.resource_bits, format!("{} {weighed}", case.meets())),
        ];
        if evidence.elsewhere > 0 {
            let text = format!("the same was as odd for {} others lately", evidence.elsewhere);
            terms.push(Term { name: "elsewhere", bits: elsewhere_bits(evidence.elsewhere), text });
        }
        Report { title: format!("{} did {} in a combination unusual for it", case.who, case.action), terms }
    }
}

fn elsewhere_bits(others: u32) -> f64 {
    (ELSEWHERE_BITS * f64::from(1 + others).log2() * 1024.0).round() / 1024.0
}

//! A chain of delegation that is not this agent's: deeper than ever, or through an agent that never called it.
//!
//! What is compared is the depth together with the hop before the agent, where that is not a person: people come and go,
//! the agents and services that call an agent do not.
//!
//! Left out: scopes that widen from hop to hop. Records name the scopes of the last token only.
//!
//! ```text
//! usual 30: list read invoices {delegation=user:ann>agent:planner>agent:worker}
//! then: list read invoices {delegation=user:ann>agent:planner>agent:stranger>agent:worker}
//! quiet: list read invoices {delegation=user:bob>agent:planner>agent:worker}, list read invoices
//! ```

use schemas::table::hops_in;
use serde::{Deserialize, Serialize};

use super::values::{New, Tally, Values};
use super::{About, Detector, Drain, Report, Seen};
use crate::Config;
use crate::evidence::History;
use crate::explain::Case;

pub(super) struct Delegation;

/// The chains through which an agent was called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Chains {
    kinds: Values,
    deepest: u8,
}

impl Detector for Delegation {
    const ABOUT: About = About {
        name: "delegation",
        version: 1,
        doc: "a chain of delegation deeper than ever, or through an agent that never called this one",
        source: include_str!("delegation.rs"),
        hard: false,
        floor_bits: |config| config.fact_bits,
    };
    type State = Chains;
    type Shared = Tally;
    type Note = New;

    #[inline]
    fn score(state: &Chains, shared: &Tally, seen: &Seen<'_>) -> f64 {
        if seen.evidence.history != History::Own {
            return 0.0;
        }
        let surprise = kind(seen).and_then(|(kind, _)| state.kinds.surprise(shared, kind));
        surprise.map_or(0.0, |surprise| seen.row.share * surprise.bits())
    }

    fn report(state: &Chains, shared: &Tally, seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let Some((kind, depth)) = kind(seen) else { return Report::nothing() };
        let hops = hops_in(seen.row.events.delegation, seen.row.at);
        let chain: Vec<&str> = hops.map(|(_, id, _)| id).collect();
        let what = match state.deepest {
            deepest if depth > deepest => format!("a chain of {depth}, the deepest was {deepest}"),
            _ => "a chain that is new to it".to_owned(),
        };
        let surprise = state.kinds.surprise(shared, kind);
        Report {
            title: format!("{} was called through {what}: {}", case.who, chain.join(" → ")),
            terms: surprise.map_or(Vec::new(), |surprise| surprise.terms(seen.row.share, "kinds of chain")),
        }
    }

    #[inline]
    fn learn(state: &mut Chains, seen: &Seen<'_>, _: bool) -> Option<New> {
        let (kind, depth) = kind(seen)?;
        state.deepest = state.deepest.max(depth);
        state.kinds.learn(std::iter::once(kind), seen.row.time)
    }

    fn fold(shared: &mut Tally, notes: Drain<'_, Self::Note>, _: &Config, _: i64) {
        shared.fold(notes);
    }
}

/// Stands for the chain's depth and the caller; and the depth.
fn kind(seen: &Seen<'_>) -> Option<(u32, u8)> {
    let (caller, depth) = (seen.row.caller, seen.row.hops);
    (depth > 0).then_some((caller ^ u32::from(depth), depth))
}

//! A scope granted that this agent never held.
//!
//! Tokens of an agent usually carry the same few scopes. A new one is surprising where they never changed, and more so where
//! no other agent of the tenant holds it. Only the most surprising scope of a call counts: scopes come in sets.
//!
//! ```text
//! usual 30: list read invoices {scopes=invoices.read}
//! then: list read invoices {scopes=invoices.read,customers.write}
//! quiet: list read invoices, list read invoices {scopes=invoices.read}
//! ```

use schemas::table::strs_in;
use serde::{Deserialize, Serialize};

use super::values::{New, Surprise, Tally, Values};
use super::{About, Detector, Drain, Report, Seen};
use crate::Config;
use crate::evidence::History;
use crate::explain::Case;
use crate::hash::Of;

pub(super) struct ScopeWidening;

/// The scopes that an agent held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Held {
    scopes: Values,
    /// The list that came last, so that it is looked at once only.
    last: u32,
    hour: i32,
}

impl Detector for ScopeWidening {
    const ABOUT: About = About {
        name: "scope_widening",
        version: 1,
        doc: "a scope granted that this agent never held",
        source: include_str!("scope_widening.rs"),
        hard: false,
        floor_bits: |config| config.fact_bits,
    };
    type State = Held;
    type Shared = Tally;
    type Note = New;

    #[inline]
    fn score(state: &Held, shared: &Tally, seen: &Seen<'_>) -> f64 {
        if seen.evidence.history != History::Own || seen.row.scopes.is_none_or(|list| list == state.last) {
            return 0.0;
        }
        widest(state, shared, seen).map_or(0.0, |(_, surprise)| seen.row.share * surprise.bits())
    }

    fn report(state: &Held, shared: &Tally, seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let Some((scope, surprise)) = widest(state, shared, seen) else { return Report::nothing() };
        let title = format!("{} holds the scope {scope} for the first time", case.who);
        Report { title, terms: surprise.terms(seen.row.share, "scopes") }
    }

    #[inline]
    fn learn(state: &mut Held, seen: &Seen<'_>, _: bool) -> Option<New> {
        let (list, hour) = (seen.row.scopes?, seen.hour());
        if list == state.last && hour <= state.hour {
            return None;
        }
        (state.last, state.hour) = (list, hour);
        let scopes = strs_in(seen.row.events.scopes, seen.row.at).map(|scope| seen.print(Of::Scope, scope));
        state.scopes.learn(scopes, seen.row.time)
    }

    fn fold(shared: &mut Tally, notes: Drain<'_, Self::Note>, _: &Config, _: i64) {
        shared.fold(notes);
    }
}

fn widest<'a>(state: &Held, shared: &Tally, seen: &Seen<'a>) -> Option<(&'a str, Surprise)> {
    let scopes = strs_in(seen.row.events.scopes, seen.row.at);
    let new = scopes.filter_map(|scope| {
        let surprise = state.scopes.surprise(shared, seen.print(Of::Scope, scope))?;
        Some((scope, surprise))
    });
    new.max_by(|a, b| a.1.bits().total_cmp(&b.1.bits()))
}

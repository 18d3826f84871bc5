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

use super::values::{Surprise, Tally, Values};
use super::{About, Detector, Report, Seen};
use crate::Config;
use crate::evidence::History;
use crate::explain::Case;
use crate::hash::{Of, quick};

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
    type Note = Vec<u32>;

    #[inline]
    fn score(state: &Held, shared: &Tally, seen: &Seen<'_>) -> f64 {
        if seen.evidence.history != History::Own || list(seen).is_none_or(|list| list == state.last) {
            return 0.0;
        }
        widest(state, shared, seen).map_or(0.0, |(_, surprise)| seen.share() * surprise.bits())
    }

    fn report(state: &Held, shared: &Tally, seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let Some((scope, surprise)) = widest(state, shared, seen) else { return Report::nothing() };
        let title = format!("{} holds the scope {scope} for the first time", case.who);
        Report { title, terms: surprise.terms(seen.share(), "scopes") }
    }

    #[inline]
    fn learn(state: &mut Held, seen: &Seen<'_>, _: bool) -> Option<Vec<u32>> {
        let (list, hour) = (list(seen)?, seen.hour());
        if list == state.last && hour <= state.hour {
            return None;
        }
        (state.last, state.hour) = (list, hour);
        let scopes = strs_in(seen.row.events.scopes, seen.row.at).map(|scope| seen.print(Of::Scope, scope));
        state.scopes.learn(scopes, seen.row.time)
    }

    fn fold(shared: &mut Tally, notes: Vec<Vec<u32>>, _: &Config, _: i64) {
        shared.fold(notes);
    }

    #[inline]
    fn warm(state: &Held) -> usize {
        state.scopes.warm()
    }

    fn bytes(state: &Held) -> usize {
        state.scopes.bytes()
    }
}

/// Stands for all scopes of the call in their order.
fn list(seen: &Seen<'_>) -> Option<u32> {
    let scopes = strs_in(seen.row.events.scopes, seen.row.at);
    scopes.fold(None, |list, scope| Some(list.unwrap_or(0u32).rotate_left(5) ^ quick(scope) as u32))
}

fn widest<'a>(state: &Held, shared: &Tally, seen: &Seen<'a>) -> Option<(&'a str, Surprise)> {
    let scopes = strs_in(seen.row.events.scopes, seen.row.at);
    let new = scopes.filter_map(|scope| {
        let surprise = state.scopes.surprise(shared, seen.print(Of::Scope, scope))?;
        Some((scope, surprise))
    });
    new.max_by(|a, b| a.1.bits().total_cmp(&b.1.bits()))
}

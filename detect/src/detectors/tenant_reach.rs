//! An organization reached that this agent never reached.
//!
//! The organization is the resource's where the record says whose it is, else the one of the call. It is the vendor's word
//! (account, workspace, realm), not Muster's tenant. Reading there is as bad as writing, so impact does not count.
//!
//! Left out: a rule that says which organizations may reach which. The two columns come in different words in many sources
//! (an enterprise's number, an owner's mail address), so that they differ is no fact by itself.
//!
//! ```text
//! usual 30: list read invoices {org_id=north}
//! then: list read invoices {org_id=north resource_tenant=south}
//! quiet: list read invoices {org_id=north resource_tenant=north}, list read invoices
//! ```

use super::values::{New, Tally, Values};
use super::{About, Detector, Drain, Report, Seen};
use crate::Config;
use crate::engine::text;
use crate::evidence::History;
use crate::explain::Case;
use crate::row::reached;

pub(super) struct TenantReach;

impl Detector for TenantReach {
    const ABOUT: About = About {
        name: "tenant_reach",
        version: 1,
        doc: "an organization reached that this agent never reached",
        source: include_str!("tenant_reach.rs"),
        hard: false,
        floor_bits: |config| config.fact_bits,
    };
    type State = Values;
    type Shared = Tally;
    type Note = New;

    #[inline]
    fn score(state: &Values, shared: &Tally, seen: &Seen<'_>) -> f64 {
        if seen.evidence.history != History::Own {
            return 0.0;
        }
        let surprise = seen.row.reached.and_then(|name| state.surprise(shared, name));
        surprise.map_or(0.0, |surprise| seen.row.share * surprise.bits())
    }

    fn report(state: &Values, shared: &Tally, seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let name = reached(seen.row.events, seen.row.at).unwrap_or_default();
        let surprise = seen.row.reached.and_then(|name| state.surprise(shared, name));
        let from = match text(seen.row.events.org_id, seen.row.at) {
            Some(own) if own != name => format!(" from {own}"),
            _ => String::new(),
        };
        Report {
            title: format!("{} reached the organization {name}{from} for the first time", case.who),
            terms: surprise.map_or(Vec::new(), |surprise| surprise.terms(seen.row.share, "organizations")),
        }
    }

    #[inline]
    fn learn(state: &mut Values, seen: &Seen<'_>, _: bool) -> Option<New> {
        state.learn(std::iter::once(seen.row.reached?), seen.row.time)
    }

    fn fold(shared: &mut Tally, notes: Drain<'_, Self::Note>, _: &Config, _: i64) {
        shared.fold(notes);
    }
}

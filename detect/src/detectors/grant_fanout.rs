//! One grant in the hands of many agents.
//!
//! A grant or consent is given to one agent; several that rest on the same share what one of them was trusted with. Each
//! agent that comes to a grant which others hold scores, more the more they are. Where grants are shared as a rule (a role
//! that a group holds), the tenant's threshold moves up by itself.
//!
//! ```text
//! usual 30: list read invoices
//! others: list read invoices {grant_id=g-1}
//! then: list read invoices {grant_id=g-1}
//! quiet: list read invoices {grant_id=g-2}, list read invoices {grant_id=g-3}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{About, Detector, Drain, Report, Seen, Term};
use crate::Config;
use crate::engine::{DAY_MICROS, text};
use crate::explain::Case;
use crate::shard::bits;

pub(super) struct GrantFanout;

const OTHERS_MIN: usize = 3;
/// With so many a grant is known to be shared, and no more is said.
const AGENTS_MAX: usize = 16;
const GRANTS_MAX: usize = 8_192;
const KEPT_MICROS: i64 = 7 * DAY_MICROS;
/// Bits for each doubling of the agents.
const AGENT_BITS: f64 = 5.0;

/// Grants that the agent used last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Used([u32; 4]);

/// Who uses a grant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Grant {
    last: i64,
    agents: Vec<u32>,
}

impl Detector for GrantFanout {
    const ABOUT: About = About {
        name: "grant_fanout",
        version: 1,
        doc: "one grant in the hands of many agents",
        source: include_str!("grant_fanout.rs"),
        hard: false,
        floor_bits: |config| config.fact_bits - 1.0,
    };
    type State = Used;
    type Shared = BTreeMap<u32, Grant>;
    type Note = (u32, u32);

    #[inline]
    fn score(_: &Used, shared: &Self::Shared, seen: &Seen<'_>) -> f64 {
        let others = grant(seen).map_or(0, |grant| others(shared, grant, seen.row.agent as u32));
        if others >= OTHERS_MIN { AGENT_BITS * bits(1.0 / (1.0 + others as f64)) } else { 0.0 }
    }

    fn report(state: &Used, shared: &Self::Shared, seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let others = grant(seen).map_or(0, |grant| others(shared, grant, seen.row.agent as u32));
        let text = format!("{others} other agents used it within seven days");
        let name = text_of(seen).unwrap_or_default();
        Report {
            title: format!("{} uses the grant {name}, as do {others} others", case.who),
            terms: vec![Term { name: "agents", bits: Self::score(state, shared, seen), text }],
        }
    }

    #[inline]
    fn learn(state: &mut Used, seen: &Seen<'_>, _: bool) -> Option<(u32, u32)> {
        let grant = grant(seen)?;
        if state.0.contains(&grant) {
            return None;
        }
        state.0 = [grant, state.0[0], state.0[1], state.0[2]];
        Some((grant, seen.row.agent as u32))
    }

    fn fold(shared: &mut Self::Shared, notes: Drain<'_, (u32, u32)>, _: &Config, time: i64) {
        if shared.len() + notes.len() > GRANTS_MAX {
            shared.retain(|_, grant| time - grant.last < KEPT_MICROS);
        }
        for (grant, agent) in notes {
            if shared.len() >= GRANTS_MAX && !shared.contains_key(&grant) {
                continue;
            }
            let grant = shared.entry(grant).or_default();
            grant.last = time;
            if grant.agents.len() < AGENTS_MAX && !grant.agents.contains(&agent) {
                grant.agents.push(agent);
            }
        }
    }
}

fn text_of<'a>(seen: &Seen<'a>) -> Option<&'a str> {
    text(seen.row.events.grant_id, seen.row.at)
}

fn grant(seen: &Seen<'_>) -> Option<u32> {
    seen.row.grant
}

/// How many others use the grant; 0 where the agent is one of them already, or they are too many for news.
fn others(shared: &BTreeMap<u32, Grant>, grant: u32, agent: u32) -> usize {
    let agents = shared.get(&grant).map_or(&[][..], |grant| &grant.agents);
    if agents.len() >= AGENTS_MAX || agents.contains(&agent) { 0 } else { agents.len() }
}

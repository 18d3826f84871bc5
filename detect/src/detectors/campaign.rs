//! The same odd call by many agents within a day: one injection, or one stolen instruction, that reaches them all.
//!
//! Odd is a grave call whose action and resource alone surprise for this agent, whatever came before. It is counted as it happens,
//! not when sessions end, because a worm does not wait. One alert a campaign, at the first call after it has [`AGENTS_MIN`]
//! agents; those that come in the same tick may each raise one.
//!
//! ```text
//! usual 30: list read invoices, get read invoices/17
//! others: list read invoices, send export mailto:eve
//! then: list read invoices, send export mailto:eve
//! quiet: list read invoices, get read invoices/99
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{About, Detector, Drain, Report, Seen, Term};
use crate::Config;
use crate::engine::DAY_MICROS;
use crate::evidence::{Evidence, History};
use crate::explain::Case;
use crate::impact::GRAVE;
use crate::shard::bits;

pub(super) struct Campaign;

const AGENTS_MIN: usize = 5;
const AGENTS_MAX: usize = 16;
/// Odd calls of a tenant that are remembered, for a day.
const CALLS_MAX: usize = 4_096;
/// Bits for each doubling of the agents.
const AGENT_BITS: f64 = 3.0;

/// Who did an odd call lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Odd {
    last: i64,
    agents: Vec<u32>,
    /// The tick from which on it is a campaign, 0 before.
    since: i64,
    told: bool,
}

impl Odd {
    /// Whether one more call of `agent` makes it a campaign, or is part of one.
    fn is_many(&self, agent: u32) -> bool {
        self.agents.len() + usize::from(!self.agents.contains(&agent)) >= AGENTS_MIN
    }

    fn fold(&mut self, agent: u32, time: i64) {
        if time - self.last >= DAY_MICROS {
            *self = Odd::default();
        }
        self.last = time;
        // Rows of the ticks after `since` saw that it is one, so it was said.
        self.told |= self.since != 0 && self.since < time && self.is_many(agent);
        if self.agents.len() < AGENTS_MAX && !self.agents.contains(&agent) {
            self.agents.push(agent);
        }
        if self.since == 0 && self.agents.len() + 1 >= AGENTS_MIN {
            self.since = time;
        }
    }
}

impl Detector for Campaign {
    const ABOUT: About = About {
        name: "campaign",
        version: 1,
        doc: "the same odd call by many agents within a day",
        source: include_str!("campaign.rs"),
        hard: false,
        floor_bits: |config| config.fact_bits,
    };
    type State = ();
    type Shared = BTreeMap<u64, Odd>;
    type Note = (u64, u32);

    #[inline]
    fn score(_: &(), shared: &Self::Shared, seen: &Seen<'_>) -> f64 {
        let others = if shared.is_empty() || !odd(seen) { 0 } else { others(shared, seen) };
        if others == 0 { 0.0 } else { itself_bits(seen) + agents_bits(others) }
    }

    fn report(_: &(), shared: &Self::Shared, seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let others = others(shared, seen);
        let call = format!("{}, {} {}", case.own_times(), case.meets(), case.weighed());
        let agents = format!("as odd for {others} other agents within a day");
        Report {
            title: format!("{} and {others} other agents did {}, odd for each of them", case.who, case.action),
            terms: vec![
                Term { name: "call", bits: itself_bits(seen), text: call },
                Term { name: "agents", bits: agents_bits(others), text: agents },
            ],
        }
    }

    #[inline]
    fn learn(_: &mut (), seen: &Seen<'_>, _: bool) -> Option<(u64, u32)> {
        odd(seen).then(|| (seen.row.call.key(), seen.row.agent as u32))
    }

    fn fold(shared: &mut Self::Shared, notes: Drain<'_, (u64, u32)>, _: &Config, time: i64) {
        if shared.len() + notes.len() > CALLS_MAX {
            shared.retain(|_, odd| time - odd.last < DAY_MICROS);
        }
        for (call, agent) in notes {
            if shared.len() >= CALLS_MAX && !shared.contains_key(&call) {
                continue;
            }
            shared.entry(call).or_default().fold(agent, time);
        }
    }
}

fn odd(seen: &Seen<'_>) -> bool {
    let Evidence { history, weight, .. } = *seen.evidence;
    history == History::Own && weight >= GRAVE && itself_bits(seen) >= seen.config.fact_bits
}

fn itself_bits(seen: &Seen<'_>) -> f64 {
    seen.evidence.weight * (seen.evidence.action_bits + seen.evidence.resource_bits)
}

/// Other agents that did it within the day, where they make a campaign of which nothing was said yet.
fn others(shared: &BTreeMap<u64, Odd>, seen: &Seen<'_>) -> usize {
    let agent = seen.row.agent as u32;
    let lately = |odd: &&Odd| !odd.told && odd.is_many(agent) && (seen.row.time - odd.last).abs() < DAY_MICROS;
    let odd = shared.get(&seen.row.call.key()).filter(lately);
    odd.map_or(0, |odd| odd.agents.iter().filter(|other| **other != agent).count())
}

fn agents_bits(others: usize) -> f64 {
    AGENT_BITS * bits(1.0 / (1.0 + others as f64))
}

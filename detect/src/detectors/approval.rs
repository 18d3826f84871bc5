//! A grave action without the approval that it needs.
//!
//! It needs one where the catalogue says so (`needs_approval`), or where the tenant's own records do: the action nearly always
//! came with an `approval_id`. Then a call that went through without one is a fact. Sources whose records never name
//! approvals say nothing.
//!
//! Left out: whether the approval named is a valid one, by whom and for what. Records give its id alone.
//!
//! ```text
//! usual 30: wire.payout export bank {approval_id=a-1}
//! then: wire.payout export bank
//! quiet: wire.payout export bank {approval_id=a-2}, wire.payout export bank {outcome=denied}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{About, Detector, Drain, FACT_BITS, Report, Seen, Term};
use crate::Config;
use crate::engine::text;
use crate::explain::Case;
use crate::impact::GRAVE;
use crate::shard::bits;

pub(super) struct Approval;

const APPROVED_MIN: u32 = 20;
/// At most one in so many went without.
const WITHOUT_SHARE: u32 = 50;
const ACTIONS_MAX: usize = 4_096;

/// Actions that the tenant was told of in this hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    hour: i32,
    actions: [u32; 4],
}

/// Hours of agents in which an action came with and without an approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Habit {
    with: u32,
    without: u32,
}

impl Detector for Approval {
    const ABOUT: About = About {
        name: "approval",
        version: 1,
        doc: "a grave action without the approval that it needs",
        source: include_str!("approval.rs"),
        hard: true,
        floor_bits: |_| FACT_BITS,
    };
    type State = Told;
    type Shared = BTreeMap<u32, Habit>;
    type Note = (u32, bool);

    #[inline]
    fn score(_: &Told, shared: &Self::Shared, seen: &Seen<'_>) -> f64 {
        let row = seen.row;
        if !(row.needs_approval || row.impact >= GRAVE && !shared.is_empty()) || approved(seen) || !seen.let_through() {
            return 0.0;
        }
        if row.needs_approval {
            return FACT_BITS;
        }
        let Habit { with, without } = shared.get(&(row.call.action as u32)).copied().unwrap_or_default();
        let rule = with >= APPROVED_MIN && without.saturating_mul(WITHOUT_SHARE) <= with;
        if rule { bits(f64::from(1 + without) / f64::from(1 + with)) } else { 0.0 }
    }

    fn report(state: &Told, shared: &Self::Shared, seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let Habit { with, without } = shared.get(&(seen.row.call.action as u32)).copied().unwrap_or_default();
        let text = match seen.row.needs_approval {
            true => "the catalogue says that it needs one, the record names none".to_owned(),
            false => format!("in {with} hours of the tenant's agents it came with one, in {without} without"),
        };
        Report {
            title: format!("{} did {} without an approval", case.who, case.action),
            terms: vec![Term { name: "approval", bits: Self::score(state, shared, seen), text }],
        }
    }

    #[inline]
    fn learn(state: &mut Told, seen: &Seen<'_>, _: bool) -> Option<(u32, bool)> {
        if seen.row.impact < GRAVE || !seen.let_through() {
            return None;
        }
        let (approved, hour) = (approved(seen), seen.hour());
        // Told apart by the lowest bit: with and without are both news.
        let action = seen.row.call.action as u32;
        let told = action & !1 | u32::from(approved);
        if hour > state.hour {
            *state = Told { hour, actions: [0; 4] };
        }
        if state.actions.contains(&told) {
            return None;
        }
        state.actions = [told, state.actions[0], state.actions[1], state.actions[2]];
        Some((action, approved))
    }

    fn fold(shared: &mut Self::Shared, notes: Drain<'_, (u32, bool)>, _: &Config, _: i64) {
        for (action, approved) in notes {
            if let Some(habit) = shared.get_mut(&action) {
                let count = if approved { &mut habit.with } else { &mut habit.without };
                *count = count.saturating_add(1);
            } else if approved && shared.len() < ACTIONS_MAX {
                shared.insert(action, Habit { with: 1, without: 0 });
            }
        }
    }
}

fn approved(seen: &Seen<'_>) -> bool {
    text(seen.row.events.approval_id, seen.row.at).is_some()
}

//! Activity after a kill: who was stopped still acts.
//!
//! Orders come as control frames once they take effect, and go when they are released. A call that went through, later than
//! `after_kill_secs` after its agent, its credential, or the pair of agent and user was stopped, shows that the stop does not
//! hold. A call that was denied shows that it does. Time is the call's own, so that records which come late accuse nobody.
//!
//! Left out: rows without an agent (no detector sees them), and calls that were read before the order was.
//!
//! ```text
//! usual 30: list read invoices
//! control: {"killed": {"agent": "agent-0"}, "order": "o-1"}
//! then: list read invoices
//! quiet: list read invoices {outcome=denied}
//! ```

use serde::{Deserialize, Serialize};

use super::{About, Detector, FACT_BITS, Order, Report, Seen, Term};
use crate::engine::text;
use crate::explain::Case;
use crate::hash::{Of, mix};

pub(super) struct AfterKill;

/// Kills of a tenant that are remembered; past it the oldest goes.
const KILLS_MAX: usize = 4_096;

/// One order that stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kill {
    target: u64,
    order: u64,
    time: i64,
}

impl Detector for AfterKill {
    const ABOUT: About = About {
        name: "after_kill",
        version: 1,
        doc: "activity of who was stopped",
        source: include_str!("after_kill.rs"),
        hard: true,
        floor_bits: |_| FACT_BITS,
    };
    type State = ();
    /// In order of targets.
    type Shared = Vec<Kill>;
    type Note = ();

    #[inline]
    fn score(_: &(), shared: &Vec<Kill>, seen: &Seen<'_>) -> f64 {
        if shared.is_empty() || !seen.let_through() || standing(shared, seen).is_none() { 0.0 } else { FACT_BITS }
    }

    fn report(_: &(), shared: &Vec<Kill>, seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let (what, kill) = standing(shared, seen).unzip();
        let secs = kill.map_or(0, |kill| (seen.row.time - kill.time) / 1_000_000);
        let what = what.unwrap_or_default();
        Report {
            title: format!("{} did {} although {what} was stopped", case.who, case.action),
            terms: vec![Term { name: "stopped", bits: FACT_BITS, text: format!("{secs} s after {what} was stopped") }],
        }
    }

    fn obey(shared: &mut Vec<Kill>, order: &Order) {
        match *order {
            Order::Killed { order, target, time } => {
                if shared.iter().any(|kill| kill.order == order) {
                    return;
                }
                if shared.len() == KILLS_MAX {
                    let oldest = (0..KILLS_MAX).min_by_key(|at| shared[*at].time).expect("the list is full");
                    shared.remove(oldest);
                }
                let at = shared.partition_point(|kill| (kill.target, kill.order) < (target, order));
                shared.insert(at, Kill { target, order, time });
            }
            Order::Released { order } => shared.retain(|kill| kill.order != order),
        }
    }
}

/// The order that the call is against, and whom it stopped.
fn standing<'a>(shared: &'a [Kill], seen: &Seen<'_>) -> Option<(&'static str, &'a Kill)> {
    let (events, at) = (seen.row.events, seen.row.at);
    let agent = seen.row.agent;
    let by = |column, of| text(column, at).map(|name| seen.keyed.of(of, 0, name));
    let targets = [
        ("it", Some(agent)),
        ("its credential", by(events.credential_id, Of::Credential)),
        ("it for this user", by(events.user_id, Of::User).map(|user| mix(agent, user))),
    ];
    let latest = seen.row.time - seen.config.after_kill_secs.saturating_mul(1_000_000);
    targets.into_iter().find_map(|(what, target)| {
        let target = target?;
        let from = shared.partition_point(|kill| kill.target < target);
        let mut kills = shared[from..].iter().take_while(|kill| kill.target == target);
        kills.find(|kill| kill.time < latest).map(|kill| (what, kill))
    })
}

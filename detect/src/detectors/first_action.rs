//! An action that this agent never did.
//!
//! A fact, not a guess: the agent's list of actions is complete or the detector is silent. How surprising the fact is
//! depends on how long the agent has been known and how common the action is among its peers; impact decides whether it
//! matters. An agent without history of its own is judged by its cohort, for grave actions that no peer ever did.
//!
//! ```text
//! usual 30: list read invoices, get read invoices/17
//! then: list read invoices, export export customers
//! quiet: get read invoices/99, list read invoices
//! ```

use super::{About, Detector, Report, Seen, Term};
use crate::evidence::History;
use crate::explain::Case;
use crate::impact::GRAVE;

pub(super) struct FirstAction;

impl Detector for FirstAction {
    const ABOUT: About = About {
        name: "first_action",
        version: 1,
        doc: "an action that this agent never did",
        source: include_str!("first_action.rs"),
        hard: false,
        floor_bits: |config| config.first_action_bits,
    };
    type State = ();
    type Shared = ();
    type Note = ();

    fn score(_: &(), _: &(), Seen { evidence, .. }: &Seen<'_>) -> f64 {
        if !evidence.action_is_new {
            return 0.0;
        }
        match evidence.history {
            History::Own => evidence.weight * evidence.action_bits,
            History::Cohort if evidence.weight >= GRAVE && evidence.cohort_agents_with == 0 => {
                evidence.weight * evidence.peers_action_bits
            }
            _ => 0.0,
        }
    }

    fn report(_: &(), _: &(), seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let text = format!("{} {}", case.own_times(), case.weighed());
        let terms = vec![Term { name: "action", bits: Self::score(&(), &(), seen), text }];
        Report { title: format!("{} did {} for the first time", case.who, case.action), terms }
    }
}

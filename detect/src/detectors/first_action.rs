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

use super::{Detector, Report, Term};
use crate::Config;
use crate::evidence::{Evidence, History};
use crate::explain::Case;
use crate::impact::GRAVE;

pub(super) struct FirstAction;

impl Detector for FirstAction {
    fn name(&self) -> &'static str {
        "first_action"
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "an action that this agent never did"
    }

    fn source(&self) -> &'static str {
        include_str!("first_action.rs")
    }

    fn floor_bits(&self, config: &Config) -> f64 {
        config.first_action_bits
    }

    fn score(&self, evidence: &Evidence) -> f64 {
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

    fn report(&self, evidence: &Evidence, case: &Case) -> Report {
        let text = format!("{} {}", case.own_times(), case.weighed());
        let terms = vec![Term { name: "action", bits: self.score(evidence), text }];
        Report { title: format!("{} did {} for the first time", case.who, case.action), terms }
    }
}

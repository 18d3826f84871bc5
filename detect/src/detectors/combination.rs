//! A combination of calls that is unusual for this agent: what it does, after what, on what.
//!
//! `weight * (-log2 P(action) - log2 P(order) - log2 P(resource))`, each probability backed off from the agent's own
//! history to its cohort's and its tenant's ([`crate::habits`]). One number for three questions beats three detectors:
//! measured on hijacked agents, the sum separates far better than any part, and each part stays visible as a term.
//!
//! ```text
//! usual 30: list read invoices, get read invoices/17
//! then: list read invoices, read read vault/secrets/prod
//! quiet: get read invoices/99, list read invoices
//! ```

use super::{Detector, Report, Term};
use crate::Config;
use crate::evidence::{Evidence, History};
use crate::explain::Case;

pub(super) struct Combination;

impl Detector for Combination {
    fn name(&self) -> &'static str {
        "combination"
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "a combination of calls that is unusual for this agent"
    }

    fn source(&self) -> &'static str {
        include_str!("combination.rs")
    }

    fn floor_bits(&self, config: &Config) -> f64 {
        config.combination_bits
    }

    fn score(&self, evidence: &Evidence) -> f64 {
        match evidence.history {
            History::Own => evidence.weight * (evidence.action_bits + evidence.order_bits + evidence.resource_bits),
            _ => 0.0,
        }
    }

    fn report(&self, evidence: &Evidence, case: &Case) -> Report {
        let term = |name, bits: f64, text: String| Term { name, bits: evidence.weight * bits, text };
        let weighed = case.weighed();
        let terms = vec![
            term("action", evidence.action_bits, format!("{} {weighed}", case.own_times())),
            term("order", evidence.order_bits, format!("{} {weighed}", case.follows())),
            term("resource", evidence.resource_bits, format!("{} {weighed}", case.meets())),
        ];
        Report { title: format!("{} did {} in a combination unusual for it", case.who, case.action), terms }
    }
}

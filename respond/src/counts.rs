//! What happened since start, counted for metrics. No label names a tenant.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::decide::Handled;
use crate::order::Call;

/// From a connection on the loopback to an hour of repeats.
const SECONDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 600.0, 3600.0];

/// What an alert, an attempt, an escalation or a question came to.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Fate {
    pub result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Attempt {
    pub switch: String,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Switched {
    pub switch: String,
}

/// Counters that the responder moves; whoever shows them holds clones.
#[derive(Clone)]
pub struct Counts {
    /// Alerts handled, by what they led to.
    pub alerts: Family<Fate, Counter>,
    /// Attempts at switches, by outcome.
    pub attempts: Family<Attempt, Counter>,
    /// From the step that asked for a call until the switch had done it.
    pub call_secs: Family<Switched, Histogram, fn() -> Histogram>,
    /// What persons were told, by why.
    pub escalations: Family<Fate, Counter>,
    /// Answers to gateways that ask.
    pub answers: Family<Fate, Counter>,
    pub(crate) allowed: Counter,
    pub(crate) denied: Counter,
    pub(crate) unknown: Counter,
}

impl Default for Counts {
    fn default() -> Self {
        let answers: Family<Fate, Counter> = Family::default();
        // Held apart: a gateway waits for them.
        let [allowed, denied, unknown] =
            ["allowed", "denied", "unknown"].map(|result| answers.get_or_create_owned(&Fate { result }));
        let call_secs = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        let (alerts, attempts, escalations) = (Family::default(), Family::default(), Family::default());
        Counts { alerts, attempts, call_secs, escalations, answers, allowed, denied, unknown }
    }
}

impl Counts {
    pub(crate) fn handled(&self, handled: &Handled) {
        let result = match handled {
            Handled::OverBudget => "over_budget",
            Handled::NoPolicy => "no_policy",
            Handled::NoTarget => "no_target",
            Handled::Covered(_) => "covered",
            Handled::Observed(_) => "observed",
            Handled::Refused(_) => "refused",
            Handled::Asked(_) => "asked",
            Handled::Acting(_) => "acting",
        };
        self.alerts.get_or_create(&Fate { result }).inc();
    }

    /// Counts an attempt whose outcome `call` says.
    pub(crate) fn attempted(&self, call: &Call, now: i64) {
        let outcome = match (call.done, call.next_at) {
            (true, _) => "done",
            (false, Some(_)) => "again",
            (false, None) => "given_up",
        };
        self.attempts.get_or_create(&Attempt { switch: call.switch.clone(), outcome }).inc();
        if call.done {
            let secs = now.saturating_sub(call.asked_at) as f64 / 1e6;
            self.call_secs.get_or_create(&Switched { switch: call.switch.clone() }).observe(secs);
        }
    }

    pub(crate) fn escalated(&self, result: &'static str) {
        self.escalations.get_or_create(&Fate { result }).inc();
    }
}

//! The verdict: what a person says an alert was. Evidence of the judgement, and what detection learns from.
//!
//! An alert may be judged again; its last verdict counts. Who judged is the holder of the token, never what a body says.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an alert was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// Ordinary work: the detectors learn it.
    Dismissed,
    /// Right: what is held back because of it is never learned.
    Confirmed,
}

impl Judgement {
    pub fn name(self) -> &'static str {
        match self {
            Judgement::Dismissed => "dismissed",
            Judgement::Confirmed => "confirmed",
        }
    }

    /// The judgement of a name that [`name`](Self::name) gave.
    pub fn of_name(name: &str) -> Option<Judgement> {
        [Judgement::Dismissed, Judgement::Confirmed].into_iter().find(|judgement| judgement.name() == name)
    }

    /// The control frame by which detection learns of it.
    pub fn control(self, tenant: &str, alert_id: &str) -> serde_json::Value {
        match self {
            Judgement::Dismissed => serde_json::json!({"tenant": tenant, "dismiss": alert_id}),
            Judgement::Confirmed => serde_json::json!({"tenant": tenant, "confirm": alert_id}),
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

crate::table::table! {
    "verdicts", "One judgement of an alert by a person a row; an alert's last row counts.", reader Verdicts, row VerdictRow;

    "verdict" {
        time: required Time = "When it was judged.", unit "µs UTC", ocsf "time (1.8)", ecs "@timestamp";
        event_day: required Date = "UTC day of `time`.", unit "days since 1970-01-01";
        tenant: required Str = "Muster's isolation domain.", ocsf "metadata.tenant_uid (1.8)", ecs "organization.id";
        alert_id: required Str = "The alert.", unit "32 hex digits", ocsf "finding_info.uid (1.8)", ecs "event.id";
        verdict: required Str = "What it was: right (confirmed) or about ordinary work (dismissed).", unit "confirmed, dismissed", ocsf "verdict_id (1.8)", ecs "event.outcome";
        judged_by: required Str = "Who judged: the name of the token, or `operator` on the machine itself.", ocsf "actor.user.name (1.8)", ecs "user.name";
        why: required Str = "Why, in the person's words.", ocsf "comment (1.8)", ecs "event.reason";
        log_partition: required I32 = "Partition of the log.";
        log_offset: required I64 = "Offset of the frame in the log.";
        log_index: required I32 = "Row within the frame.";
    }
    "of what" {
        detector: required Str = "The detector that raised the alert.", ocsf "finding_info.analytic.uid (1.8)", ecs "rule.id";
        alert_time: required Time = "Time of the alert's triggering event.", unit "µs UTC";
        agent_id: optional Str = "The agent that the alert is about.", otel "gen_ai.agent.id";
    }
}

//! What a process does: all of it, or some where several share a log in Kafka and a lake in a bucket.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One of the roles; several processes may have the same, except `respond`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Doors, and the topics of `[[ingest.kafka]]`.
    Ingest,
    /// Writes the tables and keeps them in order.
    Lake,
    /// Judges events.
    Detect,
    /// Pages, orders, the deny list, inventory polls: one process.
    Respond,
    /// SQL, search, alerts and verdicts.
    Query,
}

impl Role {
    pub(crate) const ALL: [Role; 5] = [Role::Ingest, Role::Lake, Role::Detect, Role::Respond, Role::Query];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Ingest => "ingest",
            Role::Lake => "lake",
            Role::Detect => "detect",
            Role::Respond => "respond",
            Role::Query => "query",
        }
    }
}

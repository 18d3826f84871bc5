//! The settings of a topic that is read.

use lake::kafka::KafkaConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// So many topics are read by one process.
const DOORS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 100;

/// A topic of Apache Kafka that holds raw records of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaDoorConfig {
    /// Name of the door: letters, digits, `-`, `_` and `.`. How far it has read is kept under it.
    pub name: String,
    /// The topic to read.
    pub topic: String,
    /// Name of the source whose records they are. A message holds one record or several, as a request's body does.
    pub source: String,
    /// Tenant that the records are of: who may write into the topic may write records of this tenant.
    pub tenant: String,
    /// Tells two installations of one vendor apart; empty where there is one.
    pub instance: String,
    /// Whether the records come as they happen, so that they may start an unattended order. Else they are history.
    pub may_act: bool,
    /// Consumer group: members of one divide the partitions.
    pub group_id: String,
    /// Where a partition begins of which neither the door nor the group knows a position: `earliest` or `latest`.
    pub start: Start,
    /// How the brokers are reached: `bootstrap`, `security`, `sasl_mechanism`, `sasl_user`, `sasl_password_file` or
    /// `sasl_password_env`, `ca_file`, `certificate_file`, `key_file`, `timeout_ms`.
    pub client: KafkaConfig,
}

/// The first or the next record of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    #[default]
    Earliest,
    Latest,
}

impl Start {
    pub(super) fn name(self) -> &'static str {
        match self {
            Start::Earliest => "earliest",
            Start::Latest => "latest",
        }
    }
}

impl Default for KafkaDoorConfig {
    fn default() -> Self {
        KafkaDoorConfig {
            name: String::new(),
            topic: String::new(),
            source: String::new(),
            tenant: "default".to_owned(),
            instance: String::new(),
            may_act: false,
            group_id: "muster".to_owned(),
            start: Start::default(),
            client: KafkaConfig::default(),
        }
    }
}

/// All that is wrong with the doors' settings.
pub(crate) fn problems(doors: &[KafkaDoorConfig]) -> Vec<String> {
    let mut found = Vec::new();
    if doors.len() > DOORS_MAX {
        found.push(format!("kafka: at most {DOORS_MAX} topics"));
    }
    for (at, door) in doors.iter().enumerate() {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let name = &door.name;
        let named = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.');
        let checks = [
            (named, "name: is needed, of letters, digits, `-`, `_` and `.`"),
            (!doors[..at].iter().any(|other| other.name == *name), "name: another door has it"),
            (!door.topic.is_empty(), "topic: is needed"),
            (!door.source.is_empty() && door.source != "auto", "source: is needed, and must be one source"),
            (!door.tenant.is_empty(), "tenant: is needed"),
            (!door.group_id.is_empty(), "group_id: is needed"),
        ];
        let own = checks.into_iter().filter(|(fine, _)| !fine).map(|(_, problem)| problem.to_owned());
        let client = door.client.problems().into_iter().map(|problem| format!("client.{problem}"));
        found.extend(own.chain(client).map(|problem| format!("kafka[{at}].{problem}")));
    }
    found
}

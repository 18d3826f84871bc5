//! Settings of the log in Kafka.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kafka::KafkaConfig;

/// A row's `log_partition` has so many values; more partitions would stay empty.
const PARTITIONS_MAX: usize = 64;

/// How messages are made smaller on their way and on the brokers' disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    None,
    #[default]
    Lz4,
    Zstd,
}

impl Compression {
    pub(super) fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// Apache Kafka as the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaLogConfig {
    /// How the brokers are reached.
    pub client: KafkaConfig,
    /// The topic. Made if there is none; Muster alone writes to it, and the number of its partitions is never changed.
    pub topic: String,
    /// Partitions of a topic that is made, from 1 to 64. One that is there keeps its own.
    pub partitions: usize,
    /// Copies of each partition of a topic that is made.
    pub replication: i32,
    /// How long a topic that is made keeps its messages. What tables or detectors have not taken by then is lost to them: longer
    /// than they may stand still, and than `duplicates_window` lasts.
    pub retention_hours: u64,
    /// A message at most, from 64 KiB to 64 MiB; the topic's `max.message.bytes` must allow it.
    pub message_bytes_max: usize,
    /// `none`, `lz4`, or `zstd`, which makes messages smallest and takes most processor time.
    pub compression: Compression,
    /// How long an append may try before it is refused, in milliseconds, from 1,000 to 300,000.
    pub append_ms: u64,
}

impl Default for KafkaLogConfig {
    fn default() -> Self {
        KafkaLogConfig {
            client: KafkaConfig::default(),
            topic: "muster".into(),
            partitions: 8,
            replication: 1,
            retention_hours: 7 * 24,
            message_bytes_max: 8 << 20,
            compression: Compression::default(),
            append_ms: 60_000,
        }
    }
}

impl KafkaLogConfig {
    /// All that is wrong with the settings.
    pub fn problems(&self) -> Vec<String> {
        let letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
        let topic = &self.topic;
        let checks = [
            (
                (1..=249).contains(&topic.len()) && topic.chars().all(letter),
                "topic: 1 to 249 letters, digits, `.`, `_` or `-`",
            ),
            ((1..=PARTITIONS_MAX).contains(&self.partitions), "partitions: must be from 1 to 64"),
            ((1..=100).contains(&self.replication), "replication: must be from 1 to 100"),
            ((1..=87_600).contains(&self.retention_hours), "retention_hours: must be from 1 to 87,600"),
            (
                (64 << 10..=64 << 20).contains(&self.message_bytes_max),
                "message_bytes_max: must be from 64 KiB to 64 MiB",
            ),
            ((1_000..=300_000).contains(&self.append_ms), "append_ms: must be from 1,000 to 300,000"),
        ];
        let own = checks.into_iter().filter(|(fine, _)| !fine).map(|(_, problem)| problem.to_owned());
        own.chain(self.client.problems().into_iter().map(|problem| format!("client.{problem}"))).collect()
    }
}

//! The log's settings, each a stated limit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::KafkaLogConfig;

/// Settings of the log: the embedded one, or with `kafka` Apache Kafka, to which of these the limits of an append, of the queue
/// and of the cache, `linger_ms` and `duplicates_window` apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// A segment file that would grow beyond this is closed and a new one begun.
    pub segment_bytes_max: u64,
    /// The log on disk never grows beyond this: when every reader lags so far behind, appends are refused as full.
    pub log_bytes_max: u64,
    /// Appends that wait for the writer, in bytes of their columns; beyond it appends are refused as overloaded.
    pub queue_bytes_max: usize,
    /// Appends that wait for the writer, in number.
    pub queue_groups_max: usize,
    /// Rows of one append, and of the appends that are written together.
    pub group_rows_max: usize,
    /// Bytes of one append, and of the appends that are written together.
    pub group_bytes_max: usize,
    /// How long the writer waits for more appends before it writes. 0: it takes what waits already.
    pub linger_ms: u64,
    /// The newest frames that are kept in memory for readers.
    pub cache_bytes_max: usize,
    /// Over how many last events a repeated `event_id` is recognised; about 110 bytes of memory each. They are retained as
    /// long as `log_bytes_max` allows. 0: none is recognised, and a segment goes as soon as every reader has passed it.
    pub duplicates_window: usize,
    /// Apache Kafka as the log, in place of the embedded one. `duplicates_window` is then divided among the partitions.
    pub kafka: Option<KafkaLogConfig>,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_bytes_max: 64 << 20,
            log_bytes_max: 8 << 30,
            queue_bytes_max: 256 << 20,
            queue_groups_max: 4096,
            group_rows_max: 65_536,
            group_bytes_max: 64 << 20,
            linger_ms: 0,
            cache_bytes_max: 32 << 20,
            duplicates_window: 262_144,
            kafka: None,
        }
    }
}

impl LogConfig {
    /// All that is wrong with the settings.
    pub fn problems(&self) -> Vec<String> {
        let checks = [
            (self.segment_bytes_max >= 1, "segment_bytes_max: must be at least 1"),
            (
                self.segment_bytes_max <= 1 << 30,
                "segment_bytes_max: must be at most 1 GiB, a segment is checked in memory",
            ),
            (self.log_bytes_max >= self.segment_bytes_max, "log_bytes_max: must be at least segment_bytes_max"),
            (self.queue_groups_max >= 1, "queue_groups_max: must be at least 1"),
            (
                self.queue_groups_max <= 16_384,
                "queue_groups_max: must be at most 16384, a commit counts its frames in 16 bits",
            ),
            (self.group_rows_max >= 1, "group_rows_max: must be at least 1"),
            (
                self.group_rows_max <= i32::MAX as usize,
                "group_rows_max: must be at most 2147483647, log_index is an i32",
            ),
            (self.group_bytes_max <= 1 << 30, "group_bytes_max: must be at most 1 GiB, text offsets are 32 bits"),
            (self.queue_bytes_max >= self.group_bytes_max, "queue_bytes_max: must be at least group_bytes_max"),
            (self.linger_ms <= 1000, "linger_ms: must be at most 1000"),
        ];
        let own = checks.into_iter().filter(|(fine, _)| !fine).map(|(_, problem)| problem.to_owned());
        let kafka = self.kafka.iter().flat_map(KafkaLogConfig::problems);
        own.chain(kafka.map(|problem| format!("kafka.{problem}"))).collect()
    }
}

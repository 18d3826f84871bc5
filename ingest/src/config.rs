//! The ingest settings.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Limits;
use crate::kafka::{self, KafkaDoorConfig};

/// Settings of ingest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of your own mapping files, one `<source>.toml` each; one named as a built-in source replaces it.
    pub sources_folder: Option<PathBuf>,
    /// How often a running server looks whether a file of `sources_folder` changed; a changed mapping takes effect whole,
    /// a broken one leaves the one before it in force. 0: never.
    pub sources_poll_secs: u64,
    /// A larger request body (after decompression) is refused.
    pub body_bytes_max: usize,
    /// What the bodies of all requests that are being taken may hold together; beyond it a request is refused for a moment.
    pub bodies_bytes_max: usize,
    /// So many records of a request are reported one by one.
    pub results_max: usize,
    /// Limits on records.
    pub limits: Limits,
    /// What is remembered of tokens.
    pub tokens: TokenConfig,
    /// Sources that must not fall silent. Of the others `muster status` learns how often they come.
    pub expected: Vec<ExpectedSource>,
    /// Topics of Apache Kafka that hold raw records: see `docs/kafka-door.md`.
    pub kafka: Vec<KafkaDoorConfig>,
}

impl Config {
    /// All that is wrong with the settings.
    pub fn problems(&self) -> Vec<String> {
        let room = self.bodies_bytes_max >= self.body_bytes_max;
        let room =
            (!room).then(|| "bodies_bytes_max: must be at least body_bytes_max, or no such body is taken".to_owned());
        room.into_iter().chain(kafka::problems(&self.kafka)).collect()
    }
}

/// A source that is expected to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExpectedSource {
    pub tenant: String,
    pub source: String,
    /// Longer than this without a record is a gap.
    pub silence_minutes: u32,
}

impl Default for ExpectedSource {
    fn default() -> Self {
        ExpectedSource { tenant: "default".to_owned(), source: String::new(), silence_minutes: 60 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            sources_folder: None,
            sources_poll_secs: 5,
            body_bytes_max: 64 << 20,
            bodies_bytes_max: 128 << 20,
            results_max: 1000,
            limits: Limits::default(),
            tokens: TokenConfig::default(),
            expected: Vec::new(),
            kafka: Vec::new(),
        }
    }
}

/// What was said when a token was issued is carried to later records of the same tenant that hold only the token's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenConfig {
    /// Tokens remembered, all tenants together; the oldest go first. 0: nothing is carried.
    pub entries_max: usize,
    /// What they may take in memory; a token takes some 400 bytes.
    pub bytes_max: usize,
    /// How long after its issuance was received a token is remembered.
    pub ttl_hours: u32,
    /// After a start, so many of the log's last frames are read for tokens issued before (a second of traffic is a
    /// few frames, a second without is one). What the log no longer holds is not carried.
    pub rebuild_frames_max: u64,
}

impl Default for TokenConfig {
    fn default() -> Self {
        TokenConfig { entries_max: 100_000, bytes_max: 64 << 20, ttl_hours: 72, rebuild_frames_max: 100_000 }
    }
}

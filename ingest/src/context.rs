//! What a caller hands to [`normalize`](crate::normalize()) and what it gets back.

use std::str::FromStr;

use arrow::array::RecordBatch;
use schemas::ledger::LedgerRow;
use schemas::table::RowBuilder;
use schemas::{event, quarantine};
use serde::{Deserialize, Serialize};

/// Where records came from: everything about an event that its record does not say.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    pub tenant: &'a str,
    /// Tells two installations of one vendor apart, so that their record ids do not collide.
    pub instance: &'a str,
    pub door: &'a str,
    /// Whether records come as they happen; otherwise their events are flagged `backfill`.
    pub live: bool,
    /// Microseconds since the Unix epoch.
    pub received_at: i64,
    pub carrier: &'a Carrier,
    pub partitions: u32,
    /// Key of this installation, under which a secret becomes a credential id.
    pub secret_key: &'a [u8; 32],
}

/// What carried the records: the place of a record in it is its identity where the vendor gives none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// `offset` is where in the file the bytes at hand begin.
    File { name: String, offset: u64 },
    /// A body sent under a token; its decoded bytes are part of each record's identity.
    Request { token: String },
    /// Messages of a topic: of each record the partition, the offset of its message, and its number in the message.
    Messages { topic: String, places: Vec<(i32, i64, u32)> },
}

/// Limits on what is admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A longer record goes to quarantine.
    pub record_bytes_max: usize,
    /// So much of a quarantined record is kept.
    pub quarantine_bytes_max: usize,
    /// A record that holds more events than this goes to quarantine.
    pub record_events_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { record_bytes_max: 1 << 20, quarantine_bytes_max: 64 << 10, record_events_max: 10_000 }
    }
}

/// What a piece of input became.
#[derive(Debug)]
pub struct Normalized {
    pub events: Option<RecordBatch>,
    /// The record of each event row, ascending.
    pub event_record: Vec<u32>,
    pub quarantine: Option<RecordBatch>,
    pub ledger: LedgerRow,
    /// What became of each record.
    pub outcomes: Vec<Outcome>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Mapped {
        events: u32,
    },
    /// The name of the mapping's noise rule.
    Noise {
        rule: String,
    },
    Quarantined {
        reason: Reason,
        field: Option<&'static str>,
        detail: String,
    },
}

/// Why a record is in quarantine: a fixed list, so that it can be counted and searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Not JSON, and no text format of the mapping.
    NotJson,
    NotUtf8,
    /// JSON, but no object.
    NotObject,
    /// No text format of the mapping fits the line.
    UnknownFormat,
    TooLarge,
    TooManyEvents,
    NoTime,
    /// There is a time, and it cannot be read.
    BadTime,
    NoAction,
}

impl Reason {
    pub const ALL: [Reason; 9] = [
        Reason::NotJson,
        Reason::NotUtf8,
        Reason::NotObject,
        Reason::UnknownFormat,
        Reason::TooLarge,
        Reason::TooManyEvents,
        Reason::NoTime,
        Reason::BadTime,
        Reason::NoAction,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Reason::NotJson => "not_json",
            Reason::NotUtf8 => "not_utf8",
            Reason::NotObject => "not_object",
            Reason::UnknownFormat => "unknown_format",
            Reason::TooLarge => "too_large",
            Reason::TooManyEvents => "too_many_events",
            Reason::NoTime => "no_time",
            Reason::BadTime => "bad_time",
            Reason::NoAction => "no_action",
        }
    }
}

impl FromStr for Reason {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Reason::ALL.into_iter().find(|r| r.name() == name).ok_or(())
    }
}

/// Builders that are kept from piece to piece.
pub(crate) struct Builders {
    pub(crate) events: RowBuilder,
    pub(crate) quarantine: RowBuilder,
}

impl Builders {
    pub(crate) fn new() -> Builders {
        Builders { events: RowBuilder::new(&event::TABLE), quarantine: RowBuilder::new(&quarantine::TABLE) }
    }
}

//! From a vendor's bytes to rows: mappings, the worker that makes rows durable, and the HTTP door.
//!
//! - [`mapping`] reads the mapping files of `schemas/sources/` and of users, and compiles each into a plan;
//! - `catalog` holds the mappings in force, and takes them anew when a user's file changes;
//! - [`split`] cuts bytes into records, a bounded piece at a time;
//! - [`normalize`] turns a piece into event rows, quarantine rows and one ledger row: pure, no clock, no IO;
//! - [`tokens`] remembers what was said of tokens, for records that hold only their ids;
//! - [`mask`] takes secrets out of what is stored;
//! - [`worker`] normalizes, appends to the log and says what became of each record; [`receipt`] is what a sender keeps of it;
//! - [`redrive`] drives quarantined records through the mapping in force now;
//! - [`inventory`] polls what providers hold: clients, credentials, grants;
//! - [`kafka`] is the door to topics of Apache Kafka;
//! - [`http`] is the door over HTTP, [`serve`] the server that it and all other routes stand in;
//! - [`fixtures`] runs a mapping's examples; [`json`] prints what a mapping makes; [`draft`] makes a first mapping from sample
//!   records.
//!
//! ```text
//! bytes ─▶ split ─▶ one SIMD parse a record ─▶ one walk over a trie of keys ─▶ columns ─▶ log.append ─▶ receipt
//! ```
//! Bad data never stops good data: a record becomes events, counted noise, or a quarantine row with a reason.

mod body;
mod catalog;
pub mod config;
pub mod context;
pub mod draft;
pub mod fixtures;
pub mod http;
pub mod inventory;
pub mod json;
pub mod kafka;
pub mod mapping;
pub mod mask;
pub mod normalize;
mod raw;
pub mod receipt;
pub mod redrive;
pub mod serve;
pub mod split;
mod text;
mod time;
pub mod tokens;
mod walk;
pub mod worker;

pub use catalog::InForce;
pub use config::Config;
pub use context::{Carrier, Context, Limits, Normalized, Outcome, Reason};
pub use json::{event_objects, normalize_json};
pub use mapping::{Detection, Mapping, MappingError, Sources};
pub use normalize::{Joins, normalize, normalize_joined, normalize_piece};
pub use split::{Chunks, Piece, Span};
pub use tokens::{TokenCounts, Tokens};
pub use worker::{Admission, Ingest, IngestError, Receipt, RecordResult};

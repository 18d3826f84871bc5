//! Detection: pure functions over batches of events that turn them into alerts.
//!
//! ```text
//! events ─▶ rows ─▶ evidence (own → cohort → tenant) ─▶ detectors ─▶ threshold, warm-up, repeats ─▶ alerts
//!                       ▲                                    tick: sessions that ended join cohort and tenant
//! ```
//! Promises: the same rows and ticks in the same order give the same alerts, with the same ids, for every cut into
//! batches and every restart from a [snapshot](Engine::snapshot); every table has a stated limit.
//!
//! Time is the log's: an event counts as having happened at `min(time, received_at)`. Both are columns of the log, so
//! this is as deterministic as `received_at` alone, and unlike it makes a week that is loaded in seconds a week of
//! history, while a clock that runs ahead cannot make an agent older than Muster has known it. Only `live` and nothing
//! else looks at how late an event came.
//!
//! Left out: IO, clocks, threads, async; the alert budget (`respond` spends it); rows without an agent (not judged).

mod agent;
mod ahead;
mod alert;
mod barrier;
mod cold;
mod columns;
mod config;
pub mod detectors;
mod engine;
mod evidence;
mod explain;
mod few;
mod habits;
mod hash;
mod impact;
mod lengths;
mod rhythm;
mod row;
mod series;
mod session;
mod shard;
mod snapshot;
mod symbol;
mod table;
mod tail;
mod tenant;

pub use barrier::Shards;
pub use config::Config;
pub use engine::{Engine, Scored};
pub use evidence::{Evidence, History};
pub use explain::Case;
pub use snapshot::RestoreError;

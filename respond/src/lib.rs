//! From alerts to stopped agents: orders, the deny list, and the switches that carry orders out.
//!
//! ```text
//! main log: alerts ─▶ policy ─▶ order ─▶ control log (fsync) ─┬▶ deny list ◀─ gateways ask
//!                                            │                └▶ switches, repeated until done or given up
//!                                            └─ mirrored to the main log's `orders`, each step once
//! ```
//! - [`config`] is what the operator may say; [`order`] is one order and its steps, `state` which may follow which, `target`
//!   whom it stops, [`plan`] what it would do;
//! - [`budget`] decides which alerts anybody hears of;
//! - `decide` turns alerts into orders, `hand` is what persons do with them, `calls` drives the switches, `evidence` verifies;
//!   `journal` is the control log and its mirror; `run` ties them to the main log and to time; `counts` is for metrics;
//! - [`deny`] answers gateways from memory: `doors` and `grpc` are what they ask, [`gateway`] derives who is asking, `bundle` packs the list
//!   for OPA; [`http`] are the routes of orders; `ssf` transmits shared signals over each
//!   receiver's `stream`, which `streams` lets it manage; `drill` rehearses;
//! - [`switches`] is the open set of what can be called; `outbound` guards every call; [`webhook`] and
//!   [`signer`] sign.
//!
//! No kill without a recorded intent: each step is durable before its effect. Only an alert that is live and received within
//! 60 s acts.

mod activity;
mod arming;
mod book;
pub mod budget;
mod bundle;
mod calls;
pub mod config;
pub mod counts;
mod decide;
pub mod deny;
mod doors;
mod drill;
mod error;
mod evidence;
pub mod gateway;
mod grpc;
mod hand;
pub mod http;
mod journal;
pub mod order;
mod outbound;
pub mod plan;
pub mod responder;
mod run;
pub mod signer;
mod ssf;
mod state;
mod stream;
mod streams;
pub mod switches;
mod target;
pub mod webhook;

pub use arming::Arming;
pub use config::Config;
pub use counts::Counts;
pub use decide::Handled;
pub use drill::Report;
pub use error::Error;
pub use hand::Request;
pub use journal::{CONTROL_GROUP, MAIN_GROUP};
pub use responder::Responder;
pub use target::Asker;

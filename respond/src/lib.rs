//! From alerts to stopped agents: orders, the deny list, and the switches that carry orders out.
//!
//! ```text
//! main log: alerts ─▶ policy ─▶ order ─▶ control log (fsync) ─┬▶ deny list ◀─ gateways ask
//!                                            │                └▶ switches, repeated until done or given up
//!                                            └─ mirrored to the main log's `orders`, each step once
//! ```
//! - [`config`] is what the operator may say; [`order`] is one order and its steps;
//! - [`responder`] decides and writes down; `journal` is the control log and its mirror; `calls` drives the switches;
//!   `run` ties them to the main log and to time;
//! - [`deny`] answers gateways from memory; [`http`] are the routes;
//! - [`switches`] is the open set of what can be called; `outbound` guards every call; [`webhook`] signs and verifies.
//!
//! No kill without a recorded intent: each step is durable before its effect. Only an alert that is live and received within
//! 60 s acts. Left out for now: approvals by persons, evidence (`verified`), drills.

mod activity;
mod book;
mod calls;
pub mod config;
pub mod deny;
mod error;
pub mod http;
mod journal;
pub mod order;
mod outbound;
pub mod responder;
mod run;
pub mod switches;
pub mod webhook;

pub use config::Config;
pub use error::Error;
pub use journal::{CONTROL_GROUP, MAIN_GROUP};
pub use responder::{Counts, Handled, Responder};

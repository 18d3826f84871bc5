//! The contract: every table's columns, declared once, and what is derived from them.
//!
//! - [`table`] holds the column kinds, the row builder and the `table!` macro;
//! - [`event`], [`quarantine`], [`ledger`], [`alert`], [`verdict`], [`order`] and [`inventory`] declare one table each;
//! - [`nulls`] are the columns without a value, most of a wide row;
//! - [`docs`] turns a declaration into its reference page and its JSON Schema;
//! - [`access`] says who is asking;
//! - [`id`] makes the ids (events, alerts, orders) and the partition of an agent;
//! - [`registry`] is the agents that somebody declared, with their names in several systems; [`problem`] is what is wrong
//!   with a file that people write;
//! - [`catalogue`] says how bad an action can be, by patterns ([`glob`]) of its name;
//! - [`sources`] embeds the built-in mapping files of `schemas/sources/` and the providers of `schemas/inventory/`.
//!
//! No IO, no clock, no async: time and bytes are handed in. A test in `muster` keeps it so.

pub mod access;
pub mod alert;
pub mod catalogue;
pub mod docs;
pub mod event;
pub mod glob;
pub mod id;
pub mod inventory;
pub mod ledger;
pub mod nulls;
pub mod order;
pub mod problem;
pub mod quarantine;
pub mod registry;
pub mod sources;
pub mod table;
pub mod verdict;

pub use access::{Holder, Principal, Verb};
pub use alert::AlertRow;
pub use catalogue::Catalogue;
pub use event::{EventRow, Events};
pub use inventory::InventoryRow;
pub use order::OrderRow;
pub use registry::Registry;
pub use table::{Column, Hop, Kind, RowBuilder, SchemaError, Table};
pub use verdict::{Judgement, VerdictRow};

/// All tables, in the order in which documentation lists them.
pub static TABLES: &[&Table] = &[
    &event::TABLE,
    &quarantine::TABLE,
    &ledger::TABLE,
    &alert::TABLE,
    &order::TABLE,
    &inventory::TABLE,
    &verdict::TABLE,
];

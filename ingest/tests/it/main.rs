//! Ingest from outside: fixtures, the corpus, any bytes at all, and admission through a log.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests fail where they cannot go on"
)]

mod admission;
mod catalog;
mod corpus;
mod draft;
mod engine;
mod fixtures;
mod fuzz;
mod inventory;
mod joins;
mod properties;
mod support;
mod who;

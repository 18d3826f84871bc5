//! Questions at the boundary: SQL text and HTTP requests in, rows and problems out.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests fail where they cannot go on"
)]

mod history;
mod inventory;
mod roster;
mod sql;
mod tenants;
mod verdicts;
mod world;

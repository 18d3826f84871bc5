//! What `lake` promises, tested at its boundary.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests fail where they cannot go on"
)]

mod files;
mod kafka;
mod log;
mod tables;

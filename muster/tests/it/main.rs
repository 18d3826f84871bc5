//! Tests of the whole: the shape of the workspace, the command line, the server, crashes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests fail where they cannot go on"
)]

mod bad_input;
mod crash;
mod ends;
mod gateways;
mod inventory;
mod kafka;
mod keeping;
mod learn;
mod metrics;
mod profile;
mod roles;
mod s3;
mod server;
mod shape;
mod sources;
mod topics;
mod unattended;
mod upgrade;
mod verdicts;

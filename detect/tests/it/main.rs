//! Detection, tested where others touch it: rows and ticks in, alerts out.
#![allow(clippy::print_stdout)]

mod division;
mod examples;
mod facts;
mod fleet;
mod properties;
mod support;
mod watch;

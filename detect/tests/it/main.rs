//! Detection, tested where others touch it: rows and ticks in, alerts out.

mod examples;
mod fleet;
mod properties;
mod support;

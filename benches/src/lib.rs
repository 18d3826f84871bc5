//! Made-up work for Muster: vendor-shaped records whose every byte follows from a seed.
//!
//! [`workload`] writes any number of records of one source, for measuring. [`fleet`] is a believable company with a week
//! of habits and three incidents, for `muster demo`. Both write through [`records`], which knows the vendors' formats
//! and nothing else. No clock, no IO and no vendor's real record in them: times come from the caller, names are invented.
//! [`measure`] is what the measuring programs share.

pub mod fleet;
mod json;
pub mod measure;
pub mod records;
pub mod workload;

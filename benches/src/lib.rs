//! Made-up work for Muster: vendor-shaped records whose every byte follows from a seed.
//!
//! [`workload`] writes any number of records of one source, for measuring. [`fleet`] is a believable company with a week
//! of habits and three incidents, for `muster demo`. Both write through [`records`], which knows the vendors' formats
//! and nothing else. No clock, no IO and no vendor's real record in here: times come from the caller, names are invented.

pub mod fleet;
mod json;
pub mod records;
pub mod workload;

use std::time::Duration;

/// Time that the calling thread was on a core: other processes on the machine do not count.
pub fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the benches run on Linux");
    let nanos = text.split(' ').next().and_then(|n| n.parse().ok()).expect("the first field is nanoseconds");
    Duration::from_nanos(nanos)
}

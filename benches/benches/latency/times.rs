//! Times of one kind, and what is told of them.

use std::time::Duration;

use anyhow::{Result, ensure};

/// Sorted.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Result<Times> {
        ensure!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        Ok(Times(times))
    }

    /// The time within which `share` of all were over.
    pub(crate) fn within(&self, share: f64) -> Duration {
        self.0[(self.0.len() as f64 * share) as usize]
    }

    pub(crate) fn p99_ms(&self) -> f64 {
        self.within(0.99).as_secs_f64() * 1e3
    }

    pub(crate) fn print(&self, what: &str) {
        let ms = |share| self.within(share).as_secs_f64() * 1e3;
        let greatest = self.0[self.0.len() - 1].as_secs_f64() * 1e3;
        println!(
            "{what:46} p50 {:8.3} ms  p99 {:8.3} ms  p99.9 {:8.3} ms  most {greatest:8.3} ms  of {}",
            ms(0.5),
            ms(0.99),
            ms(0.999),
            self.0.len()
        );
    }
}

/// Says how `found` stands to `target`, both in milliseconds.
pub(crate) fn compare(what: &str, found: f64, target: f64) {
    println!("{what:46} {found:.3} of {target:.3}: {:.2} of what it may be\n", found / target);
}

//! Lengths of time that are usual for an agent: its silences, the age of its tokens.
//!
//! Kept is how many there were and the longest. A length that is `k` times the longest of `n` has at most
//! `log2(n + 1) + 2 log2(k)` bits: one in `n + 1` is longer than all, and the tails of such lengths fall with the square.

use serde::{Deserialize, Serialize};

/// Surprise at most.
const BITS_MAX: f64 = 16.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lengths {
    count: u32,
    pub(crate) longest_mins: u32,
}

impl Lengths {
    /// Learns a length, but not more than four times the longest: one that is far off is not usual at once.
    pub(crate) fn learn(&mut self, mins: u32) {
        let most = if self.count == 0 { mins } else { self.longest_mins.max(15).saturating_mul(4) };
        self.longest_mins = self.longest_mins.max(mins.min(most));
        self.count = self.count.saturating_add(1);
    }

    /// The longest goes on: no further one.
    pub(crate) fn stretch(&mut self, mins: u32) {
        self.longest_mins = self.longest_mins.max(mins.min(self.longest_mins.max(15).saturating_mul(4)));
    }

    pub(crate) fn bits(&self, mins: u32) -> f64 {
        let longest = self.longest_mins.max(1);
        if self.count == 0 || mins <= longest {
            return 0.0;
        }
        let bits = f64::from(self.count.saturating_add(1)).log2() + 2.0 * (f64::from(mins) / f64::from(longest)).log2();
        (bits.min(BITS_MAX) * 1024.0).round() / 1024.0
    }
}

/// Minutes from one time to a later one.
pub(crate) fn minutes(from: i64, to: i64) -> u32 {
    u32::try_from(to.saturating_sub(from) / 60_000_000).unwrap_or(if to > from { u32::MAX } else { 0 })
}

/// A length in words.
pub(crate) fn words(mins: u32) -> String {
    match mins {
        0..=119 => format!("{mins} minutes"),
        120..=2_879 => format!("{} hours", mins / 60),
        _ => format!("{} days", mins / 1_440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_than_ever_is_surprising_and_becomes_usual_by_and_by() {
        let mut lengths = Lengths::default();
        assert_eq!(lengths.bits(1_000), 0.0);
        (0..31).for_each(|_| lengths.learn(60));
        assert_eq!((lengths.bits(60), lengths.bits(240), lengths.bits(u32::MAX)), (0.0, 9.0, BITS_MAX));
        lengths.learn(100_000);
        assert_eq!(lengths.longest_mins, 240);
    }

    #[test]
    fn times_out_of_order_have_no_length() {
        assert_eq!((minutes(60_000_000, 0), minutes(0, 120_000_000), minutes(0, i64::MAX)), (0, 2, u32::MAX));
    }
}

//! One quantity of an agent over the last 5, 10 and 60 minutes, and what is usual of it.
//!
//! Agents work in bursts, so the spread is learned beside the mean: counts are taken as Gamma-Poisson, with `1/r` the spread
//! beyond chance. The score is how much likelier the count is with a burst on top (at least [`TIMES`] times the mean) than as
//! usual: `log2 P(y | m + b) / P(y | m, r)`. Of two equally rare counts the one that a burst explains says more; a plain
//! `P(>= y)` finds fewer at the same rate of false alerts. What is learned of one window is cut at ten deviations: a burst
//! does not become the rhythm.
//!
//! An ordinary call looks at three sums: amounts up to which nothing can be unusual are computed once an hour.

use serde::{Deserialize, Serialize};

use crate::rhythm::Rhythm;

/// Minutes of each horizon, and how often an hour has it.
const HORIZONS: [(i64, f32); 3] = [(5, 12.0), (10, 6.0), (60, 1.0)];
/// Minutes that are told apart.
pub(crate) const RING: usize = 10;
/// A burst is so many times the mean of a minute, which is taken to be at least so many units.
const TIMES: f32 = 5.0;
const BURST_RATE_MIN: f32 = 0.5;
/// Units that are expected at least: nobody is told of a second call.
const EXPECTED_MIN: f32 = 0.5;
/// The same of a minute, where it is learned.
const RATE_MIN: f32 = 0.002;
const SPREAD_MIN: f32 = 0.05;
const SPREAD_MAX: f32 = 4_096.0;
/// Large windows that the first guess of the spread, 1, stands for.
const SPREAD_PRIOR: f32 = 5.0;
/// Deviations below which nothing is worth a logarithm, and at which a window is cut.
const DEVIATIONS_MIN: f32 = 3.0;
const DEVIATIONS_MAX: f32 = 10.0;
/// Units up to which nothing is, whatever is expected: less than [`EXPECTED_MIN`] with the smallest spread allows.
const QUIET_UNITS: f32 = 2.6;
/// A shape from which chance is Poisson's.
const SHAPE_MAX: f64 = 1e6;
/// Beyond it more is no more surprising.
const BITS_MAX: f64 = 48.0;

/// One quantity. Amounts are in units of an average call's amount wherever they meet a chance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) of: u8,
    /// The minutes up to [`Rhythm::minute`], newest first.
    pub(crate) minutes: [u32; RING],
    hour: u32,
    hour_before: u32,
    hits: u32,
    unit: f32,
    /// Units a minute.
    rate: f32,
    /// Amounts of each horizon up to which nothing is unusual in this hour.
    quiet: [u32; 3],
    /// What this hour's windows of 5 and 10 minutes add to what empty ones say of the spread.
    squares: [f32; 2],
    spreads: [Spread; 3],
}

/// What windows say of the spread beyond chance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Spread {
    beyond: f32,
    weight: f32,
}

/// A horizon that has more than is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Excess {
    pub(crate) bits: f64,
    pub(crate) minutes: i64,
    pub(crate) amount: u64,
    pub(crate) expected: f64,
}

impl Series {
    pub(crate) fn new(of: u8, amount: u32) -> Self {
        Series {
            of,
            minutes: [0; RING],
            hour: 0,
            hour_before: 0,
            hits: 0,
            unit: amount.max(1) as f32,
            rate: 0.5,
            quiet: [0; 3],
            squares: [0.0; 2],
            spreads: [Spread { beyond: SPREAD_PRIOR, weight: SPREAD_PRIOR }; 3],
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, amount: u32) {
        self.minutes[0] = self.minutes[0].saturating_add(amount);
        self.hour = self.hour.saturating_add(amount);
        self.hits = self.hits.saturating_add(1);
    }

    /// Whether no horizon can be unusual at `minute`, where time was last told at `known`.
    #[inline]
    pub(crate) fn is_quiet(&self, known: i64, minute: i64, amount: u32) -> bool {
        if known / 60 != minute / 60 {
            return false;
        }
        let (five, before) = self.minutes.split_at(RING / 2);
        let sum = |minutes: &[u32]| minutes.iter().map(|minute| u64::from(*minute)).sum::<u64>();
        let five = sum(five) + u64::from(amount);
        let hour = self.last(known, minute, 60) + u64::from(amount);
        let [quiet_five, quiet_ten, quiet_hour] = self.quiet.map(u64::from);
        five <= quiet_five && five + sum(before) <= quiet_ten && hour <= quiet_hour
    }

    /// Computes what is quiet while at least `factor` of the mean is expected.
    pub(crate) fn bound(&mut self, factor: f32) {
        let bound = |(spread, (minutes, _)): (&Spread, (i64, f32))| {
            let expected = (self.rate * factor * minutes as f32).max(EXPECTED_MIN);
            ((expected + DEVIATIONS_MIN * spread.deviation(expected)) * self.unit) as u32
        };
        self.quiet = [0, 1, 2].map(|at| bound((&self.spreads[at], HORIZONS[at])));
    }

    /// The most surprising horizon at `minute`, with `amount` on top.
    pub(crate) fn excess(&self, rhythm: &Rhythm, minute: i64, amount: u32) -> Excess {
        let mut most = Excess::default();
        for (spread, (minutes, _)) in self.spreads.iter().zip(HORIZONS) {
            let total = self.last(rhythm.minute, minute, minutes) + u64::from(amount);
            let y = total as f32 / self.unit;
            if y <= QUIET_UNITS {
                continue;
            }
            let expected = (self.rate * rhythm.expected(minute, minutes)).max(EXPECTED_MIN);
            if y - expected <= DEVIATIONS_MIN * spread.deviation(expected) {
                continue;
            }
            let burst = TIMES * self.rate.max(BURST_RATE_MIN) * minutes as f32;
            let bits = bits(f64::from(y), f64::from(expected), 1.0 / f64::from(spread.ratio()), f64::from(burst));
            if bits > most.bits {
                most = Excess { bits, minutes, amount: total, expected: f64::from(expected * self.unit) };
            }
        }
        most
    }

    /// The amount of the last `minutes` before the end of `minute`, where time was last told at `known`.
    fn last(&self, known: i64, minute: i64, minutes: i64) -> u64 {
        if minutes <= RING as i64 {
            let kept = (minutes - (minute - known)).max(0) as usize;
            return self.minutes[..kept].iter().map(|amount| u64::from(*amount)).sum();
        }
        let (now, before) = match minute / 60 - known / 60 {
            0 => (self.hour, self.hour_before),
            1 => (0, self.hour),
            _ => (0, 0),
        };
        u64::from(now) + u64::from(before) * (59 - minute % 60) as u64 / 60
    }

    /// So many minutes pass.
    pub(crate) fn shift(&mut self, minutes: i64) {
        let by = minutes.min(RING as i64) as usize;
        self.minutes.copy_within(..RING - by, by);
        self.minutes[..by].fill(0);
    }

    /// A window of 5 minutes, and maybe one of 10, ends `ahead` minutes after the current one begins.
    pub(crate) fn close(&mut self, factor: f32, ahead: i64, ten: bool) {
        for (at, (minutes, _)) in HORIZONS.into_iter().enumerate().take(if ten { 2 } else { 1 }) {
            let kept = (minutes + 1 - ahead).max(0) as usize;
            let total: u64 = self.minutes[..kept].iter().map(|amount| u64::from(*amount)).sum();
            if total > 0 {
                let expected = (self.rate * factor).max(RATE_MIN) * minutes as f32;
                let y = self.spreads[at].cut(total as f32 / self.unit, expected);
                self.squares[at] += y * (y - 2.0 * expected);
            }
        }
    }

    /// An hour ended, of which `factor` of the mean was expected; says what it had and what was expected.
    pub(crate) fn close_hour(&mut self, factor: f32, step: f32, kept: f32) -> [f32; 2] {
        let expected = (self.rate * factor).max(RATE_MIN);
        let had = self.spreads[2].cut(self.hour as f32 / self.unit, expected * 60.0);
        let [five, ten] = std::mem::take(&mut self.squares);
        let squares = [five, ten, had * (had - 120.0 * expected)];
        for ((spread, (minutes, times)), squares) in self.spreads.iter_mut().zip(HORIZONS).zip(squares) {
            spread.learn(squares, expected * minutes as f32, times, kept);
        }
        self.rate += step * (had / 60.0 - self.rate);
        if self.hits > 0 {
            let unit = self.hour as f32 / self.hits as f32;
            self.unit += (unit.min(4.0 * self.unit) - self.unit) * step.max(0.05);
        }
        (self.hour_before, self.hour, self.hits) = (self.hour, 0, 0);
        [had, expected * 60.0]
    }

    /// So many hours had nothing; `kept` is what remains of the mean.
    pub(crate) fn close_idle(&mut self, factor: f32, hours: f32, kept: f32, kept_spread: f32) {
        let expected = (self.rate * factor).max(RATE_MIN);
        for (spread, (minutes, times)) in self.spreads.iter_mut().zip(HORIZONS) {
            spread.learn(0.0, expected * minutes as f32, times * hours, kept_spread);
        }
        self.rate *= kept;
        (self.hour_before, self.hour) = (0, 0);
    }
}

impl Spread {
    fn ratio(&self) -> f32 {
        (self.beyond / self.weight).clamp(SPREAD_MIN, SPREAD_MAX)
    }

    fn deviation(&self, expected: f32) -> f32 {
        (expected + expected * expected * self.ratio()).sqrt()
    }

    fn cut(&self, total: f32, expected: f32) -> f32 {
        total.min(expected + DEVIATIONS_MAX * self.deviation(expected) + 3.0)
    }

    /// So many windows ended, whose `y (y - 2 expected)` sum to `squares`. Windows say more of the spread the more is
    /// expected in them, until chance plays no part.
    fn learn(&mut self, squares: f32, expected: f32, times: f32, kept: f32) {
        let each = 1.0 / (1.0 + expected).powi(2);
        let empty = times * expected * expected;
        self.beyond = (self.beyond * kept + (squares + empty - times * expected) * each).max(0.0);
        self.weight = self.weight * kept + empty * each;
    }
}

/// How much likelier `y` is with a burst on top of what is expected, in bits; the burst is as large as fits `y`, `least` at least,
/// and adds chance's own variance.
fn bits(y: f64, expected: f64, r: f64, least: f64) -> f64 {
    let mean = expected + least.max(y - expected);
    let shape = (r * (mean / expected).powi(2)).min(SHAPE_MAX);
    let bits = (log_chance(y, mean, shape) - log_chance(y, expected, r) + y * (mean * r / (expected * shape)).ln())
        * std::f64::consts::LOG2_E;
    (bits.clamp(0.0, BITS_MAX) * 1024.0).round() / 1024.0
}

/// The logarithm of the Gamma-Poisson chance of `y`, but for `y!` and a factor `(mean / r) ^ y`.
fn log_chance(y: f64, mean: f64, r: f64) -> f64 {
    log_rising(y, r) - (y + r) * (1.0 + mean / r).ln()
}

/// The logarithm of `Γ(y + r) / Γ(r)`: by Stirling's series, from 8 on.
fn log_rising(y: f64, r: f64) -> f64 {
    let lifted = |mut x: f64| {
        let mut below = 1.0;
        while x < 8.0 {
            below *= x;
            x += 1.0;
        }
        (x, below)
    };
    let stirling = |x: f64| (x - 0.5) * x.ln() - x + 1.0 / (12.0 * x) - 1.0 / (360.0 * x * x * x);
    let ((upper, above), (lower, below)) = (lifted(y + r), lifted(r));
    stirling(upper) - stirling(lower) + (below / above).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_before_fades() {
        let mut rhythm = Rhythm::default();
        rhythm.pass(600);
        let mut series = Series::new(0, 1);
        (0..60).for_each(|_| series.add(1));
        assert_eq!([600, 659, 660, 689, 719, 720].map(|minute| series.last(600, minute, 60)), [60, 60, 59, 30, 0, 0]);
        assert_eq!([604, 605].map(|minute| series.last(600, minute, 5)), [60, 0]);
        series.shift(4);
        assert_eq!([604, 605].map(|minute| series.last(604, minute, 5)), [60, 0]);
    }

    #[test]
    fn little_is_quiet_whatever_is_expected() {
        let spread = Spread { beyond: 0.0, weight: 1.0 };
        assert!(QUIET_UNITS < EXPECTED_MIN + DEVIATIONS_MIN * spread.deviation(EXPECTED_MIN));
    }

    #[test]
    fn a_gamma_function_and_the_chances_made_of_it() {
        for (y, r, expected) in [(0.5, 0.5, -0.572_364_942_9), (9.0, 1.0, 12.801_827_480_1), (0.0, 3.0, 0.0)] {
            assert!((log_rising(y, r) - expected).abs() < 1e-7, "{y}, {r}: {}", log_rising(y, r));
        }
        // Poisson, as far as the shape allows: 10 expected, 30 came, 20 more would explain it.
        let poisson = |mean: f64| 30.0 * mean.ln() - mean;
        let expected = (poisson(30.0) - poisson(10.0)) * std::f64::consts::LOG2_E;
        assert!((bits(30.0, 10.0, 1e6, 20.0) - expected).abs() < 0.01);
        let bounds = [bits(1e9, 0.5, 0.01, 5.0), bits(1.0, 1.0, 1.0, 5.0), bits(0.0, 1e9, 20.0, 5.0)];
        assert_eq!(bounds, [BITS_MAX, 0.0, 0.0]);
    }
}

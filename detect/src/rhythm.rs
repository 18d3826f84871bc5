//! How much an agent usually does and when: one quantity over the last 5, 10 and 60 minutes, against its own rhythm.
//!
//! What is expected is the mean of a minute, times the hour of the day, times the day of the week: 31 factors stand for a
//! week's 168 hours, and neighbouring hours learn from each other, so that three days make a rhythm. Agents work in bursts,
//! so the spread is learned too: counts are taken as Gamma-Poisson, whose chance of `y` or more where `m` are expected is at
//! most `2^-bits`, `bits = y log2(y/m) - (y + r) log2((y + r) / (m + r))`, with `1/r` the spread beyond chance. What is learned
//! of one window is cut at ten deviations: a burst does not become the rhythm. All is a few numbers, updated once an hour.

use serde::{Deserialize, Serialize};

/// Minutes of each horizon, and how often an hour has it.
pub(crate) const HORIZONS: [(i64, f32); 3] = [(5, 12.0), (10, 6.0), (60, 1.0)];
const RING: i64 = 10;
/// Hours after which what was seen counts for a third.
const HOURS: f32 = 168.0;
/// An hour without a call is as telling as any, but not for more than a week.
const IDLE_MINUTES_MAX: i64 = 7 * 1_440;
/// Units that are expected at least: nobody is told of a second call.
const EXPECTED_MIN: f32 = 1.0;
const RATE_MIN: f32 = 0.02;
const ONE: u16 = 4_096;
const SPREAD_MIN: f32 = 0.05;
const SPREAD_MAX: f32 = 4_096.0;
/// Beyond it more is no more surprising.
const BITS_MAX: f64 = 48.0;
/// Windows that the first guess of the spread, 1, stands for.
const SPREAD_PRIOR: f32 = 5.0;
/// Deviations below which nothing is worth a logarithm, and at which a window is cut.
const DEVIATIONS_MIN: f32 = 3.0;
const DEVIATIONS_MAX: f32 = 10.0;

/// When it is, for an agent: its minute, and how much of the usual is to be expected then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rhythm {
    pub(crate) minute: i64,
    /// Hours that were seen, with and without calls.
    pub(crate) hours: u32,
    /// In 4,096ths.
    of_hour: [u16; 24],
    of_day: [u16; 7],
}

/// One quantity. Amounts are in units of an average call's amount wherever they meet a chance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    minutes: [u32; RING as usize],
    hour: u32,
    hour_before: u32,
    hits: u32,
    unit: f32,
    /// Units a minute.
    rate: f32,
    spreads: [Spread; 3],
}

/// Windows of this hour, and what hours before say of the spread beyond chance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Spread {
    sum: f32,
    squares: f32,
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

impl Default for Rhythm {
    fn default() -> Self {
        Rhythm { minute: 0, hours: 0, of_hour: [ONE; 24], of_day: [ONE; 7] }
    }
}

impl Rhythm {
    /// The factor of an hour, counted from 1970: a Thursday.
    fn factor(&self, hour: i64) -> f32 {
        let (of_hour, of_day) = (self.of_hour[(hour % 24) as usize], self.of_day[(hour / 24 % 7) as usize]);
        f32::from(of_hour) * f32::from(of_day) / (f32::from(ONE) * f32::from(ONE))
    }

    /// The factor of the `minutes` before the end of `minute`, times their number.
    fn expected(&self, minute: i64, minutes: i64) -> f32 {
        let hour = minute / 60;
        let within = (minute % 60 + 1).min(minutes);
        within as f32 * self.factor(hour) + (minutes - within) as f32 * self.factor(hour - 1)
    }

    /// An hour had so much of the mean.
    fn learn(&mut self, hour: i64, share: f32) {
        self.hours = self.hours.saturating_add(1);
        let days = (self.hours / 24).min(9) as f32;
        let (at, step) = (hour % 24, 0.8 / (days + 1.5));
        for (near, weight) in [(0, 1.0), (1, 0.3), (23, 0.3), (2, 0.1), (22, 0.1)] {
            approach(&mut self.of_hour[((at + near) % 24) as usize], share, step * weight);
        }
        let usual = f32::from(self.of_hour[at as usize]) / f32::from(ONE);
        approach(&mut self.of_day[(hour / 24 % 7) as usize], share / usual.max(0.1), 1.0 / 96.0);
    }

    /// Time passes until `minute`: what ended is learned. Windows end every five minutes; where nothing happened in the last
    /// ten, nothing happens until the hour ends.
    pub(crate) fn pass(&mut self, minute: i64, all: &mut [Option<Box<Series>>]) {
        if self.minute == 0 {
            self.minute = minute;
        }
        self.minute = self.minute.max(minute - IDLE_MINUTES_MAX);
        while self.minute < minute {
            let idle = all.iter().flatten().all(|series| series.minutes == [0; RING as usize]);
            let end = if idle { (self.minute / 60 + 1) * 60 } else { (self.minute / 5 + 1) * 5 };
            let next = end.min(minute);
            for series in all.iter_mut().flatten().filter(|_| !idle) {
                if next == end {
                    series.close(self, next);
                }
                (self.minute + 1..=next).for_each(|at| series.minutes[(at % RING) as usize] = 0);
            }
            if next == end && next % 60 == 0 {
                self.close(next / 60 - 1, all);
            }
            self.minute = next;
        }
    }

    /// An hour ended. The first quantity, the calls, makes the rhythm.
    fn close(&mut self, hour: i64, all: &mut [Option<Box<Series>>]) {
        let (factor, step) = (self.factor(hour), (1.0 / (self.hours + 1) as f32).max(1.0 / HOURS));
        let mut shares = all.iter_mut().map(|series| series.as_mut().map_or(1.0, |series| series.learn(factor, step)));
        let share = shares.next().unwrap_or(1.0);
        shares.for_each(drop);
        self.learn(hour, share);
    }
}

/// Moves a factor towards a share, within a sixteenth and 15.
fn approach(factor: &mut u16, share: f32, step: f32) {
    let moved = f32::from(*factor) + step * (share * f32::from(ONE) - f32::from(*factor));
    *factor = moved.round().clamp(f32::from(ONE) / 16.0, f32::from(ONE) * 15.0) as u16;
}

impl Series {
    pub(crate) fn new(amount: u32) -> Self {
        let spread = Spread { sum: 0.0, squares: 0.0, beyond: SPREAD_PRIOR, weight: SPREAD_PRIOR };
        let spreads = [spread.clone(), spread.clone(), spread];
        let unit = amount.max(1) as f32;
        Series { minutes: [0; RING as usize], hour: 0, hour_before: 0, hits: 0, unit, rate: 0.5, spreads }
    }

    pub(crate) fn add(&mut self, minute: i64, amount: u32) {
        let slot = &mut self.minutes[(minute % RING) as usize];
        *slot = slot.saturating_add(amount);
        self.hour = self.hour.saturating_add(amount);
        self.hits = self.hits.saturating_add(1);
    }

    /// The most surprising horizon at `minute`, with `amount` on top.
    pub(crate) fn excess(&self, rhythm: &Rhythm, minute: i64, amount: u32) -> Excess {
        let mut most = Excess::default();
        let all = u64::from(self.hour) + u64::from(self.hour_before) + u64::from(amount);
        if all as f32 <= EXPECTED_MIN * self.unit {
            return most;
        }
        for (spread, (minutes, _)) in self.spreads.iter().zip(HORIZONS) {
            let total = self.last(rhythm.minute, minute, minutes) + u64::from(amount);
            let expected =
                (self.rate * rhythm.expected(minute, minutes)).max(EXPECTED_MIN) + SPREAD_MIN * (minutes as f32).sqrt();
            let (y, beyond) = (total as f32 / self.unit, spread.beyond());
            if y - expected <= DEVIATIONS_MIN * (expected + expected * expected * beyond).sqrt() {
                continue;
            }
            let bits = bits(f64::from(y), f64::from(expected), 1.0 / f64::from(beyond));
            if bits > most.bits {
                most = Excess { bits, minutes, amount: total, expected: f64::from(expected * self.unit) };
            }
        }
        most
    }

    #[inline]
    pub(crate) fn warm(&self) -> usize {
        self.minutes[0] as usize ^ self.hits as usize ^ self.spreads[2].weight.to_bits() as usize
    }

    /// What came in this minute.
    pub(crate) fn this_minute(&self, known: i64, minute: i64) -> u32 {
        if known == minute { self.minutes[(minute % RING) as usize] } else { 0 }
    }

    /// The amount of the last `minutes` before the end of `minute`, where time was last told at `known`.
    fn last(&self, known: i64, minute: i64, minutes: i64) -> u64 {
        if minutes <= RING {
            let from = minute - minutes + 1;
            return (from.max(known - RING + 1)..=known).map(|at| u64::from(self.minutes[(at % RING) as usize])).sum();
        }
        let (now, before) = match minute / 60 - known / 60 {
            0 => (self.hour, self.hour_before),
            1 => (0, self.hour),
            _ => (0, 0),
        };
        u64::from(now) + u64::from(before) * (59 - minute % 60) as u64 / 60
    }

    /// Windows of 5 minutes, and some of 10, end where `next` starts.
    fn close(&mut self, rhythm: &Rhythm, next: i64) {
        let expected = (self.rate * rhythm.factor((next - 1) / 60)).max(RATE_MIN);
        for (at, minutes) in [(0, 5), (1, 10)] {
            if minutes == 5 || next % 10 == 0 {
                let total = self.last(rhythm.minute, next - 1, minutes);
                self.spreads[at].add(total as f32 / self.unit, expected * minutes as f32);
            }
        }
    }

    /// An hour ended, of which `factor` of the mean was expected; says what share it had.
    fn learn(&mut self, factor: f32, step: f32) -> f32 {
        let (expected, mut had) = ((self.rate * factor).max(RATE_MIN), 0.0);
        self.spreads[2].add(self.hour as f32 / self.unit, expected * 60.0);
        for (spread, (minutes, times)) in self.spreads.iter_mut().zip(HORIZONS) {
            // The last horizon is the hour.
            had = spread.learn(expected * minutes as f32, times) / 60.0;
        }
        self.rate += step * (had - self.rate);
        if self.hits > 0 {
            let unit = self.hour as f32 / self.hits as f32;
            self.unit += (unit.min(4.0 * self.unit) - self.unit) * step.max(0.05);
        }
        (self.hour_before, self.hour, self.hits) = (self.hour, 0, 0);
        // A third of the mean stands for what was not seen yet.
        (had + 0.3 * self.rate) / (1.3 * self.rate + 1e-6)
    }
}

impl Spread {
    fn beyond(&self) -> f32 {
        (self.beyond / self.weight).clamp(SPREAD_MIN, SPREAD_MAX) + SPREAD_MIN
    }

    fn add(&mut self, total: f32, expected: f32) {
        if total == 0.0 {
            return;
        }
        let deviation = (expected + expected * expected * self.beyond()).sqrt();
        let total = total.min(expected + DEVIATIONS_MAX * deviation + 3.0);
        self.sum += total;
        self.squares += total * total;
    }

    /// An hour of so many windows ended; says what they had.
    fn learn(&mut self, expected: f32, times: f32) -> f32 {
        let squares = self.squares - 2.0 * expected * self.sum + times * expected * expected;
        let kept = 1.0 - times / 1_000.0;
        self.beyond = (self.beyond * kept + squares - times * expected).max(0.0);
        self.weight = self.weight * kept + times * expected * expected;
        self.squares = 0.0;
        std::mem::take(&mut self.sum)
    }
}

fn bits(y: f64, m: f64, r: f64) -> f64 {
    let bits = y * (y / m).log2() - (y + r) * ((y + r) / (m + r)).log2();
    (bits.clamp(0.0, BITS_MAX) * 1024.0).round() / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 1_440;

    /// `days` of calls: as many a minute as `usual` says of the hour of the day.
    fn lived(days: i64, usual: impl Fn(i64) -> u32) -> (Rhythm, [Option<Box<Series>>; 1]) {
        let (mut rhythm, mut all) = (Rhythm::default(), [None]);
        for minute in DAY..(1 + days) * DAY {
            let calls = usual(minute / 60 % 24);
            if calls > 0 {
                rhythm.pass(minute, &mut all);
                let series = all[0].get_or_insert_with(|| Box::new(Series::new(1)));
                (0..calls).for_each(|_| series.add(minute, 1));
            }
        }
        (rhythm, all)
    }

    fn bits_at(minute: i64, calls: u32, (rhythm, all): &(Rhythm, [Option<Box<Series>>; 1])) -> f64 {
        all[0].as_ref().expect("it was active").excess(rhythm, minute, calls).bits
    }

    #[test]
    fn the_same_amount_is_usual_by_day_and_not_by_night() {
        let lived = lived(4, |hour| if (8..18).contains(&hour) { 20 } else { 1 });
        let (night, day) = (5 * DAY + 180, 5 * DAY + 12 * 60);
        assert!(bits_at(night, 200, &lived) > 12.5, "{}", bits_at(night, 200, &lived));
        assert!(bits_at(day, 200, &lived) < 6.0, "{}", bits_at(day, 200, &lived));
    }

    #[test]
    fn who_works_in_bursts_may() {
        let steady = lived(4, |_| 1);
        let bursts = {
            let (mut rhythm, mut all) = (Rhythm::default(), [None]);
            for minute in (DAY..5 * DAY).step_by(60) {
                rhythm.pass(minute, &mut all);
                let series = all[0].get_or_insert_with(|| Box::new(Series::new(1)));
                (0..60).for_each(|_| series.add(minute, 1));
            }
            (rhythm, all)
        };
        assert!(bits_at(5 * DAY, 60, &steady) > 20.0);
        assert!(bits_at(5 * DAY, 60, &bursts) < 6.0, "{}", bits_at(5 * DAY, 60, &bursts));
    }

    #[test]
    fn a_burst_is_not_the_rhythm_and_years_pass_in_a_week() {
        let (mut rhythm, mut all) = lived(4, |_| 1);
        let before = all[0].as_ref().expect("active").rate;
        all[0].as_mut().expect("active").add(5 * DAY - 1, 100_000);
        rhythm.pass(5 * DAY + 60, &mut all);
        assert!(all[0].as_ref().expect("active").rate < 2.0 * before);
        let hours = rhythm.hours;
        rhythm.pass(5_000 * DAY, &mut all);
        assert!(rhythm.hours - hours <= 7 * 24 + 1);
        assert_eq!(bits_at(5_000 * DAY, 1, &(rhythm, all)), 0.0);
    }

    #[test]
    fn the_hour_before_fades() {
        let (mut rhythm, mut all) = (Rhythm::default(), [None]);
        rhythm.pass(600, &mut all);
        all[0].get_or_insert_with(|| Box::new(Series::new(1))).add(600, 60);
        let series = all[0].as_ref().expect("active");
        assert_eq!([600, 659, 660, 689, 719, 720].map(|minute| series.last(600, minute, 60)), [60, 60, 59, 30, 0, 0]);
        assert_eq!([604, 605].map(|minute| series.last(600, minute, 5)), [60, 0]);
    }
}

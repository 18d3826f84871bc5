//! How much an agent usually does and when: its quantities ([`Series`]) and the rhythm of its hours and days.
//!
//! What is expected is a quantity's mean of a minute, times the factor of the hour of the day, times that of the day of the
//! week: 31 numbers stand for a week's 168 hours, and neighbouring hours are read together, so that three days make a rhythm.
//! All quantities of an agent are one list. Time passes when a call comes; the hours without one are learned together.

use serde::{Deserialize, Serialize};

use crate::ahead::ask;
use crate::series::{Excess, RING, Series};

/// An hour without a call is as telling as any, but not for more than a week.
const IDLE_MINUTES_MAX: i64 = 7 * 1_440;
/// Hours after which what was seen counts for a third: of the mean, and of the spread.
const HOURS: f32 = 168.0;
const SPREAD_HOURS: f32 = 336.0;
/// Days for which the mean stands in an hour's factor, days at most that count, and how fast a day of the week is learned.
const MEAN_DAYS: f32 = 0.5;
const DAYS_MAX: u32 = 9;
const DAY_STEP: f32 = 1.0 / 96.0;

/// When it is, for an agent: its minute, how much of the usual is to be expected then, and its quantities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rhythm {
    pub(crate) minute: i64,
    /// Hours that were seen, with and without calls.
    pub(crate) hours: u32,
    /// Calls in each hour of the day.
    of_hour: [Small; 24],
    /// What part of them each day of the week has.
    of_day: [Small; 7],
    /// Of this hour and the one before.
    factors: [f32; 2],
    all: Vec<Series>,
}

/// A number of three digits: the upper half of an `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Small(u16);

impl Default for Rhythm {
    fn default() -> Self {
        let (of_hour, of_day) = ([Small(0); 24], [Small::new(1.0); 7]);
        Rhythm { minute: 0, hours: 0, of_hour, of_day, factors: [1.0; 2], all: Vec::new() }
    }
}

impl Rhythm {
    /// The factor of an hour, counted from 1970 (a Thursday): what this hour and its neighbours had so far, and the mean for
    /// [`MEAN_DAYS`] that were not seen.
    fn factor(&self, hour: i64) -> f32 {
        let mean = self.mean();
        if mean <= 0.0 {
            return 1.0;
        }
        let near = |by: i64| self.of_hour[((hour + by).rem_euclid(24)) as usize].get();
        let usual = (near(0) + 0.3 * (near(1) + near(-1)) + 0.1 * (near(2) + near(-2))) / 1.8;
        let days = self.days();
        let of_hour = (days * usual / mean + MEAN_DAYS) / (days + MEAN_DAYS);
        of_hour * self.of_day[(hour / 24 % 7) as usize].get()
    }

    fn days(&self) -> f32 {
        (self.hours / 24).min(DAYS_MAX) as f32
    }

    /// The factor of the `minutes` before the end of `minute`, times their number.
    pub(crate) fn expected(&self, minute: i64, minutes: i64) -> f32 {
        let hour = minute / 60;
        let within = (minute % 60 + 1).min(minutes);
        let [now, before] =
            if hour == self.minute / 60 { self.factors } else { [hour, hour - 1].map(|hour| self.factor(hour)) };
        within as f32 * now + (minutes - within) as f32 * before
    }

    /// Adds to a quantity in the current minute.
    #[inline]
    pub(crate) fn add(&mut self, of: u8, amount: u32) {
        match self.all.iter_mut().find(|series| series.of == of) {
            Some(series) => series.add(amount),
            None => {
                let mut series = Series::new(of, amount);
                series.add(amount);
                self.all.reserve_exact(1);
                self.all.push(series);
            }
        }
    }

    /// The most surprising horizon of a quantity at `minute`, with `amount` on top.
    #[inline]
    pub(crate) fn excess(&self, of: u8, minute: i64, amount: u32) -> Excess {
        match self.all.iter().find(|series| series.of == of) {
            Some(series) if !series.is_quiet(self.minute, minute, amount) => series.excess(self, minute, amount),
            _ => Excess::default(),
        }
    }

    /// What came of a quantity in this minute.
    #[inline]
    pub(crate) fn this_minute(&self, of: u8, minute: i64) -> u32 {
        let series = self.all.iter().find(|series| series.of == of && self.minute == minute);
        series.map_or(0, |series| series.minutes[0])
    }

    /// Time passes until `minute`: what ended is learned. Windows end every five minutes; where nothing happened in the last
    /// ten, nothing happens until the hour ends.
    #[inline]
    pub(crate) fn pass(&mut self, minute: i64) {
        if self.minute < minute {
            self.go(minute);
        }
    }

    fn go(&mut self, minute: i64) {
        if self.minute == 0 {
            self.minute = minute;
            return;
        }
        let busy_until = self.minute + RING as i64;
        if minute - self.minute > IDLE_MINUTES_MAX {
            self.close(self.minute / 60);
            self.forward(minute - IDLE_MINUTES_MAX);
            self.bound(self.minute / 60);
        }
        while self.minute < minute {
            let (busy, hours) = (self.minute < busy_until, (minute - self.minute) / 60);
            if !busy && hours > 0 && self.minute % 60 == 0 {
                self.idle(hours);
                continue;
            }
            let end = if busy { (self.minute / 5 + 1) * 5 } else { (self.minute / 60 + 1) * 60 };
            let next = end.min(minute);
            if busy && next == end {
                let factor = self.factors[0];
                self.all.iter_mut().for_each(|series| series.close(factor, next - self.minute, next % 10 == 0));
            }
            self.forward(next);
            if next == end && next % 60 == 0 {
                self.close(next / 60 - 1);
            }
        }
    }

    /// It is `minute`.
    fn forward(&mut self, minute: i64) {
        self.all.iter_mut().for_each(|series| series.shift(minute - self.minute));
        self.minute = minute;
    }

    /// An hour ended. The first quantity, the calls, makes the rhythm.
    fn close(&mut self, hour: i64) {
        let (factor, step, kept) = (self.factors[0], self.step(), self.kept(1.0));
        let mut calls = [0.0; 2];
        for series in &mut self.all {
            let share = series.close_hour(factor, step, kept);
            if series.of == 0 {
                calls = share;
            }
        }
        self.learn(hour, calls[0], calls[1], self.mean());
        self.bound(hour + 1);
    }

    /// An hour had so many calls; of the day of the week it says what part of the expected that was, with a third of the
    /// mean for what was not seen.
    fn learn(&mut self, hour: i64, had: f32, expected: f32, mean: f32) {
        let unseen = 0.3 * mean + 1e-3;
        self.of_day[(hour / 24 % 7) as usize].approach(((had + unseen) / (expected + unseen)).min(8.0), DAY_STEP);
        let step = 1.0 / (self.days() + 1.0);
        self.of_hour[(hour % 24) as usize].approach(had, step);
        self.hours = self.hours.saturating_add(1);
    }

    /// So many whole hours had nothing.
    fn idle(&mut self, hours: i64) {
        let from = self.minute / 60;
        let (mean, kept_spread) = (self.mean(), self.kept(hours as f32));
        let (mut expected, mut kept) = (0.0, 1.0);
        for hour in from..from + hours {
            let usual = self.of_hour[(hour % 24) as usize].get();
            expected += usual;
            kept *= 1.0 - self.step();
            self.learn(hour, 0.0, usual, mean);
        }
        let factor = if mean > 0.0 { expected / (hours as f32 * mean) } else { 1.0 };
        self.all.iter_mut().for_each(|series| series.close_idle(factor, hours as f32, kept, kept_spread));
        self.forward(self.minute + hours * 60);
        self.bound(from + hours);
    }

    fn mean(&self) -> f32 {
        self.of_hour.iter().map(|calls| calls.get()).sum::<f32>() / 24.0
    }

    /// The weight of one hour.
    fn step(&self) -> f32 {
        (1.0 / (self.hours + 1) as f32).max(1.0 / HOURS)
    }

    /// What remains after some hours of what is known of the spread: the first hours know the mean badly and count less.
    fn kept(&self, hours: f32) -> f32 {
        let age = self.hours as f32 + 36.0;
        (age / (age + hours)).min(1.0 - (hours / SPREAD_HOURS).min(1.0))
    }

    /// What is ordinary in this hour.
    fn bound(&mut self, hour: i64) {
        self.factors = [self.factor(hour), self.factor(hour - 1)];
        let least = self.factors[0].min(self.factors[1]);
        self.all.iter_mut().for_each(|series| series.bound(least));
    }

    /// Asks for its quantities.
    #[inline]
    pub(crate) fn ask_near(&self) {
        ask(self.all.as_slice());
    }

    pub(crate) fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<Series>()
    }
}

impl Small {
    fn new(value: f32) -> Small {
        // Half of what is cut off is added: rounded.
        Small(((value.to_bits() + 0x8000) >> 16) as u16)
    }

    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    fn approach(&mut self, value: f32, step: f32) {
        *self = Small::new(self.get() + step * (value - self.get()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 1_440;

    /// `days` of calls: as many a minute as `usual` says of the minute of the day.
    fn lived(days: i64, usual: impl Fn(i64) -> u32) -> Rhythm {
        let mut rhythm = Rhythm::default();
        for minute in DAY..(1 + days) * DAY {
            let calls = usual(minute % DAY);
            if calls > 0 {
                rhythm.pass(minute);
                (0..calls).for_each(|_| rhythm.add(0, 1));
            }
        }
        rhythm
    }

    fn bits_at(minute: i64, calls: u32, rhythm: &Rhythm) -> f64 {
        rhythm.excess(0, minute, calls).bits
    }

    #[test]
    fn the_same_amount_is_usual_by_day_and_not_by_night() {
        let lived = lived(4, |minute| if (480..1_080).contains(&minute) { 20 } else { 1 });
        let (night, day) = (5 * DAY + 180, 5 * DAY + 12 * 60);
        assert!(bits_at(night, 200, &lived) > 20.0, "{}", bits_at(night, 200, &lived));
        assert!(bits_at(day, 200, &lived) < 6.0, "{}", bits_at(day, 200, &lived));
    }

    #[test]
    fn who_works_in_bursts_may() {
        let (steady, bursts) = (lived(4, |_| 1), lived(4, |minute| if minute % 60 == 0 { 60 } else { 0 }));
        assert!(bits_at(5 * DAY, 60, &steady) > 20.0);
        assert!(bits_at(5 * DAY, 60, &bursts) < 6.0, "{}", bits_at(5 * DAY, 60, &bursts));
    }

    #[test]
    fn two_nightly_sessions_at_once_are_odd_but_no_burst() {
        let lived = lived(5, |minute| if [61, 80].contains(&minute) { 10 } else { 0 });
        let bits = bits_at(6 * DAY + 61, 20, &lived);
        assert!(bits < 10.0, "{bits}");
        assert!(bits_at(6 * DAY + 61, 200, &lived) > 20.0);
    }

    #[test]
    fn a_burst_is_not_the_rhythm_and_years_pass_in_a_week() {
        let mut rhythm = lived(4, |_| 1);
        let before = rhythm.expected(5 * DAY, 60);
        rhythm.add(0, 100_000);
        rhythm.pass(5 * DAY + 60);
        assert!(rhythm.expected(5 * DAY + 60, 60) < 2.0 * before);
        let hours = rhythm.hours;
        rhythm.pass(5_000 * DAY);
        assert!(rhythm.hours - hours <= 7 * 24 + 2);
        assert_eq!(bits_at(5_000 * DAY, 1, &rhythm), 0.0);
    }

    #[test]
    fn what_is_called_quiet_is_not_unusual() {
        let lived = lived(4, |minute| if minute % 7 == 0 { 3 } else { 0 });
        let series = &lived.all[0];
        for (minute, amount) in (lived.minute..lived.minute + 10).flat_map(|minute| (1..200).map(move |n| (minute, n)))
        {
            assert!(
                !series.is_quiet(lived.minute, minute, amount) || series.excess(&lived, minute, amount).bits == 0.0
            );
        }
        assert!(series.is_quiet(lived.minute, lived.minute, 1));
    }
}

//! New values: how surprising it is that an agent shows a value (a scope, an organization, a caller) that it never showed.
//!
//! ```text
//! bits = log2((hours + values) / values)                       the agent shows new ones as often as it did so far
//!      + log2((all hours + all values) / (with it + all values))   and the fewer agents of the tenant show this one
//! ```
//! An agent's hours are those in which it showed any value, so a burst counts once. The agent's list is complete or silent:
//! one that shows more than [`VALUES_MAX`] is too broad to be surprised about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Term;
use crate::few::Few;
use crate::shard::bits;

const VALUES_MAX: usize = 24;
const HOUR_MICROS: i64 = 3_600_000_000;
/// Different values of a tenant that are counted apart.
const TALLY_MAX: usize = 8_192;

/// The values that an agent showed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Values {
    seen: Few<u32, VALUES_MAX>,
    hours: u32,
    hour: i32,
    broad: bool,
}

/// Values that an agent showed in an hour that is new, or that are new to it.
pub(crate) type New = Few<u32, VALUES_MAX>;

/// The values that a tenant's agents showed, and in how many of their hours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    hours: u32,
    with: BTreeMap<u32, u32>,
}

/// Surprise of a new value, in bits.
#[derive(Clone, Copy)]
pub(super) struct Surprise {
    own: f64,
    tenant: f64,
    hours: u32,
    values: usize,
    with: u32,
}

impl Values {
    /// None where the value is not new, or nothing can be said.
    #[inline]
    pub(super) fn surprise(&self, all: &Tally, value: u32) -> Option<Surprise> {
        if self.broad || self.hours == 0 || self.seen.contains(&value) {
            return None;
        }
        let ratio = |many: u32, few: usize, with: u32| {
            let few = few.max(1) as f64;
            bits((f64::from(with) + few) / (f64::from(many.max(with)) + few))
        };
        let with = all.with.get(&value).copied().unwrap_or(0);
        let (own, tenant) = (ratio(self.hours, self.seen.len(), 0), ratio(all.hours, all.with.len(), with));
        Some(Surprise { own, tenant, hours: self.hours, values: self.seen.len(), with })
    }

    /// Learns the values of one call; what the tenant should hear of them.
    #[inline]
    pub(super) fn learn(&mut self, values: impl Iterator<Item = u32> + Clone, time: i64) -> Option<New> {
        let hour = time.div_euclid(HOUR_MICROS) as i32;
        let next = hour > self.hour;
        if next {
            (self.hour, self.hours) = (hour, self.hours.saturating_add(1));
        }
        let before = self.seen.len();
        for value in values.clone().filter(|_| !self.broad) {
            match self.seen.contains(&value) {
                true => {}
                false if self.seen.is_full() => {
                    self.seen.clear();
                    self.broad = true;
                    break;
                }
                false => self.seen.push(value),
            }
        }
        let news = self.seen.len() > before;
        (next || news).then(|| {
            let mut told = New::default();
            values.take(VALUES_MAX).for_each(|value| told.push(value));
            told
        })
    }
}

impl Tally {
    pub(super) fn fold(&mut self, notes: impl Iterator<Item = New>) {
        for note in notes {
            self.hours = self.hours.saturating_add(1);
            for value in note.iter().copied() {
                if self.with.len() < TALLY_MAX || self.with.contains_key(&value) {
                    let with = self.with.entry(value).or_default();
                    *with = with.saturating_add(1);
                }
            }
        }
    }
}

impl Surprise {
    pub(super) fn bits(self) -> f64 {
        self.own + self.tenant
    }

    /// What the bits are made of; `share` is what counts of them, `what` names the values.
    pub(super) fn terms(self, share: f64, what: &str) -> Vec<Term> {
        let Surprise { own, tenant, hours, values, with } = self;
        let own_text = format!("in {hours} hours of work it had {values} {what}, never this");
        let tenant_text = format!("the tenant's agents had it in {with} of their hours of work");
        vec![
            Term { name: "own", bits: share * own, text: own_text },
            Term { name: "tenant", bits: share * tenant, text: tenant_text },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = HOUR_MICROS;

    fn used_to(values: &[u32], hours: i64) -> Values {
        let mut own = Values::default();
        (1..=hours).for_each(|hour| {
            own.learn(values.iter().copied(), hour * HOUR);
        });
        own
    }

    fn new(values: &[u32]) -> New {
        let mut new = New::default();
        values.iter().for_each(|value| new.push(*value));
        new
    }

    #[test]
    fn the_longer_the_same_the_more_surprising_is_another() {
        let all = Tally::default();
        let bits = |own: Values| own.surprise(&all, 9).map_or(0.0, Surprise::bits);
        assert_eq!(bits(Values::default()), 0.0, "nothing is known yet");
        assert_eq!(bits(used_to(&[9], 100)), 0.0, "not new");
        assert!(bits(used_to(&[1], 100)) > bits(used_to(&[1], 10)));
        assert!(bits(used_to(&[1], 100)) > bits(used_to(&[1, 2, 3, 4, 5], 100)));
    }

    #[test]
    fn what_others_do_is_less_surprising() {
        let own = used_to(&[1], 100);
        let mut all = Tally::default();
        all.fold(vec![new(&[1]); 1000].into_iter());
        let alone = own.surprise(&all, 9).expect("it is new").bits();
        all.fold(vec![new(&[9]); 500].into_iter());
        assert!(own.surprise(&all, 9).expect("it is new").bits() + 8.0 < alone);
    }

    #[test]
    fn a_burst_counts_once_and_a_broad_agent_surprises_nobody() {
        let mut own = used_to(&[1], 1);
        assert_eq!(own.learn([1].into_iter(), HOUR + 1), None);
        assert_eq!(own.learn([2].into_iter(), HOUR + 2), Some(new(&[2])));
        own.learn(0..100, HOUR + 3);
        assert!(own.broad && own.seen.is_empty() && own.surprise(&Tally::default(), 999).is_none());
    }
}

//! The alert budget: which of a tenant's alerts a person hears of, and which are only kept as evidence.
//!
//! Facts always pass and cost nothing. Of the alerts that rest on statistics a tenant earns `alerts_day_max` a day and saves
//! a day's worth at most; one that passes costs one. It passes only where fewer of the last day's alerts were at least as
//! grave and surprising than the tenant has saved: many weak alerts use up what they may, and a strong one still passes. So
//! it is `alerts_day_max` a day in the long run, and never more than twice that. An alert beyond the budget is marked,
//! written and learned from like any other; it starts no order and tells nobody.
//!
//! Time is the alerts' own and never goes back, and what is saved is counted in time, so that the same alerts in the same
//! order are marked the same, before and after a restart. Where alerts come in several sequences whose order among each other
//! is nobody's, each is weighed against a copy of what was left at the last barrier; at the next one the sequences
//! [settle](Budget::settle) one after the other. A tenant may so be in debt for a moment, and pays it off by saving.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use schemas::AlertRow;
use serde::{Deserialize, Serialize};

const DAY_MICROS: i64 = 86_400_000_000;
/// Alerts of the last day that later ones are compared with; more push out the oldest.
const CANDIDATES_MAX: usize = 4_096;

/// What each tenant has left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    tenants: BTreeMap<String, Purse>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Purse {
    /// The latest time of an alert.
    time: i64,
    /// Time whose earnings are saved, at most a day.
    saved_micros: i64,
    candidates: VecDeque<(i64, Rank)>,
}

/// An alert that was weighed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weighed {
    tenant: String,
    time: i64,
    rank: Rank,
    passed: bool,
}

/// How grave and surprising an alert is. Surprise is what is rare among the tenant's own scores, the bits decide between equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Rank {
    severity: i32,
    /// Bits of the numbers, which have their order as long as none is negative.
    p_value: Reverse<u64>,
    score: u64,
}

impl Budget {
    /// Marks an alert that is beyond what its tenant may be told of. A fact is not marked at all, nor returned.
    pub fn weigh(&mut self, alert: &mut AlertRow, alerts_day_max: u32) -> Option<Weighed> {
        if alert.threshold <= 0.0 {
            return None;
        }
        let (time, rank) = (alert.time.min(alert.received_at), Rank::of(alert));
        let purse = self.purse(&alert.tenant, time);
        purse.reach(time);
        let passed = purse.passes(rank, alerts_day_max);
        purse.note(rank, passed, alerts_day_max);
        alert.over_budget = Some(!passed);
        Some(Weighed { tenant: alert.tenant.clone(), time, rank, passed })
    }

    /// Takes over what a copy of this budget has weighed.
    pub fn settle(&mut self, weighed: &[Weighed], alerts_day_max: u32) {
        for Weighed { tenant, time, rank, passed } in weighed {
            let purse = self.purse(tenant, *time);
            purse.reach(*time);
            purse.note(*rank, *passed, alerts_day_max);
        }
    }

    fn purse(&mut self, tenant: &str, time: i64) -> &mut Purse {
        if !self.tenants.contains_key(tenant) {
            self.forget_idle(time);
        }
        let new = || Purse { time, saved_micros: DAY_MICROS, candidates: VecDeque::new() };
        self.tenants.entry(tenant.to_owned()).or_insert_with(new)
    }

    /// Tenants that had no alert for a day have all saved again, and nothing to compare with: as if never seen.
    fn forget_idle(&mut self, now: i64) {
        self.tenants.retain(|_, purse| now.saturating_sub(purse.time) < DAY_MICROS);
    }
}

impl Purse {
    fn reach(&mut self, time: i64) {
        let now = time.max(self.time);
        self.saved_micros = self.saved_micros.saturating_add(now.saturating_sub(self.time)).min(DAY_MICROS);
        self.time = now;
        while self.candidates.front().is_some_and(|(time, _)| now.saturating_sub(*time) >= DAY_MICROS) {
            self.candidates.pop_front();
        }
    }

    fn passes(&self, rank: Rank, alerts_day_max: u32) -> bool {
        let stronger = self.candidates.iter().filter(|(_, other)| *other >= rank).count() as i64;
        stronger < self.saved_micros / cost(alerts_day_max)
    }

    fn note(&mut self, rank: Rank, passed: bool, alerts_day_max: u32) {
        if passed {
            self.saved_micros -= cost(alerts_day_max);
        }
        if self.candidates.len() == CANDIDATES_MAX {
            self.candidates.pop_front();
        }
        self.candidates.push_back((self.time, rank));
    }
}

fn cost(alerts_day_max: u32) -> i64 {
    DAY_MICROS.checked_div(i64::from(alerts_day_max)).unwrap_or(i64::MAX)
}

impl Rank {
    fn of(alert: &AlertRow) -> Self {
        let bits = |number: f64| number.max(0.0).to_bits();
        Rank { severity: alert.severity_id, p_value: Reverse(bits(alert.p_value)), score: bits(alert.score) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn alert(time: i64, score: f64) -> AlertRow {
        let p_value = (-score).exp2();
        let tenant = "acme".to_owned();
        AlertRow {
            tenant,
            time,
            received_at: time,
            severity_id: 3,
            score,
            p_value,
            threshold: 20.0,
            ..AlertRow::default()
        }
    }

    fn passes(budget: &mut Budget, mut alert: AlertRow, alerts_day_max: u32) -> bool {
        budget.weigh(&mut alert, alerts_day_max);
        alert.over_budget == Some(false)
    }

    #[test]
    fn a_flood_uses_up_itself_and_a_strong_alert_passes_through_it() {
        let mut budget = Budget::default();
        let told = (0..1_000).filter(|i| passes(&mut budget, alert(*i, 21.0), 20)).count();
        assert_eq!(told, 10, "half of what is saved stays for what is stronger");
        assert!(passes(&mut budget, alert(1_001, 40.0), 20));
        let graver = AlertRow { severity_id: 5, ..alert(1_002, 20.5) };
        assert!(passes(&mut budget, graver, 20));
        assert!(!passes(&mut budget, alert(1_003, 21.0), 20));
    }

    #[test]
    fn it_is_so_many_a_day_and_at_most_twice_that() {
        for rising in [0.0, 0.001] {
            let mut budget = Budget::default();
            let times = (0..10 * 24 * 60).map(|minute| minute * HOUR / 60);
            let told: Vec<i64> = times
                .enumerate()
                .filter(|(i, time)| {
                    passes(&mut budget, alert(*time, 21.0 + (i * 7_919 % 97) as f64 / 10.0 + rising * *i as f64), 20)
                })
                .map(|(_, time)| time)
                .collect();
            let most = told.iter().map(|from| told.iter().filter(|at| (0..24 * HOUR).contains(&(**at - from))).count());
            assert!(most.max().is_some_and(|most| most <= 40), "rising {rising}");
            assert!((150..=220).contains(&told.len()), "{} in ten days, rising {rising}", told.len());
        }
    }

    #[test]
    fn facts_pass_and_cost_nothing_and_nothing_passes_without_a_budget() {
        let mut budget = Budget::default();
        let mut fact = AlertRow { threshold: 0.0, ..alert(0, 64.0) };
        (0..100).for_each(|_| drop(budget.weigh(&mut fact, 1)));
        assert_eq!(fact.over_budget, None);
        assert!(passes(&mut budget, alert(1, 21.0), 1));
        assert!(!passes(&mut Budget::default(), alert(1, 48.0), 0));
    }

    #[test]
    fn a_restart_and_other_tenants_change_nothing() {
        let alerts = || (0..500).map(|i| alert(i * HOUR / 7, 20.0 + (i * 31 % 17) as f64));
        let (mut whole, mut cut) = (Budget::default(), Budget::default());
        let told: Vec<bool> = alerts().map(|alert| passes(&mut whole, alert, 10)).collect();
        for (i, alert) in alerts().enumerate() {
            if i % 13 == 0 {
                cut = serde_json::from_slice(&serde_json::to_vec(&cut).unwrap()).unwrap();
            }
            let other = AlertRow { tenant: "globex".to_owned(), score: 47.0, ..alert.clone() };
            passes(&mut cut, other, 10);
            assert_eq!(passes(&mut cut, alert, 10), told[i], "alert {i}");
        }
        assert!(told.contains(&false) && told.contains(&true));
    }

    #[test]
    fn one_sequence_settles_to_what_it_weighed_and_several_pay_their_debts() {
        let (mut alone, mut settled) = (Budget::default(), Budget::default());
        let mut several = Budget::default();
        let mut told = 0;
        for minute in (0..20 * 24 * 60).step_by(7) {
            let one = |of: i64| alert(minute * HOUR / 60, 21.0 + ((minute * 8 + of) * 7_919 % 9_973) as f64 / 1_000.0);
            alone.weigh(&mut one(0), 20);
            let weighed: Vec<Weighed> = settled.clone().weigh(&mut one(0), 20).into_iter().collect();
            settled.settle(&weighed, 20);
            // Eight sequences that do not see each other's alerts of the same second.
            let weighed: Vec<Weighed> = (0..8).flat_map(|of| several.clone().weigh(&mut one(of), 20)).collect();
            told += weighed.iter().filter(|one| one.passed).count();
            several.settle(&weighed, 20);
        }
        assert_eq!(settled, alone);
        assert!((300..=420).contains(&told), "{told} in twenty days, of twenty a day");
    }
}

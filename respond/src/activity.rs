//! How many agents of a tenant are active: the whole that the cap on stopped agents is a share of.
//!
//! Distinct agents of the current UTC day, or of the day before if those were more. Counted on hashes, up to
//! [`AGENTS_MAX`]; beyond that the count stands still, which makes the cap stricter, never looser.

use std::collections::{BTreeMap, HashMap, HashSet};

use ahash::RandomState;
use arrow::array::{Array, RecordBatch};
use schemas::{Events, SchemaError, id};

/// Agents counted a day, all tenants together.
const AGENTS_MAX: usize = 1_000_000;

pub(crate) struct Activity {
    hash: RandomState,
    day: i32,
    total: usize,
    today: HashMap<String, HashSet<u64>>,
    before: BTreeMap<String, u64>,
}

impl Activity {
    pub(crate) fn new(before: BTreeMap<String, u64>, now: i64) -> Self {
        let hash = RandomState::with_seeds(1, 2, 3, 4);
        Activity { hash, day: id::day(now), total: 0, today: HashMap::new(), before }
    }

    pub(crate) fn see(&mut self, events: &RecordBatch, now: i64) -> Result<(), SchemaError> {
        if id::day(now) != self.day {
            self.before = self.today.drain().map(|(tenant, agents)| (tenant, agents.len() as u64)).collect();
            (self.day, self.total) = (id::day(now), 0);
        }
        let events = Events::new(events)?;
        let mut last = None;
        for row in 0..events.agent_id.len() {
            if events.agent_id.is_null(row) {
                continue;
            }
            let who = (events.tenant.value(row), events.agent_id.value(row));
            if last != Some(who) {
                self.count(who.0, who.1);
                last = Some(who);
            }
        }
        Ok(())
    }

    fn count(&mut self, tenant: &str, agent: &str) {
        let hash = self.hash.hash_one(agent);
        if self.total >= AGENTS_MAX {
            return;
        }
        let inserted = match self.today.get_mut(tenant) {
            Some(agents) => agents.insert(hash),
            None => self.today.entry(tenant.to_owned()).or_default().insert(hash),
        };
        self.total += usize::from(inserted);
    }

    pub(crate) fn active(&self, tenant: &str) -> u64 {
        let today = self.today.get(tenant).map_or(0, |agents| agents.len() as u64);
        today.max(self.before.get(tenant).copied().unwrap_or(0))
    }

    /// Active agents of every tenant.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let tenants = self.today.keys().chain(self.before.keys());
        tenants.map(|tenant| (tenant.clone(), self.active(tenant))).collect()
    }
}

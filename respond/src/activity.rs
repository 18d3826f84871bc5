//! How many agents of a tenant are active, and which sources speak of them.
//!
//! The first is the whole that the cap on stopped agents is a share of: distinct agents of the current UTC day, or of the day
//! before if those were more. The second tells a quiet agent from a silent source. Counted on hashes, up to [`AGENTS_MAX`];
//! beyond that the count stands still, which makes the cap stricter, never looser.

use std::collections::{BTreeMap, HashMap};

use ahash::RandomState;
use arrow::array::Array;
use schemas::{Events, id};

/// Agents counted a day, all tenants together.
const AGENTS_MAX: usize = 1_000_000;
/// Sources told apart in a tenant; further ones count as the last.
const SOURCES_MAX: usize = 32;

pub(crate) struct Activity {
    hash: RandomState,
    day: i32,
    total: usize,
    /// Of each agent the sources that spoke of it, a bit each.
    today: HashMap<String, HashMap<u64, u32>>,
    before: BTreeMap<String, u64>,
    /// The sources of a tenant, and when each was last heard.
    sources: HashMap<String, Vec<(String, i64)>>,
}

impl Activity {
    pub(crate) fn new(before: BTreeMap<String, u64>, now: i64) -> Self {
        let hash = RandomState::with_seeds(1, 2, 3, 4);
        let (today, sources) = (HashMap::new(), HashMap::new());
        Activity { hash, day: id::day(now), total: 0, today, before, sources }
    }

    pub(crate) fn see(&mut self, events: &Events<'_>, now: i64) {
        if id::day(now) != self.day {
            self.before = self.today.drain().map(|(tenant, agents)| (tenant, agents.len() as u64)).collect();
            (self.day, self.total) = (id::day(now), 0);
        }
        let mut last = None;
        for row in 0..events.tenant.len() {
            let agent = events.agent_id.is_valid(row).then(|| events.agent_id.value(row));
            let who = (events.tenant.value(row), events.source.value(row), agent);
            if last != Some(who) {
                let source = self.hear(who.0, who.1, events.received_at.value(row));
                if let Some(agent) = agent {
                    self.count(who.0, agent, source);
                }
                last = Some(who);
            }
        }
    }

    /// Notes that a source of a tenant spoke; its place among them.
    fn hear(&mut self, tenant: &str, source: &str, at: i64) -> usize {
        if !self.sources.contains_key(tenant) {
            self.sources.insert(tenant.to_owned(), Vec::new());
        }
        let Some(sources) = self.sources.get_mut(tenant) else { return 0 };
        let place = sources.iter().position(|(name, _)| name == source);
        let place = place.unwrap_or_else(|| {
            if sources.len() < SOURCES_MAX {
                sources.push((source.to_owned(), at));
            }
            sources.len() - 1
        });
        sources[place].1 = sources[place].1.max(at);
        place
    }

    fn count(&mut self, tenant: &str, agent: &str, source: usize) {
        let hash = self.hash.hash_one(agent);
        if !self.today.contains_key(tenant) {
            self.today.insert(tenant.to_owned(), HashMap::new());
        }
        let Some(agents) = self.today.get_mut(tenant) else { return };
        if self.total >= AGENTS_MAX && !agents.contains_key(&hash) {
            return;
        }
        let sources = agents.entry(hash).or_insert_with(|| {
            self.total += 1;
            0
        });
        *sources |= 1 << source;
    }

    /// The sources in which `agent` was seen today (all of the tenant's where that is not known): those heard since `since`, and
    /// those that were silent.
    pub(crate) fn sources_since(&self, tenant: &str, agent: Option<&str>, since: i64) -> (Vec<&str>, Vec<&str>) {
        let of_agent = |agent: &str| self.today.get(tenant)?.get(&self.hash.hash_one(agent)).copied();
        let bits = agent.and_then(of_agent).unwrap_or(u32::MAX);
        let sources = self.sources.get(tenant).map_or(&[][..], Vec::as_slice);
        let own = sources.iter().enumerate().filter(|(place, _)| bits & (1 << place) != 0);
        let (spoke, silent): (Vec<_>, Vec<_>) = own.map(|(_, source)| source).partition(|(_, at)| *at > since);
        (names(spoke), names(silent))
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

fn names(sources: Vec<&(String, i64)>) -> Vec<&str> {
    sources.into_iter().map(|(name, _)| name.as_str()).collect()
}

//! What was said when a token was issued, for later records that hold only the token's id.
//!
//! A record that issues a token names its agent, user, delegation, scopes and times; a gateway's record of a call often
//! has the token's id alone. The facts of the first are kept in memory, within stated limits, oldest out, and fill what the
//! second does not say. Nothing that a record says is ever overwritten, and an event that was filled is flagged.
//!
//! **When two ids are one token.** Within a tenant only. An id that nobody makes twice by accident (16 bytes and
//! 48 bits of entropy, counted by its own characters) is one token wherever it is seen: the issuer's log and the gateway's
//! are different sources. A shorter or plainer one (`4711`) is a token's only within one source and one instance of it.
//! **Conflicts.** Issuances of one id to two agents carry nothing any more, and a record that names another agent than the
//! issuance did gets nothing; both are flagged and counted. So a forged record can take facts away, in plain sight, and
//! never give an agent somebody else's. Users are not compared: systems name one person by id, mail address or login.
//!
//! Only ids come here, never tokens: a mapping hashes what is secret before. The log is the memory's backing: rows flagged
//! `token_issued` teach it again after a start ([`Tokens::learn_rows`]), in log order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::{AHashMap, RandomState};
use arrow::array::{Array, RecordBatch};
use schemas::event::Events;
use schemas::registry::Registry;
use schemas::table::{Hop, has};
use schemas::{EventRow, SchemaError};
use serde::Serialize;

use crate::config::TokenConfig;

/// The flag of events that teach.
pub(crate) const ISSUED: &str = "token_issued";
const HOUR_MICROS: i64 = 3_600_000_000;
/// A shorter or plainer id is a token's within one source only.
const STRONG_BYTES_MIN: usize = 16;
const STRONG_BITS_MIN: f64 = 48.0;
/// What an entry takes beside its texts.
const ENTRY_BYTES: usize = 256;
/// Facts larger than this are not kept: nobody grants so much by hand.
const FACTS_BYTES_MAX: usize = 16 << 10;

/// What was said of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) agent: String,
    pub(crate) agent_alias: Option<String>,
    pub(crate) agent_name: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) user_name: Option<String>,
    pub(crate) user_kind: Option<String>,
    pub(crate) delegation: Vec<Hop>,
    pub(crate) scopes: Vec<String>,
    pub(crate) issued_at: Option<i64>,
    pub(crate) expires_at: Option<i64>,
}

/// A token as a record names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) source: &'a str,
    pub(crate) instance: &'a str,
    pub(crate) id: &'a str,
}

/// What is known of a token that a record holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recalled {
    Nothing,
    Facts(Arc<Facts>),
    /// The id was seen with another agent.
    Conflict,
}

/// How the memory stands, and what it did since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TokenCounts {
    /// Tokens remembered now, and what they take.
    pub entries: usize,
    pub bytes: usize,
    /// Events filled from them.
    pub joined: u64,
    /// Events whose token was seen with another agent.
    pub conflicts: u64,
    /// Tokens forgotten for want of room.
    pub evicted: u64,
}

/// The memory.
#[derive(Debug)]
pub struct Tokens {
    config: TokenConfig,
    /// Two, so that a key has 128 bits.
    hashers: [RandomState; 2],
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    entries: AHashMap<u128, Entry>,
    /// Oldest first.
    order: VecDeque<u128>,
    counts: TokenCounts,
}

#[derive(Debug)]
struct Entry {
    facts: Arc<Facts>,
    conflicting: bool,
    learned_at: i64,
    bytes: usize,
}

impl Tokens {
    /// None where the configuration remembers nothing.
    pub fn new(config: &TokenConfig) -> Option<Tokens> {
        let hashers = [RandomState::new(), RandomState::new()];
        (config.entries_max > 0).then(|| Tokens { config: config.clone(), hashers, memory: Mutex::default() })
    }

    pub fn counts(&self) -> TokenCounts {
        self.memory().counts
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys of a token whose id says enough, and of one whose id does not.
    fn keys(&self, token: Token<'_>) -> [u128; 2] {
        let Token { tenant, source, instance, id } = token;
        let [high, low] = &self.hashers;
        let wide = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        let strong = (tenant, id);
        let weak = (tenant, source, instance, id);
        [wide(high.hash_one(strong), low.hash_one(strong)), wide(high.hash_one(weak), low.hash_one(weak))]
    }

    /// What was said of a token, for a record received at `now` that names `agent` (empty: it names none).
    pub(crate) fn recall(&self, token: Token<'_>, agent: &str, now: i64) -> Recalled {
        // Where no record says what was issued, there is nothing to look for.
        if self.memory().entries.is_empty() {
            return Recalled::Nothing;
        }
        let keys = self.keys(token);
        let mut memory = self.memory();
        let Memory { entries, counts, .. } = &mut *memory;
        let fresh = |entry: &&Entry| now.saturating_sub(entry.learned_at) <= self.ttl_micros();
        let Some(entry) = keys.iter().find_map(|key| entries.get(key)).filter(fresh) else { return Recalled::Nothing };
        let facts = &entry.facts;
        if entry.conflicting || !(agent.is_empty() || facts.agent == agent) {
            counts.conflicts += 1;
            return Recalled::Conflict;
        }
        Recalled::Facts(facts.clone())
    }

    /// Counts an event that was filled.
    pub(crate) fn joined(&self) {
        self.memory().counts.joined += 1;
    }

    /// Remembers what a record received at `now` says of its token. False: it says another agent than one before.
    pub(crate) fn learn(&self, token: Token<'_>, facts: Facts, now: i64) -> bool {
        let bytes = facts.bytes();
        if bytes > FACTS_BYTES_MAX {
            return true;
        }
        let key = self.keys(token)[usize::from(!is_strong(token.id))];
        let mut memory = self.memory();
        memory.forget_before(now - self.ttl_micros());
        if let Some(entry) = memory.entries.get_mut(&key) {
            let agrees = entry.facts.agent == facts.agent;
            entry.conflicting |= !agrees;
            if entry.conflicting {
                return false;
            }
            let merged = Facts::clone(&entry.facts).or(facts);
            let grown = merged.bytes();
            let before = std::mem::replace(&mut entry.bytes, grown);
            entry.facts = Arc::new(merged);
            memory.counts.bytes = memory.counts.bytes - before + grown;
        } else {
            memory.entries.insert(key, Entry { facts: Arc::new(facts), conflicting: false, learned_at: now, bytes });
            memory.order.push_back(key);
            memory.counts.bytes += bytes;
        }
        memory.make_room(&self.config);
        true
    }

    fn ttl_micros(&self) -> i64 {
        i64::from(self.config.ttl_hours) * HOUR_MICROS
    }

    /// Learns from rows of `events` that were flagged when they were made, as after a start. What the registry says
    /// now counts. Gives how many taught.
    pub fn learn_rows(&self, batch: &RecordBatch, registry: Option<&Registry>, now: i64) -> Result<usize, SchemaError> {
        let events = Events::new(batch)?;
        let mut taught = 0;
        for at in 0..batch.num_rows() {
            let received_at = events.received_at.value(at);
            if events.flags.is_null(at) || now.saturating_sub(received_at) > self.ttl_micros() {
                continue;
            }
            if has(events.flags, at, ISSUED) {
                let row = events.row(at);
                let Some(id) = row.token_id.clone() else { continue };
                // A row does not tell the instance; ids that say enough do not need it.
                let (tenant, source) = (row.tenant.clone(), row.source.clone());
                let token = Token { tenant: &tenant, source: &source, instance: "", id: &id };
                self.learn(token, Facts::of(row, registry), received_at);
                taught += 1;
            }
        }
        Ok(taught)
    }
}

impl Memory {
    fn forget_before(&mut self, time: i64) {
        let old = |entry: &Entry| entry.learned_at < time;
        while self.order.front().and_then(|key| self.entries.get(key)).is_some_and(old) {
            self.forget_oldest();
        }
        self.counts.entries = self.entries.len();
    }

    fn make_room(&mut self, config: &TokenConfig) {
        while self.entries.len() > config.entries_max || self.counts.bytes > config.bytes_max {
            self.forget_oldest();
            self.counts.evicted += 1;
        }
        self.counts.entries = self.entries.len();
    }

    fn forget_oldest(&mut self) {
        let oldest = self.order.pop_front().and_then(|key| self.entries.remove(&key));
        self.counts.bytes -= oldest.map_or(0, |entry| entry.bytes);
    }
}

impl Facts {
    /// The facts of a row as it was stored.
    fn of(row: EventRow, registry: Option<&Registry>) -> Facts {
        let (agent, alias) = (row.agent_id.unwrap_or_default(), row.agent_alias);
        let vendors = alias.as_deref().unwrap_or(&agent);
        let known = registry.and_then(|registry| registry.find(&row.tenant, &row.source, vendors));
        let (agent, agent_alias) = match known {
            Some(known) if known.id != vendors => (known.id.clone(), Some(vendors.to_owned())),
            _ => (vendors.to_owned(), None),
        };
        Facts {
            agent,
            agent_alias,
            agent_name: row.agent_name,
            user: row.user_id,
            user_name: row.user_name,
            user_kind: row.user_kind,
            delegation: row.delegation,
            scopes: row.scopes,
            issued_at: row.token_issued_at,
            expires_at: row.token_expires_at,
        }
    }

    /// These facts, and the others' where these say nothing.
    fn or(self, other: Facts) -> Facts {
        let list = |own: Vec<String>, others| if own.is_empty() { others } else { own };
        Facts {
            agent: self.agent,
            agent_alias: self.agent_alias.or(other.agent_alias),
            agent_name: self.agent_name.or(other.agent_name),
            user: self.user.or(other.user),
            user_name: self.user_name.or(other.user_name),
            user_kind: self.user_kind.or(other.user_kind),
            delegation: if self.delegation.is_empty() { other.delegation } else { self.delegation },
            scopes: list(self.scopes, other.scopes),
            issued_at: self.issued_at.or(other.issued_at),
            expires_at: self.expires_at.or(other.expires_at),
        }
    }

    fn bytes(&self) -> usize {
        let texts = [&self.agent_alias, &self.agent_name, &self.user, &self.user_name, &self.user_kind];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let hop =
            |hop: &Hop| size_of::<Hop>() + hop.kind.len() + hop.id.len() + hop.issuer.as_ref().map_or(0, String::len);
        let hops: usize = self.delegation.iter().map(hop).sum();
        let scopes: usize = self.scopes.iter().map(|scope| size_of::<String>() + scope.len()).sum();
        ENTRY_BYTES + self.agent.len() + texts + hops + scopes
    }
}

/// Whether nobody makes this id twice by accident.
fn is_strong(id: &str) -> bool {
    let mut counts = [0_u32; 256];
    id.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let length = id.len() as f64;
    let surprise = |count: u32| f64::from(count) * (length / f64::from(count)).log2();
    let bits: f64 = counts.into_iter().filter(|count| *count > 0).map(surprise).sum();
    id.len() >= STRONG_BYTES_MIN && bits >= STRONG_BITS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRONG: &str = "9f2c1d7e-30b4-4c8a-9d5e-6a7b8c9d0e1f";

    fn tokens(entries_max: usize, bytes_max: usize) -> Tokens {
        let config = TokenConfig { entries_max, bytes_max, ttl_hours: 1, ..TokenConfig::default() };
        Tokens::new(&config).expect("the memory is on")
    }

    fn token(id: &str) -> Token<'_> {
        Token { tenant: "acme", source: "okta", instance: "", id }
    }

    fn of(agent: &str) -> Facts {
        Facts { agent: agent.into(), ..Facts::default() }
    }

    #[test]
    fn ids_that_people_or_counters_make_are_weak() {
        for strong in [STRONG, "AT.x8hB3qZ1m0Kd7WpTzYfRcE", "a1b2c3d4e5f60718", "Vq3h9ZkLm2Xw8RtYbN5c"] {
            assert!(is_strong(strong), "{strong}");
        }
        for weak in ["", "4711", "token-000000000001", "20260101120000123", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(!is_strong(weak), "{weak}");
        }
    }

    #[test]
    fn the_memory_stays_within_its_limits_and_the_oldest_go() {
        let tokens = tokens(3, 1 << 20);
        for n in 0..10 {
            tokens.learn(token(&format!("{STRONG}{n}")), of("a"), 0);
        }
        let counts = tokens.counts();
        assert_eq!((counts.entries, counts.evicted), (3, 7));
        assert_eq!(tokens.recall(token(&format!("{STRONG}6")), "", 0), Recalled::Nothing);
        assert!(matches!(tokens.recall(token(&format!("{STRONG}7")), "", 0), Recalled::Facts(_)));
        let small = self::tokens(100, 1000);
        (0..10).for_each(|n| assert!(small.learn(token(&format!("{STRONG}{n}")), of("a"), 0)));
        assert!(small.counts().bytes <= 1000 && small.counts().entries == 3, "{:?}", small.counts());
        small.learn(token("new"), of("a"), 2 * HOUR_MICROS);
        assert_eq!(small.counts().entries, 1, "what is older than its hours went");
        let long = Facts { scopes: vec!["s".repeat(FACTS_BYTES_MAX)], ..of("a") };
        tokens.learn(token(STRONG), long, 0);
        assert_eq!(tokens.recall(token(STRONG), "", 0), Recalled::Nothing, "too large to keep");
    }

    #[test]
    fn two_agents_are_a_conflict_for_good() {
        let tokens = tokens(10, 1 << 20);
        assert!(tokens.learn(token(STRONG), of("a"), 0));
        assert_eq!(tokens.recall(token(STRONG), "b", 0), Recalled::Conflict);
        assert!(matches!(tokens.recall(token(STRONG), "a", 0), Recalled::Facts(_)));
        assert!(tokens.learn(token(STRONG), Facts { user: Some("u".into()), ..of("a") }, 0));
        let Recalled::Facts(facts) = tokens.recall(token(STRONG), "", 0) else { panic!("it is known") };
        assert_eq!(facts.user.as_deref(), Some("u"), "a second issuance adds what the first did not say");
        assert!(!tokens.learn(token(STRONG), of("b"), 0));
        assert!(!tokens.learn(token(STRONG), of("a"), 0));
        assert_eq!(tokens.recall(token(STRONG), "", 0), Recalled::Conflict);
        assert_eq!(tokens.counts().conflicts, 2, "records are counted as they ask");
    }
}

//! The engine: the partitions of the log side by side, and what they share at ticks.
//!
//! ```text
//! rows ─▶ shard of their partition: agent, session, evidence ─▶ detectors ─▶ alerts     (any number of threads)
//! tick ─▶ shards hand over, in order, what waited ─▶ tenants: peers, campaigns, thresholds, notes of detectors
//! ```
//! Between ticks a shard reads the tenants and never writes them, and no shard sees another: so the alerts are the same for
//! any number of threads. They come out in the order of the rows.

use std::iter::{once, repeat_with};

use arrow::array::{Array, RecordBatch, StringArray};
use schemas::{AlertRow, Events, SchemaError};
use serde_json::Value;

use crate::Config;
use crate::detectors::{DETECTORS, Order};
use crate::evidence::Evidence;
use crate::hash::{Keyed, Map, Of, map, mix};
use crate::row::{Reader, Row, session_key, session_of_token};
use crate::shard::{Shard, Surroundings};
use crate::tenant::Tenant;

pub(crate) const MINUTE_MICROS: i64 = 60_000_000;
pub(crate) const DAY_MICROS: i64 = 1_440 * MINUTE_MICROS;
/// Partitions of the log at most: a row's `log_partition` says which shard is its.
pub(crate) const SHARDS: usize = 64;
/// Batches of fewer rows are judged on the caller's thread.
const PARALLEL_ROWS_MIN: usize = 256;
/// Rows that are cut out of their columns at once, a thread: what was cut stays near until it is judged.
const PART_ROWS: usize = 4_096;

/// Detection over the rows and ticks of a log.
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) keyed: Keyed,
    rules_digest: String,
    pub(crate) shards: Vec<Shard>,
    pub(crate) tenants: Map<Tenant>,
    /// What a tenant is until the tick after its first row.
    new_tenant: Tenant,
    /// One a thread.
    readers: Vec<Reader>,
    /// Numbers of the rows at hand, a shard.
    mine: Vec<Vec<u32>>,
}

impl Engine {
    pub fn new(config: &Config) -> Self {
        Engine {
            config: config.clone(),
            keyed: Keyed::new(config.hash_key),
            rules_digest: rules_digest(config),
            shards: (0..SHARDS).map(|_| Shard::new(config)).collect(),
            tenants: map(),
            new_tenant: Tenant::new("", config),
            readers: vec![Reader::default()],
            mine: vec![Vec::new(); SHARDS],
        }
    }

    /// Judges large batches on so many threads. The alerts do not depend on it.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.readers.resize_with(threads.clamp(1, SHARDS), Reader::default);
        self
    }

    /// Judges and learns the rows of a batch of `events`, in order. Fails if the batch is not one of `events`.
    pub fn observe(&mut self, batch: &RecordBatch, alerts: &mut Vec<AlertRow>) -> Result<(), SchemaError> {
        self.judge(batch, alerts, None)
    }

    /// As [`observe`](Self::observe), and tells how each row with an agent was scored, in the order of the rows.
    pub fn observe_scored(
        &mut self,
        batch: &RecordBatch,
        alerts: &mut Vec<AlertRow>,
        scored: &mut Vec<Scored>,
    ) -> Result<(), SchemaError> {
        self.judge(batch, alerts, Some(scored))
    }

    fn judge(
        &mut self,
        batch: &RecordBatch,
        alerts: &mut Vec<AlertRow>,
        scored: Option<&mut Vec<Scored>>,
    ) -> Result<(), SchemaError> {
        let events = Events::new(batch)?;
        let Engine { config, keyed, rules_digest, shards, tenants, new_tenant, readers, mine } = self;
        let around = Surroundings { config, keyed: *keyed, rules_digest, tenants, new_tenant, tell: scored.is_some() };
        let readers = if batch.num_rows() < PARALLEL_ROWS_MIN { &mut readers[..1] } else { readers };
        let mut found = Found::default();
        let mut rows: Vec<Row> = Vec::with_capacity(PART_ROWS.min(batch.num_rows()));
        for from in (0..batch.num_rows()).step_by(PART_ROWS * readers.len()) {
            rows.clear();
            let end = batch.num_rows().min(from + PART_ROWS * readers.len());
            let each = (end - from).div_ceil(readers.len());
            let parts = (from..end).step_by(each).map(|at| at..end.min(at + each)).zip(readers.iter_mut());
            let room = std::mem::take(&mut rows);
            let cut = side_by_side(parts.zip(once(room).chain(repeat_with(Vec::new))), |((part, reader), mut rows)| {
                reader.read_all(around.config, around.keyed, &events, part, &mut rows);
                rows
            });
            rows = cut.into_iter().reduce(joined).unwrap_or_default();
            mine.iter_mut().for_each(Vec::clear);
            for (number, row) in (0..).zip(&rows) {
                mine[events.log_partition.value(row.at).rem_euclid(SHARDS as i32) as usize].push(number);
            }
            let each = SHARDS.div_ceil(readers.len());
            for mut one in side_by_side(shards.chunks_mut(each).zip(mine.chunks(each)), |(shards, mine)| {
                let mut found = Found::default();
                Shard::observe(shards, &around, &rows, mine, &mut found);
                found
            }) {
                found.alerts.append(&mut one.alerts);
                found.scored.append(&mut one.scored);
            }
        }
        found.alerts.sort_by_key(|(row, detector, _)| (*row, *detector));
        alerts.extend(found.alerts.into_iter().map(|(_, _, alert)| alert));
        if let Some(scored) = scored {
            found.scored.sort_by_key(|one| one.row);
            scored.append(&mut found.scored);
        }
        Ok(())
    }

    /// Obeys a control frame; says whether it was for detection. Forms, each with the `tenant` that it is about:
    /// `{"tenant": T, "dismiss": ALERT_ID}` (the alert was about ordinary work: learn it),
    /// `{"tenant": T, "confirm": ALERT_ID}` (it was not: what is held back because of it is dropped),
    /// `{"tenant": T, "drop_session": SESSION_ID, "agent": AGENT_ID}` (what the agent did in it is not learned) and
    /// `{"tenant": T, "reset_agent": AGENT_ID}` (its history starts anew);
    /// `{"tenant": T, "killed": TARGET, "order": ORDER_ID, "time": MICROS}` (the target was stopped, as of then: the
    /// `agent`, the `credential`, or the `agent` for the `user` that TARGET names) and `{"tenant": T, "released": ORDER_ID}`
    /// (that order no longer holds; an order without an id is released by its TARGET). Anything else is not for detection.
    pub fn control(&mut self, control: &Value) -> bool {
        let field = |name| control.get(name).and_then(Value::as_str);
        let Some(tenant) = field("tenant").map(|name| self.keyed.of(Of::Tenant, 0, name)) else {
            return false;
        };
        if let Some(order) = self.order(tenant, control) {
            let config = &self.config;
            let new = || Tenant::new(field("tenant").unwrap_or_default(), config);
            self.tenants.entry(tenant).or_insert_with(new).shared.obey(&order);
            return true;
        }
        let alert = |name| field(name).and_then(|id| u128::from_str_radix(id, 16).ok());
        let mut agents = self.shards.iter_mut().flat_map(|shard| shard.of_tenant(tenant));
        if let Some(alert) = alert("dismiss") {
            return agents.any(|agent| agent.dismiss(alert));
        }
        if let Some(alert) = alert("confirm") {
            return agents.any(|agent| agent.confirm(alert));
        }
        drop(agents);
        if let (Some(session), Some(agent_id)) = (field("drop_session"), field("agent")) {
            let key = self.keyed.of(Of::Agent, tenant, agent_id);
            let by_token = session_of_token(self.keyed.of(Of::Credential, 0, session));
            let sessions = [session_key(self.keyed, session), by_token];
            return self.shards.iter_mut().any(|shard| shard.drop_session(key, sessions));
        }
        if let Some(agent_id) = field("reset_agent") {
            let key = self.keyed.of(Of::Agent, tenant, agent_id);
            return self.shards.iter_mut().any(|shard| shard.forget(&self.config, key));
        }
        false
    }

    /// What a control frame says of a kill order. One without an id is named by its target.
    fn order(&self, tenant: u64, control: &Value) -> Option<Order> {
        let named = |order: &Value| Some(self.keyed.of(Of::Order, tenant, order.as_str()?));
        if let Some(order) = control.get("released") {
            return Some(Order::Released { order: named(order).or_else(|| self.target(tenant, order))? });
        }
        let target = self.target(tenant, control.get("killed")?)?;
        let order = control.get("order").map_or(Some(target), named)?;
        Some(Order::Killed { order, target, time: control.get("time")?.as_i64()? })
    }

    /// Whom an order stops.
    fn target(&self, tenant: u64, target: &Value) -> Option<u64> {
        let name = |name| target.get(name).and_then(Value::as_str);
        let agent = name("agent").map(|agent| self.keyed.of(Of::Agent, tenant, agent));
        // Memory of detectors is a tenant's own, so these need not say of which.
        let user = name("user").map(|user| self.keyed.of(Of::User, 0, user));
        match (agent, user, name("credential")) {
            (Some(agent), Some(user), None) => Some(mix(agent, user)),
            (Some(agent), None, None) => Some(agent),
            (None, None, Some(credential)) => Some(self.keyed.of(Of::Credential, 0, credential)),
            _ => None,
        }
    }

    /// Stands for what decides besides the log: configuration, detectors, catalogue.
    pub fn rules_digest(&self) -> &str {
        &self.rules_digest
    }

    /// Agents remembered.
    pub fn agents(&self) -> usize {
        self.shards.iter().map(|shard| shard.agents.len()).sum()
    }

    /// Agents that are packed, and their memory in bytes.
    pub fn cold_agents(&self) -> (usize, usize) {
        let count = self.shards.iter().map(|shard| shard.cold.len()).sum();
        (count, self.shards.iter().map(|shard| shard.cold.bytes()).sum())
    }

    /// Memory of all agents that are not packed, and of the largest, in bytes.
    pub fn agent_bytes(&self) -> (usize, usize) {
        let bytes = || self.shards.iter().flat_map(|shard| shard.agents.values()).map(|agent| agent.bytes());
        (bytes().sum(), bytes().max().unwrap_or(0))
    }
}

/// What judging rows brought.
#[derive(Default)]
pub(crate) struct Found {
    /// Alerts, with the row and the detector that raised each.
    pub(crate) alerts: Vec<(u32, usize, AlertRow)>,
    pub(crate) scored: Vec<Scored>,
}

/// How a row was scored.
#[derive(Clone, Debug)]
pub struct Scored {
    /// Its number in the batch.
    pub row: u32,
    pub evidence: Evidence,
    /// Bits, one a detector, in the order of [`DETECTORS`].
    pub bits: [f64; DETECTORS.len()],
}

/// Does `work` with each part, each on a thread of its own where there are several.
fn side_by_side<P: Send, T: Send>(parts: impl Iterator<Item = P>, work: impl Fn(P) -> T + Sync) -> Vec<T> {
    let mut parts: Vec<P> = parts.collect();
    if parts.len() <= 1 {
        return parts.pop().map(work).into_iter().collect();
    }
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || work(part))).collect();
        threads.into_iter().map(|thread| thread.join().expect("judging does not panic")).collect()
    })
}

fn joined<T>(mut all: Vec<T>, mut more: Vec<T>) -> Vec<T> {
    all.append(&mut more);
    all
}

/// The rules by which an alert was raised: configuration, detectors, catalogue.
fn rules_digest(config: &Config) -> String {
    let catalogue = config.catalogue.digest().as_bytes();
    let config = serde_json::to_vec(config).expect("a configuration is plain data");
    let detectors: String = DETECTORS.iter().map(|d| format!("{} {}\n", d.name, d.version)).collect();
    schemas::id::digest([&config[..], detectors.as_bytes(), catalogue])
}

#[inline]
pub(crate) fn text(column: &StringArray, at: usize) -> Option<&str> {
    column.is_valid(at).then(|| column.value(at)).filter(|text| !text.is_empty())
}

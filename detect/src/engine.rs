//! The engine: one pass over the rows, in log order.
//!
//! For each row with an agent: find the agent and its session, compute the [`Evidence`], let the detectors score it,
//! raise what is over the threshold, then add the call to the session. A session is learned when it ends, not before, so
//! that a call is never judged by itself. Nothing is allocated for a call that is as usual.

use std::borrow::Cow;

use arrow::array::{Array, RecordBatch, StringArray};
use schemas::{AlertRow, Events, SchemaError};
use serde_json::Value;

use crate::Config;
use crate::agent::Agent;
use crate::alert::{Seen, raise};
use crate::detectors::DETECTORS;
use crate::evidence::{Evidence, History};
use crate::habits::{Call, Keys, Odds, Recent};
use crate::hash::{Keyed, Map, Of, map};
use crate::impact;
use crate::session::{CALLS_MAX, Session};
use crate::symbol::{Symbols, template};
use crate::tenant::{Pending, Tenant};

pub(crate) const MINUTE_MICROS: i64 = 60_000_000;
const DAY_MICROS: i64 = 1_440 * MINUTE_MICROS;

/// Detection over the rows and ticks of a log.
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) keyed: Keyed,
    pub(crate) rules_digest: String,
    pub(crate) symbols: Symbols,
    pub(crate) agents: Map<Agent>,
    pub(crate) tenants: Map<Tenant>,
    /// The tenant of the row before: rows of one tenant come together.
    tenant_before: (String, u64),
    scratch: Scratch,
}

/// Texts that are made anew for every row, without allocating.
#[derive(Default)]
struct Scratch {
    words: String,
    resource: String,
}

/// One row, as far as it is looked at.
pub(crate) struct Row<'a> {
    pub(crate) events: &'a Events<'a>,
    pub(crate) at: usize,
    pub(crate) time: i64,
    pub(crate) call: Call,
    pub(crate) impact: f64,
    pub(crate) weight: f64,
}

impl Engine {
    pub fn new(config: &Config) -> Self {
        Engine {
            config: config.clone(),
            keyed: Keyed::new(config.hash_key),
            rules_digest: rules_digest(config),
            symbols: Symbols::new(config.names_max),
            agents: map(),
            tenants: map(),
            tenant_before: Default::default(),
            scratch: Scratch::default(),
        }
    }

    /// Judges and learns the rows of a batch of `events`, in order. Fails if the batch is not one of `events`.
    pub fn observe(&mut self, batch: &RecordBatch, alerts: &mut Vec<AlertRow>) -> Result<(), SchemaError> {
        let events = Events::new(batch)?;
        for at in 0..batch.num_rows() {
            if let Some(agent_id) = text(events.agent_id, at) {
                self.observe_row(&events, at, agent_id, alerts);
            }
        }
        Ok(())
    }

    /// Time passes: what waited since the last tick joins the history of cohorts and tenants, and thresholds move.
    /// Today's detectors see nothing in time passing itself, so `_alerts` stays as it is.
    pub fn tick(&mut self, _time_micros: i64, _alerts: &mut Vec<AlertRow>) {
        let mut room = self.config.cohorts_max.saturating_sub(self.tenants.values().map(|t| t.cohorts.len()).sum());
        // The order decides who gets the last cohorts.
        let mut order: Vec<u64> = self.tenants.keys().copied().collect();
        order.sort_unstable();
        for key in order {
            if let Some(tenant) = self.tenants.get_mut(&key) {
                room = room.saturating_sub(tenant.fold(&self.config, room));
            }
        }
    }

    /// Obeys a control frame; says whether it was for detection. Forms, each with the `tenant` that it is about:
    /// `{"tenant": T, "dismiss": ALERT_ID}` (the alert was about ordinary work: learn it) and
    /// `{"tenant": T, "reset_agent": AGENT_ID}` (its history starts anew). Anything else is not for detection.
    pub fn control(&mut self, control: &Value) -> bool {
        let field = |name| control.get(name).and_then(Value::as_str);
        let Some(tenant) = field("tenant").map(|name| self.keyed.of(Of::Tenant, 0, name)) else {
            return false;
        };
        if let Some(alert) = field("dismiss").and_then(|id| u128::from_str_radix(id, 16).ok()) {
            return self.agents.values_mut().any(|agent| agent.tenant == tenant && agent.dismiss(alert));
        }
        if let Some(agent_id) = field("reset_agent") {
            return self.forget(self.keyed.of(Of::Agent, tenant, agent_id));
        }
        false
    }

    /// Agents remembered.
    pub fn agents(&self) -> usize {
        self.agents.len()
    }

    /// Memory of all agents, and of the largest, in bytes.
    pub fn agent_bytes(&self) -> (usize, usize) {
        let bytes = || self.agents.values().map(Agent::bytes);
        (bytes().sum(), bytes().max().unwrap_or(0))
    }

    fn observe_row(&mut self, events: &Events, at: usize, agent_id: &str, alerts: &mut Vec<AlertRow>) {
        let tenant_key = self.tenant(events.tenant.value(at));
        let key = self.keyed.of(Of::Agent, tenant_key, agent_id);
        let row = self.read(events, at);
        if !self.agents.contains_key(&key) {
            self.admit(key, tenant_key, row.time);
        }
        let Engine { config, keyed, agents, tenants, symbols, rules_digest, .. } = self;
        let agent = agents.get_mut(&key).expect("the agent was admitted");
        let tenant = tenants.get_mut(&tenant_key).expect("the tenant was admitted");
        if let Some(name) = text(events.agent_name, at) {
            agent.call_it(name);
        }
        join_cohort(config, *keyed, agent, &mut tenant.pending, tenant_key, events, at);

        let session_key = session_key(*keyed, events, at);
        let idle = config.session_idle_mins * MINUTE_MICROS;
        let ended = |agent: &mut Agent, session| end(config, agent, &mut tenant.pending, session);
        agent.session(session_key, row.time, idle, DETECTORS.len(), ended);
        agent.last = agent.last.max(row.time);

        judge(config, rules_digest, symbols, agent, tenant, &row, alerts);
        let session = agent.open.last_mut().expect("the session is open");
        session.push(row.time, row.call, events.event_id.value(at));
        if session.calls.len() == CALLS_MAX {
            let mut session = agent.open.pop().expect("the session is open");
            learn(config, agent, &mut tenant.pending, &mut session);
            agent.open.push(session);
        }
    }

    #[inline]
    fn tenant(&mut self, name: &str) -> u64 {
        if self.tenant_before.0 != name || self.tenant_before.1 == 0 {
            let key = self.keyed.of(Of::Tenant, 0, name);
            self.tenants.entry(key).or_insert_with(|| Tenant::new(name, &self.config));
            self.tenant_before = (name.to_owned(), key);
        }
        self.tenant_before.1
    }

    fn read<'a>(&mut self, events: &'a Events<'a>, at: usize) -> Row<'a> {
        let Engine { keyed, symbols, scratch: Scratch { words, resource }, .. } = self;
        let name = template(events.action.value(at), words);
        let action = keyed.of(Of::Action, 0, name);
        let mut sensitive = symbols.note(action, || Cow::Borrowed(name));
        let mut call = Call { action, resource: 0 };
        if resource_name(events, at, words, resource) {
            call.resource = keyed.of(Of::Resource, 0, resource);
            sensitive |= symbols.note(call.resource, || Cow::Borrowed(resource));
        }
        let impact = impact::of(events.effect.value(at), sensitive);
        let weight = impact * impact::of_outcome(events.outcome.value(at));
        let time = events.time.value(at).min(events.received_at.value(at));
        Row { events, at, time, call, impact, weight }
    }

    fn admit(&mut self, key: u64, tenant: u64, time: i64) {
        if self.agents.len() >= self.config.agents_max.max(1) {
            self.make_room();
        }
        self.agents.insert(key, Agent::new(tenant, time));
        if let Some(tenant) = self.tenants.get_mut(&tenant) {
            tenant.pending.join(&self.config, 0, String::new(), Vec::new());
        }
    }

    /// Forgets an eighth of the agents: those without enough history first, so that a flood of made-up agents cannot push
    /// out the known ones; among equals the longest idle.
    fn make_room(&mut self) {
        let known = |agent: &Agent| agent.sessions >= self.config.history_sessions_min;
        let mut order: Vec<_> = self.agents.iter().map(|(key, agent)| (known(agent), agent.last, *key)).collect();
        order.sort_unstable();
        for (_, _, key) in order.iter().take((order.len() / 8).max(1)) {
            self.forget(*key);
        }
    }

    fn forget(&mut self, key: u64) -> bool {
        let Some(agent) = self.agents.remove(&key) else {
            return false;
        };
        if let Some(tenant) = self.tenants.get_mut(&agent.tenant) {
            tenant.pending.leave(&self.config, 0);
            if agent.cohort != 0 {
                tenant.pending.leave(&self.config, agent.cohort);
            }
        }
        true
    }
}

/// The rules by which an alert was raised: configuration and detectors.
fn rules_digest(config: &Config) -> String {
    let config = serde_json::to_vec(config).expect("a configuration is plain data");
    let detectors: String = DETECTORS.iter().map(|d| format!("{} {}\n", d.name(), d.version())).collect();
    schemas::id::digest([&config[..], detectors.as_bytes()])
}

#[inline]
pub(crate) fn text(column: &StringArray, at: usize) -> Option<&str> {
    column.is_valid(at).then(|| column.value(at)).filter(|text| !text.is_empty())
}

/// Writes what the call was about to `name`: service, kind and id, as far as they are known. False if none is.
fn resource_name(events: &Events, at: usize, words: &mut String, name: &mut String) -> bool {
    name.clear();
    let service = text(events.service, at).into_iter();
    for part in service.chain(text(events.resource_type, at)) {
        name.push_str(part);
        name.push(' ');
    }
    if let Some(id) = text(events.resource_id, at) {
        name.push_str(template(id, words));
    }
    name.truncate(name.trim_end().len());
    !name.is_empty()
}

fn session_key(keyed: Keyed, events: &Events, at: usize) -> u64 {
    let declared = text(events.session_id, at).or_else(|| text(events.conversation_id, at));
    declared.or_else(|| text(events.token_id, at)).map_or(0, |id| keyed.of(Of::Session, 0, id))
}

/// The first owner that is seen decides the cohort, until then the first source. Later owners do not: a record's owner
/// may be what the agent claims, and only the registry moves an agent.
fn join_cohort(
    config: &Config,
    keyed: Keyed,
    agent: &mut Agent,
    pending: &mut Pending,
    tenant: u64,
    events: &Events,
    at: usize,
) {
    if agent.cohort_is_owner {
        return;
    }
    let owner = text(events.agent_owner, at);
    if agent.cohort != 0 && owner.is_none() {
        return;
    }
    if agent.cohort != 0 {
        pending.leave(config, agent.cohort);
    }
    let source = events.source.value(at);
    let (cohort, label) = match owner {
        Some(owner) => (keyed.of(Of::Owner, tenant, owner), format!("owner {owner}")),
        None => (keyed.of(Of::Source, tenant, source), format!("source {source}")),
    };
    (agent.cohort, agent.cohort_is_owner) = (cohort, owner.is_some());
    pending.join(config, cohort, label, agent.actions.iter().map(|done| done.action).collect());
}

/// Lets the detectors score the row, in the agent's newest session, and raises what is over the threshold.
fn judge(
    config: &Config,
    rules_digest: &str,
    symbols: &Symbols,
    agent: &mut Agent,
    tenant: &Tenant,
    row: &Row,
    alerts: &mut Vec<AlertRow>,
) {
    let recent = agent.open.last().map_or(Recent::NONE, |session| session.recent);
    let evidence = evidence(config, agent, tenant, row, recent);
    for (i, detector) in DETECTORS.iter().enumerate() {
        let score = detector.score(&evidence);
        let session = agent.open.last_mut().expect("the session is open");
        session.best[i] = session.best[i].max(score as f32);
        if score < tenant.tails[i].threshold() || score <= 0.0 {
            continue;
        }
        // Without history of its own everything is new to an agent: it has to learn to get one.
        session.suspicious |= evidence.history == History::Own;
        let seen = Seen { row, evidence: &evidence, recent, detector: i, score };
        alerts.extend(raise(config, rules_digest, symbols, agent, tenant, &seen));
    }
}

/// A session ended: it is learned, and its highest scores tell what is usual in this tenant.
fn end(config: &Config, agent: &mut Agent, pending: &mut Pending, mut session: Session) {
    learn(config, agent, pending, &mut session);
    pending.score(config, &session.best);
}

fn learn(config: &Config, agent: &mut Agent, pending: &mut Pending, session: &mut Session) {
    if !session.suspicious && !session.calls.is_empty() {
        let firsts = agent.learn(session.lead, &session.calls);
        pending.learn(config, agent.cohort, session.lead, &session.calls, firsts);
    }
    session.continue_after_part();
}

fn evidence(config: &Config, agent: &Agent, tenant: &Tenant, row: &Row, recent: Recent) -> Evidence {
    let keys = Keys::new(recent, row.call);
    let mut odds = Odds::prior(row.call);
    let cohort = tenant.cohorts.get(&agent.cohort).filter(|cohort| cohort.agents >= config.cohort_agents_min);
    if tenant.all.agents >= config.cohort_agents_min {
        tenant.all.habits.refine(&mut odds, &keys);
    }
    if let Some(cohort) = cohort {
        cohort.habits.refine(&mut odds, &keys);
    }
    let peers_action_bits = bits(odds.action);
    agent.habits.refine(&mut odds, &keys);

    let own_days = (row.time - agent.first) / DAY_MICROS;
    let history = match cohort {
        _ if agent.sessions >= config.history_sessions_min && own_days >= config.history_days_min => History::Own,
        Some(cohort) if cohort.habits.sessions() >= config.cohort_sessions_min => History::Cohort,
        _ => History::None,
    };
    Evidence {
        impact: row.impact,
        weight: row.weight,
        history,
        action_is_new: !agent.actions_forgotten && !agent.did(row.call.action),
        cohort_agents_with: cohort.map_or(0, |cohort| cohort.habits.agents_with(row.call.action)),
        action_bits: bits(odds.action),
        order_bits: bits(odds.order),
        resource_bits: bits(odds.resource),
        peers_action_bits,
    }
}

/// Surprise at most: counts have 16 bits, and levels and contexts are nested, so that what is beyond is the same surprise
/// counted again. On hijacked agents the cap costs nothing; without it one rare but harmless call outweighs all.
const TERM_BITS_MAX: f64 = 16.0;

/// Rounded, so that the last digit of a logarithm cannot differ from machine to machine.
#[inline]
fn bits(p: f64) -> f64 {
    ((-p.log2()).clamp(0.0, TERM_BITS_MAX) * 1024.0).round() / 1024.0
}

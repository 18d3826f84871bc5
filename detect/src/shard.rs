//! One partition of the log: its agents, in the order of their rows.
//!
//! For each row: find the agent and its session, compute the [`Evidence`], let the detectors score it, raise what is over
//! the threshold, then let them learn the row and add the call to the session. A session is learned when it ends, not
//! before, so that a call is never judged by itself; one with odd calls is held back until a tick, a verdict, or time says
//! what it was. Nothing is allocated for a call that is as usual.

use std::borrow::Cow;

use schemas::Events;
use schemas::table::has;

use crate::Config;
use crate::agent::{Agent, Held};
use crate::alert::raise;
use crate::detectors::{DETECTORS, Seen, shown};
use crate::engine::{DAY_MICROS, Found, MINUTE_MICROS, SHARDS, Scored, text};
use crate::evidence::{Evidence, History};
use crate::habits::{Call, Keys, Odds, RESOURCES_MAX, Recent};
use crate::hash::{Keyed, Map, Of, map};
use crate::impact::{self, GRAVE, HARM};
use crate::session::{CALLS_MAX, Session};
use crate::symbol::{Symbols, normal, template};
use crate::tenant::{Pending, Tenant};

/// Rows whose agents are asked for together.
const AHEAD: usize = 32;

/// What a shard reads and does not write.
pub(crate) struct Surroundings<'a> {
    pub(crate) config: &'a Config,
    pub(crate) keyed: Keyed,
    pub(crate) rules_digest: &'a str,
    pub(crate) tenants: &'a Map<Tenant>,
    pub(crate) new_tenant: &'a Tenant,
    /// Every row's scores are wanted.
    pub(crate) tell: bool,
}

pub(crate) struct Shard {
    pub(crate) symbols: Symbols,
    pub(crate) agents: Map<Agent>,
    /// What waits for the next tick, a tenant.
    pub(crate) pending: Map<Pending>,
    /// Agents with sessions that are held back.
    pub(crate) holding: Vec<u64>,
    /// When sessions that were left alone were last ended.
    pub(crate) swept: i64,
    /// The tenant of the row before: rows of one tenant come together.
    tenant_before: (String, u64),
    scratch: Scratch,
}

/// Texts that are made anew for every row, without allocating.
#[derive(Default)]
struct Scratch {
    keys: Vec<u64>,
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
    /// The catalogue says that somebody must have approved it.
    pub(crate) needs_approval: bool,
    /// The resource was named beforehand, by who asked for the work.
    pub(crate) intended: bool,
}

impl Shard {
    pub(crate) fn new(config: &Config) -> Self {
        Shard {
            symbols: Symbols::new(config.names_max.div_ceil(SHARDS)),
            agents: map(),
            pending: map(),
            holding: Vec::new(),
            swept: 0,
            tenant_before: Default::default(),
            scratch: Scratch::default(),
        }
    }

    /// Judges and learns these rows.
    pub(crate) fn observe(&mut self, around: &Surroundings, events: &Events, rows: &[u32], found: &mut Found) {
        let mut keys = std::mem::take(&mut self.scratch.keys);
        for rows in rows.chunks(AHEAD) {
            keys.clear();
            for at in rows {
                let tenant = self.tenant(around.keyed, events.tenant.value(*at as usize));
                keys.push(around.keyed.of(Of::Agent, tenant, events.agent_id.value(*at as usize)));
            }
            // Agents lie far apart in memory: asked for together they come together, and not one after the other.
            let warm = keys.iter().filter_map(|key| self.agents.get(key)).fold(0, |sum, agent| sum ^ agent.warm());
            std::hint::black_box(warm);
            for (at, key) in rows.iter().zip(&keys) {
                self.row(around, events, *at as usize, *key, found);
            }
        }
        self.scratch.keys = keys;
    }

    fn row(&mut self, around: &Surroundings, events: &Events, at: usize, key: u64, found: &mut Found) {
        let Surroundings { config, keyed, tenants, new_tenant, .. } = *around;
        let tenant_key = self.tenant(keyed, events.tenant.value(at));
        let row = self.read(config, keyed, events, at);
        if !self.agents.contains_key(&key) {
            self.admit(config, key, tenant_key, row.time);
        }
        let Shard { agents, symbols, pending, holding, .. } = self;
        let agent = agents.get_mut(&key).expect("the agent was admitted");
        let pending = pending.entry(tenant_key).or_insert_with(|| Pending::new(events.tenant.value(at)));
        let tenant = tenants.get(&tenant_key).unwrap_or(new_tenant);
        if let Some(name) = text(events.agent_name, at) {
            agent.call_it(name);
        }
        join_cohort(config, keyed, agent, pending, tenant_key, events, at);
        let (session_key, job) = (session_key(keyed, events, at), job_key(keyed, tenant_key, events, at));
        let idle = config.session_idle_mins * MINUTE_MICROS;
        let held_before = agent.held.len();
        let ended = |agent: &mut Agent, session| end(config, agent, pending, session, row.time);
        agent.session(session_key, job, row.time, idle, ended);
        agent.last = agent.last.max(row.time);

        judge(around, symbols, agent, tenant, pending, &row, found);
        let session = agent.open.last_mut().expect("the session is open");
        session.push(row.time, row.call, events.event_id.value(at));
        if session.calls.len() == CALLS_MAX {
            let mut session = agent.open.pop().expect("the session is open");
            part(config, agent, pending, &mut session, row.time);
            agent.open.push(session);
        }
        if held_before == 0 && !agent.held.is_empty() {
            holding.push(key);
        }
    }

    #[inline]
    fn tenant(&mut self, keyed: Keyed, name: &str) -> u64 {
        if self.tenant_before.0 != name || self.tenant_before.1 == 0 {
            self.tenant_before = (name.to_owned(), keyed.of(Of::Tenant, 0, name));
        }
        self.tenant_before.1
    }

    fn read<'a>(&mut self, config: &Config, keyed: Keyed, events: &'a Events<'a>, at: usize) -> Row<'a> {
        let Shard { symbols, scratch: Scratch { words, resource, .. }, .. } = self;
        let name = template(events.action.value(at), words);
        let action = keyed.of(Of::Action, 0, name);
        let known = symbols.action(&config.catalogue, action, name);
        let mut sensitive = symbols.note(action, || Cow::Borrowed(name)) && known.is_none();
        let effect = events.effect.value(at);
        let mut call = Call { action, resources: [0; RESOURCES_MAX] };
        let ids = text(events.resource_id, at).unwrap_or_default();
        let several = effect != "read" && ids.contains(',');
        for (slot, id) in call.resources.iter_mut().zip(ids.split(if several { ',' } else { '\0' })) {
            if resource_name(events, at, id, effect != "read", words, resource) {
                *slot = keyed.of(Of::Resource, 0, resource);
                sensitive |= symbols.note(*slot, || Cow::Borrowed(resource));
            }
        }
        let impact = impact::of(known, effect, sensitive);
        let weight = impact * impact::of_outcome(events.outcome.value(at));
        let time = events.time.value(at).min(events.received_at.value(at));
        let intended = has(events.flags, at, "in_intent");
        let needs_approval = known.is_some_and(|known| known.needs_approval);
        Row { events, at, time, call, impact, weight, needs_approval, intended }
    }

    fn admit(&mut self, config: &Config, key: u64, tenant: u64, time: i64) {
        if self.agents.len() >= config.agents_max.div_ceil(SHARDS).max(1) {
            self.make_room(config);
        }
        self.agents.insert(key, Agent::new(key, tenant, time));
        let name = self.tenant_before.0.as_str();
        let pending = self.pending.entry(tenant).or_insert_with(|| Pending::new(name));
        pending.join(config, 0, String::new(), Vec::new());
    }

    /// Forgets an eighth of the agents: those without enough history first, so that a flood of made-up agents cannot push
    /// out the known ones; among equals the longest idle.
    fn make_room(&mut self, config: &Config) {
        let known = |agent: &Agent| agent.sessions >= config.history_sessions_min;
        let mut order: Vec<_> = self.agents.iter().map(|(key, agent)| (known(agent), agent.last, *key)).collect();
        order.sort_unstable();
        for (_, _, key) in order.iter().take((order.len() / 8).max(1)) {
            self.forget(config, *key);
        }
    }

    pub(crate) fn forget(&mut self, config: &Config, key: u64) -> bool {
        let Some(agent) = self.agents.remove(&key) else {
            return false;
        };
        if let Some(pending) = self.pending.get_mut(&agent.tenant) {
            pending.leave(config, 0);
            if agent.cohort != 0 {
                pending.leave(config, agent.cohort);
            }
        }
        true
    }

    pub(crate) fn of_tenant(&mut self, tenant: u64) -> impl Iterator<Item = &mut Agent> {
        self.agents.values_mut().filter(move |agent| agent.tenant == tenant)
    }

    /// Ends the sessions that were left alone, about once a minute, each shard at another second.
    pub(crate) fn sweep(&mut self, config: &Config, now: i64, number: usize) {
        if self.swept == 0 {
            self.swept = now - SWEEP_MICROS * number as i64 / SHARDS as i64;
        }
        if now - self.swept < SWEEP_MICROS {
            return;
        }
        self.swept = now;
        let Shard { agents, pending, holding, .. } = self;
        let idle = config.session_idle_mins * MINUTE_MICROS;
        let alone = |session: &Session| now - session.last > idle;
        let left = agents.iter().filter(|(_, agent)| agent.open.iter().any(alone)).map(|(key, _)| *key);
        let mut left: Vec<u64> = left.collect();
        // The order in which they are learned must not hang on that of the map.
        left.sort_unstable();
        for key in left {
            let Some(agent) = agents.get_mut(&key) else { continue };
            let pending = pending.entry(agent.tenant).or_insert_with(Pending::of_known);
            let held_before = agent.held.len();
            let (ended, open) = std::mem::take(&mut agent.open).into_iter().partition(alone);
            agent.open = open;
            let ended: Vec<Session> = ended;
            ended.into_iter().for_each(|session| end(config, agent, pending, session, now));
            if held_before == 0 && !agent.held.is_empty() {
                holding.push(key);
            }
        }
    }

    /// What the agent did in this session is not learned; says whether there is such a session.
    pub(crate) fn drop_session(&mut self, key: u64, session: u64) -> bool {
        let Some(agent) = self.agents.get_mut(&key) else { return false };
        let open = agent.open.iter_mut().filter(|open| open.key == session);
        open.map(Session::drop_calls).count() > 0
    }

    /// Learns or drops what was held back, now that the tenants know what other agents did.
    pub(crate) fn release(&mut self, config: &Config, tenants: &Map<Tenant>, time: i64) {
        let mut still = Vec::new();
        for key in std::mem::take(&mut self.holding) {
            let Some(agent) = self.agents.get_mut(&key) else { continue };
            let Some(tenant) = tenants.get(&agent.tenant) else { continue };
            for held in std::mem::take(&mut agent.held) {
                let spread = held.odd.iter().any(|call| tenant.elsewhere(*call, held.who) > 0);
                let due = time >= held.since.saturating_add(config.quarantine_hours * 60 * MINUTE_MICROS);
                match (held.cleared || !spread, held.cleared || due) {
                    // The same oddity in several hands is no habit.
                    (false, true) => {}
                    (true, true) => {
                        let pending = self.pending.entry(agent.tenant).or_insert_with(Pending::of_known);
                        learn(config, agent, pending, held.job, held.lead, &held.calls);
                    }
                    (_, false) => agent.held.push(held),
                }
            }
            if !agent.held.is_empty() {
                still.push(key);
            }
        }
        self.holding = still;
    }
}

/// So often sessions that were left alone are looked for.
const SWEEP_MICROS: i64 = 64_000_000;

/// Writes what a call was about to `name`: service, kind and id, as far as they are known. False if none is. What is
/// changed is told apart by its whole id (a payee, a recipient); what is read by its kind.
fn resource_name(events: &Events, at: usize, id: &str, whole: bool, words: &mut String, name: &mut String) -> bool {
    name.clear();
    let service = text(events.service, at).into_iter();
    for part in service.chain(text(events.resource_type, at)) {
        name.push_str(part);
        name.push(' ');
    }
    match whole {
        true => normal(id, name),
        false => name.push_str(template(id, words)),
    }
    name.truncate(name.trim_end().len());
    !name.is_empty()
}

fn session_key(keyed: Keyed, events: &Events, at: usize) -> u64 {
    let declared = text(events.session_id, at).or_else(|| text(events.conversation_id, at));
    declared.or_else(|| text(events.token_id, at)).map_or(0, |id| keyed.of(Of::Session, 0, id))
}

/// The job that the agent says it is at: its declared purpose.
fn job_key(keyed: Keyed, tenant: u64, events: &Events, at: usize) -> u64 {
    text(events.purpose, at).map_or(0, |purpose| keyed.of(Of::Job, tenant, purpose))
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

/// Lets the detectors score the row, in the agent's newest session, raises what is over the threshold, and lets them learn.
fn judge(
    around: &Surroundings,
    symbols: &Symbols,
    agent: &mut Agent,
    tenant: &Tenant,
    pending: &mut Pending,
    row: &Row,
    found: &mut Found,
) {
    let config = around.config;
    let session = agent.open.last().expect("the session is open");
    let (recent, job) = (session.recent, session.job);
    let evidence = evidence(config, agent, tenant, row, recent, job);
    let seen = Seen {
        config,
        row,
        evidence: &evidence,
        recent,
        agent: agent.key,
        keyed: around.keyed,
        shown: shown(around.keyed, row),
    };
    let scores = agent.states.score(&seen, &tenant.shared);
    if around.tell {
        found.scored.push(Scored { row: row.at as u32, evidence, bits: scores });
    }
    let mut spoke = [false; DETECTORS.len()];
    for (i, score) in scores.into_iter().enumerate().filter(|(_, score)| *score > 0.0) {
        let session = agent.open.last_mut().expect("the session is open");
        session.best[i] = session.best[i].max(score as f32);
        let hard = DETECTORS[i].hard;
        if !hard && score < tenant.tails[i].threshold() {
            continue;
        }
        spoke[i] = true;
        // Without history of its own everything is new to an agent: it has to learn to get one.
        session.alerted |= hard || evidence.history == History::Own;
        if let Some(alert) = raise(around, symbols, agent, tenant, &seen, i, score) {
            found.alerts.push((row.at as u32, i, alert));
        }
    }
    if is_odd(config, &evidence) && agent.sessions > 0 {
        let session = agent.open.last_mut().expect("the session is open");
        session.note_odd(if itself_odd(&evidence) { row.call.key() } else { ODD_ORDER });
    }
    agent.states.learn(&seen, &spoke, &mut pending.notes);
}

/// A session ended: it is learned or held back, and its highest scores tell what is usual in this tenant.
fn end(config: &Config, agent: &mut Agent, pending: &mut Pending, mut session: Session, now: i64) {
    part(config, agent, pending, &mut session, now);
    pending.score(config, &session.best);
}

/// The calls of a session so far are learned, or held back where one was odd or raised an alert.
fn part(config: &Config, agent: &mut Agent, pending: &mut Pending, session: &mut Session, now: i64) {
    let calls = std::mem::take(&mut session.calls);
    if calls.is_empty() {
        return session.lead = session.recent;
    }
    if session.odd.is_empty() && !session.alerted {
        learn(config, agent, pending, session.job, session.lead, &calls);
    } else {
        let who = agent.stands_for(session.job);
        pending.odd(config, &session.odd, who);
        let (job, lead, odd) = (session.job, session.lead, session.odd.clone());
        agent.hold(Held { job, lead, calls, odd, who, since: now, cleared: false });
    }
    session.lead = session.recent;
}

fn learn(config: &Config, agent: &mut Agent, pending: &mut Pending, job: u64, lead: Recent, calls: &[Call]) {
    let firsts = agent.learn(lead, calls);
    pending.learn(config, agent.cohort, job, lead, calls, firsts);
}

fn evidence(config: &Config, agent: &Agent, tenant: &Tenant, row: &Row, recent: Recent, job: u64) -> Evidence {
    let cohort = tenant.cohorts.get(&agent.cohort);
    let own_days = (row.time - agent.first) / DAY_MICROS;
    let history = match cohort.filter(|cohort| cohort.agents >= config.cohort_agents_min) {
        _ if agent.sessions >= config.history_sessions_min && own_days >= config.history_days_min => History::Own,
        Some(cohort) if cohort.habits.sessions() >= config.cohort_sessions_min => History::Cohort,
        _ => History::None,
    };
    let mut evidence = Evidence {
        impact: row.impact,
        weight: row.weight,
        history,
        action_is_new: !agent.actions_forgotten && !agent.did(row.call.action),
        cohort_agents_with: 0,
        action_bits: 0.0,
        order_bits: 0.0,
        resource_bits: 0.0,
        peers_action_bits: 0.0,
        elsewhere: 0,
    };
    // A plain read that the agent did before: no detector asks how odd it is, and most calls are such.
    if row.impact < HARM && !evidence.action_is_new {
        return evidence;
    }
    let keys = Keys::new(recent, row.call);
    let mut odds = Odds::prior(row.call);
    if tenant.all.agents >= config.cohort_agents_min {
        tenant.all.habits.refine(&mut odds, &keys);
    }
    if let Some(cohort) = cohort.filter(|cohort| cohort.agents >= config.cohort_agents_min) {
        evidence.cohort_agents_with = cohort.habits.agents_with(row.call.action);
        cohort.habits.refine(&mut odds, &keys);
    }
    if let Some(job) = tenant.jobs.get(&job).filter(|_| job != 0) {
        job.habits.refine(&mut odds, &keys);
    }
    evidence.peers_action_bits = bits(odds.action);
    agent.habits.refine(&mut odds, &keys);
    (evidence.action_bits, evidence.order_bits) = (bits(odds.action), bits(odds.order));
    evidence.resource_bits = if row.intended { 0.0 } else { bits(odds.resource()) };
    // An order of calls may be odd for many at once; the same call itself may not.
    if is_odd(config, &evidence) && itself_odd(&evidence) {
        let who = agent.stands_for(job);
        evidence.elsewhere = tenant.elsewhere(row.call.key(), who);
    }
    evidence
}

/// Odd enough to be held back: grave as well as surprising, so that a new harmless habit of a whole fleet is just learned.
fn is_odd(config: &Config, evidence: &Evidence) -> bool {
    evidence.weight >= GRAVE && evidence.weighed_bits() >= config.odd_bits
}

/// Surprise of action and resource together from which it is the call itself that is odd, whatever came before it.
const CAMPAIGN_BITS: f64 = 8.0;
/// Stands for a call that is odd in its order only: no campaign is made of it.
const ODD_ORDER: u64 = 0;

fn itself_odd(evidence: &Evidence) -> bool {
    evidence.action_bits + evidence.resource_bits >= CAMPAIGN_BITS
}

/// Surprise at most: counts have 16 bits, and levels and contexts are nested, so that what is beyond is the same surprise
/// counted again. On hijacked agents the cap costs nothing; without it one rare but harmless call outweighs all.
const TERM_BITS_MAX: f64 = 16.0;

/// Rounded, so that the last digit of a logarithm cannot differ from machine to machine.
#[inline]
pub(crate) fn bits(p: f64) -> f64 {
    ((-p.log2()).clamp(0.0, TERM_BITS_MAX) * 1024.0).round() / 1024.0
}

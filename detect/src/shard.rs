//! One partition of the log: its agents, in the order of their rows.
//!
//! For each row: find the agent and its session, compute the [`Evidence`], let the detectors score it, raise what is over
//! the threshold, then let them learn the row and add the call to the session. A session is learned when it ends, not
//! before, so that a call is never judged by itself; one with odd calls is held back until a tick, a verdict, or time says
//! what it was. Nothing is allocated for a call that is as usual.

use std::collections::BTreeMap;

use crate::Config;
use crate::agent::{Agent, Held};
use crate::ahead::{ask, in_steps};
use crate::alert::raise;
use crate::cold::Cold;
use crate::detectors::{DETECTORS, Seen};
use crate::engine::{DAY_MICROS, Found, MINUTE_MICROS, SHARDS, Scored, text};
use crate::evidence::{Evidence, History};
use crate::habits::{Call, Keys, Odds, Recent};
use crate::hash::{Keyed, Map, Of, map};
use crate::impact::{GRAVE, HARM};
use crate::row::Row;
use crate::session::{Buffers, Session};
use crate::symbol::Symbols;
use crate::tenant::{Pending, Tenant};

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
    pub(crate) agents: Map<Box<Agent>>,
    /// What waits for the next tick, a tenant.
    pub(crate) pending: Map<Pending>,
    /// Agents with sessions that are held back.
    pub(crate) holding: Vec<u64>,
    /// When sessions that were left alone were last ended.
    pub(crate) swept: i64,
    /// Agents with open sessions, by the sweep that may end one; each agent once.
    due: BTreeMap<i64, Vec<u64>>,
    pub(crate) cold: Cold,
    buffers: Buffers,
}

impl Shard {
    pub(crate) fn new(config: &Config) -> Self {
        Shard {
            symbols: Symbols::new(config.names_max.div_ceil(SHARDS)),
            agents: map(),
            pending: map(),
            holding: Vec::new(),
            swept: 0,
            due: BTreeMap::new(),
            cold: Cold::new(),
            buffers: Buffers::default(),
        }
    }

    /// Judges and learns rows; `mine` are the numbers of those of each shard.
    pub(crate) fn observe(
        shards: &mut [Shard],
        around: &Surroundings,
        rows: &[Row],
        mine: &[Vec<u32>],
        found: &mut Found,
    ) {
        let idle = around.config.session_idle_mins * MINUTE_MICROS;
        let of_shards = (0..).zip(mine).flat_map(|(shard, rows)| rows.iter().map(move |row| (shard, *row)));
        let order: Vec<(usize, u32)> = of_shards.collect();
        in_steps::<5, _>(&order, |step, (shard, row)| {
            let (shard, row) = (&mut shards[shard], &rows[row as usize]);
            match step {
                0 => return ask(row),
                4 => return shard.row(around, row, found),
                _ => {}
            }
            let Some(agent) = shard.agents.get(&row.agent) else { return };
            match step {
                1 => ask(&**agent),
                2 => agent.ask_near(),
                _ => agent.ask_far(row, idle),
            }
        });
    }

    fn row(&mut self, around: &Surroundings, row: &Row, found: &mut Found) {
        let Surroundings { config, keyed, tenants, new_tenant, .. } = *around;
        let (events, at) = (row.events, row.at);
        let tenant = tenants.get(&row.tenant);
        // The name is needed for a tenant that is new.
        let new = || tenant.map_or_else(|| Pending::new(events.tenant.value(at)), |_| Pending::of_known());
        if !self.agents.contains_key(&row.agent) {
            self.pending.entry(row.tenant).or_insert_with(new);
            self.admit(config, row);
        }
        let Shard { agents, symbols, pending, holding, due, buffers, .. } = self;
        let agent = agents.get_mut(&row.agent).expect("the agent was admitted");
        let pending = pending.entry(row.tenant).or_insert_with(new);
        let tenant = tenant.unwrap_or(new_tenant);
        if let Some(name) = text(events.agent_name, at) {
            agent.call_it(name);
        }
        join_cohort(config, keyed, agent, pending, row);
        let idle = config.session_idle_mins * MINUTE_MICROS;
        let held_before = agent.held.len();
        let ended =
            |agent: &mut Agent, buffers: &mut Buffers, session| end(config, agent, pending, buffers, session, row.time);
        agent.session(row.session, row.job, row.time, idle, buffers, ended);
        agent.last = agent.last.max(row.time);
        expect_end(config, agent, due);

        judge(around, symbols, agent, tenant, pending, row, found);
        let session = agent.open.last_mut().expect("the session is open");
        session.push(row.time, row.call, row.event_id);
        if let Some(full) = agent.full() {
            let mut session = agent.open.remove(full);
            part(config, agent, pending, buffers, &mut session, row.time);
            agent.open.insert(full, session);
        }
        if held_before == 0 && !agent.held.is_empty() {
            holding.push(row.agent);
        }
    }

    fn admit(&mut self, config: &Config, row: &Row) {
        if self.agents.len() >= config.agents_max.div_ceil(SHARDS).max(1) {
            self.make_room(config);
        }
        let agent = match self.cold.take(row.agent) {
            Some(agent) => {
                if !agent.held.is_empty() && !self.holding.contains(&row.agent) {
                    self.holding.push(row.agent);
                }
                agent
            }
            None => {
                let pending = self.pending.entry(row.tenant).or_insert_with(Pending::of_known);
                pending.join(config, 0, String::new(), Vec::new());
                Agent::new(row.agent, row.tenant, row.time)
            }
        };
        self.agents.insert(row.agent, Box::new(agent));
    }

    /// Makes room for an eighth more agents: those without enough history are forgotten first, so that a flood of made-up
    /// agents cannot push out the known ones; of the others the longest idle are packed.
    fn make_room(&mut self, config: &Config) {
        let known = |agent: &Agent| agent.sessions >= config.history_sessions_min;
        let mut order: Vec<_> = self.agents.iter().map(|(key, agent)| (known(agent), agent.last, *key)).collect();
        order.sort_unstable();
        for (known, _, key) in order.iter().take((order.len() / 8).max(1)) {
            match self.agents.remove(key) {
                Some(agent) if *known => self.cold.put(&agent),
                Some(agent) => self.leave(config, &agent),
                None => {}
            }
        }
        for key in self.cold.excess(config.cold_agents_max / SHARDS) {
            self.forget(config, key);
        }
    }

    pub(crate) fn forget(&mut self, config: &Config, key: u64) -> bool {
        let agent = self.agents.remove(&key).map(|agent| *agent).or_else(|| self.cold.take(key));
        agent.is_some_and(|agent| {
            self.leave(config, &agent);
            true
        })
    }

    fn leave(&mut self, config: &Config, agent: &Agent) {
        let pending = self.pending.entry(agent.tenant).or_insert_with(Pending::of_known);
        pending.leave(config, 0);
        if agent.cohort != 0 {
            pending.leave(config, agent.cohort);
        }
    }

    pub(crate) fn of_tenant(&mut self, tenant: u64) -> impl Iterator<Item = &mut Agent> {
        self.agents.values_mut().map(Box::as_mut).filter(move |agent| agent.tenant == tenant)
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
        let Shard { agents, pending, holding, due, buffers, .. } = self;
        let idle = config.session_idle_mins * MINUTE_MICROS;
        let later = due.split_off(&(now / SWEEP_MICROS + 1));
        // The order in which they are learned must not hang on when each became due.
        let mut now_due: Vec<u64> = std::mem::replace(due, later).into_values().flatten().collect();
        now_due.sort_unstable();
        now_due.dedup();
        in_steps::<4, _>(&now_due, |step, key| {
            let Some(agent) = agents.get_mut(&key) else { return };
            match step {
                0 => return ask(&**agent),
                1 => return agent.ask_near(),
                2 => return agent.ask_ended(),
                _ if agent.due.is_none_or(|due| due > now / SWEEP_MICROS) => return,
                _ => {}
            }
            let pending = pending.entry(agent.tenant).or_insert_with(Pending::of_known);
            let held_before = agent.held.len();
            while let Some(alone) = agent.open.iter().position(|session| now - session.last > idle) {
                let session = agent.open.remove(alone);
                end(config, agent, pending, buffers, session, now);
            }
            agent.due = None;
            if let Some(first) = agent.open.iter().map(|session| session.last).min() {
                let sweep = ((first + idle) / SWEEP_MICROS).max(now / SWEEP_MICROS + 1);
                agent.due = Some(sweep);
                due.entry(sweep).or_default().push(key);
            }
            if held_before == 0 && !agent.held.is_empty() {
                holding.push(key);
            }
        });
    }

    /// After reading back: agents with open sessions become due.
    pub(crate) fn expect_ends(&mut self, config: &Config) {
        self.agents.values_mut().for_each(|agent| expect_end(config, agent, &mut self.due));
    }

    /// What the agent did in this session is not learned; says whether there is such a session.
    pub(crate) fn drop_session(&mut self, key: u64, sessions: [u64; 2]) -> bool {
        let Some(agent) = self.agents.get_mut(&key) else { return false };
        let open = agent.open.iter_mut().filter(|open| sessions.contains(&open.key));
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
                        learn(config, agent, pending, &mut self.buffers, held.job, held.lead, &held.calls);
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

/// An agent with open sessions becomes due when the first of them may be left alone.
fn expect_end(config: &Config, agent: &mut Agent, due: &mut BTreeMap<i64, Vec<u64>>) {
    let Some(first) = agent.open.iter().map(|session| session.last).min() else { return };
    let sweep = (first + config.session_idle_mins * MINUTE_MICROS) / SWEEP_MICROS;
    // A late record may begin a session that is left alone before the others.
    if agent.due.is_none_or(|due| sweep < due) {
        agent.due = Some(sweep);
        due.entry(sweep).or_default().push(agent.key);
    }
}

/// So often sessions that were left alone are looked for.
const SWEEP_MICROS: i64 = 64_000_000;

/// The first owner that is seen decides the cohort, until then the first source. Later owners do not: a record's owner
/// may be what the agent claims, and only the registry moves an agent.
fn join_cohort(config: &Config, keyed: Keyed, agent: &mut Agent, pending: &mut Pending, row: &Row) {
    if agent.cohort_is_owner {
        return;
    }
    let Row { events, at, tenant, .. } = *row;
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
    symbols: &mut Symbols,
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
    // An explanation names what the agent did, and what it does in this session.
    if evidence.action_is_new || agent.actions_forgotten {
        symbols.note(row.call.action, row.events.action.value(row.at));
    }
    let seen = Seen { config, row, evidence: &evidence, recent, keyed: around.keyed };
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
fn end(
    config: &Config,
    agent: &mut Agent,
    pending: &mut Pending,
    buffers: &mut Buffers,
    mut session: Session,
    now: i64,
) {
    part(config, agent, pending, buffers, &mut session, now);
    pending.score(config, &session.best);
}

/// The calls of a session so far are learned, or held back where one was odd or raised an alert.
fn part(
    config: &Config,
    agent: &mut Agent,
    pending: &mut Pending,
    buffers: &mut Buffers,
    session: &mut Session,
    now: i64,
) {
    let calls = std::mem::take(&mut session.calls);
    if calls.is_empty() {
        return session.lead = session.recent;
    }
    if session.odd.is_empty() && !session.alerted {
        learn(config, agent, pending, buffers, session.job, session.lead, &calls);
        buffers.give(calls);
    } else {
        let who = agent.stands_for(session.job);
        pending.odd(config, &session.odd, who);
        let (job, lead, odd) = (session.job, session.lead, session.odd);
        agent.hold(Held { job, lead, calls, odd, who, since: now, cleared: false });
    }
    session.lead = session.recent;
}

fn learn(
    config: &Config,
    agent: &mut Agent,
    pending: &mut Pending,
    buffers: &mut Buffers,
    job: u64,
    lead: Recent,
    calls: &[Call],
) {
    let firsts = agent.learn(lead, calls, buffers);
    pending.learn(config, agent.cohort, job, lead, calls, firsts);
}

fn evidence(config: &Config, agent: &Agent, tenant: &Tenant, row: &Row, recent: Recent, job: u64) -> Evidence {
    let own =
        agent.sessions >= config.history_sessions_min && row.time - agent.first >= config.history_days_min * DAY_MICROS;
    let action_is_new = !agent.actions_forgotten && !agent.did(row.call.action);
    // A plain read that the agent did before: no detector asks how odd it is, and most calls are such.
    let is_plain = row.impact < HARM && !action_is_new;
    let cohort = if own && is_plain { None } else { tenant.cohorts.get(&agent.cohort) };
    let cohort = cohort.filter(|cohort| cohort.agents >= config.cohort_agents_min);
    let history = match cohort {
        _ if own => History::Own,
        Some(cohort) if cohort.habits.sessions() >= config.cohort_sessions_min => History::Cohort,
        _ => History::None,
    };
    let mut evidence = Evidence {
        impact: row.impact,
        weight: row.weight,
        history,
        action_is_new,
        cohort_agents_with: 0,
        action_bits: 0.0,
        order_bits: 0.0,
        resource_bits: 0.0,
        peers_action_bits: 0.0,
        elsewhere: 0,
    };
    if is_plain {
        return evidence;
    }
    let keys = Keys::new(recent, row.call);
    let mut odds = Odds::prior(row.call);
    if tenant.all.agents >= config.cohort_agents_min {
        tenant.all.habits.refine(&mut odds, &keys);
    }
    if let Some(cohort) = cohort {
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

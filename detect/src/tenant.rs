//! What a tenant's agents have in common: its jobs, its cohorts, all its agents together, its campaigns and thresholds.
//!
//! A job is what agents declare as their purpose; a cohort is the agents of one owner (`agent_owner`, the first that is
//! seen), else of one source. All of it is frozen between ticks: what ends meanwhile waits in each shard's [`Pending`] and is
//! folded in at the tick, shard by shard. So an agent's alerts do not depend on how far another agent's events have been
//! read, which is what lets partitions run in parallel. What waits is bounded; past the bound it does not join the common
//! history (the agent's own is complete).

use serde::{Deserialize, Serialize};

use crate::Config;
use crate::detectors::{DETECTORS, Notes, Shared};
use crate::engine::DAY_MICROS;
use crate::habits::{Call, Habits, Keys, Recent};
use crate::hash::{Map, map};
use crate::tail::Tail;

const JOB_SLOTS_MAX: u32 = 1_024;
const COHORT_SLOTS_MAX: u32 = 4_096;
const TENANT_SLOTS_MAX: u32 = 65_536;
/// Cohorts and tenants learn every session until they have so many, then one in [`SAMPLED`]: a large fleet repeats itself.
const EVERY_SESSION_MAX: u32 = 512;
const SAMPLED: u32 = 16;
/// An odd call is remembered this long, and so many that did it.
const CAMPAIGN_MICROS: i64 = 7 * DAY_MICROS;
const CAMPAIGN_MANY: usize = 16;
/// Room for calls that stays from tick to tick.
const CALLS_KEPT: usize = 1_024;

/// Agents that are compared with each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Peers {
    /// As an explanation names them: `owner payments`.
    pub(crate) label: String,
    pub(crate) agents: u32,
    /// Sessions offered for learning.
    offered: u32,
    pub(crate) habits: Habits,
}

/// Who did an odd call lately: jobs, else agents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Campaign {
    last: i64,
    who: Vec<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) all: Peers,
    pub(crate) cohorts: Map<Peers>,
    pub(crate) jobs: Map<Peers>,
    pub(crate) campaigns: Map<Campaign>,
    /// One a detector, in the order of [`DETECTORS`].
    pub(crate) tails: Vec<Tail>,
    pub(crate) shared: Shared,
    /// Sessions whose scores came since the last settling.
    unsettled: bool,
}

/// What waits for the next tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// The tenant's name.
    pub(crate) tenant: String,
    moves: Vec<Move>,
    calls: Vec<Call>,
    sessions: Vec<Part>,
    /// Sessions that ended, and those of their highest scores that are not 0.
    ended: u32,
    scores: Vec<(u32, f32)>,
    odd: Vec<(u64, u64)>,
    #[serde(skip)]
    pub(crate) notes: Notes,
}

/// An agent joins (or leaves) a cohort (0: the tenant), bringing the actions it is known for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Move {
    cohort: u64,
    label: String,
    leaves: bool,
    actions: Vec<u64>,
}

/// A session, or part of one; its calls are the next `calls` of [`Pending::calls`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Part {
    cohort: u64,
    job: u64,
    lead: Recent,
    calls: usize,
    firsts: u64,
}

impl Pending {
    pub(crate) fn new(tenant: &str) -> Self {
        Pending {
            tenant: tenant.to_owned(),
            moves: Vec::new(),
            calls: Vec::new(),
            sessions: Vec::new(),
            ended: 0,
            scores: Vec::new(),
            odd: Vec::new(),
            notes: Notes::default(),
        }
    }

    /// Of a tenant that is there already, so that its name is not needed.
    pub(crate) fn of_known() -> Self {
        Pending::new("")
    }

    pub(crate) fn join(&mut self, config: &Config, cohort: u64, label: String, actions: Vec<u64>) {
        self.push_move(config, Move { cohort, label, leaves: false, actions });
    }

    pub(crate) fn leave(&mut self, config: &Config, cohort: u64) {
        self.push_move(config, Move { cohort, label: String::new(), leaves: true, actions: Vec::new() });
    }

    fn push_move(&mut self, config: &Config, next: Move) {
        if self.moves.len() < config.pending_calls_max {
            self.moves.push(next);
        }
    }

    pub(crate) fn learn(&mut self, config: &Config, cohort: u64, job: u64, lead: Recent, calls: &[Call], firsts: u64) {
        if self.calls.len() + calls.len() <= config.pending_calls_max {
            self.calls.extend_from_slice(calls);
            self.sessions.push(Part { cohort, job, lead, calls: calls.len(), firsts });
        }
    }

    pub(crate) fn score(&mut self, config: &Config, best: &[f32]) {
        if self.scores.len() < config.pending_calls_max {
            self.ended += 1;
            self.scores.extend((0..).zip(best.iter().copied()).filter(|(_, score)| *score > 0.0));
        }
    }

    /// These calls were odd for this job or agent.
    pub(crate) fn odd(&mut self, config: &Config, calls: &[u64], who: u64) {
        if self.odd.len() < config.pending_calls_max {
            self.odd.extend(calls.iter().filter(|call| **call != 0).map(|call| (*call, who)));
        }
    }

    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        let Pending { moves, sessions, ended, odd, notes, .. } = self;
        moves.is_empty() && sessions.is_empty() && *ended == 0 && odd.is_empty() && notes.is_empty()
    }

    pub(crate) fn without_scores(self) -> Self {
        Pending { ended: 0, scores: Vec::new(), ..self }
    }

    /// Whether every part's calls are there, after reading back.
    pub(crate) fn is_sound(&self, detectors: usize) -> bool {
        let mut scored = vec![0; detectors];
        let counted = |(detector, _): &(u32, f32)| match scored.get_mut(*detector as usize) {
            Some(sessions) if *sessions < self.ended => {
                *sessions += 1;
                true
            }
            _ => false,
        };
        self.sessions.iter().try_fold(0usize, |sum, part| sum.checked_add(part.calls)) == Some(self.calls.len())
            && self.scores.iter().all(counted)
    }
}

impl Tenant {
    pub(crate) fn new(name: &str, config: &Config) -> Self {
        Tenant {
            all: Peers::new(format!("tenant {name}"), TENANT_SLOTS_MAX),
            cohorts: map(),
            jobs: map(),
            campaigns: map(),
            tails: DETECTORS.iter().map(|detector| Tail::new((detector.floor_bits)(config))).collect(),
            shared: Shared::default(),
            unsettled: false,
        }
    }

    /// Cohorts and jobs that it has.
    pub(crate) fn groups(&self) -> usize {
        self.cohorts.len() + self.jobs.len()
    }

    /// For how many others the call was odd lately.
    pub(crate) fn elsewhere(&self, call: u64, who: u64) -> u32 {
        self.campaigns.get(&call).map_or(0, |c| c.who.iter().filter(|other| **other != who).count() as u32)
    }

    /// Folds in what waited in one shard. May add up to `room` cohorts and jobs; says how many it added.
    pub(crate) fn fold(
        &mut self,
        config: &Config,
        pending: &mut Pending,
        room: usize,
        time: i64,
        keys: &mut Vec<Keys>,
    ) -> usize {
        let Pending { tenant, moves, calls, sessions, ended, scores, odd, notes } = pending;
        let ended = std::mem::take(ended);
        let before = self.groups();
        for next in moves.drain(..) {
            let room = self.groups() - before < room;
            self.fold_move(next, room);
        }
        let mut rest = &calls[..];
        for part in sessions.drain(..) {
            let (these, others) = rest.split_at(part.calls);
            rest = others;
            self.all.offer(&part, these, keys);
            if let Some(cohort) = self.cohorts.get_mut(&part.cohort) {
                cohort.offer(&part, these, keys);
            }
            if part.job != 0 && (self.jobs.contains_key(&part.job) || self.groups() - before < room) {
                let job = self.jobs.entry(part.job).or_insert_with(|| Peers::new(String::new(), JOB_SLOTS_MAX));
                job.learn(&part, these, keys);
            }
        }
        for (call, who) in odd.drain(..) {
            self.fold_odd(config, call, who, time);
        }
        let mut silent = [ended; DETECTORS.len()];
        for (detector, score) in scores.drain(..) {
            self.tails[detector as usize].add(f64::from(score));
            silent[detector as usize] -= 1;
        }
        self.tails.iter_mut().zip(silent).for_each(|(tail, sessions)| tail.add_many(0.0, sessions));
        self.unsettled |= ended > 0;
        self.shared.fold(notes, config, time);
        // It is known from here on.
        tenant.clear();
        calls.clear();
        calls.shrink_to(CALLS_KEPT);
        self.groups() - before
    }

    /// After all shards: thresholds move, old campaigns go.
    pub(crate) fn settle(&mut self, config: &Config, time: i64) {
        if std::mem::take(&mut self.unsettled) {
            for (tail, detector) in self.tails.iter_mut().zip(DETECTORS) {
                tail.calibrate(config, (detector.floor_bits)(config));
            }
        }
        if self.campaigns.len() * 2 > config.campaigns_max {
            self.campaigns.retain(|_, campaign| time - campaign.last < CAMPAIGN_MICROS);
        }
    }

    fn fold_odd(&mut self, config: &Config, call: u64, who: u64, time: i64) {
        if !self.campaigns.contains_key(&call) && self.campaigns.len() >= config.campaigns_max {
            return;
        }
        let campaign = self.campaigns.entry(call).or_default();
        if time - campaign.last >= CAMPAIGN_MICROS {
            campaign.who.clear();
        }
        campaign.last = time;
        if campaign.who.len() < CAMPAIGN_MANY && !campaign.who.contains(&who) {
            campaign.who.push(who);
        }
    }

    fn fold_move(&mut self, next: Move, room: bool) {
        let peers = match next.cohort {
            0 => &mut self.all,
            key if room && !next.leaves => {
                self.cohorts.entry(key).or_insert_with(|| Peers::new(next.label, COHORT_SLOTS_MAX))
            }
            key => match self.cohorts.get_mut(&key) {
                Some(peers) => peers,
                None => return,
            },
        };
        if next.leaves {
            peers.agents = peers.agents.saturating_sub(1);
            return;
        }
        peers.agents = peers.agents.saturating_add(1);
        next.actions.into_iter().for_each(|action| peers.habits.another_agent(action));
    }
}

impl Peers {
    fn new(label: String, slots_max: u32) -> Self {
        Peers { label, agents: 0, offered: 0, habits: Habits::new(slots_max) }
    }

    /// Learns every session of a small group, and a sample of a large one.
    fn offer(&mut self, part: &Part, calls: &[Call], keys: &mut Vec<Keys>) {
        self.offered = self.offered.wrapping_add(1);
        if self.offered <= EVERY_SESSION_MAX || self.offered.is_multiple_of(SAMPLED) {
            self.habits.learn(part.lead, calls, keys);
        }
        self.count_agents(part, calls);
    }

    fn learn(&mut self, part: &Part, calls: &[Call], keys: &mut Vec<Keys>) {
        self.habits.learn(part.lead, calls, keys);
        self.count_agents(part, calls);
    }

    fn count_agents(&mut self, part: &Part, calls: &[Call]) {
        for (i, call) in calls.iter().enumerate() {
            if part.firsts >> i & 1 == 1 {
                self.habits.another_agent(call.action);
            }
        }
    }
}

//! What a tenant's agents have in common: its cohorts, all its agents together, its thresholds.
//!
//! A cohort is the agents of one owner (`agent_owner`, the first that is seen), else of one source. All of it is frozen
//! between ticks: sessions that end meanwhile wait in [`Pending`] and are folded in, in log order, at the tick. So an
//! agent's alerts do not depend on how far another agent's events have been read, which is what lets partitions run in
//! parallel. What waits is bounded; past the bound it does not join the common history (the agent's own is complete).

use serde::{Deserialize, Serialize};

use crate::Config;
use crate::detectors::DETECTORS;
use crate::habits::{Call, Habits, Recent};
use crate::hash::{Map, map};
use crate::tail::Tail;

const COHORT_SLOTS_MAX: u32 = 4_096;
const TENANT_SLOTS_MAX: u32 = 65_536;

/// Agents that are compared with each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Peers {
    /// As an explanation names them: `owner payments`.
    pub(crate) label: String,
    pub(crate) agents: u32,
    pub(crate) habits: Habits,
}

#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) all: Peers,
    pub(crate) cohorts: Map<Peers>,
    /// One a detector, in the order of [`DETECTORS`].
    pub(crate) tails: Vec<Tail>,
    pub(crate) pending: Pending,
}

/// What waits for the next tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    moves: Vec<Move>,
    calls: Vec<Call>,
    sessions: Vec<Part>,
    scores: Vec<(u32, f32)>,
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
    lead: Recent,
    calls: usize,
    firsts: u64,
}

impl Pending {
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

    pub(crate) fn learn(&mut self, config: &Config, cohort: u64, lead: Recent, calls: &[Call], firsts: u64) {
        if self.calls.len() + calls.len() <= config.pending_calls_max {
            self.calls.extend_from_slice(calls);
            self.sessions.push(Part { cohort, lead, calls: calls.len(), firsts });
        }
    }

    pub(crate) fn score(&mut self, config: &Config, best: &[f32]) {
        if self.scores.len() < config.pending_calls_max {
            self.scores.extend((0..).zip(best.iter().copied()));
        }
    }

    pub(crate) fn without_scores(self) -> Self {
        Pending { scores: Vec::new(), ..self }
    }

    /// Whether every part's calls are there, after reading back.
    pub(crate) fn is_sound(&self, detectors: usize) -> bool {
        self.sessions.iter().try_fold(0usize, |sum, part| sum.checked_add(part.calls)) == Some(self.calls.len())
            && self.scores.iter().all(|(detector, _)| (*detector as usize) < detectors)
    }
}

impl Tenant {
    pub(crate) fn new(name: &str, config: &Config) -> Self {
        let all = Peers { label: format!("tenant {name}"), agents: 0, habits: Habits::new(TENANT_SLOTS_MAX) };
        let tails = DETECTORS.iter().map(|detector| Tail::new(detector.floor_bits(config))).collect();
        Tenant { all, cohorts: map(), tails, pending: Pending::default() }
    }

    /// Folds in what waited. May add up to `cohorts_room` cohorts; says how many it added.
    pub(crate) fn fold(&mut self, config: &Config, cohorts_room: usize) -> usize {
        let Pending { moves, calls, sessions, scores } = std::mem::take(&mut self.pending);
        let before = self.cohorts.len();
        for next in moves {
            let room = self.cohorts.len() - before < cohorts_room;
            self.fold_move(next, room);
        }
        let mut rest = &calls[..];
        for part in sessions {
            let (these, others) = rest.split_at(part.calls);
            rest = others;
            self.all.learn(&part, these);
            if let Some(cohort) = self.cohorts.get_mut(&part.cohort) {
                cohort.learn(&part, these);
            }
        }
        for (detector, score) in &scores {
            self.tails[*detector as usize].add(f64::from(*score));
        }
        if !scores.is_empty() {
            for (tail, detector) in self.tails.iter_mut().zip(DETECTORS) {
                tail.calibrate(config, detector.floor_bits(config));
            }
        }
        self.cohorts.len() - before
    }

    fn fold_move(&mut self, next: Move, room: bool) {
        let peers = match next.cohort {
            0 => &mut self.all,
            key if room && !next.leaves => self.cohorts.entry(key).or_insert_with(|| Peers {
                label: next.label,
                agents: 0,
                habits: Habits::new(COHORT_SLOTS_MAX),
            }),
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
    fn learn(&mut self, part: &Part, calls: &[Call]) {
        self.habits.learn(part.lead, calls);
        for (i, call) in calls.iter().enumerate() {
            if part.firsts >> i & 1 == 1 {
                self.habits.another_agent(call.action);
            }
        }
    }
}

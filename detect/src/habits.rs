//! Habits: how often actions happen, in which order, on what; of one agent, of its job, its cohort, its tenant.
//!
//! Three probabilities, each refined from the general to the particular: tenant, cohort, job, then the agent itself.
//! - action: a session has this action: `p <- (sessions with it + p) / (sessions + 1)`;
//! - order: this action follows the last calls (Witten-Bell over 0 to 3 of them): `p <- (c + u * p) / (n + u)` where the
//!   calls before were seen n times with u different successors, c times this one; stops at the first unseen context;
//! - resource: this action meets this resource: the same with u the resources that were met once only (Good-Turing) and a
//!   quarter, so that an agent that always meets the same few finds a new one dear, and one that always meets new ones cheap.
//!
//! A session counts once what it did often, so that no session can teach more than one. All counts of a level live in one
//! [`Table`], so that they fade together and memory is fixed.

use serde::{Deserialize, Serialize};

use crate::hash::mix;
use crate::session::CALLS_MAX;
use crate::table::Table;

/// What a first guess rests on: 30 actions and 4,096 resources, none more likely than another.
pub(crate) const ACTION_PRIOR: f64 = 1.0 / 31.0;
pub(crate) const RESOURCE_PRIOR: f64 = 1.0 / 4096.0;

/// Stands before a session's first call.
pub(crate) const START: u64 = 1;

const SESSIONS: u64 = 0x5e55_1045;
const WITH: u64 = 2;
const AGENTS: u64 = 3;
const ORDER: u64 = 4;
const ON: u64 = 5;
/// What stands for the resources that were met once only where there are none.
const SINGLES_PRIOR: f64 = 0.25;

/// Resources of one call that are told apart (the recipients of a message); a call with more of them counts the first.
pub(crate) const RESOURCES_MAX: usize = 3;

/// One call: fingerprints of action and resources (0: none). Two resources of an installation share one once in 2^32 pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) action: u64,
    pub(crate) resources: [u32; RESOURCES_MAX],
}

impl Call {
    /// What is compared across agents: the action together with all its resources.
    pub(crate) fn key(&self) -> u64 {
        self.resources.iter().filter(|r| **r != 0).fold(self.action, |key, resource| mix(key, u64::from(*resource)))
    }
}

/// The last three actions of a session, newest first; [`START`] before the first, 0 before that.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recent(pub(crate) [u64; 3]);

impl Recent {
    pub(crate) const NONE: Recent = Recent([START, 0, 0]);

    #[inline]
    pub(crate) fn push(&mut self, action: u64) {
        self.0 = [action, self.0[0], self.0[1]];
    }

    /// Keys of the contexts of 0, 1, 2 and 3 calls; 0 where there are not so many.
    #[inline]
    fn contexts(self) -> [u64; 4] {
        let mut keys = [ORDER; 4];
        for k in 0..3 {
            keys[k + 1] = if self.0[k] == 0 { 0 } else { mix(keys[k].wrapping_add(k as u64), self.0[k]) };
        }
        keys
    }
}

/// A call with the keys under which every level counts it.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    contexts: [u64; 4],
    follows: [u64; 4],
    with: u64,
    on: u64,
    on_resources: [u64; RESOURCES_MAX],
}

impl Keys {
    #[inline]
    pub(crate) fn new(recent: Recent, call: Call) -> Self {
        let contexts = recent.contexts();
        let on = mix(ON, call.action);
        let on_resources = call.resources.map(|resource| if resource == 0 { 0 } else { mix(on, u64::from(resource)) });
        Keys {
            contexts,
            follows: contexts.map(|key| mix(key, call.action)),
            with: mix(WITH, call.action),
            on,
            on_resources,
        }
    }
}

/// Probability of a call's action, order and resource.
#[derive(Clone, Copy)]
pub(crate) struct Odds {
    pub(crate) action: f64,
    pub(crate) order: f64,
    pub(crate) resources: [f64; RESOURCES_MAX],
}

impl Odds {
    #[inline]
    pub(crate) fn prior(call: Call) -> Self {
        let resources = call.resources.map(|resource| if resource == 0 { 1.0 } else { RESOURCE_PRIOR });
        Odds { action: ACTION_PRIOR, order: ACTION_PRIOR, resources }
    }

    /// Probability of the most surprising resource.
    pub(crate) fn resource(&self) -> f64 {
        self.resources.iter().copied().fold(1.0, f64::min)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Habits {
    pub(crate) table: Table,
}

impl Habits {
    pub(crate) fn new(slots_max: u32) -> Self {
        Habits { table: Table::new(slots_max) }
    }

    /// Asks for the places of a call's counts.
    fn ask(&self, keys: &Keys) {
        let Keys { contexts, follows, with, on, on_resources } = keys;
        let all = contexts.iter().chain(follows).chain(on_resources).chain([with, on]);
        all.for_each(|key| self.table.ask_at(*key));
    }

    /// Refines `odds` by what this level has seen.
    #[inline]
    pub(crate) fn refine(&self, odds: &mut Odds, keys: &Keys) {
        let sessions = self.table.get(SESSIONS).count;
        if sessions == 0 {
            return;
        }
        let with = self.table.get(keys.with).count;
        odds.action = (f64::from(with.min(sessions)) + odds.action) / f64::from(sessions + 1);
        for (context, follows) in keys.contexts.into_iter().zip(keys.follows) {
            if context == 0 || !self.bell(&mut odds.order, context, follows) {
                break;
            }
        }
        if keys.on_resources[0] == 0 {
            return;
        }
        let on = self.table.get(keys.on);
        for (p, on_resource) in odds.resources.iter_mut().zip(keys.on_resources).filter(|(_, key)| *key != 0) {
            if on.count > 0 {
                let (n, u) = (f64::from(on.count), f64::from(on.distinct) + SINGLES_PRIOR);
                let c = f64::from(self.table.get(on_resource).count).min(n);
                *p = (c + u * *p) / (n + u);
            }
        }
    }

    /// One Witten-Bell step; false if the context was never seen.
    #[inline]
    fn bell(&self, p: &mut f64, context: u64, pair: u64) -> bool {
        let seen = self.table.get(context);
        if seen.count == 0 {
            return false;
        }
        let (n, u) = (f64::from(seen.count), f64::from(seen.distinct.max(1)));
        let c = f64::from(self.table.get(pair).count).min(n);
        *p = (c + u * *p) / (n + u);
        true
    }

    /// Learns the calls of a session, which follow `recent`; `keys` is room to work in.
    pub(crate) fn learn(&mut self, mut recent: Recent, calls: &[Call], keys: &mut Vec<Keys>) {
        assert!(calls.len() <= CALLS_MAX, "a part of a session fits the sets of its calls");
        keys.clear();
        for call in calls {
            keys.push(Keys::new(recent, *call));
            recent.push(call.action);
        }
        // A large table is far: its slots are asked for together, and not one after the other.
        if self.table.is_large() {
            keys.iter().for_each(|keys| self.ask(keys));
        }
        self.table.add(SESSIONS, 1);
        for (i, call) in keys.iter().enumerate() {
            let same = Same::of(calls[i].action, &calls[..i]);
            if same.is_empty() {
                self.table.add(call.with, 1);
            }
            for (k, context) in call.contexts.into_iter().enumerate().filter(|(_, context)| *context != 0) {
                if !same.any(|before| keys[before].contexts[k] == context) {
                    self.follow(context, call.follows[k], 1);
                }
            }
            for on_resource in call.on_resources.into_iter().filter(|key| *key != 0) {
                if !same.any(|before| keys[before].on_resources.contains(&on_resource)) {
                    self.meet(call.on, on_resource, 1);
                }
            }
        }
    }

    /// Learns one call as if `weight` sessions had made it.
    pub(crate) fn teach(&mut self, recent: Recent, call: Call, weight: u32) {
        let keys = Keys::new(recent, call);
        self.table.add(SESSIONS, weight);
        self.table.add(keys.with, weight);
        for (context, follows) in keys.contexts.into_iter().zip(keys.follows).filter(|(context, _)| *context != 0) {
            self.follow(context, follows, weight);
        }
        keys.on_resources.into_iter().filter(|key| *key != 0).for_each(|key| self.meet(keys.on, key, weight));
    }

    fn follow(&mut self, context: u64, pair: u64, weight: u32) {
        self.table.add(context, weight);
        if self.table.add(pair, weight).count == 0 {
            self.table.move_distinct(context, true);
        }
    }

    /// Here a context's `distinct` counts the resources that were met once only.
    fn meet(&mut self, on: u64, pair: u64, weight: u32) {
        self.table.add(on, weight);
        match self.table.add(pair, weight).count {
            0 if weight == 1 => self.table.move_distinct(on, true),
            1 => self.table.move_distinct(on, false),
            _ => {}
        }
    }

    /// One more agent of this level does `action`.
    pub(crate) fn another_agent(&mut self, action: u64) {
        self.table.add(mix(AGENTS, action), 1);
    }

    /// Agents of this level that did `action`.
    pub(crate) fn agents_with(&self, action: u64) -> u32 {
        self.table.get(mix(AGENTS, action)).count
    }

    /// How often the call's action came right after the calls before it (as many of the three as there were).
    pub(crate) fn times_after(&self, recent: Recent, call: Call) -> u32 {
        let keys = Keys::new(recent, call);
        let longest = keys.contexts.iter().rposition(|context| *context != 0).unwrap_or(0);
        self.table.get(keys.follows[longest]).count
    }

    /// In how many sessions the call's action met a resource.
    pub(crate) fn times_on(&self, action: u64, resource: u32) -> u32 {
        self.table.get(mix(mix(ON, action), u64::from(resource))).count
    }

    /// Sessions learned (recent ones, once the counts have been halved).
    pub(crate) fn sessions(&self) -> u32 {
        self.table.get(SESSIONS).count
    }
}

/// The calls of a session with the same action, by their numbers, a bit each.
#[derive(Clone, Copy)]
struct Same(u64);

impl Same {
    #[inline]
    fn of(action: u64, calls: &[Call]) -> Self {
        let bits = calls.iter().rev().fold(0, |bits, call| bits << 1 | u64::from(call.action == action));
        Same(bits)
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    fn any(self, mut is: impl FnMut(usize) -> bool) -> bool {
        let mut rest = self.0;
        while rest != 0 {
            if is(rest.trailing_zeros() as usize) {
                return true;
            }
            rest &= rest - 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(action: u64, resource: u32) -> Call {
        Call { action, resources: [resource, 0, 0] }
    }

    fn bits(habits: &Habits, recent: Recent, call: Call) -> [f64; 3] {
        let mut odds = Odds::prior(call);
        habits.refine(&mut odds, &Keys::new(recent, call));
        [odds.action, odds.order, odds.resource()].map(|p| -p.log2())
    }

    #[test]
    fn the_usual_is_cheap_and_the_new_dear() {
        let mut habits = Habits::new(256);
        let (list, get) = (call(10, 7), call(11, 8));
        (0..100).for_each(|_| habits.learn(Recent::NONE, &[list, get], &mut Vec::new()));
        let after_list = Recent([10, START, 0]);
        let usual = bits(&habits, after_list, get);
        assert!(usual.iter().all(|bits| *bits < 0.2), "{usual:?}");
        let new = bits(&habits, after_list, call(99, 3));
        // Never in 100 sessions: log2(101 * 31); a resource of an unseen action stays at its prior.
        assert!((new[0] - 11.6).abs() < 0.1 && new[1] > 20.0 && new[2] == 12.0, "{new:?}");
        let repeated = bits(&habits, after_list, list);
        assert!(repeated[0] < 0.1 && repeated[1] > 10.0 && repeated[2] < 0.2, "{repeated:?}");
    }

    #[test]
    fn the_only_one_makes_another_dear_and_a_session_counts_once() {
        let mut habits = Habits::new(256);
        (0..20).for_each(|_| habits.learn(Recent::NONE, &[call(10, 7); 3], &mut Vec::new()));
        let other = bits(&habits, Recent::NONE, call(10, 5))[2];
        // 20 sessions met one resource: (0 + 0.25 / 4096) / 20.25.
        assert!((other - 18.3).abs() < 0.1, "{other}");
    }

    #[test]
    fn what_is_always_new_becomes_cheap() {
        let mut habits = Habits::new(256);
        (0..50).for_each(|i| habits.learn(Recent::NONE, &[call(10, 100 + i)], &mut Vec::new()));
        assert!(bits(&habits, Recent::NONE, call(10, 5))[2] < 13.1);
    }
}

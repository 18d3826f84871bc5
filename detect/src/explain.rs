//! Plain words: what is normal for the agent, what happened, against how many peers.
//!
//! Only computed for an alert. It states counts, never reasons: why the agent did it is for a person to find out.

use crate::agent::Agent;
use crate::evidence::{Evidence, History};
use crate::habits::{Call, Recent, START};
use crate::symbol::Symbols;
use crate::tenant::Peers;

/// Actions that an explanation lists.
const ACTIONS_SHOWN: usize = 5;
const DAY_MICROS: i64 = 86_400_000_000;

/// The facts behind one alert.
pub struct Case<'a> {
    /// The agent's name, else its id.
    pub who: &'a str,
    /// The action as it was called, without ids.
    pub action: &'a str,
    pub(crate) effect: &'a str,
    pub(crate) outcome: &'a str,
    pub(crate) call: Call,
    /// What its resources are called.
    pub(crate) resources: &'a [String],
    pub(crate) recent: Recent,
    pub(crate) time: i64,
    pub(crate) evidence: &'a Evidence,
    pub(crate) agent: &'a Agent,
    /// The peers that were compared with: cohort first, then tenant.
    pub(crate) peers: &'a [&'a Peers],
    pub(crate) symbols: &'a Symbols,
}

impl Case<'_> {
    /// In how many of its sessions the agent did this action.
    pub fn own_times(&self) -> String {
        match self.own_sessions_with() {
            0 => format!("in none of its {} sessions", self.agent.sessions),
            times => format!("in {times} of its {} sessions", self.agent.sessions),
        }
    }

    /// How often this action came after the calls before it.
    pub fn follows(&self) -> String {
        let before = self.before();
        match self.agent.habits.times_after(self.recent, self.call) {
            0 if before.is_empty() => "never its first call".to_owned(),
            0 => format!("never right after {before}"),
            times if before.is_empty() => format!("its first call {times} times"),
            times => format!("right after {before} {times} times"),
        }
    }

    /// How often this action met its resources: the rarest of them.
    pub fn meets(&self) -> String {
        let times = |resource| self.agent.habits.times_on(self.call.action, resource);
        let named = self.call.resources.into_iter().filter(|resource| *resource != 0).map(times).zip(self.resources);
        match named.min_by_key(|(times, _)| *times) {
            None => "no resource named".to_owned(),
            Some((0, resource)) => format!("never on {resource}"),
            Some((times, resource)) => format!("on {resource} {times} times"),
        }
    }

    /// What the bits were multiplied with.
    pub fn weighed(&self) -> String {
        let Evidence { impact, weight, .. } = self.evidence;
        if weight < impact {
            return format!("(impact {impact:.1}, did not succeed)");
        }
        format!("(impact {impact:.1})")
    }

    /// The whole explanation but for the score, and what would have been ordinary.
    pub(crate) fn text(&self) -> String {
        let mut text = self.normal();
        text.push_str(&self.happened());
        for peers in self.peers {
            text.push_str(&self.compared(peers));
        }
        text
    }

    /// What would have made the call ordinary: what takes away the largest term.
    pub(crate) fn ordinary(&self) -> &'static str {
        let Evidence { action_bits, order_bits, resource_bits, .. } = *self.evidence;
        if resource_bits > action_bits.max(order_bits) {
            "On a resource that it used before, or one declared as intended, it would have been ordinary. "
        } else if action_bits >= order_bits {
            "Had it done the action in some of its sessions before, it would have been ordinary. "
        } else {
            "After the calls that usually come before it, it would have been ordinary. "
        }
    }

    fn normal(&self) -> String {
        let Agent { sessions, first, actions, .. } = self.agent;
        let days = (self.time - first) / DAY_MICROS + 1;
        if actions.is_empty() {
            return format!("{} is new: nothing of it is known yet. ", self.who);
        }
        let mut usual = actions.clone();
        usual.sort_by_key(|done| std::cmp::Reverse(done.sessions));
        let share = |done: &crate::agent::Done| {
            let percent = (100 * u64::from(done.sessions)).div_ceil(u64::from((*sessions).max(1))).min(100);
            format!("{} ({percent} %)", self.symbols.name(done.action))
        };
        let shown: Vec<String> = usual.iter().take(ACTIONS_SHOWN).map(share).collect();
        let more = match usual.len().saturating_sub(ACTIONS_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let never = if self.evidence.action_is_new { format!("; never {}", self.action) } else { String::new() };
        let (plural, shown) = (if usual.len() == 1 { "" } else { "s" }, shown.join(", "));
        let (did, new) = match self.evidence.history {
            History::Own => ("did", ""),
            _ => ("did only", " (too few to judge it by its own history)"),
        };
        let counted = format!("In {sessions} sessions over {days} days{new}");
        format!("{counted} {} {did} {} action{plural}: {shown}{more}{never}. ", self.who, usual.len())
    }

    fn happened(&self) -> String {
        let on = match self.resources {
            [] => String::new(),
            names => format!(" on {}", names.join(", ")),
        };
        let before = self.before();
        let after = if before.is_empty() { String::new() } else { format!(", right after {before}") };
        format!("Now it did {}{on} ({}, {}){after}. ", self.action, self.effect, self.outcome)
    }

    fn compared(&self, peers: &Peers) -> String {
        let itself = u32::from(self.own_sessions_with() > 0);
        let others = peers.agents.saturating_sub(1);
        let with = peers.habits.agents_with(self.call.action).saturating_sub(itself).min(others);
        let with = if with == 0 { "none".to_owned() } else { with.to_string() };
        format!("Of {others} other agents of {}, {with} ever did it. ", peers.label)
    }

    fn own_sessions_with(&self) -> u32 {
        let done = self.agent.actions.iter().find(|done| done.action == self.call.action);
        done.map_or(0, |done| done.sessions)
    }

    /// The calls before, oldest first.
    fn before(&self) -> String {
        let named = self.recent.0.iter().take_while(|action| **action > START);
        let names: Vec<&str> = named.map(|action| self.symbols.name(*action)).collect();
        names.into_iter().rev().collect::<Vec<_>>().join(" → ")
    }
}

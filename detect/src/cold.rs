//! Agents that there is no room for, packed: a third of the memory, and with all they knew when they act again.
//!
//! Past a limit an eighth of them is forgotten, the longest idle first.

use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::detectors::States;
use crate::hash::{Map, map};

/// Packed agents by their fingerprints, each with the time of its last call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cold(#[serde(with = "crate::hash::in_order")] Map<(i64, Box<[u8]>)>);

impl Cold {
    pub(crate) fn new() -> Self {
        Cold(map())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn put(&mut self, agent: &Agent) {
        let bytes = postcard::to_allocvec(&(agent, &agent.states)).expect("an agent is plain data");
        self.0.insert(agent.key, (agent.last, bytes.into()));
    }

    pub(crate) fn take(&mut self, key: u64) -> Option<Agent> {
        let (_, bytes) = self.0.remove(&key)?;
        let (agent, states): (Agent, States) = postcard::from_bytes(&bytes).ok()?;
        Some(Agent { states, ..agent }).filter(Agent::is_sound)
    }

    /// The agents that are to be forgotten where there are more than `most`.
    pub(crate) fn excess(&self, most: usize) -> Vec<u64> {
        if self.len() <= most {
            return Vec::new();
        }
        let mut order: Vec<_> = self.0.iter().map(|(key, (last, _))| (*last, *key)).collect();
        order.sort_unstable();
        order.iter().take(order.len() / 8 + 1).map(|(_, key)| *key).collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.values().map(|(_, bytes)| bytes.len() + size_of::<(u64, i64, Box<[u8]>)>()).sum()
    }
}

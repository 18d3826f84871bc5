//! A session: the calls of one agent that belong together, until they are learned or dropped.
//!
//! Calls belong together by `session_id`, else `conversation_id`, else `token_id`, else by agent alone; a pause of
//! `session_idle_mins` always ends a session. `trace_id` is left out: gateways give every request its own. A long session
//! is learned in parts of [`CALLS_MAX`] calls, so that an agent that never pauses has history too. Once a call was
//! judged odd, the session is not learned when it ends but held back: a hijack must not become a habit.

use serde::{Deserialize, Serialize};

use crate::detectors::DETECTORS;
use crate::habits::{Call, Recent};

/// Calls kept until they are learned; also the bits of [`Session::firsts`].
pub(crate) const CALLS_MAX: usize = 64;
/// Events that an alert shows at most.
pub(crate) const EVENTS_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) key: u64,
    pub(crate) last: i64,
    pub(crate) recent: Recent,
    /// The job it declared, 0 if none.
    pub(crate) job: u64,
    /// What came before `calls`.
    pub(crate) lead: Recent,
    pub(crate) calls: Vec<Call>,
    /// The newest events, oldest first.
    pub(crate) event_ids: Vec<u128>,
    /// Highest score so far, one a detector.
    #[serde(with = "best")]
    pub(crate) best: [f32; DETECTORS.len()],
    /// Calls that were odd ([`Call::key`]).
    pub(crate) odd: Vec<u64>,
    pub(crate) alerted: bool,
}

/// Odd calls of a session that are told apart.
const ODD_MAX: usize = 4;

impl Session {
    pub(crate) fn new(key: u64, job: u64, time: i64) -> Self {
        let none = Recent::NONE;
        let best = [0.0; DETECTORS.len()];
        let (calls, event_ids, odd) = (Vec::with_capacity(8), Vec::with_capacity(8), Vec::new());
        Session { key, last: time, recent: none, job, lead: none, calls, event_ids, best, odd, alerted: false }
    }

    /// Nothing of it so far is learned.
    pub(crate) fn drop_calls(&mut self) {
        self.calls.clear();
        self.odd.clear();
        self.lead = self.recent;
    }

    pub(crate) fn note_odd(&mut self, call: u64) {
        if self.odd.len() < ODD_MAX && !self.odd.contains(&call) {
            self.odd.push(call);
        }
    }

    pub(crate) fn push(&mut self, time: i64, call: Call, event_id: &str) {
        self.last = self.last.max(time);
        self.recent.push(call.action);
        self.calls.push(call);
        if self.event_ids.len() == EVENTS_MAX {
            self.event_ids.remove(0);
        }
        // Ids are digests of 32 hex digits; another text could not be shown again as it was, so it is not kept.
        if let Some(id) = hex(event_id) {
            self.event_ids.push(id);
        }
    }

    #[inline]
    pub(crate) fn warm(&self) -> usize {
        let call = self.calls.last().map_or(0, |call| call.action as usize);
        call ^ self.event_ids.last().map_or(0, |id| *id as usize) ^ self.odd.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.calls.capacity() * size_of::<Call>()
            + self.event_ids.capacity() * size_of::<u128>()
            + self.odd.capacity() * size_of::<u64>()
    }
}

/// As a list, so that another number of detectors can be read back.
mod best {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::detectors::DETECTORS;

    pub(super) fn serialize<S: Serializer>(best: &[f32; DETECTORS.len()], to: S) -> Result<S::Ok, S::Error> {
        best.as_slice().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[f32; DETECTORS.len()], D::Error> {
        Ok(Vec::<f32>::deserialize(from)?.try_into().unwrap_or_default())
    }
}

fn hex(text: &str) -> Option<u128> {
    if text.len() != 32 {
        return None;
    }
    text.bytes().try_fold(0, |id, b| {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            _ => return None,
        };
        Some(id << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_were() {
        let id = "00ab34567890abcdef1234567890abcd";
        assert_eq!(hex(id).map(schemas::id::hex).as_deref(), Some(id));
        assert_eq!((hex("00AB34567890abcdef1234567890abcd"), hex("ab")), (None, None));
    }
}

//! A session: the calls of one agent that belong together, until they are learned or dropped.
//!
//! Calls belong together by `session_id`, else `conversation_id`, else `token_id`, else by agent alone; a pause of
//! `session_idle_mins` always ends a session. `trace_id` is left out: gateways give every request its own. A long session
//! is learned in parts of [`CALLS_MAX`] calls, so that an agent that never pauses has history too. Once a call was
//! judged worth an alert, nothing of the session is learned any more: a hijack must not become a habit.

use serde::{Deserialize, Serialize};

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
    /// What came before `calls`.
    pub(crate) lead: Recent,
    pub(crate) calls: Vec<Call>,
    /// The newest events, oldest first.
    pub(crate) event_ids: Vec<u128>,
    /// Highest score so far, one a detector.
    pub(crate) best: Vec<f32>,
    pub(crate) suspicious: bool,
}

impl Session {
    pub(crate) fn new(key: u64, time: i64, detectors: usize) -> Self {
        let none = Recent::NONE;
        let best = vec![0.0; detectors];
        let (calls, event_ids) = (Vec::new(), Vec::new());
        Session { key, last: time, recent: none, lead: none, calls, event_ids, best, suspicious: false }
    }

    pub(crate) fn push(&mut self, time: i64, call: Call, event_id: &str) {
        self.last = self.last.max(time);
        self.recent.push(call.action);
        if self.suspicious {
            self.calls.clear();
        } else {
            self.calls.push(call);
        }
        if self.event_ids.len() == EVENTS_MAX {
            self.event_ids.remove(0);
        }
        // Ids are digests of 32 hex digits; another text could not be shown again as it was, so it is not kept.
        if let Some(id) = hex(event_id) {
            self.event_ids.push(id);
        }
    }

    /// The calls so far are learned or dropped; the session goes on.
    pub(crate) fn continue_after_part(&mut self) {
        self.calls.clear();
        self.lead = self.recent;
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.calls.capacity() * size_of::<Call>()
            + self.event_ids.capacity() * size_of::<u128>()
            + self.best.capacity() * size_of::<f32>()
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

//! A session: the calls of one agent that belong together, until they are learned or dropped.
//!
//! Calls belong together by `session_id`, else `conversation_id`, else `token_id`, else by agent alone; a pause of
//! `session_idle_mins` always ends a session. `trace_id` is left out: gateways give every request its own. A long session
//! is learned in parts of [`CALLS_MAX`] calls, so that an agent that never pauses has history too. Once a call was
//! judged odd, the session is not learned when it ends but held back: a hijack must not become a habit.

use serde::{Deserialize, Serialize};

use crate::detectors::DETECTORS;
use crate::few::Few;
use crate::habits::{Call, Keys, Recent};

/// Calls kept until they are learned; sets of them are bits of a `u64`.
pub(crate) const CALLS_MAX: usize = 48;
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
    pub(crate) event_ids: Few<u128, EVENTS_MAX>,
    /// Highest score so far, one a detector.
    #[serde(with = "best")]
    pub(crate) best: [f32; DETECTORS.len()],
    /// Calls that were odd ([`Call::key`]).
    pub(crate) odd: Odd,
    pub(crate) alerted: bool,
}

/// Memory that is used again and again, so that sessions come and go without allocating.
#[derive(Default)]
pub(crate) struct Buffers {
    calls: Vec<Vec<Call>>,
    pub(crate) keys: Vec<Keys>,
}

/// Buffers kept at most, a shard: the sessions that 128,000 agents have open at once.
const BUFFERS_MAX: usize = 2_048;

impl Buffers {
    fn take(&mut self) -> Vec<Call> {
        self.calls.pop().unwrap_or_else(|| Vec::with_capacity(8))
    }

    pub(crate) fn give(&mut self, mut calls: Vec<Call>) {
        // A large one would stay with small sessions.
        if self.calls.len() < BUFFERS_MAX && calls.capacity() <= 16 {
            calls.clear();
            self.calls.push(calls);
        }
    }
}

/// Odd calls of a session, as far as they are told apart.
pub(crate) type Odd = Few<u64, 4>;

impl Session {
    pub(crate) fn new(key: u64, job: u64, time: i64, buffers: &mut Buffers) -> Self {
        let none = Recent::NONE;
        let (best, event_ids, odd) = ([0.0; DETECTORS.len()], Few::default(), Odd::default());
        let calls = buffers.take();
        Session { key, last: time, recent: none, job, lead: none, calls, event_ids, best, odd, alerted: false }
    }

    /// Nothing of it so far is learned.
    pub(crate) fn drop_calls(&mut self) {
        self.calls.clear();
        self.odd.clear();
        self.lead = self.recent;
    }

    pub(crate) fn note_odd(&mut self, call: u64) {
        if !self.odd.is_full() && !self.odd.contains(&call) {
            self.odd.push(call);
        }
    }

    pub(crate) fn push(&mut self, time: i64, call: Call, event_id: Option<u128>) {
        self.last = self.last.max(time);
        self.recent.push(call.action);
        self.calls.push(call);
        event_id.into_iter().for_each(|id| self.event_ids.push(id));
    }

    /// Memory beyond its own size.
    pub(crate) fn bytes(&self) -> usize {
        self.calls.capacity() * size_of::<Call>()
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

/// An event's id: a digest of 32 hex digits. Another text could not be shown again as it was, so it is not kept.
pub(crate) fn hex(text: &str) -> Option<u128> {
    if text.len() != 32 {
        return None;
    }
    let (words, _) = text.as_bytes().as_chunks::<8>();
    words.iter().try_fold(0, |id: u128, word| Some(id << 32 | u128::from(hex_word(u64::from_be_bytes(*word))?)))
}

/// Eight hex digits at once, a byte each; capitals are none.
#[inline]
fn hex_word(text: u64) -> Option<u32> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let letters = text >> 6 & EACH;
    let digits = (text & (0x0f * EACH)) + 9 * letters;
    // Written back they must be the text: `0` to `9` where no letter is, `a` to `f` where one is.
    let written = digits + 0x30 * EACH + 0x27 * letters;
    if written != text || (digits + 6 * EACH) >> 4 & EACH != letters || digits & (0x10 * EACH) != 0 {
        return None;
    }
    let pairs = (digits | digits >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    Some((fours | fours >> 16) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_were() {
        let id = "00ab34567890abcdef1234567890abcd";
        assert_eq!(hex(id).map(schemas::id::hex).as_deref(), Some(id));
        assert_eq!(hex("ab"), None);
        for other in (0..=127u8).map(char::from).filter(|sign| !matches!(sign, '0'..='9' | 'a'..='f')) {
            assert_eq!(hex(&id.replacen('4', &other.to_string(), 1)), None, "{other:?}");
        }
    }
}

//! An agent, or a credential of it, that was silent for long and is awake again with something grave or new.
//!
//! Long is at least `dormant_days` and five times the longest silence that the agent had before. The wake lasts a day and is
//! one alert at most. A credential counts where the agent itself went on without it: an old key that turns up again.
//!
//! ```text
//! usual 30: list read invoices {credential_id=key-1}
//! then: +720h list read invoices {credential_id=key-1}, export export customers {credential_id=key-1}
//! quiet: list read invoices {credential_id=key-2}
//! ```

use serde::{Deserialize, Serialize};

use super::{About, Detector, Report, Seen, Term};
use crate::engine::DAY_MICROS;
use crate::evidence::History;
use crate::explain::Case;
use crate::impact::GRAVE;
use crate::lengths::{Lengths, minutes, words};

pub(super) struct Dormant;

const TIMES: u32 = 5;
const CREDENTIALS_MAX: usize = 4;

/// When the agent and its credentials were last heard of, and the silence that ended in the last day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Silence {
    silences: Lengths,
    last: i64,
    /// Newest last.
    credentials: [Credential; CREDENTIALS_MAX],
    woke: i64,
    silent_mins: u32,
    silent_bits: f32,
    of_credential: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Credential {
    key: u32,
    /// In minutes since 1970.
    last: u32,
}

impl Detector for Dormant {
    const ABOUT: About = About {
        name: "dormant",
        version: 1,
        doc: "an agent or credential that was silent for long and is awake with something grave or new",
        source: include_str!("dormant.rs"),
        hard: false,
        floor_bits: |config| config.dormant_bits,
    };
    type State = Silence;
    type Shared = ();
    type Note = ();

    #[inline]
    fn score(state: &Silence, _: &(), seen: &Seen<'_>) -> f64 {
        let evidence = seen.evidence;
        if evidence.history != History::Own || !(evidence.weight >= GRAVE || evidence.action_is_new) {
            return 0.0;
        }
        let silence = state.silence(seen).map_or(0.0, |(_, bits, _)| bits);
        if silence > 0.0 { silence + call_bits(seen) } else { 0.0 }
    }

    fn report(state: &Silence, _: &(), seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let Some((mins, bits, of_credential)) = state.silence(seen) else {
            return Report::nothing();
        };
        let what = if of_credential { "a credential unused" } else { "silent" };
        let (silent, longest) = (words(mins), words(state.silences.longest_mins));
        let silence = Term { name: "silence", bits, text: format!("{what} for {silent}, the longest was {longest}") };
        let text = format!("{}, {} {}", case.own_times(), case.meets(), case.weighed());
        let call = Term { name: "call", bits: call_bits(seen), text };
        Report {
            title: format!("{} did {} after {silent} of silence", case.who, case.action),
            terms: vec![silence, call],
        }
    }

    #[inline]
    fn learn(state: &mut Silence, seen: &Seen<'_>, spoke: bool) -> Option<()> {
        let time = seen.row.time;
        match state.silence(seen) {
            _ if spoke => state.woke = 0,
            Some((mins, bits, of_credential)) if bits > 0.0 && !state.awake(time) => {
                (state.silent_mins, state.silent_bits, state.of_credential) = (mins, bits as f32, of_credential);
                state.woke = time;
            }
            _ => {}
        }
        if state.last != 0 {
            state.silences.learn(minutes(state.last, time));
        }
        state.last = state.last.max(time);
        if let Some(key) = credential(seen) {
            let at = state.credentials.iter().position(|known| known.key == key).unwrap_or(0);
            state.credentials[at..].rotate_left(1);
            state.credentials[CREDENTIALS_MAX - 1] = Credential { key, last: minutes(0, state.last) };
        }
        None
    }
}

impl Silence {
    /// The silence that this call ends, or that ended in the last day: its length, its surprise, and whose it was.
    #[inline]
    fn silence(&self, seen: &Seen<'_>) -> Option<(u32, f64, bool)> {
        let time = seen.row.time;
        let days = seen.config.dormant_days.max(1);
        let long = |mins: u32| mins >= (days * 1_440).max(self.silences.longest_mins.saturating_mul(TIMES));
        let own = if self.last == 0 { 0 } else { minutes(self.last, time) };
        if long(own) {
            return Some((own, self.silences.bits(own), false));
        }
        let known = credential(seen).and_then(|key| self.credentials.iter().find(|known| known.key == key));
        let mins = known.map_or(0, |known| minutes(0, time).saturating_sub(known.last));
        if long(mins) {
            return Some((mins, self.silences.bits(mins), true));
        }
        self.awake(time).then(|| (self.silent_mins, f64::from(self.silent_bits), self.of_credential))
    }

    fn awake(&self, time: i64) -> bool {
        self.woke != 0 && time - self.woke < DAY_MICROS
    }
}

fn credential(seen: &Seen<'_>) -> Option<u32> {
    Some((seen.row.shown[1]? as u32).max(1))
}

fn call_bits(seen: &Seen<'_>) -> f64 {
    seen.evidence.weight * (seen.evidence.action_bits + seen.evidence.resource_bits)
}

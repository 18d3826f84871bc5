//! One token or credential in the hands of two agents.
//!
//! A fact: a token that one agent showed within the last day is shown by another, or a credential that was one agent's alone
//! for three days; also where ingest saw it (`token_conflict`). A credential that is shared from the start is somebody's
//! decision and is not said. Ids are compared within a source: two sources may name one agent in two ways.
//!
//! Who has what is known tenant-wide from tick to tick, of so many tokens as [`HANDS_MAX`]; past it new ones are not watched.
//! The same agent's token from elsewhere is `moved_token`'s.
//!
//! ```text
//! usual 30: list read invoices {credential_id=key-$agent}
//! then: list read invoices {credential_id=key-agent-1}
//! quiet: list read invoices {credential_id=new}, list read invoices {credential_id=key-$agent}
//! ```

use serde::{Deserialize, Serialize};

use super::{About, Detector, Drain, FACT_BITS, Report, Seen, Term};
use crate::Config;
use crate::engine::MINUTE_MICROS;
use crate::explain::Case;
use crate::hash::Map;

pub(super) struct SharedCredential;

/// A day of tokens of 100,000 agents, some 40 MB at most.
const HANDS_MAX: usize = 1 << 20;
/// The flag of ingest for a token that was issued to, or seen with, another agent.
pub(crate) const TOKEN_CONFLICT: &str = "token_conflict";
/// Minutes for which a token that was shown counts as in use, and after which a credential counts as one agent's own.
const LIVE_MINS: u32 = 1_440;
const OWN_MINS: u32 = 3 * 1_440;

/// Who showed a token or credential, and when in minutes since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hand {
    agent: u32,
    first: u32,
    last: u32,
    shared: bool,
}

/// Tokens and credentials, and who showed each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hands(#[serde(with = "crate::hash::in_order")] Map<Hand>);

/// What the agent noted lately, and in which quarter of an hour: it looks and leaves a note once a token and quarter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Noted([(u32, u32); 4]);

impl Detector for SharedCredential {
    const ABOUT: About = About {
        name: "shared_credential",
        version: 1,
        doc: "one token or credential in the hands of two agents",
        source: include_str!("shared_credential.rs"),
        hard: true,
        floor_bits: |_| FACT_BITS,
    };
    type State = Noted;
    type Shared = Hands;
    type Note = (u64, u32, u32, bool);

    #[inline]
    fn score(state: &Noted, shared: &Self::Shared, seen: &Seen<'_>) -> f64 {
        let quarter = seen.minute() / 15;
        // What was looked at in this quarter of an hour is not looked at again.
        let new = |(key, _): &(u64, &str)| !state.0.contains(&(*key as u32, quarter));
        let any = keys(seen).iter().flatten().any(new) || seen.row.token_conflict;
        if any && found(shared, seen).is_some() { FACT_BITS } else { 0.0 }
    }

    fn report(_: &Noted, shared: &Self::Shared, seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let what = found(shared, seen).map_or("token", |(_, what)| what);
        let text = format!("its {what} is another agent's, who showed it within a day");
        let title = format!("{} shows a {what} of another agent", case.who);
        Report { title, terms: vec![Term { name: "credential", bits: FACT_BITS, text }] }
    }

    #[inline]
    fn learn(state: &mut Noted, seen: &Seen<'_>, _: bool) -> Option<Self::Note> {
        let now = seen.minute();
        let mut note = None;
        for (key, what) in keys(seen).into_iter().flatten() {
            let noted = (key as u32, now / 15);
            if note.is_none() && !state.0.contains(&noted) {
                state.0.rotate_right(1);
                state.0[0] = noted;
                note = Some((key, seen.row.agent as u32, now, what == "token"));
            }
        }
        note
    }

    fn fold(Hands(shared): &mut Hands, notes: Drain<'_, Self::Note>, _: &Config, time: i64) {
        if shared.len() + notes.len() > HANDS_MAX {
            let now = u32::try_from(time / MINUTE_MICROS).unwrap_or_default();
            shared.retain(|_, hand| now.saturating_sub(hand.last) <= LIVE_MINS);
        }
        for (key, agent, minute, is_token) in notes {
            let room = shared.len() < HANDS_MAX;
            let new = Hand { agent, first: minute, last: minute, shared: false };
            match shared.get_mut(&key) {
                Some(hand) if hand.agent == agent => {
                    (hand.first, hand.last) = (hand.first.min(minute), hand.last.max(minute));
                }
                Some(hand) if minute.abs_diff(hand.last) > LIVE_MINS => *hand = new,
                Some(hand) => hand.shared |= !is_token && !hand.is_own(),
                None if room => _ = shared.insert(key, new),
                None => {}
            }
        }
    }
}

impl Hand {
    /// Whether it was shown for long enough to be one agent's own.
    fn is_own(&self) -> bool {
        self.last - self.first >= OWN_MINS
    }
}

/// The token or credential of this call that is another agent's.
#[inline]
fn found(Hands(shared): &Hands, seen: &Seen<'_>) -> Option<(u64, &'static str)> {
    let (me, now) = (seen.row.agent as u32, seen.minute());
    let anothers = |(key, what): &(u64, &str)| {
        shared.get(key).is_some_and(|hand| {
            let own = *what == "token" || hand.is_own();
            hand.agent != me && !hand.shared && own && now.abs_diff(hand.last) <= LIVE_MINS
        }) || *what == "token" && seen.row.token_conflict
    };
    keys(seen).into_iter().flatten().find(anothers)
}

#[inline]
fn keys(seen: &Seen<'_>) -> [Option<(u64, &'static str)>; 2] {
    let [token, credential] = seen.row.shown_here;
    [token.map(|key| (key, "token")), credential.map(|key| (key, "credential"))]
}

//! A token that is used from two places in turn: replayed, or stolen from an agent that goes on using it.
//!
//! A place is the network (autonomous system, else /16 or /48) and the family of the user agent, or the country. Two are apart
//! when network and one of the others differ. A token that goes there and back within an hour moved. How surprising that is
//! depends on how often this agent's tokens do, and on how often it was seen at the new place: agents behind many gateways
//! move all day. Where network, client and country all differ, that says more. One alert a token.
//!
//! Left out: speed of travel. Records say countries, not where in them, and agents run in clouds.
//!
//! ```text
//! usual 120: list read invoices {token_id=$hour src_ip=10.1.2.3 user_agent=bot/1}
//! then: list read invoices {token_id=t src_ip=10.1.2.9 user_agent=bot/1}, list read invoices {token_id=t src_ip=203.0.113.9 user_agent=curl/8}, list read invoices {token_id=t src_ip=10.1.2.3 user_agent=bot/1}
//! quiet: list read invoices {token_id=u src_ip=10.1.2.9 user_agent=bot/2}, list read invoices {token_id=u src_ip=10.1.7.9 user_agent=bot/2}
//! ```

use serde::{Deserialize, Serialize};

use super::{About, Detector, Report, Seen, Term};
use crate::evidence::History;
use crate::explain::Case;
use crate::hash::quick;

pub(super) struct MovedToken;

const PLACES_MAX: usize = 4;
const TOKENS_MAX: usize = 2;
const BACK_MINS: u32 = 60;
const APART_BITS: f64 = 6.0;

/// Where a call came from; 0 where the record does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) network: u32,
    pub(crate) client: u32,
    pub(crate) country: u16,
}

/// A token in use: where it was last, where before it moved and when, and whether an alert told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Token {
    key: u32,
    at: Place,
    before: Place,
    /// In minutes since 1970.
    moved: u32,
    told: bool,
}

/// Bits of a token that goes there and back, of the place where it was, of everything being different there; and the
/// tokens that were seen there.
#[derive(Clone, Copy, Default)]
struct Surprise {
    moved: f64,
    place: f64,
    apart: f64,
    times: u32,
}

/// An agent's tokens in use, how many there were and moved, and the networks they were used from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moves {
    tokens: [Token; TOKENS_MAX],
    count: u32,
    moves: u32,
    places: [(u32, u32); PLACES_MAX],
}

impl Detector for MovedToken {
    const ABOUT: About = About {
        name: "moved_token",
        version: 2,
        doc: "a token that is used from two places in turn",
        source: include_str!("moved_token.rs"),
        hard: false,
        floor_bits: |config| config.moved_token_bits,
    };
    type State = Moves;
    type Shared = ();
    type Note = ();

    #[inline]
    fn score(state: &Moves, _: &(), seen: &Seen<'_>) -> f64 {
        state.surprise(seen).map_or(0.0, |Surprise { moved, place, apart, .. }| moved + place + apart)
    }

    fn report(state: &Moves, _: &(), seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let Surprise { moved, place, apart, times } = state.surprise(seen).unwrap_or_default();
        let often = format!("{} of {} tokens did", state.moves, state.count);
        let seen_there = format!("the other network was seen with {times} of its tokens");
        Report {
            title: format!("{} used a token from two places in turn", case.who),
            terms: vec![
                Term { name: "moved", bits: moved, text: often },
                Term { name: "place", bits: place, text: seen_there },
                Term { name: "apart", bits: apart, text: "bits where client and country changed as well".to_owned() },
            ],
        }
    }

    #[inline]
    fn learn(state: &mut Moves, seen: &Seen<'_>, spoke: bool) -> Option<()> {
        let key = key(seen)?;
        let place = seen.row.place;
        if !state.tokens.iter().any(|token| token.key == key) {
            state.tokens.rotate_right(1);
            state.tokens[0] = Token { key, at: place, ..Token::default() };
            state.count = state.count.saturating_add(1);
            state.note(place.network);
            return None;
        }
        let token = state.tokens.iter_mut().find(|token| token.key == key)?;
        token.told |= spoke;
        if place.apart(token.at) {
            let returned = token.returns(place, seen.minute()) && !token.told;
            (token.before, token.at, token.moved) = (token.at, place, seen.minute());
            state.moves = state.moves.saturating_add(u32::from(returned));
        }
        None
    }
}

impl Moves {
    #[inline]
    fn surprise(&self, seen: &Seen<'_>) -> Option<Surprise> {
        let key = key(seen)?;
        let token = self.tokens.iter().find(|token| token.key == key && token.moved != 0 && !token.told)?;
        let place = seen.row.place;
        if seen.evidence.history != History::Own || !token.returns(place, seen.minute()) {
            return None;
        }
        // One of the two networks is the agent's own, the other the stranger's.
        let times = self.times(token.at.network).min(self.times(place.network));
        let bits = |times: u32| {
            let p = f64::from(times.saturating_add(1)) / f64::from(self.count.saturating_add(1));
            (-p.min(1.0).log2() * 1024.0).round() / 1024.0
        };
        let apart = if place.all_apart(token.at) { APART_BITS } else { 0.0 };
        Some(Surprise { moved: bits(self.moves), place: bits(times), apart, times })
    }

    fn times(&self, network: u32) -> u32 {
        self.places.iter().find(|known| known.0 == network).map_or(0, |known| known.1)
    }

    fn note(&mut self, network: u32) {
        if let Some(known) = self.places.iter_mut().find(|known| known.0 == network) {
            known.1 = known.1.saturating_add(1);
        } else if let Some(rarest) = self.places.iter_mut().min_by_key(|known| known.1) {
            *rarest = (network, 1);
        }
    }
}

impl Token {
    /// Whether it was here, went away within the hour, and is back.
    fn returns(&self, place: Place, minute: u32) -> bool {
        place.apart(self.at) && self.moved != 0 && !place.apart(self.before) && minute.abs_diff(self.moved) <= BACK_MINS
    }
}

impl Place {
    pub(crate) fn network(ip: &str) -> u32 {
        print(network(ip)).max(1)
    }

    /// The family of a user agent.
    pub(crate) fn client(agent: &str) -> u32 {
        let end = agent.bytes().position(|byte| matches!(byte, b'/' | b' '));
        print(&agent[..end.unwrap_or(agent.len())]).max(1)
    }

    pub(crate) fn country(code: &str) -> u16 {
        (print(code) as u16).max(1)
    }

    /// What a record does not say is no difference.
    fn differences(self, other: Place) -> [bool; 3] {
        let differ = |one: u32, two: u32| one != 0 && two != 0 && one != two;
        let country = differ(self.country.into(), other.country.into());
        [differ(self.network, other.network), differ(self.client, other.client), country]
    }

    fn apart(self, other: Place) -> bool {
        let [network, client, country] = self.differences(other);
        network && (client || country)
    }

    fn all_apart(self, other: Place) -> bool {
        self.differences(other) == [true; 3]
    }
}

#[inline]
fn key(seen: &Seen<'_>) -> Option<u32> {
    Some((seen.row.shown[0]? as u32).max(1))
}

/// Told apart within one agent only; who wants to look like another place just writes what that one does.
#[inline]
fn print(text: &str) -> u32 {
    quick(text) as u32
}

/// The /16 of an IPv4 address, the /48 of an IPv6 one, as it is written.
fn network(ip: &str) -> &str {
    let (sign, parts) = if ip.bytes().any(|byte| byte == b':') { (b':', 3) } else { (b'.', 2) };
    let mut ends = ip.bytes().enumerate().filter(|(_, byte)| *byte == sign);
    ends.nth(parts - 1).map_or(ip, |(end, _)| &ip[..end])
}

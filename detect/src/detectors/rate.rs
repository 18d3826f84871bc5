//! More than is usual for this agent at this hour: calls, failures, data and cost over 5, 10 and 60 minutes.
//!
//! What is usual is the agent's own rhythm ([`crate::rhythm`]). Beside it stands a limit a minute that no history moves, one for
//! agents and one for people. One alert a burst: after an alert it is silent until an hour went by without one.
//!
//! Data is the records of a call, else its bytes; cost is its price, else the model tokens. A horizon of a minute is left
//! out: what is grave within a minute is so within five, and the same surprise would need more bits.
//!
//! ```text
//! usual 30: list read invoices {records=20}, get read invoices/17 {records=1}
//! then: list read invoices {records=90000}
//! quiet: list read invoices {records=40}, get read invoices/99 {records=1}
//! ```

use serde::{Deserialize, Serialize};

use super::{About, Detector, FACT_BITS, Report, Seen, Term};
use crate::columns::{Columns, Numbers};
use crate::engine::MINUTE_MICROS;
use crate::evidence::History;
use crate::explain::Case;
use crate::rhythm::Rhythm;
use crate::series::Excess;

pub(super) struct Rate;

/// Their place is their number in the [`Rhythm`].
const QUANTITIES: [(&str, &str); 4] =
    [("calls", "calls"), ("failures", "failed calls"), ("data", "records or kB"), ("cost", "of cost")];
const CALLS: u8 = 0;
/// An agent's hours before its rhythm says anything.
const HOURS_MIN: u32 = 48;
/// No minute is before 1970.
const EARLIEST: i64 = 60;
/// A burst is over when nothing was over the threshold for so long.
const BURST_MINUTES: i64 = 60;

/// An agent's rhythm, and until when a burst is silent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rates {
    rhythm: Rhythm,
    burst: i64,
}

impl Detector for Rate {
    const ABOUT: About = About {
        name: "rate",
        version: 2,
        doc: "more calls, failures, data or cost than is usual for this agent at this hour",
        source: include_str!("rate.rs"),
        hard: false,
        floor_bits: |config| config.rate_bits,
    };
    type State = Rates;
    type Shared = ();
    type Note = ();

    #[inline]
    fn score(state: &Rates, _: &(), seen: &Seen<'_>) -> f64 {
        let minute = minute(seen, state);
        if minute <= state.burst { 0.0 } else { state.most(seen, minute).0.bits }
    }

    fn report(state: &Rates, _: &(), seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let (Excess { bits, minutes, amount, expected }, (name, words)) = state.most(seen, minute(seen, state));
        let text = match minutes {
            1 => format!("{amount} {words} in a minute, the limit is {expected}"),
            _ => format!("{amount} {words} in {minutes} minutes, usual at this hour: {expected:.1}"),
        };
        Report { title: format!("{}: {text}", case.who), terms: vec![Term { name, bits, text }] }
    }

    #[inline]
    fn learn(state: &mut Rates, seen: &Seen<'_>, spoke: bool) -> Option<()> {
        let minute = minute(seen, state);
        if spoke {
            state.burst = minute + BURST_MINUTES;
        }
        state.rhythm.pass(minute);
        (0..)
            .zip(seen.row.amounts)
            .filter(|(_, amount)| *amount > 0)
            .for_each(|(of, amount)| state.rhythm.add(of, amount));
        None
    }

    #[inline]
    fn ask_near(state: &Rates) {
        state.rhythm.ask_near();
    }

    fn bytes(state: &Rates) -> usize {
        state.rhythm.bytes()
    }
}

impl Rates {
    /// The most surprising quantity, with its name and words.
    #[inline]
    fn most(&self, seen: &Seen<'_>, minute: i64) -> (Excess, (&'static str, &'static str)) {
        let (mut most, mut which) = (Excess::default(), QUANTITIES[0]);
        let calls = self.rhythm.this_minute(CALLS, minute);
        if calls >= seen.config.user_calls_min_max.min(seen.config.agent_calls_min_max) && calls >= limit(seen) {
            let (amount, expected) = (u64::from(calls) + 1, f64::from(limit(seen)));
            return (Excess { bits: FACT_BITS, minutes: 1, amount, expected }, which);
        }
        if seen.evidence.history != History::Own || self.rhythm.hours < HOURS_MIN {
            return (most, which);
        }
        for ((of, amount), names) in (0..).zip(seen.row.amounts).zip(QUANTITIES).filter(|((_, amount), _)| *amount > 0)
        {
            let excess = self.rhythm.excess(of, minute, amount);
            if excess.bits > most.bits {
                (most, which) = (excess, names);
            }
        }
        (most, which)
    }
}

/// Time never goes back for an agent: a record that is late counts as of now.
#[inline]
fn minute(seen: &Seen<'_>, state: &Rates) -> i64 {
    (seen.row.time / MINUTE_MICROS).max(state.rhythm.minute).max(EARLIEST)
}

fn limit(seen: &Seen<'_>) -> u32 {
    match seen.row.events.actor_kind.value(seen.row.at) {
        "user" => seen.config.user_calls_min_max,
        _ => seen.config.agent_calls_min_max,
    }
}

/// How much of each quantity a call is: data are its records, else kilobytes; cost is its price, else model tokens.
#[inline]
pub(crate) fn amounts(columns: &Columns<'_>, at: usize, share: f64) -> [u32; 4] {
    let number = |column: &Numbers| column.or_0(at).max(0);
    let data = match number(&columns.records) {
        0 => (number(&columns.bytes_out).saturating_add(number(&columns.bytes_in)) + 999) / 1_000,
        records => records,
    };
    let cost = match number(&columns.cost_micros) {
        0 => number(&columns.tokens_in).saturating_add(number(&columns.tokens_out)),
        cost => cost,
    };
    let fits = |amount: i64| u32::try_from(amount).unwrap_or(u32::MAX);
    [1, u32::from(share < 1.0), fits(data), fits(cost)]
}

//! A token far older than this agent's tokens ever are when it uses them: kept, stolen, or replayed.
//!
//! Far is more than `token_age_hours` and four times the oldest. An agent that never renews its token grows old with it and is
//! left alone; a token that is suddenly old is not. One alert a token. Left out: tokens whose records do not say when they
//! were issued; whether it is expired or revoked is `token_dead`'s to say, who else shows it `shared_credential`'s.
//!
//! ```text
//! usual 40: list read invoices {token_issued_at=-1 token_id=$hour}
//! then: list read invoices {token_issued_at=-90 token_id=old}
//! quiet: list read invoices {token_issued_at=-3 token_id=t-1}
//! ```

use serde::{Deserialize, Serialize};

use super::{About, Detector, Report, Seen, Term};
use crate::evidence::History;
use crate::explain::Case;
use crate::lengths::{Lengths, minutes, words};

pub(super) struct TokenAge;

const TIMES: u32 = 4;

/// Ages of an agent's tokens, and by their time of issue the newest and the last that raised an alert.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ages {
    ages: Lengths,
    newest: i64,
    told: i64,
}

impl Detector for TokenAge {
    const ABOUT: About = About {
        name: "token_age",
        version: 1,
        doc: "a token far older than the agent's tokens ever are",
        source: include_str!("token_age.rs"),
        hard: false,
        floor_bits: |config| config.token_age_bits,
    };
    type State = Ages;
    type Shared = ();
    type Note = ();

    #[inline]
    fn score(Ages { ages, told, .. }: &Ages, _: &(), seen: &Seen<'_>) -> f64 {
        let Some((issued, age)) = age(seen) else { return 0.0 };
        let long = age > (seen.config.token_age_hours * 60).max(ages.longest_mins.saturating_mul(TIMES));
        if long && issued != *told && seen.evidence.history == History::Own { ages.bits(age) } else { 0.0 }
    }

    fn report(state: &Ages, _: &(), seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let (age, oldest) = (words(age(seen).unwrap_or_default().1), words(state.ages.longest_mins));
        let text = format!("{age} old, the oldest it used was {oldest}");
        let bits = Self::score(state, &(), seen);
        Report { title: format!("{} used a token {age} old", case.who), terms: vec![Term { name: "age", bits, text }] }
    }

    #[inline]
    fn learn(state: &mut Ages, seen: &Seen<'_>, spoke: bool) -> Option<()> {
        let (issued, age) = age(seen)?;
        if issued == state.told {
            return None;
        }
        if spoke {
            state.told = issued;
        } else if issued != state.newest {
            state.newest = issued;
            state.ages.learn(age);
        } else {
            state.ages.stretch(age);
        }
        None
    }
}

/// When the token was issued, and the minutes since.
#[inline]
fn age(seen: &Seen<'_>) -> Option<(i64, u32)> {
    seen.row.token_issued_at.map(|issued| (issued, minutes(issued, seen.row.time)))
}

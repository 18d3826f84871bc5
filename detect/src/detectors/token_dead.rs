//! A token that went through although it had expired, or although somebody had revoked it.
//!
//! A fact, with [`GRACE_MINS`] for clocks and caches. Revoked is what a record says that revokes or deletes a token, key or
//! credential by its id (`resource_id`); other partitions know from the next tick on.
//!
//! Left out: refused calls (expired tokens are refused every day), logins and renewals, and revocations by people whose
//! records name no agent: no detector sees them.
//!
//! ```text
//! usual 30: list read invoices {token_id=t-$agent token_expires_at=1}
//! then: list read invoices {token_id=t-$agent token_expires_at=-1}
//! quiet: list read invoices {token_id=t-$agent token_expires_at=-1 outcome=denied}
//! ```

use std::collections::BTreeMap;

use super::{About, Detector, Drain, FACT_BITS, Report, Seen, Term};
use crate::Config;
use crate::engine::{DAY_MICROS, text};
use crate::explain::Case;
use crate::hash::Of;
use crate::lengths::{minutes, words};
use crate::row::Ends;

pub(super) struct TokenDead;

const GRACE_MINS: u32 = 5;
/// Revocations of a tenant that are remembered, and for how long.
const REVOKED_MAX: usize = 16_384;
const REVOKED_MICROS: i64 = 30 * DAY_MICROS;

impl Detector for TokenDead {
    const ABOUT: About = About {
        name: "token_dead",
        version: 1,
        doc: "a token that went through although it was expired or revoked",
        source: include_str!("token_dead.rs"),
        hard: true,
        floor_bits: |_| FACT_BITS,
    };
    type State = ();
    type Shared = BTreeMap<u64, i64>;
    type Note = (u64, i64);

    #[inline]
    fn score(_: &(), shared: &Self::Shared, seen: &Seen<'_>) -> f64 {
        if death(shared, seen).is_some() { FACT_BITS } else { 0.0 }
    }

    fn report(_: &(), shared: &Self::Shared, seen: &Seen<'_>, case: &Case<'_>) -> Report {
        let (how, mins) = death(shared, seen).unwrap_or_default();
        let text = format!("used {} after it {how}", words(mins));
        let title = format!("{} did {} with a token {text}", case.who, case.action);
        Report { title, terms: vec![Term { name: "token", bits: FACT_BITS, text }] }
    }

    #[inline]
    fn learn(_: &mut (), seen: &Seen<'_>, _: bool) -> Option<(u64, i64)> {
        if !revokes(seen) || !seen.let_through() {
            return None;
        }
        let id = text(seen.row.events.resource_id, seen.row.at)?;
        Some((seen.keyed.of(Of::Credential, 0, id), seen.row.time))
    }

    fn fold(shared: &mut Self::Shared, notes: Drain<'_, (u64, i64)>, _: &Config, time: i64) {
        if shared.len() + notes.len() > REVOKED_MAX {
            shared.retain(|_, revoked| time - *revoked < REVOKED_MICROS);
        }
        for (key, revoked) in notes {
            if shared.len() < REVOKED_MAX {
                shared.entry(key).or_insert(revoked);
            }
        }
    }
}

/// How the token of a call that went through had ended, and how many minutes before.
#[inline]
fn death(shared: &BTreeMap<u64, i64>, seen: &Seen<'_>) -> Option<(&'static str, u32)> {
    expired(seen).or_else(|| {
        if shared.is_empty() || !counts(seen) {
            return None;
        }
        let revoked = seen.row.shown.into_iter().flatten().filter_map(|key| shared.get(&key));
        let mins = revoked.map(|revoked| minutes(*revoked, seen.row.time)).max()?;
        (mins > GRACE_MINS).then_some(("was revoked", mins))
    })
}

#[inline]
fn expired(seen: &Seen<'_>) -> Option<(&'static str, u32)> {
    let mins = minutes(seen.row.token_expires_at?, seen.row.time);
    (mins > GRACE_MINS && counts(seen)).then_some(("had expired", mins))
}

/// Logins and renewals are where tokens end and begin.
#[inline]
fn counts(seen: &Seen<'_>) -> bool {
    seen.let_through() && seen.row.effect != "auth"
}

/// Whether the action ends a token, key or credential.
#[inline]
fn revokes(seen: &Seen<'_>) -> bool {
    let Ends { revokes, deletes } = seen.row.ends_token;
    match seen.row.effect {
        "admin" | "delete" => revokes || deletes,
        "auth" => revokes,
        _ => false,
    }
}

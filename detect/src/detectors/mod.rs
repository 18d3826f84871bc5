//! The detectors: one file and one line in [`detectors!`] each.
//!
//! A detector looks at one call: the row, the [`Evidence`](crate::Evidence) computed once for all, and what it remembers
//! itself: of the agent (`State`), and of the tenant (`Shared`, which changes at ticks only, from the notes that rows left).
//! It scores before it learns, in bits, and says the parts of a score when an alert comes of it. When to speak up
//! (threshold, warm-up, repeats, budget) is the engine's, so that every detector obeys the same rules; batch cuts, threads,
//! snapshots and limits are tested for every line of the list. Its header holds a worked example, which is a test:
//!
//! ```text
//! usual 30: list read invoices, get read invoices/17      30 sessions over days, calls as `action effect [resource]`
//! then: list read invoices, export export customers       a session after; its last call must raise the alert, no other
//! quiet: list read invoices, list read invoices           a session after that must raise none
//! ```
//! A call may set further columns: `{scopes_used=admin src_ip=192.0.2.7}` behind it. Two more lines may stand between, and
//! happen in the hour before `then`: `others: CALLS`, a session of each of the agents that work beside it, and
//! `control: {...}`, a control frame.

mod after_kill;
mod approval;
mod campaign;
mod combination;
mod delegation;
mod delegation_loop;
mod dormant;
mod first_action;
mod grant_fanout;
mod moved_token;
mod rate;
mod scope;
mod scope_widening;
mod shared_credential;
mod tenant_reach;
mod token_age;
mod token_dead;
mod values;

use std::vec::Drain;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Config;
use crate::engine::MINUTE_MICROS;
use crate::evidence::Evidence;
use crate::explain::Case;
use crate::habits::Recent;
use crate::hash::{Keyed, Of};
use crate::row::Row;

pub(crate) use moved_token::Place;
pub(crate) use rate::amounts;
pub(crate) use shared_credential::TOKEN_CONFLICT;

/// One call, as detectors see it.
pub struct Seen<'a> {
    pub(crate) config: &'a Config,
    pub(crate) row: &'a Row<'a>,
    pub(crate) evidence: &'a Evidence,
    /// The calls of the session before this one.
    pub(crate) recent: Recent,
    pub(crate) keyed: Keyed,
}

/// The score of a fact: more than any threshold that calibrates itself.
pub(crate) const FACT_BITS: f64 = 64.0;

impl Seen<'_> {
    /// Nothing stopped the call.
    #[inline]
    pub(crate) fn let_through(&self) -> bool {
        self.row.share == 1.0
    }

    /// Stands for a text of a record among others of the same kind and tenant.
    #[inline]
    pub(crate) fn print(&self, kind: Of, text: &str) -> u32 {
        self.keyed.of(kind, 0, text) as u32
    }

    /// Minutes since 1970.
    #[inline]
    pub(crate) fn minute(&self) -> u32 {
        u32::try_from(self.row.time / MINUTE_MICROS).unwrap_or_default()
    }

    pub(crate) fn hour(&self) -> i32 {
        self.row.time.div_euclid(60 * MINUTE_MICROS) as i32
    }
}

/// A kill order takes effect, or no longer holds. Order and target are fingerprints.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    Killed { order: u64, target: u64, time: i64 },
    Released { order: u64 },
}

/// What there is to know about a detector.
pub struct About {
    /// Its name in alerts and configuration; never changes.
    pub name: &'static str,
    /// Changes when its scores do.
    pub version: u32,
    /// What it sees, in a line.
    pub doc: &'static str,
    /// Its source file, with the worked example in the header.
    pub source: &'static str,
    /// A fact and not a guess: it alerts whatever the tenant's scores are.
    pub hard: bool,
    /// The lowest threshold in bits: where it stands before a tenant's own scores move it up.
    pub floor_bits: fn(&Config) -> f64,
}

/// State that a snapshot can hold.
pub trait State: Clone + Default + std::fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync {}

impl<T: Clone + Default + std::fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync> State for T {}

/// One way to see that something is wrong.
pub trait Detector {
    const ABOUT: About;
    /// What it remembers of one agent; a few hundred bytes at most.
    type State: State;
    /// What it remembers of a tenant; frozen between ticks.
    type Shared: State;
    /// What a row leaves for `Shared` until the next tick.
    type Note: State;

    /// How surprising the call is, in bits; 0 if it has nothing to say.
    fn score(state: &Self::State, shared: &Self::Shared, seen: &Seen<'_>) -> f64;
    /// The alert's title, and the parts whose bits sum to the score. Called where the score came to an alert.
    fn report(state: &Self::State, shared: &Self::Shared, seen: &Seen<'_>, case: &Case<'_>) -> Report;
    /// Learns the call, after it was scored; `spoke` where the score came to the threshold.
    fn learn(_state: &mut Self::State, _seen: &Seen<'_>, _spoke: bool) -> Option<Self::Note> {
        None
    }
    /// Takes in what the rows since the last tick left.
    fn fold(_shared: &mut Self::Shared, _notes: Drain<'_, Self::Note>, _config: &Config, _time: i64) {}
    /// Takes in that somebody was stopped or is let go.
    fn obey(_shared: &mut Self::Shared, _order: &Order) {}
    /// Asks for the memory to which a state points, ahead of the call ([`crate::ahead`]).
    fn ask_near(_state: &Self::State) {}
    /// Memory of a state beyond its own size, in bytes.
    fn bytes(_state: &Self::State) -> usize {
        0
    }
}

/// What a detector says of an alert.
pub struct Report {
    pub title: String,
    pub terms: Vec<Term>,
}

impl Report {
    /// Of a call that has no score.
    pub(crate) fn nothing() -> Self {
        Report { title: String::new(), terms: Vec::new() }
    }
}

/// One part of a score.
#[derive(Serialize)]
pub struct Term {
    pub name: &'static str,
    pub bits: f64,
    pub text: String,
}

/// Notes that wait for a tick, a detector and tenant; past it they are dropped.
const NOTES_MAX: usize = 65_536;

/// One column a detector: a digest of its name and version, and what it remembers of each agent or tenant, in order.
pub(crate) type Columns = Vec<(u32, Vec<u8>)>;

macro_rules! columns {
    ($of:ident, $($name:ident: $detector:ty),*) => {
        impl $of {
            pub(crate) fn pack(all: &[&$of]) -> Columns {
                vec![$({
                    let column: Vec<_> = all.iter().map(|one| &one.$name).collect();
                    (column_tag(&<$detector>::ABOUT), postcard::to_allocvec(&column).expect("the state is plain data"))
                },)*]
            }

            /// `count` of them; a detector whose column is missing or another's has forgotten all.
            pub(crate) fn unpack(columns: &Columns, count: usize) -> Vec<$of> {
                let mut all = vec![$of::default(); count];
                $(if let Some((_, bytes)) = columns.iter().find(|(tag, _)| *tag == column_tag(&<$detector>::ABOUT))
                    && let Ok(column) = postcard::from_bytes::<Vec<_>>(bytes)
                    && column.len() == count
                {
                    all.iter_mut().zip(column).for_each(|(one, state)| one.$name = state);
                })*
                all
            }
        }
    };
}

fn column_tag(about: &About) -> u32 {
    crate::alert::tag(&format!("{} {}", about.name, about.version))
}

macro_rules! detectors {
    ($($name:ident: $detector:ty,)*) => {
        /// All detectors.
        pub const DETECTORS: &[About] = &[$(<$detector>::ABOUT,)*];

        /// What the detectors remember of one agent.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub(crate) struct States {
            $($name: <$detector as Detector>::State,)*
        }

        /// What the detectors remember of one tenant.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub(crate) struct Shared {
            $($name: <$detector as Detector>::Shared,)*
        }

        /// What rows left for [`Shared`].
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub(crate) struct Notes {
            $($name: Vec<<$detector as Detector>::Note>,)*
        }

        impl States {
            /// One score a detector, in the order of [`DETECTORS`].
            #[inline]
            pub(crate) fn score(&self, seen: &Seen<'_>, shared: &Shared) -> [f64; DETECTORS.len()] {
                [$(<$detector>::score(&self.$name, &shared.$name, seen),)*]
            }

            pub(crate) fn report(&self, detector: usize, seen: &Seen<'_>, shared: &Shared, case: &Case<'_>) -> Report {
                let mut number = 0..;
                $(if number.next() == Some(detector) {
                    return <$detector>::report(&self.$name, &shared.$name, seen, case);
                })*
                Report::nothing()
            }

            #[inline]
            pub(crate) fn learn(&mut self, seen: &Seen<'_>, spoke: &[bool; DETECTORS.len()], notes: &mut Notes) {
                let mut spoke = spoke.iter();
                $(if let Some(note) = <$detector>::learn(&mut self.$name, seen, *spoke.next().expect("one a detector"))
                    && notes.$name.len() < NOTES_MAX
                {
                    notes.$name.push(note);
                })*
            }

            #[inline]
            pub(crate) fn ask_near(&self) {
                $(<$detector>::ask_near(&self.$name);)*
            }

            /// Memory beyond its own size.
            pub(crate) fn bytes(&self) -> usize {
                0 $(+ <$detector>::bytes(&self.$name))*
            }
        }

        impl Notes {
            pub(crate) fn is_empty(&self) -> bool {
                true $(&& self.$name.is_empty())*
            }
        }

        columns!(States, $($name: $detector),*);
        columns!(Shared, $($name: $detector),*);
        columns!(Notes, $($name: $detector),*);

        impl Shared {
            /// Takes in all notes and leaves none.
            pub(crate) fn fold(&mut self, notes: &mut Notes, config: &Config, time: i64) {
                $(if !notes.$name.is_empty() {
                    <$detector>::fold(&mut self.$name, notes.$name.drain(..), config, time);
                })*
            }

            pub(crate) fn obey(&mut self, order: &Order) {
                $(<$detector>::obey(&mut self.$name, order);)*
            }
        }
    };
}

detectors! {
    first_action: first_action::FirstAction,
    combination: combination::Combination,
    scope: scope::Scope,
    scope_widening: scope_widening::ScopeWidening,
    tenant_reach: tenant_reach::TenantReach,
    approval: approval::Approval,
    delegation: delegation::Delegation,
    delegation_loop: delegation_loop::DelegationLoop,
    grant_fanout: grant_fanout::GrantFanout,
    campaign: campaign::Campaign,
    after_kill: after_kill::AfterKill,
    rate: rate::Rate,
    dormant: dormant::Dormant,
    token_age: token_age::TokenAge,
    token_dead: token_dead::TokenDead,
    shared_credential: shared_credential::SharedCredential,
    moved_token: moved_token::MovedToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_detectors_remember_of_an_agent_is_small() {
        assert!(size_of::<States>() <= 768, "{} bytes", size_of::<States>());
    }
}

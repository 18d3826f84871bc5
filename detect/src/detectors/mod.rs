//! The detectors: one file and one line in [`DETECTORS`] each.
//!
//! A detector turns the [`Evidence`] of one call into a score in bits and, if an alert comes of it, says the parts of the
//! score. It has no state and sees no raw event: what it needs to know is evidence, computed once for all. When to
//! speak up (threshold, warm-up, repeats) is the engine's, so that every detector obeys the same rules; batch cuts, snapshots
//! and limits are tested for every line of the list. Its header holds a worked example, which is a test:
//!
//! ```text
//! usual 30: list read invoices, get read invoices/17      30 sessions over days, calls as `action effect [resource]`
//! then: list read invoices, export export customers       a session after; its last call must raise the alert, no other
//! quiet: list read invoices, list read invoices           a session after that must raise none
//! ```

mod combination;
mod first_action;

use crate::Config;
use crate::evidence::Evidence;
use crate::explain::Case;

/// One way to see that something is wrong.
pub trait Detector: Sync {
    /// Its name in alerts and configuration; never changes.
    fn name(&self) -> &'static str;
    /// Changes when its scores do.
    fn version(&self) -> u32;
    /// What it sees, in a line.
    fn doc(&self) -> &'static str;
    /// Its source file, with the worked example in the header.
    fn source(&self) -> &'static str;
    /// The lowest threshold: where it stands before a tenant's own scores move it up.
    fn floor_bits(&self, config: &Config) -> f64;
    /// How surprising the call is, in bits; 0 if it has nothing to say.
    fn score(&self, evidence: &Evidence) -> f64;
    /// The alert's title, and the parts whose bits sum to the score.
    fn report(&self, evidence: &Evidence, case: &Case) -> Report;
}

/// What a detector says of an alert.
pub struct Report {
    pub title: String,
    pub terms: Vec<Term>,
}

/// One part of a score.
#[derive(serde::Serialize)]
pub struct Term {
    pub name: &'static str,
    pub bits: f64,
    pub text: String,
}

/// All detectors.
pub const DETECTORS: &[&dyn Detector] = &[&first_action::FirstAction, &combination::Combination];

//! How far an order got, and which step may follow which.

use serde::{Deserialize, Serialize};

/// The states of an order; table `orders` writes their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Written down. It waits for persons, or is only observed.
    Requested,
    Approved,
    /// The deny list holds; switches are still being called.
    Executing,
    /// The deny list holds and every switch said that it did its part.
    Executed,
    /// The deny list holds; at least one switch was given up.
    Partial,
    /// Evidence: a denied attempt, a read-back from the system, or a canary on the same path.
    Verified,
    /// Nothing was seen of the target. That alone proves nothing.
    Quiet,
    /// The target was let through after the order took effect.
    Violated,
    /// Nothing was stopped.
    Failed,
    Released,
    Expired,
}

use State::{Approved, Executed, Executing, Expired, Failed, Partial, Quiet, Released, Requested, Verified, Violated};

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Requested => "requested",
            Approved => "approved",
            Executing => "executing",
            Executed => "executed",
            Partial => "partial",
            Verified => "verified",
            Quiet => "quiet",
            Violated => "violated",
            Failed => "failed",
            Released => "released",
            Expired => "expired",
        }
    }

    /// The states that a step may lead to from here; a step about a call stays where it is.
    fn next(self) -> &'static [State] {
        match self {
            Requested => &[Approved, Failed, Released, Expired],
            Approved => &[Executing],
            Executing => &[Executed, Partial, Violated, Released, Expired],
            Executed | Partial => &[Verified, Quiet, Violated, Released, Expired],
            Quiet => &[Verified, Violated, Released, Expired],
            Verified => &[Violated, Released, Expired],
            // The next layer, where there is one; and evidence that it holds after all.
            Violated => &[Executing, Verified, Released, Expired],
            Failed | Released | Expired => &[],
        }
    }

    pub fn may_become(self, state: State) -> bool {
        self == state || self.next().contains(&state)
    }

    /// Whether the deny list holds an order in this state.
    pub fn denies(self) -> bool {
        matches!(self, Executing | Executed | Partial | Verified | Quiet | Violated)
    }

    /// Whether nothing follows.
    pub fn is_last(self) -> bool {
        self.next().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [State; 11] =
        [Requested, Approved, Executing, Executed, Partial, Verified, Quiet, Violated, Failed, Released, Expired];

    #[test]
    fn what_denies_can_be_released_and_expires_and_what_ended_stays_so() {
        for state in ALL {
            assert_eq!(state.denies(), state.may_become(Violated) && !state.is_last(), "{state:?}");
            if state.denies() {
                assert!(state.may_become(Released) && state.may_become(Expired), "{state:?}");
            }
            for after in ALL.iter().filter(|after| state.is_last() && **after != state) {
                assert!(!state.may_become(*after), "{state:?} {after:?}");
            }
        }
    }

    #[test]
    fn nothing_is_executed_or_verified_that_was_not_approved() {
        for state in [Executing, Executed, Partial, Verified, Quiet, Violated] {
            assert!(!Requested.may_become(state) && !Failed.may_become(state), "{state:?}");
        }
        assert!(!Executing.may_become(Verified) && !Requested.may_become(Executing));
    }
}

//! Switches: what carries an order out besides the deny list. One file and one line in [`KINDS`] each.
//!
//! A switch makes one call and says what came of it; when to repeat, and what is written down, is decided outside. A call may
//! have reached its target although the answer was lost: it is repeated with the same [`Message::id`], so that a target that can
//! tell does nothing twice. A switch never says done without the target's word.

use async_trait::async_trait;

use crate::config::Config;
use crate::order::{Call, Order};

mod webhook;

/// Every kind of switch there is.
pub static KINDS: &[&Kind] = &[&webhook::KIND];

/// Makes the switches of a kind that the configuration names.
pub(crate) type Build = fn(&Config) -> Result<Vec<Box<dyn Switch>>, String>;

/// A kind of switch: what a person needs to know before trusting it, and how its instances are made.
pub struct Kind {
    pub name: &'static str,
    /// What keeps working after it said done.
    pub stays_alive: &'static str,
    /// What it must be allowed to do at the target.
    pub permission: &'static str,
    /// Whether it was tried against the real system or against recorded answers only.
    pub tried_against: &'static str,
    pub(crate) build: Build,
}

/// One call, ready to be made.
pub(crate) struct Message {
    /// The same for every repeat.
    pub(crate) id: String,
    /// When this attempt is made, in seconds since the Unix epoch.
    pub(crate) now_secs: i64,
    pub(crate) order: Order,
    pub(crate) call: Call,
}

/// What came of a call, with what the target said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Done(String),
    /// Worth repeating, not before this many seconds where the target said so.
    Retry(String, Option<u64>),
    /// Repeating does not help.
    Failed(String),
}

#[async_trait]
pub(crate) trait Switch: Send + Sync {
    /// Its name in configuration.
    fn name(&self) -> &str;
    async fn call(&self, message: &Message) -> Outcome;
}

/// All switches that `config` declares.
pub(crate) fn build(config: &Config) -> Result<Vec<Box<dyn Switch>>, String> {
    let mut switches = Vec::new();
    for kind in KINDS {
        switches.extend((kind.build)(config)?);
    }
    Ok(switches)
}

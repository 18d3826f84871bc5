//! Switches: what carries an order out besides the deny list. One file and one line in [`KINDS`] each.
//!
//! A switch makes one call and says what came of it; when to repeat, and what is written down, is decided outside. A call may
//! have reached its target although the answer was lost: it is repeated with the same [`Message::id`], so that a target that can
//! tell does nothing twice. A switch never says done without the target's word.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::config::Config;
use crate::order::{Call, Order, Target};
use crate::outbound;
use crate::signer::Signer;
use crate::stream::Stream;

pub(crate) mod caep;
mod fill;
pub(crate) mod http;
mod webhook;

/// Every kind of switch there is.
pub static KINDS: &[&Kind] = &[&webhook::KIND, &http::KIND, &caep::KIND];

const RETRY_AFTER_SECS_MAX: u64 = 3600;

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
    /// Signs what is transmitted, where the process has a key.
    pub(crate) signer: Option<Arc<Signer>>,
    /// Other names of the target's agent or client: the source that has each, and the name.
    pub(crate) names: Vec<(String, String)>,
    /// The stream that the switch's receiver made in the order's tenant.
    pub(crate) stream: Option<Stream>,
}

impl Message {
    /// The name that the target has in `source`.
    pub(crate) fn name_in(&self, source: Option<&str>) -> Option<String> {
        self.names.iter().find(|(of, _)| Some(of.as_str()) == source).map(|(_, name)| name.clone())
    }
}

/// What came of a call, with what the target said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Done(String),
    /// Worth repeating, not before this many seconds where the target said so.
    Retry(String, Option<u64>),
    /// Repeating does not help.
    Failed(String),
    /// The system was asked what it holds, and holds something else.
    NotSo(String),
}

/// What a person needs to know before trusting a switch.
pub(crate) struct About<'a> {
    pub(crate) stays_alive: &'a str,
    pub(crate) permission: &'a str,
    pub(crate) tried_against: &'a str,
}

#[async_trait]
pub(crate) trait Switch: Send + Sync {
    /// Its name in configuration.
    fn name(&self) -> &str;
    fn about(&self) -> About<'_>;
    /// Whether it can stop a target of this kind.
    fn stops(&self, _: &Target) -> bool {
        true
    }
    /// The calls that it would make to stop an order's target.
    fn calls(&self, order: &Order) -> Vec<String>;
    /// Whether it can undo what it did.
    fn reversible(&self) -> bool;
    /// Whether it can ask the system what it holds.
    fn reads_back(&self) -> bool {
        false
    }
    async fn call(&self, message: &Message) -> Outcome;
    /// Asks the system what it holds: `Done` where the target is stopped there, `NotSo` where it is not.
    async fn look(&self, _: &Message) -> Outcome {
        Outcome::Failed("this switch cannot read back".into())
    }
}

/// All switches that `config` declares.
pub(crate) fn build(config: &Config) -> Result<Vec<Box<dyn Switch>>, String> {
    let mut switches = Vec::new();
    for kind in KINDS {
        switches.extend((kind.build)(config)?);
    }
    Ok(switches)
}

/// What came of a call that got no answer.
fn failure(error: &reqwest::Error) -> Outcome {
    if let Some(refused) = outbound::refusal(error) {
        return Outcome::Failed(refused.to_string());
    }
    let mut said = if error.is_timeout() { "no answer in time".to_owned() } else { "no answer".to_owned() };
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        said.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    Outcome::Retry(said, None)
}

/// Seconds, or a date; never more than an hour.
fn retry_after_secs(headers: &HeaderMap, now_secs: i64) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let at = || chrono::DateTime::parse_from_rfc2822(text).ok().map(|time| time.timestamp() - now_secs);
    let secs = text.parse().ok().or_else(at)?;
    Some((secs.max(0) as u64).min(RETRY_AFTER_SECS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let after = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("is text"))]);
            retry_after_secs(&headers, 1_445_412_400)
        };
        assert_eq!(after("120"), Some(120));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(80));
        assert_eq!(after("Wed, 21 Oct 2009 07:28:00 GMT"), Some(0));
        assert_eq!(after("99999999"), Some(RETRY_AFTER_SECS_MAX));
        assert_eq!(after("soon"), None);
    }
}

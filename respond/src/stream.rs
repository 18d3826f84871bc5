//! One receiver's stream of shared signals, as the receiver wants it (Shared Signals Framework 1.0, 8.1.1).
//!
//! A plain value: what the receiver supplies changes it, what Muster supplies is told and must match where a receiver says it.
//! A receiver has one stream a tenant. The control log holds it, with the receiver's `authorization_header`, which is never told.

use schemas::id;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::order::clip;
use crate::switches::caep;

/// Seconds between two verifications that a receiver may ask for.
pub(crate) const VERIFY_SECS_MIN: i64 = 60;
const EVENTS_MAX: usize = 100;
const TEXT_BYTES_MAX: usize = 500;
const SECRET_BYTES_MAX: usize = 4096;

/// How tokens reach the receiver.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method")]
pub(crate) enum Delivery {
    #[serde(rename = "urn:ietf:rfc:8936")]
    Poll {
        /// Muster's own word: a receiver's must match it.
        #[serde(skip_serializing_if = "Option::is_none")]
        endpoint_url: Option<String>,
    },
    #[serde(rename = "urn:ietf:rfc:8935")]
    Push {
        endpoint_url: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        authorization_header: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Enabled,
    /// Nothing is transmitted; what there is to say is held.
    Paused,
    /// Nothing is transmitted nor held.
    Disabled,
}

/// A verification that the receiver asked for.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verification {
    /// The token's id.
    pub(crate) id: String,
    pub(crate) state: Option<String>,
    pub(crate) asked_at: i64,
    /// Attempts to push it.
    pub(crate) attempt: i32,
    /// When to try (again); `None` once it was taken or given up.
    pub(crate) next_at: Option<i64>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) stream_id: String,
    pub(crate) tenant: String,
    pub(crate) receiver: String,
    pub(crate) status: Status,
    pub(crate) reason: Option<String>,
    /// Event types asked for; where it is missing, all there are.
    events_requested: Option<Vec<String>>,
    pub(crate) delivery: Delivery,
    description: Option<String>,
    pub(crate) verification: Option<Verification>,
    /// The last that the control log says of it.
    pub(crate) deleted: bool,
}

/// What a receiver sends to make or change a stream.
#[derive(Deserialize)]
pub(crate) struct Wanted {
    pub(crate) stream_id: Option<String>,
    events_requested: Option<Vec<String>>,
    delivery: Option<Delivery>,
    description: Option<String>,
    /// What Muster supplies, and whatever else there may be.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Stream {
    pub(crate) fn new(tenant: &str, receiver: &str, now: i64) -> Stream {
        Stream {
            stream_id: id::digest([tenant.as_bytes(), receiver.as_bytes(), &now.to_le_bytes()]),
            tenant: tenant.into(),
            receiver: receiver.into(),
            status: Status::Enabled,
            reason: None,
            events_requested: None,
            delivery: Delivery::Poll { endpoint_url: None },
            description: None,
            verification: None,
            deleted: false,
        }
    }

    /// Takes what the receiver supplies: `whole` replaces all of it, else what is missing stays. `url_problem` judges where
    /// tokens would be pushed.
    pub(crate) fn take(
        &mut self,
        wanted: Wanted,
        whole: bool,
        now_told: &Value,
        url_problem: impl Fn(&str) -> Option<String>,
    ) -> Result<(), String> {
        wanted.problem(now_told, url_problem).map_or(Ok(()), Err)?;
        if whole || wanted.events_requested.is_some() {
            self.events_requested = wanted.events_requested;
        }
        if whole || wanted.description.is_some() {
            self.description = wanted.description.map(|text| clip(&text, TEXT_BYTES_MAX).to_owned());
        }
        match wanted.delivery {
            Some(push @ Delivery::Push { .. }) => self.delivery = push,
            Some(Delivery::Poll { .. }) => self.delivery = Delivery::Poll { endpoint_url: None },
            None if whole => self.delivery = Delivery::Poll { endpoint_url: None },
            None => {}
        }
        Ok(())
    }

    pub(crate) fn set_status(&mut self, status: Status, reason: Option<String>) {
        self.status = status;
        self.reason = reason.map(|text| clip(&text, TEXT_BYTES_MAX).to_owned());
    }

    /// Asks for a verification at `now`; `false` where the last one is too recent.
    pub(crate) fn verify(&mut self, state: Option<String>, now: i64) -> bool {
        let recent = |last: &Verification| now - last.asked_at < VERIFY_SECS_MIN * 1_000_000;
        if self.verification.as_ref().is_some_and(recent) {
            return false;
        }
        let id = format!("verification_{}_{}", self.stream_id, now.div_euclid(1_000_000));
        self.verification = Some(Verification { id, state, asked_at: now, attempt: 0, next_at: Some(now) });
        true
    }

    pub(crate) fn delivers(&self, event: &str) -> bool {
        self.events_requested.as_ref().is_none_or(|requested| requested.iter().any(|wanted| wanted == event))
    }

    /// The stream's configuration as receivers are told it.
    pub(crate) fn told(&self, issuer: &str, audience: &str) -> Value {
        let delivery = match &self.delivery {
            Delivery::Push { endpoint_url, .. } => {
                Delivery::Push { endpoint_url: endpoint_url.clone(), authorization_header: None }
            }
            Delivery::Poll { .. } => {
                let url = format!("{}/v1/ssf/poll/{}", issuer.trim_end_matches('/'), self.receiver);
                Delivery::Poll { endpoint_url: Some(url) }
            }
        };
        let supported = caep::event_types();
        let delivered: Vec<&String> = supported.iter().filter(|event| self.delivers(event)).collect();
        let mut told = json!({
            "stream_id": self.stream_id, "iss": issuer, "aud": audience, "delivery": delivery,
            "events_supported": supported, "events_delivered": delivered,
            "min_verification_interval": VERIFY_SECS_MIN,
        });
        if let Some(requested) = &self.events_requested {
            told["events_requested"] = json!(requested);
        }
        if let Some(description) = &self.description {
            told["description"] = json!(description);
        }
        told
    }

    pub(crate) fn status_told(&self) -> Value {
        let mut told = json!({"stream_id": self.stream_id, "status": self.status});
        if let Some(reason) = &self.reason {
            told["reason"] = json!(reason);
        }
        told
    }
}

impl Wanted {
    fn problem(&self, now_told: &Value, url_problem: impl Fn(&str) -> Option<String>) -> Option<String> {
        if self.events_requested.as_ref().is_some_and(|events| {
            events.is_empty() || events.len() > EVENTS_MAX || events.iter().any(|event| event.len() > TEXT_BYTES_MAX)
        }) {
            return Some(format!("`events_requested`: 1 to {EVENTS_MAX} of at most {TEXT_BYTES_MAX} bytes"));
        }
        let differs = |(key, value): &(&String, &Value)| now_told.get(key.as_str()).is_some_and(|told| told != *value);
        if let Some((key, _)) = self.rest.iter().find(differs) {
            return Some(format!("`{key}` is Muster's to say, and is {}", now_told[key.as_str()]));
        }
        match &self.delivery {
            Some(Delivery::Push { endpoint_url, authorization_header }) => {
                let secret = authorization_header.as_deref().unwrap_or_default();
                if secret.len() > SECRET_BYTES_MAX || secret.chars().any(char::is_control) {
                    return Some(format!("`authorization_header`: at most {SECRET_BYTES_MAX} bytes on one line"));
                }
                url_problem(endpoint_url).map(|problem| format!("`endpoint_url`: {problem}"))
            }
            Some(Delivery::Poll { endpoint_url: Some(url) }) => {
                let told = &now_told["delivery"]["endpoint_url"];
                (now_told["delivery"]["method"] == "urn:ietf:rfc:8936" && told != url)
                    .then(|| format!("`endpoint_url` is Muster's to say, and is {told}"))
            }
            Some(Delivery::Poll { endpoint_url: None }) | None => None,
        }
    }
}

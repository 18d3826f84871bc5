//! The shared-signals switch: tells a receiver, by security event tokens (RFC 8417), that an agent is to be stopped or let go.
//!
//! A stop is two tokens, CAEP 1.0 `session-revoked` and `risk-level-change` to HIGH; a release is `risk-level-change` to LOW. The
//! agent is the subject. Pushed (RFC 8935), 202 is done; fetched (RFC 8936), it is done when the receiver has acknowledged every
//! token: until then it counts as waiting, and a receiver that never fetches is given up like one that never answers.
//! Streams are configured here; the stream management API is left out.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};
use url::Url;

use super::{About, Kind, Message, Outcome, Switch, failure, retry_after_secs};
use crate::config::{Config, Mode, Receiver};
use crate::order::{Act, Order, Target};
use crate::outbound;
use crate::signer::Signer;

pub(super) static KIND: Kind = Kind {
    name: "caep",
    stays_alive: "Everything that the receiver does not end; its 202 says that it took the event, not that it acted.",
    permission: "None at Muster's side; the receiver trusts Muster's keys at `/v1/keys`.",
    tried_against: "A local receiver that verifies signature and claims.",
    build,
};

/// So long until a receiver that fetches is counted as late once more.
const FETCH_SECS: u64 = 60;

struct Caep {
    receiver: Receiver,
    issuer: String,
    url: Option<Url>,
    client: reqwest::Client,
}

fn build(config: &Config) -> Result<Vec<Box<dyn Switch>>, String> {
    if config.receivers.is_empty() {
        return Ok(Vec::new());
    }
    let client = outbound::client(config).map_err(|error| format!("cannot make an HTTP client: {error}"))?;
    let one = |receiver: &Receiver| {
        let at = |error: url::ParseError| format!("receiver `{}`: {error}", receiver.name);
        let url = receiver.url.as_deref().map(Url::parse).transpose().map_err(at)?;
        let (receiver, issuer, client) = (receiver.clone(), config.issuer.clone(), client.clone());
        Ok(Box::new(Caep { receiver, issuer, url, client }) as Box<dyn Switch>)
    };
    config.receivers.iter().map(one).collect()
}

/// The tokens that a call means: id and token of each.
pub(crate) fn tokens(
    signer: &Signer,
    issuer: &str,
    audience: &str,
    order: &Order,
    call: &crate::order::Call,
) -> Vec<(String, String)> {
    let base = format!("order_{}_{}", order.order_id, call.step);
    let iat = call.asked_at.div_euclid(1_000_000);
    let events = match call.act {
        Act::Stop => vec![("session-revoked", None), ("risk-level-change", Some(("HIGH", "LOW")))],
        _ => vec![("risk-level-change", Some(("LOW", "HIGH")))],
    };
    let sign = |(i, (name, level)): (usize, (&str, Option<(&str, &str)>))| {
        let id = format!("{base}_{i}");
        let by = if order.mode == Mode::Act { "policy" } else { "admin" };
        let mut event = json!({
            "event_timestamp": iat,
            "initiating_entity": by,
            "reason_admin": {"en": order.reason},
        });
        if let Some((current, previous)) = level {
            event["principal"] = "USER".into();
            event["current_level"] = current.into();
            event["previous_level"] = previous.into();
            event["risk_reason"] = order.reason.clone().into();
        }
        let uri = format!("https://schemas.openid.net/secevent/caep/event-type/{name}");
        let claims = json!({
            "iss": issuer, "aud": audience, "jti": id, "iat": iat, "txn": order.order_id,
            "sub_id": subject(&order.target, &order.tenant), "events": {uri: event},
        });
        let token = signer.sign("secevent+jwt", claims.to_string().as_bytes());
        (id, token)
    };
    events.into_iter().enumerate().map(sign).collect()
}

/// The subject (RFC 9493): what is stopped, within its tenant.
fn subject(target: &Target, tenant: &str) -> Value {
    let opaque = |id: &str| json!({"format": "opaque", "id": id});
    let mut subject = json!({"format": "complex", "tenant": opaque(tenant)});
    let (_, first, second) = target.parts();
    match target {
        Target::Agent { .. } | Target::Client { .. } => subject["application"] = opaque(first),
        Target::Instance { .. } => {
            subject["application"] = opaque(first);
            subject["device"] = opaque(second);
        }
        Target::AgentUser { .. } => {
            subject["application"] = opaque(first);
            subject["user"] = opaque(second);
        }
        Target::Credential { .. } | Target::Token { .. } | Target::Delegation { .. } => {
            subject["session"] = opaque(first)
        }
        Target::Tenant => {}
    }
    subject
}

impl Caep {
    async fn push(&self, url: &Url, id: &str, token: String, now_secs: i64) -> Result<(), Outcome> {
        let mut request = self
            .client
            .post(url.clone())
            .timeout(Duration::from_millis(self.receiver.timeout_ms))
            .header(CONTENT_TYPE, "application/secevent+jwt")
            .header(ACCEPT, "application/json")
            .body(token);
        if let Some(authorization) = &self.receiver.authorization {
            request = request.header(AUTHORIZATION, authorization.text());
        }
        let response = request.send().await.map_err(|error| failure(&error))?;
        let status = response.status();
        let said = format!("token {id}: answered {status}");
        match status {
            StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            StatusCode::TOO_MANY_REQUESTS => Err(Outcome::Retry(said, retry_after_secs(response.headers(), now_secs))),
            _ if status.is_server_error() => Err(Outcome::Retry(said, retry_after_secs(response.headers(), now_secs))),
            _ => Err(Outcome::Failed(said)),
        }
    }
}

#[async_trait]
impl Switch for Caep {
    fn name(&self) -> &str {
        &self.receiver.name
    }

    fn about(&self) -> About<'_> {
        About { stays_alive: KIND.stays_alive, permission: KIND.permission, tried_against: KIND.tried_against }
    }

    fn calls(&self, _: &Order) -> Vec<String> {
        let place = self.url.as_ref().map_or("held for the receiver to fetch".to_owned(), |url| format!("POST {url}"));
        ["session-revoked", "risk-level-change HIGH"].map(|event| format!("{place}: CAEP {event}")).to_vec()
    }

    fn reversible(&self) -> bool {
        true
    }

    async fn call(&self, message: &Message) -> Outcome {
        let Some(signer) = &message.signer else { return Outcome::Failed("this process has no signing key".into()) };
        let Some(url) = &self.url else {
            return Outcome::Retry("waits for the receiver to fetch and acknowledge it".into(), Some(FETCH_SECS));
        };
        let tokens = tokens(signer, &self.issuer, &self.receiver.audience, &message.order, &message.call);
        let count = tokens.len();
        for (id, token) in tokens {
            if let Err(outcome) = self.push(url, &id, token, message.now_secs).await {
                return outcome;
            }
        }
        Outcome::Done(format!("the receiver took {count} tokens"))
    }
}

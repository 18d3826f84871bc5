//! The shared-signals switch: tells a receiver, by security event tokens (RFC 8417), that an agent is to be stopped or let go.
//!
//! A stop is two tokens, CAEP 1.0 `session-revoked` and `risk-level-change` to HIGH; a release is `risk-level-change` to LOW. The
//! agent is the subject. Pushed (RFC 8935), 202 is done; fetched (RFC 8936), it is done when the receiver has acknowledged every
//! token: until then it counts as waiting, and a receiver that never fetches is given up like one that never answers.
//! Where tokens go is configured, or what the receiver made its stream say (`stream`): then a paused stream waits, and a
//! disabled one, or one that asked for no event that there is to tell, is given up at once.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};
use url::Url;

use super::{About, Kind, Message, Outcome, Switch, failure, retry_after_secs};
use crate::config::{Config, Mode, Receiver};
use crate::order::{Act, Call, Order, Target};
use crate::outbound;
use crate::signer::Signer;
use crate::stream::{Delivery, Status, Stream};

pub(super) static KIND: Kind = Kind {
    name: "caep",
    stays_alive: "Everything that the receiver does not end; its 202 says that it took the event, not that it acted.",
    permission: "None at Muster's side; the receiver trusts Muster's keys at `/v1/keys`.",
    tried_against: "A local receiver that verifies signature and claims.",
    build,
};

/// So long until a receiver that fetches is counted as late once more.
const FETCH_SECS: u64 = 60;

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";

struct Caep {
    receiver: Receiver,
    issuer: String,
    place: Option<Place>,
    client: reqwest::Client,
}

/// Where tokens are pushed.
#[derive(Clone)]
pub(crate) struct Place {
    url: Url,
    authorization: Option<String>,
}

fn build(config: &Config) -> Result<Vec<Box<dyn Switch>>, String> {
    if config.receivers.is_empty() {
        return Ok(Vec::new());
    }
    let client = outbound::client(config).map_err(|error| format!("cannot make an HTTP client: {error}"))?;
    let one = |receiver: &Receiver| {
        let at = |error: url::ParseError| format!("receiver `{}`: {error}", receiver.name);
        let url = receiver.url.as_deref().map(Url::parse).transpose().map_err(at)?;
        let authorization = receiver.authorization.as_ref().map(|hidden| hidden.text().to_owned());
        let place = url.map(|url| Place { url, authorization });
        let (receiver, issuer, client) = (receiver.clone(), config.issuer.clone(), client.clone());
        Ok(Box::new(Caep { receiver, issuer, place, client }) as Box<dyn Switch>)
    };
    config.receivers.iter().map(one).collect()
}

/// The types of events that there are.
pub(crate) fn event_types() -> Vec<String> {
    ["session-revoked", "risk-level-change"].map(|name| format!("{CAEP}{name}")).to_vec()
}

/// An event that a call means: the id of its token, its type, and levels after and before.
type Event = (String, String, Option<(&'static str, &'static str)>);

/// The events of a call that this stream delivers. An id stays the same whatever else the stream asks for.
fn events(order: &Order, call: &Call, stream: Option<&Stream>) -> Vec<Event> {
    let meant = match call.act {
        Act::Stop => vec![("session-revoked", None), ("risk-level-change", Some(("HIGH", "LOW")))],
        _ => vec![("risk-level-change", Some(("LOW", "HIGH")))],
    };
    let event = |(i, (name, levels))| (format!("{}{i}", prefix(order, call)), format!("{CAEP}{name}"), levels);
    let events = meant.into_iter().enumerate().map(event);
    events.filter(|(_, kind, _)| stream.is_none_or(|stream| stream.delivers(kind))).collect()
}

/// What the ids of a call's tokens begin with.
pub(crate) fn prefix(order: &Order, call: &Call) -> String {
    format!("order_{}_{}_", order.order_id, call.step)
}

/// The ids of the tokens that a call means.
pub(crate) fn ids(order: &Order, call: &Call, stream: Option<&Stream>) -> Vec<String> {
    events(order, call, stream).into_iter().map(|(id, ..)| id).collect()
}

/// The tokens that a call means: id and token of each.
pub(crate) fn tokens(
    signer: &Signer,
    issuer: &str,
    audience: &str,
    (order, call): (&Order, &Call),
    stream: Option<&Stream>,
) -> Vec<(String, String)> {
    let iat = call.asked_at.div_euclid(1_000_000);
    let sign = |(id, kind, levels): Event| {
        let by = if order.mode == Mode::Act { "policy" } else { "admin" };
        let mut event = json!({
            "event_timestamp": iat,
            "initiating_entity": by,
            "reason_admin": {"en": order.reason},
        });
        if let Some((current, previous)) = levels {
            event["principal"] = "USER".into();
            event["current_level"] = current.into();
            event["previous_level"] = previous.into();
            event["risk_reason"] = order.reason.clone().into();
        }
        let claims = json!({
            "iss": issuer, "aud": audience, "jti": id, "iat": iat, "txn": order.order_id,
            "sub_id": subject(&order.target, &order.tenant), "events": {kind: event},
        });
        let token = signer.sign("secevent+jwt", claims.to_string().as_bytes());
        (id, token)
    };
    events(order, call, stream).into_iter().map(sign).collect()
}

/// The verification that a stream's receiver asked for and has not got: id and token.
pub(crate) fn verification(signer: &Signer, issuer: &str, audience: &str, stream: &Stream) -> Option<(String, String)> {
    let asked = stream.verification.as_ref().filter(|asked| asked.next_at.is_some())?;
    let event = asked.state.as_ref().map_or_else(|| json!({}), |state| json!({"state": state}));
    let claims = json!({
        "iss": issuer, "aud": audience, "jti": asked.id, "iat": asked.asked_at.div_euclid(1_000_000),
        "sub_id": {"format": "opaque", "id": stream.stream_id}, "events": {VERIFICATION: event},
    });
    Some((asked.id.clone(), signer.sign("secevent+jwt", claims.to_string().as_bytes())))
}

/// Where a stream's tokens are pushed.
pub(crate) fn place(stream: &Stream) -> Result<Place, Outcome> {
    let Delivery::Push { endpoint_url, authorization_header } = &stream.delivery else { return Err(waits()) };
    let url = Url::parse(endpoint_url).map_err(|error| Outcome::Failed(error.to_string()))?;
    Ok(Place { url, authorization: authorization_header.clone() })
}

fn waits() -> Outcome {
    Outcome::Retry("waits for the receiver to fetch and acknowledge it".into(), Some(FETCH_SECS))
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

impl Place {
    pub(crate) async fn push(
        &self,
        client: &reqwest::Client,
        timeout_ms: u64,
        id: &str,
        token: String,
        now_secs: i64,
    ) -> Result<(), Outcome> {
        let mut request = client
            .post(self.url.clone())
            .timeout(Duration::from_millis(timeout_ms))
            .header(CONTENT_TYPE, "application/secevent+jwt")
            .header(ACCEPT, "application/json")
            .body(token);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
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

impl Caep {
    /// Where to push now, or why not.
    fn place(&self, stream: Option<&Stream>) -> Result<Place, Outcome> {
        if !self.receiver.managed {
            return self.place.clone().ok_or_else(waits);
        }
        let held = |why: &str| Outcome::Retry(why.into(), Some(FETCH_SECS));
        let Some(stream) = stream else { return Err(held("the receiver has not made its stream")) };
        match stream.status {
            Status::Enabled => place(stream),
            Status::Paused => Err(held("the receiver paused its stream")),
            Status::Disabled => Err(Outcome::Failed("the receiver disabled its stream".into())),
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
        let place = match &self.place {
            Some(Place { url, .. }) => format!("POST {url}"),
            None if self.receiver.managed => "over the stream that the receiver made".into(),
            None => "held for the receiver to fetch".into(),
        };
        ["session-revoked", "risk-level-change HIGH"].map(|event| format!("{place}: CAEP {event}")).to_vec()
    }

    fn reversible(&self) -> bool {
        true
    }

    async fn call(&self, message: &Message) -> Outcome {
        let Some(signer) = &message.signer else { return Outcome::Failed("this process has no signing key".into()) };
        let stream = message.stream.as_ref();
        let said = (&message.order, &message.call);
        let tokens = tokens(signer, &self.issuer, &self.receiver.audience, said, stream);
        if tokens.is_empty() {
            return Outcome::Failed("the receiver's stream asks for none of the events that tell it".into());
        }
        let place = match self.place(stream) {
            Ok(place) => place,
            Err(outcome) => return outcome,
        };
        let count = tokens.len();
        for (id, token) in tokens {
            let pushed = place.push(&self.client, self.receiver.timeout_ms, &id, token, message.now_secs);
            if let Err(outcome) = pushed.await {
                return outcome;
            }
        }
        Outcome::Done(format!("the receiver took {count} tokens"))
    }
}

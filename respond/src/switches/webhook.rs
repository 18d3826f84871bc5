//! The webhook switch: tells a receiver of the operator's own to stop an agent, or to let it go again.
//!
//! Signed after Standard Webhooks 1.0.0, with a shared secret or an Ed25519 key; the body is under 20 kB and the same at every repeat. 2xx is done; 429 and 5xx, time-outs
//! and lost connections are repeated; 410 switches this receiver off until restart; everything else, redirects too, fails.
//! Nothing of the answer but its status is read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::json;
use url::Url;

use super::{About, Kind, Message, Outcome, Switch};
use crate::config::Config;
use crate::deny::rfc3339;
use crate::order::{Act, Order, State, clip, mode_name};
use crate::outbound;
use crate::webhook::{ID, SIGNATURE, Secret, TIMESTAMP, sign};

pub(super) static KIND: Kind = Kind {
    name: "webhook",
    stays_alive: "Everything that the receiver does not stop; its 2xx is its word, not evidence.",
    permission: "None at Muster's side; the receiver checks the signature with the shared secret or the public key.",
    tried_against: "A local receiver that also fails in every way; the published Standard Webhooks example.",
    build,
};

const BODY_BYTES_MAX: usize = 20_000;

struct Webhook {
    name: String,
    url: Url,
    secret: Secret,
    timeout: Duration,
    client: reqwest::Client,
    disabled: AtomicBool,
}

fn build(config: &Config) -> Result<Vec<Box<dyn Switch>>, String> {
    if config.webhooks.is_empty() {
        return Ok(Vec::new());
    }
    let client = outbound::client(config).map_err(|error| format!("cannot make an HTTP client: {error}"))?;
    let one = |webhook: &crate::config::Webhook| {
        let at = |problem: String| format!("webhook `{}`: {problem}", webhook.name);
        let url = Url::parse(&webhook.url).map_err(|error| at(error.to_string()))?;
        let secret = webhook.secret.clone().ok_or_else(|| at("has no secret".into()))?;
        if !secret.signs() {
            return Err(at("`whpk_` is a public key, which cannot sign".into()));
        }
        let timeout = Duration::from_millis(webhook.timeout_ms);
        let disabled = AtomicBool::new(false);
        let switch = Webhook { name: webhook.name.clone(), url, secret, timeout, client: client.clone(), disabled };
        Ok(Box::new(switch) as Box<dyn Switch>)
    };
    config.webhooks.iter().map(one).collect()
}

#[async_trait]
impl Switch for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn about(&self) -> About<'_> {
        About { stays_alive: KIND.stays_alive, permission: KIND.permission, tried_against: KIND.tried_against }
    }

    fn calls(&self, _: &Order) -> Vec<String> {
        vec![format!("POST {} killswitch.approved", self.url)]
    }

    fn reversible(&self) -> bool {
        true
    }

    async fn call(&self, message: &Message) -> Outcome {
        if self.disabled.load(Ordering::Relaxed) {
            return Outcome::Failed("not called: the receiver answered 410 Gone earlier".into());
        }
        let Some(body) = body(message) else {
            return Outcome::Failed(format!("the message is larger than {BODY_BYTES_MAX} bytes"));
        };
        let request = self
            .client
            .post(self.url.clone())
            .timeout(self.timeout)
            .header(CONTENT_TYPE, "application/json")
            .header(ID, &message.id)
            .header(TIMESTAMP, message.now_secs)
            .header(SIGNATURE, sign(&self.secret, &message.id, message.now_secs, &body))
            .body(body);
        match request.send().await {
            Ok(response) => self.judge(response.status(), response.headers(), message.now_secs),
            Err(error) => super::failure(&error),
        }
    }
}

impl Webhook {
    fn judge(&self, status: StatusCode, headers: &HeaderMap, now_secs: i64) -> Outcome {
        let said = format!("answered {status}");
        if status.is_success() {
            return Outcome::Done(said);
        }
        if status == StatusCode::GONE {
            self.disabled.store(true, Ordering::Relaxed);
            tracing::error!(switch = self.name, "the receiver is gone (410): it is not called again before a restart");
            return Outcome::Failed(said);
        }
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Outcome::Retry(said, super::retry_after_secs(headers, now_secs));
        }
        Outcome::Failed(said)
    }
}

/// The message; a long explanation is cut before the message is refused.
fn body(message: &Message) -> Option<Vec<u8>> {
    let mut explanation = message.order.alert.explanation.as_str();
    loop {
        let body = render(message, explanation);
        if body.len() < BODY_BYTES_MAX {
            return Some(body);
        }
        if explanation.is_empty() {
            return None;
        }
        explanation = clip(explanation, explanation.len() / 2);
    }
}

fn render(message: &Message, explanation: &str) -> Vec<u8> {
    let Message { order, call, .. } = message;
    // A receiver is asked to act, not told that it is done: `executed` is never claimed in advance.
    let state = match call.act {
        Act::Stop => State::Approved.name(),
        Act::Release | Act::Look | Act::Tell => call.state.name(),
    };
    let drill = if order.drill { "drill." } else { "" };
    let body = json!({
        "type": format!("killswitch.{drill}{state}"),
        "timestamp": rfc3339(call.asked_at),
        "data": {
            "order": {
                "order_id": order.order_id,
                "step": call.step,
                "act": call.act.name(),
                "state": call.state.name(),
                "mode": mode_name(order.mode, order.drill),
                "tenant": order.tenant,
                "target": order.target,
                "requested_by": order.requested_by,
                "requested_at": rfc3339(order.requested_at),
                "expires_at": rfc3339(order.expires_at),
                "reason": order.reason,
                "plan": order.plan,
                "approvals_needed": order.approvals_needed,
                // Of a call that tells: what.
                "detail": (call.act == Act::Tell).then_some(&call.detail),
            },
            "alert": {
                "id": order.alert.id,
                "detector": order.alert.detector,
                "severity_id": order.alert.severity_id,
                "agent_id": order.alert.agent_id,
                "title": order.alert.title,
                "explanation": explanation,
            },
        },
    });
    serde_json::to_vec(&body).expect("texts and numbers are JSON")
}

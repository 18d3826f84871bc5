//! The transmitter's routes (Shared Signals Framework 1.0): its metadata, and tokens fetched by poll (RFC 8936).
//!
//! A token is held until its receiver acknowledges it, since its call is in the control log until then, with the tokens of it that
//! were acknowledged: one that was is never handed out again. Only the token that is named like the receiver fetches.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use schemas::{Principal, Verb};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::Receiver;
use crate::error::Error;
use crate::http::{Problem, need, to_the_end};
use crate::responder::Responder;
use crate::signer::Signer;
use crate::stream::{Delivery, Status};
use crate::switches::Outcome;
use crate::switches::caep;

/// Tokens handed out by one poll.
const EVENTS_MAX: usize = 100;
/// Acknowledgements and errors taken by one poll.
const ACKS_MAX: usize = 1000;

/// For anybody: mounted where no token is asked for.
pub(crate) async fn metadata(State(responder): State<Arc<Responder>>) -> Result<Json<Value>, Problem> {
    let issuer = &responder.config.issuer;
    if issuer.is_empty() {
        return Err(Problem(StatusCode::NOT_FOUND, "no issuer is configured (respond.issuer)".into()));
    }
    let at = |path: &str| format!("{}{path}", issuer.trim_end_matches('/'));
    Ok(Json(json!({
        "spec_version": "1_0",
        "issuer": issuer,
        "jwks_uri": at("/v1/keys"),
        "delivery_methods_supported": ["urn:ietf:rfc:8935", "urn:ietf:rfc:8936"],
        "configuration_endpoint": at("/v1/ssf/streams"),
        "status_endpoint": at("/v1/ssf/status"),
        "verification_endpoint": at("/v1/ssf/verify"),
        "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6750"}],
        "default_subjects": "ALL",
        "critical_subject_members": ["application"],
    })))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Poll {
    max_events: Option<usize>,
    #[serde(default)]
    ack: Vec<String>,
    #[serde(default)]
    set_errs: Map<String, Value>,
}

pub(crate) async fn poll(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    body: Result<Json<Poll>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    need(&principal, &[Verb::Deny])?;
    if principal.name != name {
        let why = format!("token `{}` is not receiver `{name}`'s: it must be named like it", principal.name);
        return Err(Problem(StatusCode::FORBIDDEN, why));
    }
    let Json(poll) = body?;
    let tenant = &principal.tenant;
    let stream = responder.stream(tenant, &name);
    let polls = stream.as_ref().is_some_and(|stream| matches!(stream.delivery, Delivery::Poll { .. }));
    let fetched =
        |receiver: &&Receiver| receiver.name == name && if receiver.managed { polls } else { receiver.url.is_none() };
    let Some(receiver) = responder.config.receivers.iter().find(fetched) else {
        return Err(Problem(StatusCode::NOT_FOUND, format!("no receiver that fetches is named `{name}`")));
    };
    let Some(signer) = responder.signer() else {
        return Err(Problem(StatusCode::SERVICE_UNAVAILABLE, "this process has no signing key".into()));
    };
    if poll.ack.len() + poll.set_errs.len() > ACKS_MAX {
        return Err(Problem(StatusCode::BAD_REQUEST, format!("more than {ACKS_MAX} acknowledgements at once")));
    }
    let refused: Vec<(String, String)> = poll.set_errs.iter().map(|(id, why)| (id.clone(), why.to_string())).collect();
    let (settling, owner, of) = (responder.clone(), tenant.clone(), name.clone());
    to_the_end(async move { settling.settle(&owner, &of, poll.ack, refused).await }).await?;
    let max = poll.max_events.unwrap_or(EVENTS_MAX).min(EVENTS_MAX);
    let mut waiting = responder.tokens(signer, tenant, receiver, max);
    let more = waiting.len() > max;
    waiting.truncate(max);
    let sets: Map<String, Value> = waiting.into_iter().map(|(id, token)| (id, token.into())).collect();
    Ok(Json(json!({"sets": sets, "moreAvailable": more})))
}

impl Responder {
    /// What a receiver that fetches has not acknowledged, oldest first: id and token of each. More than `max` only to tell that
    /// there are more, since each is signed anew.
    fn tokens(&self, signer: &Signer, tenant: &str, receiver: &Receiver, max: usize) -> Vec<(String, String)> {
        let stream = self.stream(tenant, &receiver.name);
        if stream.as_ref().is_some_and(|stream| stream.status != Status::Enabled) {
            return Vec::new();
        }
        let (issuer, audience) = (&self.config.issuer, &receiver.audience);
        let asked = stream.as_ref().and_then(|stream| caep::verification(signer, issuer, audience, stream));
        let mut waiting = Vec::from_iter(asked);
        for (order, i) in self.waiting(tenant, &receiver.name) {
            if waiting.len() > max {
                break;
            }
            let call = &order.calls[i];
            let tokens = caep::tokens(signer, issuer, audience, (&order, call), stream.as_ref());
            waiting.extend(tokens.into_iter().filter(|(id, _)| !call.taken.contains(id)));
        }
        waiting
    }

    /// Calls of a switch that are neither done nor given up: each order, with the call's place in it.
    fn waiting(&self, tenant: &str, switch: &str) -> Vec<(crate::order::Order, usize)> {
        let book = self.book();
        let orders = book.all().filter(|order| order.tenant == tenant);
        let calls = orders.flat_map(|order| order.calls.iter().enumerate().map(move |(i, call)| (order, i, call)));
        let waiting = calls.filter(|(_, _, call)| call.switch == switch && call.next_at.is_some());
        let mut waiting: Vec<_> = waiting.map(|(order, i, _)| (order.clone(), i)).collect();
        waiting.sort_by_key(|(order, i)| order.calls[*i].asked_at);
        waiting.truncate(EVENTS_MAX + 1);
        waiting
    }

    /// Takes a receiver's word for tokens: a call whose every token is acknowledged is done, one that was refused is given up.
    async fn settle(
        &self,
        tenant: &str,
        switch: &str,
        ack: Vec<String>,
        refused: Vec<(String, String)>,
    ) -> Result<(), Error> {
        let stream = self.stream(tenant, switch);
        if let Some(asked) = stream.as_ref().and_then(|stream| stream.verification.as_ref())
            && (ack.contains(&asked.id) || refused.iter().any(|(id, _)| *id == asked.id))
        {
            self.note_verification(tenant, switch, &asked.id, None).await?;
        }
        for (order, i) in self.waiting(tenant, switch) {
            let call = &order.calls[i];
            let prefix = caep::prefix(&order, call);
            if let Some((id, why)) = refused.iter().find(|(id, _)| id.starts_with(&prefix)) {
                let why = Outcome::Failed(format!("the receiver refused token {id}: {why}"));
                self.conclude(&order.order_id, i, why).await?;
                continue;
            }
            let mut missing = caep::ids(&order, call, stream.as_ref());
            missing.retain(|id| !call.taken.contains(id));
            let taken: Vec<String> = missing.extract_if(.., |id| ack.contains(id)).collect();
            match (taken.is_empty(), missing.is_empty()) {
                (true, _) => {}
                (false, true) => {
                    let said = Outcome::Done("the receiver fetched and acknowledged every token".into());
                    self.conclude(&order.order_id, i, said).await?;
                }
                (false, false) => self.note_taken(&order.order_id, i, taken).await?,
            }
        }
        Ok(())
    }

    /// Writes down that some of a call's tokens are acknowledged.
    async fn note_taken(&self, order_id: &str, call: usize, taken: Vec<String>) -> Result<(), Error> {
        let writing = self.writing.lock().await;
        let Some(mut order) = self.order(order_id) else { return Ok(()) };
        order.calls[call].taken.extend(taken);
        self.write(&writing, vec![order], Vec::new()).await
    }
}

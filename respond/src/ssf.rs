//! The transmitter's routes (Shared Signals Framework 1.0): its metadata, and tokens fetched by poll (RFC 8936).
//!
//! A token is held until its receiver acknowledges it, since its call is in the control log until then; which of a call's tokens
//! were acknowledged is kept in memory only, so after a restart a receiver may be handed one again.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use schemas::{Principal, Verb};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::http::{Problem, need};
use crate::responder::Responder;
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
    Ok(Json(json!({
        "spec_version": "1_0",
        "issuer": issuer,
        "jwks_uri": format!("{}/v1/keys", issuer.trim_end_matches('/')),
        "delivery_methods_supported": ["urn:ietf:rfc:8935", "urn:ietf:rfc:8936"],
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
    let Json(poll) = body?;
    let fetched = |receiver: &&crate::config::Receiver| receiver.name == name && receiver.url.is_none();
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
    responder.settle(&principal.tenant, &name, poll.ack, refused).await?;
    let max = poll.max_events.unwrap_or(EVENTS_MAX).min(EVENTS_MAX);
    let (mut sets, mut more) = (Map::new(), false);
    for (order, call) in responder.waiting(&principal.tenant, &name) {
        for (id, token) in
            caep::tokens(signer, &responder.config.issuer, &receiver.audience, &order, &order.calls[call])
        {
            if responder.acknowledged().contains(&id) {
                continue;
            }
            more = sets.len() >= max;
            if more {
                break;
            }
            sets.insert(id, token.into());
        }
    }
    Ok(Json(json!({"sets": sets, "moreAvailable": more})))
}

impl Responder {
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
        let of_call =
            |order: &crate::order::Order, i: usize| format!("order_{}_{}_", order.order_id, order.calls[i].step);
        for (order, i) in self.waiting(tenant, switch) {
            let prefix = of_call(&order, i);
            if let Some((id, why)) = refused.iter().find(|(id, _)| id.starts_with(&prefix)) {
                self.conclude(&order.order_id, i, Outcome::Failed(format!("the receiver refused token {id}: {why}")))
                    .await?;
                continue;
            }
            let given: Vec<&String> = ack.iter().filter(|id| id.starts_with(&prefix)).collect();
            if given.is_empty() {
                continue;
            }
            let tokens = if order.calls[i].act == crate::order::Act::Stop { 2 } else { 1 };
            let all = {
                let mut acknowledged = self.acknowledged();
                acknowledged.extend(given.into_iter().cloned());
                let all = (0..tokens).all(|n| acknowledged.contains(&format!("{prefix}{n}")));
                if all {
                    acknowledged.retain(|id| !id.starts_with(&prefix));
                }
                all
            };
            if all {
                let said = format!("the receiver fetched and acknowledged {tokens} tokens");
                self.conclude(&order.order_id, i, Outcome::Done(said)).await?;
            }
        }
        Ok(())
    }
}

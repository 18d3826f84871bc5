//! Stream management (Shared Signals Framework 1.0, 8.1): a receiver makes, changes and pauses its stream, and has it verified.
//!
//! | route | does |
//! | --- | --- |
//! | `POST /v1/ssf/streams` | makes the stream: 201, or 409 where there is one |
//! | `GET /v1/ssf/streams?stream_id=` | its configuration; a list where no id is named |
//! | `PATCH`, `PUT /v1/ssf/streams` | changes it, replaces it |
//! | `DELETE /v1/ssf/streams?stream_id=` | takes it away |
//! | `GET /v1/ssf/status?stream_id=`, `POST /v1/ssf/status` | enabled, paused, disabled |
//! | `POST /v1/ssf/verify` | a verification token comes over the stream |
//!
//! For the token, with the verb `deny`, that is named like a `managed` receiver: others' streams do not exist for it. Left out:
//! adding and removing subjects (nobody knows beforehand which agent will have to be stopped, and a receiver that takes one off
//! would exempt it), and Muster changing a status by itself.

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use schemas::{Principal, Verb};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::calls::delay_secs;
use crate::config::{Config, Receiver};
use crate::error::Error;
use crate::http::{Problem, need, to_the_end};
use crate::outbound;
use crate::responder::Responder;
use crate::stream::{Delivery, Status, Stream, Wanted};
use crate::switches::{Outcome, caep};

const STATE_BYTES_MAX: usize = 1000;
/// Attempts at pushing one verification; the receiver asks again if it likes.
const VERIFY_ATTEMPTS_MAX: i32 = 6;
/// So long one attempt may be under way at most, in microseconds.
const ATTEMPT_MICROS: i64 = 120_000_000;

pub(crate) fn routes() -> Router<Arc<Responder>> {
    let streams = get(read).post(create).patch(update).put(replace).delete(delete);
    Router::new()
        .route("/v1/ssf/streams", streams)
        .route("/v1/ssf/status", get(status).post(set_status))
        .route("/v1/ssf/verify", post(verify))
}

/// The receiver that a token is for.
fn receiver<'a>(responder: &'a Responder, principal: &Principal) -> Result<&'a Receiver, Problem> {
    need(principal, &[Verb::Deny])?;
    let own = |receiver: &&Receiver| receiver.managed && receiver.name == principal.name;
    let missing = || format!("no receiver that manages its stream is named `{}` (respond.receivers)", principal.name);
    responder.config.receivers.iter().find(own).ok_or_else(|| Problem(StatusCode::FORBIDDEN, missing()))
}

/// The receiver's stream, which must be the one that was asked for.
fn named(stream: Option<Stream>, id: &str) -> Result<Stream, Problem> {
    let unknown = || Problem(StatusCode::NOT_FOUND, "this receiver has no stream with this `stream_id`".into());
    stream.filter(|stream| stream.stream_id == id).ok_or_else(unknown)
}

fn bad(why: impl Into<String>) -> Problem {
    Problem(StatusCode::BAD_REQUEST, why.into())
}

fn no_store(status: StatusCode, body: Value) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// What is wrong with a place that a receiver names: the configuration must name its host.
fn url_problem(config: &Config, text: &str) -> Option<String> {
    match Url::parse(text) {
        Ok(_) if config.hosts_allowed.is_empty() => Some("its host must be one of `respond.hosts_allowed`".into()),
        Ok(url) => outbound::url_problem(config, &url),
        Err(error) => Some(error.to_string()),
    }
}

/// Reads the receiver's stream, changes it and makes that durable, to the end whether or not somebody still waits.
async fn change(
    responder: Arc<Responder>,
    principal: &Principal,
    change: impl FnOnce(&Responder, Option<Stream>, Value) -> Result<Stream, Problem> + Send + 'static,
) -> Result<Stream, Problem> {
    let Receiver { name, audience, .. } = receiver(&responder, principal)?.clone();
    let tenant = principal.tenant.clone();
    to_the_end(async move {
        let writing = responder.writing.lock().await;
        let before = responder.stream(&tenant, &name);
        let told = before.as_ref().map_or(Value::Null, |stream| stream.told(&responder.config.issuer, &audience));
        let changed = match change(&responder, before, told) {
            Ok(changed) => changed,
            Err(problem) => return Ok(Err(problem)),
        };
        tracing::info!(tenant, receiver = name, status = ?changed.status, deleted = changed.deleted, "a stream changed");
        responder.write_stream(&writing, changed.clone()).await?;
        Ok(Ok(changed))
    })
    .await?
}

type Body = Result<Json<Wanted>, JsonRejection>;

async fn create(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    body: Body,
) -> Result<Response, Problem> {
    let audience = receiver(&responder, &principal)?.audience.clone();
    let Json(wanted) = body?;
    let (tenant, name) = (principal.tenant.clone(), principal.name.clone());
    let made = change(responder.clone(), &principal, move |responder, before, _| {
        if before.is_some() {
            return Err(Problem(StatusCode::CONFLICT, "this receiver has its stream already; one is all".into()));
        }
        let mut stream = Stream::new(&tenant, &name, responder.clock.now_micros());
        stream.take(wanted, true, &Value::Null, |url| url_problem(&responder.config, url)).map_err(bad)?;
        Ok(stream)
    });
    Ok(no_store(StatusCode::CREATED, made.await?.told(&responder.config.issuer, &audience)))
}

#[derive(Deserialize)]
struct Which {
    stream_id: Option<String>,
}

async fn read(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, Problem> {
    let audience = &receiver(&responder, &principal)?.audience;
    let Query(Which { stream_id }) = which?;
    let stream = responder.stream(&principal.tenant, &principal.name);
    let told = |stream: &Stream| stream.told(&responder.config.issuer, audience);
    let body = match stream_id {
        None => json!(stream.iter().map(told).collect::<Vec<_>>()),
        Some(id) => told(&named(stream, &id)?),
    };
    Ok(no_store(StatusCode::OK, body))
}

async fn update(
    state: State<Arc<Responder>>,
    principal: Extension<Principal>,
    body: Body,
) -> Result<Response, Problem> {
    take(state, principal, body, false).await
}

async fn replace(
    state: State<Arc<Responder>>,
    principal: Extension<Principal>,
    body: Body,
) -> Result<Response, Problem> {
    take(state, principal, body, true).await
}

async fn take(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    body: Body,
    whole: bool,
) -> Result<Response, Problem> {
    let audience = receiver(&responder, &principal)?.audience.clone();
    let Json(mut wanted) = body?;
    let id = wanted.stream_id.take().ok_or_else(|| bad("`stream_id` is missing"))?;
    let changed = change(responder.clone(), &principal, move |responder, before, told| {
        let mut stream = named(before, &id)?;
        stream.take(wanted, whole, &told, |url| url_problem(&responder.config, url)).map_err(bad)?;
        Ok(stream)
    });
    Ok(no_store(StatusCode::OK, changed.await?.told(&responder.config.issuer, &audience)))
}

async fn delete(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, Problem> {
    receiver(&responder, &principal)?;
    let Query(Which { stream_id }) = which?;
    let id = stream_id.ok_or_else(|| bad("`stream_id` is missing"))?;
    change(responder, &principal, move |_, before, _| {
        let mut stream = named(before, &id)?;
        stream.deleted = true;
        Ok(stream)
    })
    .await?;
    Ok((StatusCode::NO_CONTENT, [(CACHE_CONTROL, "no-store")]).into_response())
}

async fn status(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, Problem> {
    receiver(&responder, &principal)?;
    let Query(Which { stream_id }) = which?;
    let id = stream_id.ok_or_else(|| bad("`stream_id` is missing"))?;
    let stream = named(responder.stream(&principal.tenant, &principal.name), &id)?;
    Ok(no_store(StatusCode::OK, stream.status_told()))
}

#[derive(Deserialize)]
struct NewStatus {
    stream_id: String,
    status: Status,
    reason: Option<String>,
}

async fn set_status(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    body: Result<Json<NewStatus>, JsonRejection>,
) -> Result<Response, Problem> {
    receiver(&responder, &principal)?;
    let Json(NewStatus { stream_id, status, reason }) = body?;
    let changed = change(responder, &principal, move |_, before, _| {
        let mut stream = named(before, &stream_id)?;
        stream.set_status(status, reason);
        Ok(stream)
    });
    Ok(no_store(StatusCode::OK, changed.await?.status_told()))
}

#[derive(Deserialize)]
struct Verify {
    stream_id: String,
    state: Option<String>,
}

async fn verify(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    body: Result<Json<Verify>, JsonRejection>,
) -> Result<Response, Problem> {
    receiver(&responder, &principal)?;
    let Json(Verify { stream_id, state }) = body?;
    if state.as_ref().is_some_and(|state| state.len() > STATE_BYTES_MAX) {
        return Err(bad(format!("`state`: at most {STATE_BYTES_MAX} bytes")));
    }
    change(responder, &principal, move |responder, before, _| {
        let mut stream = named(before, &stream_id)?;
        if !stream.verify(state, responder.clock.now_micros()) {
            let why = "`min_verification_interval` has not passed since the last one";
            return Err(Problem(StatusCode::TOO_MANY_REQUESTS, why.into()));
        }
        Ok(stream)
    })
    .await?;
    Ok((StatusCode::NO_CONTENT, [(CACHE_CONTROL, "no-store")]).into_response())
}

impl Responder {
    /// A receiver's stream in a tenant; one that it made when it still managed streams counts no more.
    pub(crate) fn stream(&self, tenant: &str, receiver: &str) -> Option<Stream> {
        let known = self.feeds().get(&(tenant.to_owned(), receiver.to_owned())).cloned();
        known.filter(|_| self.manages(receiver))
    }

    fn manages(&self, receiver: &str) -> bool {
        self.config.receivers.iter().any(|other| other.managed && other.name == receiver)
    }

    /// Pushes every verification that is due at `now`, all at once. Returns how many there were.
    pub async fn verify_due(&self, now: i64) -> Result<usize, Error> {
        let due = self.claim_verifications(now);
        let count = due.len();
        let pushed = futures::future::join_all(due.into_iter().map(|stream| self.push_verification(stream))).await;
        pushed.into_iter().collect::<Result<(), Error>>().map(|()| count)
    }

    /// Streams whose verification is to be pushed now. The next claim of one lies past the end of this attempt.
    pub(crate) fn claim_verifications(&self, now: i64) -> Vec<Stream> {
        let mut due = Vec::new();
        for stream in self.feeds().values_mut() {
            let pushes = self.manages(&stream.receiver)
                && stream.status == Status::Enabled
                && matches!(stream.delivery, Delivery::Push { .. });
            let asked =
                stream.verification.as_mut().filter(|asked| pushes && asked.next_at.is_some_and(|at| at <= now));
            if let Some(asked) = asked {
                asked.next_at = Some(now + ATTEMPT_MICROS);
                asked.attempt += 1;
                due.push(stream.clone());
            }
        }
        due
    }

    pub(crate) async fn push_verification(&self, stream: Stream) -> Result<(), Error> {
        let Some(asked) = &stream.verification else { return Ok(()) };
        let outcome = self.try_verification(&stream).await;
        let again = match &outcome {
            Err(Outcome::Retry(_, after_secs)) if asked.attempt < VERIFY_ATTEMPTS_MAX => {
                let secs = delay_secs(asked.attempt).max(after_secs.unwrap_or(0) as i64);
                Some(self.clock.now_micros() + secs * 1_000_000)
            }
            Err(Outcome::Retry(why, _) | Outcome::Failed(why)) => {
                tracing::warn!(
                    receiver = stream.receiver,
                    tenant = stream.tenant,
                    "a verification was given up: {why}"
                );
                None
            }
            _ => None,
        };
        self.note_verification(&stream.tenant, &stream.receiver, &asked.id, again).await
    }

    async fn try_verification(&self, stream: &Stream) -> Result<(), Outcome> {
        let failed = |why: &str| Outcome::Failed(why.into());
        let receiver = self.config.receivers.iter().find(|receiver| receiver.name == stream.receiver);
        let receiver = receiver.ok_or_else(|| failed("the receiver is not configured any more"))?;
        let signer = self.signer().ok_or_else(|| failed("this process has no signing key"))?;
        let (id, token) = caep::verification(signer, &self.config.issuer, &receiver.audience, stream)
            .ok_or_else(|| failed("nobody asks for it any more"))?;
        let place = caep::place(stream)?;
        let client = outbound::client(&self.config).map_err(|error| Outcome::Failed(error.to_string()))?;
        let now_secs = self.clock.now_micros().div_euclid(1_000_000);
        place.push(&client, receiver.timeout_ms, &id, token, now_secs).await
    }

    /// Writes down when the verification `id` is to be tried again, or that it is over.
    pub(crate) async fn note_verification(
        &self,
        tenant: &str,
        receiver: &str,
        id: &str,
        next_at: Option<i64>,
    ) -> Result<(), Error> {
        let writing = self.writing.lock().await;
        let Some(mut stream) = self.stream(tenant, receiver) else { return Ok(()) };
        let Some(asked) = stream.verification.as_mut().filter(|asked| asked.id == id) else { return Ok(()) };
        asked.next_at = next_at;
        self.write_stream(&writing, stream).await
    }
}

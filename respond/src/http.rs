//! The routes of orders and of the deny list; those that gateways ask are in `doors`. Each answers for the principal's tenant only; `muster` authenticates.
//!
//! | route | verb |
//! | --- | --- |
//! | `GET /v1/deny` the list, with `ETag` | `deny` or `query` |
//! | `GET /v1/deny/check?agent=&credential=&user=` 200 or 403 | `deny` or `query` |
//! | `GET /v1/orders?limit=`, `GET /v1/orders/{id}` | `query` or `order` |
//! | `POST /v1/orders` asks for one; `?dry_run=true` only tells the plan | `order` |
//! | `POST /v1/orders/{id}/approve` `{"plan": digest}` | `approve`, a person |
//! | `POST /v1/orders/{id}/release` `{"reason": …}` | `order` |
//! | `POST /v1/orders/drill` `{"name": …}` rehearses against a canary | `order` |
//! | `POST /v1/ssf/poll/{receiver}` (RFC 8936); its stream in `streams` | `deny`, the receiver's |
//! | `POST /v1/orders/disarm`, `/v1/orders/arm` `{"reason": …}` | `order`; `approve`, a person |
//!
//! `{id}` is an order's id or its beginning, from 8 digits on, if no other id begins so (409).

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use schemas::{Holder, Principal, Verb};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::deny::rfc3339;
use crate::error::Error;
use crate::hand::Request;
use crate::order::{Order, Target, mode_name};
use crate::responder::Responder;
use crate::target::Asker;

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;
const REASON_BYTES_MAX: usize = 1000;

pub fn routes(responder: Arc<Responder>) -> Router {
    Router::new()
        .route("/v1/deny", get(deny))
        .route("/v1/deny/check", get(check))
        .route("/v1/orders", get(orders).post(request))
        .route("/v1/orders/arm", post(arm))
        .route("/v1/orders/disarm", post(disarm))
        .route("/v1/orders/{order_id}/approve", post(approve))
        .route("/v1/orders/{order_id}", get(order))
        .route("/v1/orders/{order_id}/release", post(release))
        .route("/v1/orders/drill", post(drill))
        .route("/v1/ssf/poll/{receiver}", post(crate::ssf::poll))
        .merge(crate::doors::routes())
        .merge(crate::grpc::routes())
        .merge(crate::streams::routes())
        .with_state(responder)
}

/// Routes that answer anybody: keys, and what a receiver of shared signals must know.
pub fn open_routes(responder: Arc<Responder>) -> Router {
    Router::new()
        .route("/v1/keys", get(crate::doors::keys))
        .route("/.well-known/ssf-configuration", get(crate::ssf::metadata))
        // Where the issuer's URL has a path, it stands behind.
        .route("/.well-known/ssf-configuration/{*path}", get(crate::ssf::metadata))
        .with_state(responder)
}

/// An RFC 9457 problem document.
pub(crate) struct Problem(pub(crate) StatusCode, pub(crate) String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Problem(status, detail) = self;
        let title = status.canonical_reason().unwrap_or("Error");
        let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
        (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::Unknown(_) => StatusCode::NOT_FOUND,
            Error::NotStanding { .. } | Error::Ambiguous(_) => StatusCode::CONFLICT,
            Error::Request(_) => StatusCode::BAD_REQUEST,
            Error::NotApproved { .. } => StatusCode::FORBIDDEN,
            _ if error.retry_later() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status != StatusCode::INTERNAL_SERVER_ERROR {
            return Problem(status, error.to_string());
        }
        tracing::error!(%error, "a request about orders failed");
        Problem(status, "the order could not be read or written; the server's log says why".into())
    }
}

impl From<JsonRejection> for Problem {
    fn from(bad: JsonRejection) -> Self {
        Problem(bad.status(), bad.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(bad: QueryRejection) -> Self {
        Problem(bad.status(), bad.body_text())
    }
}

/// Does `work` in a task of its own: a client that hangs up must not stop it between the log and the deny list, or leave a
/// canary stopped.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Problem> {
    Ok(tokio::spawn(work).await.map_err(|error| Error::Task(error.to_string()))??)
}

pub(crate) fn need(principal: &Principal, verbs: &[Verb]) -> Result<(), Problem> {
    if verbs.iter().any(|verb| principal.may(*verb)) {
        return Ok(());
    }
    let names: Vec<String> = verbs.iter().map(|verb| format!("{verb:?}").to_lowercase()).collect();
    Err(Problem(StatusCode::FORBIDDEN, format!("token `{}` lacks the verb {}", principal.name, names.join(" or "))))
}

async fn deny(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    crate::doors::form(responder, principal, headers, "application/json", |_, body, _| Ok(body.to_vec())).await
}

/// A question about one request: as [`Asker`] says, with one grant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    agent: Option<String>,
    instance: Option<String>,
    credential: Option<String>,
    token: Option<String>,
    user: Option<String>,
    client: Option<String>,
    grant: Option<String>,
}

async fn check(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    query: Result<Query<Check>, QueryRejection>,
) -> Result<Response, Problem> {
    need(&principal, &[Verb::Deny, Verb::Query])?;
    let Query(Check { agent, instance, credential, token, user, client, grant }) = query?;
    let asker = Asker { agent, instance, credential, token, user, client, grants: grant.into_iter().collect() };
    if asker.is_nobody() {
        let needed = "one of `agent`, `credential`, `token`, `client` and `grant` is needed";
        return Err(Problem(StatusCode::BAD_REQUEST, needed.into()));
    }
    let found = responder.deny().check(&principal.tenant, &asker);
    Ok(match found {
        None => Json(json!({"denied": false})).into_response(),
        Some(entry) => (StatusCode::FORBIDDEN, Json(json!({"denied": true, "entry": &*entry}))).into_response(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<usize>,
}

async fn orders(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    need(&principal, &[Verb::Query, Verb::Order])?;
    let Query(page) = query?;
    let orders = responder.orders(&principal.tenant, page.limit.unwrap_or(LIMIT).min(LIMIT_MAX));
    Ok(Json(json!({"orders": orders.iter().map(view).collect::<Vec<_>>()})))
}

async fn order(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    Path(order_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    need(&principal, &[Verb::Query, Verb::Order])?;
    Ok(Json(view(&responder.find(&principal.tenant, &order_id)?)))
}

/// What `POST /v1/orders` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    target: Target,
    reason: String,
    #[serde(default)]
    switches: Vec<String>,
    #[serde(default)]
    switches_next: Vec<String>,
    /// How long it stands; the configuration's `deny_secs` where it is not said.
    stands_secs: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct How {
    #[serde(default)]
    dry_run: bool,
}

/// Names a request, so that a repeat is the same order.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

async fn request(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    need(&principal, &[Verb::Order])?;
    let Query(how) = how?;
    let Json(wanted) = body?;
    let key = headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()).map(str::to_owned);
    let request = Request {
        target: wanted.target,
        switches: wanted.switches,
        switches_next: wanted.switches_next,
        stands_secs: wanted.stands_secs.unwrap_or(responder.config.deny_secs),
        reason: reason(&wanted.reason)?,
        key: key.unwrap_or_else(|| responder.clock.now_micros().to_string()),
    };
    if how.dry_run {
        let (_, plan) = responder.draft(&principal, &request)?;
        return Ok(Json(json!({"dry_run": true, "plan": plan})));
    }
    let asked = responder.clone();
    let order = to_the_end(async move { asked.request(&principal, &request).await }).await?;
    let plan = responder.plan(&order);
    Ok(Json(json!({"order": view(&order), "plan": plan})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rehearse {
    /// The drill's name; the first where it is missing.
    name: Option<String>,
}

async fn drill(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    body: Result<Json<Rehearse>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    need(&principal, &[Verb::Order])?;
    let Json(Rehearse { name }) = body?;
    let first = || responder.drills().into_iter().next().map_or_else(String::new, |drill| drill.name);
    let name = name.unwrap_or_else(first);
    let report = to_the_end(async move { responder.drill(&principal, &name).await }).await?;
    Ok(Json(json!(report)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approve {
    plan: String,
}

async fn approve(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    Path(order_id): Path<String>,
    body: Result<Json<Approve>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    need(&principal, &[Verb::Approve])?;
    let Json(Approve { plan }) = body?;
    let Order { order_id, .. } = responder.find(&principal.tenant, &order_id)?;
    let order = to_the_end(async move { responder.approve(&principal, &order_id, plan.trim()).await }).await?;
    Ok(Json(view(&order)))
}

async fn disarm(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    body: Result<Json<Release>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    need(&principal, &[Verb::Order])?;
    change_arming(responder, principal, false, body).await
}

async fn arm(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    body: Result<Json<Release>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    need(&principal, &[Verb::Approve])?;
    if principal.holder != Holder::Person {
        return Err(Problem(StatusCode::FORBIDDEN, "only a person arms what acts unattended".into()));
    }
    change_arming(responder, principal, true, body).await
}

async fn change_arming(
    responder: Arc<Responder>,
    principal: Principal,
    armed: bool,
    body: Result<Json<Release>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(Release { reason: why }) = body?;
    let why = reason(&why)?;
    let changed = to_the_end(async move { responder.arm(&principal, armed, &why).await }).await?;
    Ok(Json(json!({"armed": armed, "changed": changed.is_some()})))
}

fn reason(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() || text.len() > REASON_BYTES_MAX {
        return Err(Problem(StatusCode::BAD_REQUEST, format!("`reason` needs 1 to {REASON_BYTES_MAX} bytes")));
    }
    Ok(text.to_owned())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    reason: String,
}

async fn release(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    Path(order_id): Path<String>,
    body: Result<Json<Release>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    need(&principal, &[Verb::Order])?;
    let Json(Release { reason: why }) = body?;
    let why = reason(&why)?;
    // Another tenant's order does not exist for this one.
    let Order { order_id, .. } = responder.find(&principal.tenant, &order_id)?;
    let released = to_the_end(async move { responder.release(&order_id, &principal.name, &why).await }).await?;
    Ok(Json(view(&released)))
}

fn view(order: &Order) -> Value {
    let time = |micros: Option<i64>| micros.map(rfc3339);
    let call = |call: &crate::order::Call| {
        json!({
            "switch": call.switch, "act": call.act.name(), "attempt": call.attempt, "done": call.done,
            "next_at": time(call.next_at), "detail": call.detail,
        })
    };
    json!({
        "order_id": order.order_id,
        "tenant": order.tenant,
        "target_kind": order.target.kind(),
        "target_id": order.target.id(),
        "target": order.target,
        "mode": mode_name(order.mode, order.drill),
        "state": order.state.name(),
        "steps": order.step + 1,
        "requested_by": order.requested_by,
        "requested_at": rfc3339(order.requested_at),
        "expires_at": rfc3339(order.expires_at),
        "ended_at": time(order.ended_at),
        "reason": order.reason,
        "alert": order.alert,
        "switches": order.switches,
        "plan": order.plan,
        "approvals_needed": order.approvals_needed,
        "approved_by": order.approvals.iter().map(|approval| &approval.by).collect::<Vec<_>>(),
        "approve_until": order.waits().then(|| rfc3339(order.approve_until)),
        "effective_at": time(order.effective_at),
        "calls": order.calls.iter().map(call).collect::<Vec<_>>(),
    })
}

//! The deny list's doors: what gateways ask in their hot path, and what they hold locally.
//!
//! | route | for |
//! | --- | --- |
//! | any method `/v1/deny/ask/{gateway}`, and any path below it | Envoy ext_authz (HTTP), nginx `auth_request`, Kong: 200 or 403 |
//! | `POST /v1/data/muster/allow`, `/v1/data/muster` | whatever asks OPA's data API |
//! | `GET /v1/deny/bundle.tar.gz` | OPA itself, with `ETag` |
//! | `GET /v1/deny/signed` | a holder that verifies: the list as JWS (RS256), with `ETag` |
//! | `GET /v1/deny/stream` | a holder that follows: server-sent events `list`, `deny`, `allow` |
//! | `GET /v1/keys` | the keys, for anybody |
//!
//! Envoy's gRPC form is in `grpc`. Each needs the verb `deny`; a gateway that passes the agent's own `Authorization` on shows Muster's token as `muster-token`.
//! An answer comes from memory. Whether a gateway lets requests through that Muster could not answer is the gateway's choice.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Extension, Json, Router};
use futures::Stream;
use schemas::{Principal, Verb};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::deny::{Change, Entry};
use crate::gateway::Gateway;
use crate::http::{Problem, need};
use crate::responder::Responder;
use crate::target::Asker;

/// Streams open at once, all tenants together.
pub(crate) const STREAMS_MAX: usize = 200;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
pub(crate) const VERBS: &[Verb] = &[Verb::Deny, Verb::Query];

pub(crate) fn routes() -> Router<Arc<Responder>> {
    Router::new()
        .route("/v1/deny/ask/{gateway}", any(ask))
        .route("/v1/deny/ask/{gateway}/", any(ask))
        .route("/v1/deny/ask/{gateway}/{*path}", any(ask_path))
        .route("/v1/data/muster", post(data))
        .route("/v1/data/muster/allow", post(data_allow))
        .route("/v1/deny/bundle.tar.gz", get(bundle))
        .route("/v1/deny/signed", get(signed))
        .route("/v1/deny/stream", get(stream))
}

pub(crate) fn rule<'a>(responder: &'a Responder, name: &str) -> Result<&'a Gateway, Problem> {
    let missing = || Problem(StatusCode::NOT_FOUND, format!("no gateway is named `{name}` (respond.gateways)"));
    responder.gateways.iter().find(|rule| rule.name == name).ok_or_else(missing)
}

/// The entry that stops a request, or whether it is refused for saying nothing of who asks.
pub(crate) fn judge(
    responder: &Responder,
    tenant: &str,
    rule: &Gateway,
    asker: &Asker,
) -> Result<Option<Arc<Entry>>, ()> {
    let counts = responder.counts();
    if rule.refuse_unknown && asker.is_nobody() {
        counts.unknown.inc();
        return Err(());
    }
    let found = responder.deny().check(tenant, asker);
    if found.is_some() { &counts.denied } else { &counts.allowed }.inc();
    Ok(found)
}

/// What a request that is refused is told; the entry that stops it is missing where it said nothing of who asks.
pub(crate) fn refusal(entry: Option<&Entry>) -> Value {
    entry.map_or_else(
        || json!({"denied": true, "unknown": true}),
        |entry| json!({"denied": true, "order_id": entry.order_id}),
    )
}

async fn ask(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    Path(gateway): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    need(&principal, VERBS)?;
    let rule = rule(&responder, &gateway)?;
    Ok(match judge(&responder, &principal.tenant, rule, &rule.asker(request.headers())) {
        Ok(None) => StatusCode::OK.into_response(),
        Ok(Some(entry)) => {
            let order = HeaderValue::from_str(&entry.order_id).expect("an order's id is hex digits");
            let body = Json(refusal(Some(&entry)));
            (StatusCode::FORBIDDEN, [(HeaderName::from_static("muster-order"), order)], body).into_response()
        }
        Err(()) => (StatusCode::FORBIDDEN, Json(refusal(None))).into_response(),
    })
}

/// Envoy puts the path of the request behind the door's own.
async fn ask_path(
    state: State<Arc<Responder>>,
    principal: Extension<Principal>,
    Path((gateway, _)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    ask(state, principal, Path(gateway), request).await
}

#[derive(Deserialize)]
struct Which {
    gateway: Option<String>,
}

fn opa(responder: &Responder, principal: &Principal, which: &Which, body: &Value) -> Result<Value, Problem> {
    need(principal, VERBS)?;
    let rule = rule(responder, which.gateway.as_deref().unwrap_or("opa"))?;
    let asker = rule.asker_of_input(&body["input"]);
    Ok(match judge(responder, &principal.tenant, rule, &asker) {
        Ok(None) => json!({"allow": true, "orders": []}),
        Ok(Some(entry)) => json!({"allow": false, "orders": [entry.order_id]}),
        Err(()) => json!({"allow": false, "orders": []}),
    })
}

type Body = Result<Json<Value>, JsonRejection>;

async fn data(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    Query(which): Query<Which>,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body?;
    Ok(Json(json!({"result": opa(&responder, &principal, &which, &body)?})))
}

/// The decision alone.
async fn data_allow(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    Query(which): Query<Which>,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body?;
    Ok(Json(json!({"result": opa(&responder, &principal, &which, &body)?["allow"]})))
}

/// The tag of the list as it is now, and whether the caller has it already. A list under the same tag has the same entries.
fn tag(responder: &Responder, tenant: &str, headers: &HeaderMap) -> (String, bool) {
    let tag = format!("W/\"{}{}\"", responder.deny().version(tenant), responder.deny().names_version());
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or("");
    // Weak comparison (RFC 9110, 13.1.2): the time in the body differs, the entries do not.
    let strong = tag.trim_start_matches("W/");
    let same = known.split(',').any(|given| given.trim().trim_start_matches("W/") == strong || given.trim() == "*");
    (tag, same)
}

/// A form of the list with its tag, or 304.
pub(crate) async fn form(
    responder: Arc<Responder>,
    principal: Principal,
    headers: HeaderMap,
    kind: &'static str,
    make: impl FnOnce(&Responder, &[u8], u64) -> Result<Vec<u8>, String> + Send + 'static,
) -> Result<Response, Problem> {
    need(&principal, VERBS)?;
    let (current, same) = tag(&responder, &principal.tenant, &headers);
    let head = [(ETAG, current), (CACHE_CONTROL, "private, no-cache".into())];
    if same {
        return Ok((StatusCode::NOT_MODIFIED, head).into_response());
    }
    // Off the reactor: a long list takes a while to sign or to pack.
    let made = tokio::task::spawn_blocking(move || {
        let (version, body) = responder.deny().body(&principal.tenant, responder.clock.now_micros());
        make(&responder, &body, version)
    });
    let failed = |why: String| Problem(StatusCode::SERVICE_UNAVAILABLE, why);
    let made = made.await.map_err(|error| failed(error.to_string()))?.map_err(failed)?;
    Ok((head, [(CONTENT_TYPE, kind)], made).into_response())
}

async fn bundle(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    form(responder, principal, headers, "application/gzip", |_, body, version| {
        crate::bundle::bundle(body, &version.to_string()).map_err(|error| error.to_string())
    })
    .await
}

async fn signed(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    form(responder, principal, headers, "application/jose", |responder, body, _| {
        let signer = responder.signer().ok_or("this process has no signing key")?;
        Ok(signer.sign("muster-deny+jwt", body).into_bytes())
    })
    .await
}

/// The keys that verify what Muster signs. For anybody: mounted where no token is asked for.
pub(crate) async fn keys(State(responder): State<Arc<Responder>>) -> Json<Value> {
    Json(responder.signer().map_or_else(|| json!({"keys": []}), |signer| signer.keys()))
}

async fn stream(
    State(responder): State<Arc<Responder>>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, Problem> {
    need(&principal, VERBS)?;
    let busy = |why: &str| Problem(StatusCode::SERVICE_UNAVAILABLE, why.into());
    let place = responder.streams.clone().try_acquire_owned();
    let place = place.map_err(|_| busy(&format!("{STREAMS_MAX} streams are open already")))?;
    // First followed, then read: a change between is sent twice, never lost.
    let changes = responder.deny().follow().ok_or_else(|| busy("the server is about to end"))?;
    let follower = Follower { responder, tenant: principal.tenant, changes, _place: place, at: None };
    let events = futures::stream::unfold(follower, |mut follower| async move {
        follower.next().await.map(|event| (Ok::<_, Infallible>(event), follower))
    });
    Ok(sse(events))
}

fn sse(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// One open stream.
struct Follower {
    responder: Arc<Responder>,
    tenant: String,
    changes: tokio::sync::broadcast::Receiver<Change>,
    _place: tokio::sync::OwnedSemaphorePermit,
    /// Version of the list that it was sent.
    at: Option<u64>,
}

impl Follower {
    /// The next event; `None` when the process ends.
    async fn next(&mut self) -> Option<Event> {
        let Some(at) = self.at else { return self.whole().await };
        loop {
            match self.changes.recv().await {
                Ok(change) if change.tenant == self.tenant && change.version >= at => {
                    let name = if change.added { "deny" } else { "allow" };
                    let data = serde_json::to_string(&*change.entry).expect("texts are JSON");
                    return Some(Event::default().event(name).id(change.version.to_string()).data(data));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return self.whole().await,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    async fn whole(&mut self) -> Option<Event> {
        let (responder, tenant) = (self.responder.clone(), self.tenant.clone());
        // Off the reactor: a long list takes a while to write, and gateways wait for answers meanwhile.
        let made = tokio::task::spawn_blocking(move || {
            let (version, body) = responder.deny().body(&tenant, responder.clock.now_micros());
            (version, Event::default().event("list").id(version.to_string()).data(String::from_utf8_lossy(&body)))
        });
        let (version, event) = made.await.ok()?;
        self.at = Some(version);
        Some(event)
    }
}

//! The HTTP server: every crate's routes, mounted behind one authentication layer, on a TCP port and on the operator's
//! socket.
//!
//! A request over TCP needs a bearer token, whose holder becomes the request's [`Principal`]. The operator's socket lies
//! in the data folder, readable by its owner only: whoever can open it could open the folder itself, so it needs no token,
//! and the tenant is named by a header. `/healthz` and `/readyz` answer anybody, `/v1/ping` whoever shows a token; `/metrics`
//! needs the verb `admin`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use schemas::{Holder, Principal, Verb};
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tower_http::decompression::RequestDecompressionLayer;

use crate::node::Node;
use crate::operator;
use crate::role::Role;
use crate::tokens::Tokens;

/// Header that names the tenant on the operator's socket.
pub(crate) const TENANT_HEADER: &str = "muster-tenant";

/// Header for a token of Muster's where `Authorization` is somebody else's.
const TOKEN_HEADER: &str = "muster-token";

/// Serves until `shutdown` turns true, then lets requests under way finish.
pub(crate) async fn serve(
    node: Arc<Node>,
    tokens: Tokens,
    tcp: TcpListener,
    socket: PathBuf,
    shutdown: watch::Receiver<bool>,
) -> Result<()> {
    let routes = routes(&node);
    let public = limited(routes.clone().layer(from_fn_with_state(tokens.clone(), by_token)), &node);
    // The operator's own routes may take long, and are not held up by others.
    let body_bytes_max = DefaultBodyLimit::max(node.config.ingest.body_bytes_max);
    let own = operator::routes(node.clone()).layer(body_bytes_max);
    let operator = limited(routes, &node).merge(own).layer(from_fn_with_state(tokens, as_operator));
    let others: Vec<&str> =
        Role::ALL.into_iter().filter(|role| !node.config.server.has(*role)).map(Role::name).collect();
    let complete = |router: Router| {
        let detail = match others.is_empty() {
            true => "there is nothing at this path".to_owned(),
            false => {
                format!("there is nothing at this path here; other processes have the roles {}", others.join(", "))
            }
        };
        let missing = || async move { problem(StatusCode::NOT_FOUND, &detail) };
        let wrong = || async { problem(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method") };
        router.merge(open_routes(node.clone())).fallback(missing).method_not_allowed_fallback(wrong)
    };

    let unix = bind_socket(&socket)?;
    let wait = |mut shutdown: watch::Receiver<bool>| {
        let responder = node.responder.clone();
        async move {
            // An error means that the sender is gone: the process is ending too.
            let _ = shutdown.wait_for(|stop| *stop).await;
            // A stream never ends by itself, and would be waited for.
            responder.deny().stop_following();
        }
    };
    let over_tcp = ingest::serve::tcp(tcp, complete(public), Box::pin(wait(shutdown.clone())));
    let over_unix = ingest::serve::unix(unix, complete(operator), Box::pin(wait(shutdown)));
    let ended = tokio::try_join!(over_tcp, over_unix);
    // The socket of a process that ended must not look alive.
    let _ = std::fs::remove_file(socket);
    ended.map(|_| ()).context("the HTTP server failed")
}

fn bind_socket(socket: &Path) -> Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    // The data folder's lock is held: a socket that is there belongs to a process that died.
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Routes that need a principal.
fn routes(node: &Arc<Node>) -> Router {
    let own = Router::new().route("/metrics", get(metrics)).route("/v1/status", get(status)).with_state(node.clone());
    let own = own.route("/v1/ping", get(async || StatusCode::NO_CONTENT));
    let of = |role: Role, routes: &dyn Fn() -> Router| {
        if node.config.server.has(role) { routes() } else { Router::new() }
    };
    own.merge(of(Role::Ingest, &|| ingest::http::routes(node.ingest.clone(), &node.config.ingest)))
        .merge(of(Role::Ingest, &|| crate::receipts::routes(node.clone())))
        .merge(of(Role::Query, &|| query::http::routes(node.query.clone())))
        .merge(of(Role::Query, &|| crate::verdict::routes(node.clone())))
        .merge(of(Role::Respond, &|| respond::http::routes(node.responder.clone())))
}

/// Routes that answer anybody.
fn open_routes(node: Arc<Node>) -> Router {
    let responder = node.config.server.has(Role::Respond).then(|| node.responder.clone());
    let own = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(node);
    own.merge(responder.map(respond::http::open_routes).unwrap_or_default())
}

fn limited(router: Router, node: &Arc<Node>) -> Router {
    let config = &node.config.server;
    let slots = Arc::new(Semaphore::new(config.requests_max));
    let patience = Duration::from_secs(config.request_secs);
    router
        .layer(DefaultBodyLimit::max(node.config.ingest.body_bytes_max))
        .layer(RequestDecompressionLayer::new())
        .layer(from_fn(move |request: Request, next: Next| {
            let slots = slots.clone();
            async move {
                let Ok(_slot) = slots.try_acquire() else {
                    let mut busy =
                        problem(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once; try again in a second");
                    busy.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
                    return busy;
                };
                match tokio::time::timeout(patience, next.run(request)).await {
                    Ok(response) => response,
                    Err(_) => problem(StatusCode::GATEWAY_TIMEOUT, "the request took too long"),
                }
            }
        }))
}

async fn by_token(State(tokens): State<Tokens>, mut request: Request, next: Next) -> Response {
    // A gateway that passes the agent's own `Authorization` on shows its token beside it.
    let own = request.headers().get(TOKEN_HEADER).and_then(|value| value.to_str().ok());
    let Some(token) = own.or_else(|| bearer(request.headers())) else {
        return unauthorized("a bearer token is needed: `Authorization: Bearer muster_…`");
    };
    let Some(principal) = tokens.authenticate(token) else {
        return unauthorized("the token is not known");
    };
    request.extensions_mut().insert(principal);
    next.run(request).await
}

/// Whoever opens the socket is the operator, unless a token says which person it is.
async fn as_operator(State(tokens): State<Tokens>, mut request: Request, next: Next) -> Response {
    if bearer(request.headers()).is_some() {
        return by_token(State(tokens), request, next).await;
    }
    let tenant = request.headers().get(TENANT_HEADER).and_then(|v| v.to_str().ok()).unwrap_or("default").to_owned();
    request.extensions_mut().insert(operator(&tenant));
    next.run(request).await
}

/// Whoever may open the data folder.
pub(crate) fn operator(tenant: &str) -> Principal {
    let verbs = vec![Verb::Ingest, Verb::Act, Verb::Query, Verb::Deny, Verb::Order, Verb::Approve, Verb::Admin];
    Principal { name: "operator".into(), tenant: tenant.to_owned(), holder: Holder::Person, verbs }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized(detail: &str) -> Response {
    let mut response = problem(StatusCode::UNAUTHORIZED, detail);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}

/// An RFC 9457 problem document.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("error");
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    let mut response = (status, Json(body)).into_response();
    let kind = header::HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(node): State<Arc<Node>>) -> Response {
    match node.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => problem(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

async fn metrics(State(node): State<Arc<Node>>, Extension(principal): Extension<Principal>) -> Response {
    if !principal.may(Verb::Admin) {
        return problem(StatusCode::FORBIDDEN, "the token does not have the verb `admin`");
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], node.metrics.text(&node)).into_response()
}

async fn status(State(node): State<Arc<Node>>, Extension(principal): Extension<Principal>) -> Response {
    if !principal.may(Verb::Admin) {
        return problem(StatusCode::FORBIDDEN, "the token does not have the verb `admin`");
    }
    match node.status(&principal.tenant).await {
        Ok(status) => Json(status).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}")),
    }
}

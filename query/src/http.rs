//! The routes: `POST /v1/sql`, `GET /v1/agents`, `GET /v1/alerts` and `GET /v1/alerts/{id}`.
//!
//! The tenant comes from the token's holder alone. Errors are RFC 9457 problems.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query as Parameters, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use schemas::{Principal, Verb};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Answer, Format, Query, QueryError};

const ALERTS: u32 = 100;
const ALERTS_MAX: u32 = 10_000;

/// The routes; a middleware before them puts the [`Principal`] into each request.
pub fn routes(query: Arc<Query>) -> axum::Router {
    axum::Router::new()
        .route("/v1/sql", post(sql))
        .route("/v1/agents", get(agents))
        .route("/v1/alerts", get(alerts))
        .route("/v1/alerts/{id}", get(alert))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(query)
}

async fn method_not_allowed(method: Method) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", format!("{method} is not offered here"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sql {
    sql: String,
    #[serde(default)]
    format: Format,
}

async fn sql(
    State(query): State<Arc<Query>>,
    Extension(principal): Extension<Principal>,
    body: Result<Json<Sql>, JsonRejection>,
) -> Result<Response, Problem> {
    may_query(&principal)?;
    let Json(Sql { sql, format }) = body.map_err(|e| Problem::new(e.status(), "invalid-body", e.body_text()))?;
    written(&query.sql(&principal.tenant, &sql).await?, format)
}

async fn agents(
    State(query): State<Arc<Query>>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, Problem> {
    may_query(&principal)?;
    let agents = query.agents(&principal.tenant).await?;
    Ok(Json(json!({ "agents": agents })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<u32>,
    /// Also those beyond the tenant's budget.
    #[serde(default)]
    all: bool,
}

async fn alerts(
    State(query): State<Arc<Query>>,
    Extension(principal): Extension<Principal>,
    page: Result<Parameters<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    may_query(&principal)?;
    let Parameters(Page { limit, all }) = page.map_err(|e| Problem::new(e.status(), "invalid-query", e.body_text()))?;
    let limit = limit.unwrap_or(ALERTS);
    if limit > ALERTS_MAX {
        let detail = format!("limit is at most {ALERTS_MAX}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid-query", detail));
    }
    Ok(Json(json!({ "alerts": query.alerts(&principal.tenant, limit, all).await? })).into_response())
}

async fn alert(
    State(query): State<Arc<Query>>,
    Extension(principal): Extension<Principal>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    may_query(&principal)?;
    let Path(id) = id.map_err(|e| Problem::new(e.status(), "invalid-path", e.body_text()))?;
    Ok(Json(query.alert(&principal.tenant, &id).await?).into_response())
}

impl Query {
    /// The tenant's newest alerts, newest first: objects with the columns of `judged_alerts`. Those beyond its budget only
    /// with `all`.
    pub async fn alerts(&self, tenant: &str, limit: u32, all: bool) -> Result<Vec<Value>, QueryError> {
        let which = if all { "" } else { "WHERE over_budget IS NOT TRUE" };
        let order = "ORDER BY received_at DESC, log_offset DESC, log_index DESC";
        let text = format!("SELECT * FROM judged_alerts {which} {order} LIMIT {limit}");
        self.sql(tenant, &text).await?.rows_as()
    }

    /// One alert.
    pub async fn alert(&self, tenant: &str, id: &str) -> Result<Value, QueryError> {
        let quoted = id.replace('\'', "''");
        let found =
            self.sql(tenant, &format!("SELECT * FROM judged_alerts WHERE alert_id = '{quoted}' LIMIT 1")).await?;
        let alert = found.rows_as()?.into_iter().next();
        alert.ok_or_else(|| QueryError::NotFound { what: "alert", id: id.to_owned() })
    }
}

fn may_query(principal: &Principal) -> Result<(), Problem> {
    if principal.may(Verb::Query) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", format!("the token {} may not query", principal.name)))
}

fn written(answer: &Answer, format: Format) -> Result<Response, Problem> {
    let body = answer.write(format)?;
    let content = HeaderValue::from_static(format.content_type());
    let truncated = HeaderValue::from_static(if answer.truncated { "true" } else { "false" });
    Ok(([(header::CONTENT_TYPE, content), (header::HeaderName::from_static("x-truncated"), truncated)], body)
        .into_response())
}

/// RFC 9457.
struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, detail: String) -> Self {
        Problem { status, kind, detail }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let (status, kind) = match &error {
            QueryError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid-sql"),
            QueryError::Refused(_) => (StatusCode::BAD_REQUEST, "read-only"),
            QueryError::TooLong { .. } | QueryError::TooDeep { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-long"),
            QueryError::Memory(_) => (StatusCode::UNPROCESSABLE_ENTITY, "too-large"),
            QueryError::Timeout(_) => (StatusCode::UNPROCESSABLE_ENTITY, "too-slow"),
            QueryError::NotFound { .. } => (StatusCode::NOT_FOUND, "not-found"),
            QueryError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            QueryError::Lake(_) => (StatusCode::SERVICE_UNAVAILABLE, "lake"),
            QueryError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        if status.is_server_error() {
            tracing::warn!(%error, "a query failed");
        }
        Problem::new(status, kind, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("error");
        let body = json!({
            "type": format!("urn:muster:problem:{}", self.kind),
            "title": title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

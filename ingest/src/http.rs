//! The HTTP door: `POST /v1/ingest/{source}`, where `source` may be `auto`.
//!
//! The tenant is the token's alone. The answer comes when the records are durable, and says what became of them.
//! Decompression and authentication are layers of the server; errors are problem documents (RFC 9457).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use lake::log::LogError;
use schemas::{Principal, Verb};
use serde::Deserialize;
use serde_json::json;

use crate::body::{BodyError, Room};
use crate::config::Config;
use crate::context::Carrier;
use crate::worker::{Admission, Ingest, IngestError, Receipt, RecordResult};

/// Seconds after which a sender that was refused for want of room may come again.
const RETRY_AFTER_SECS: &str = "5";

#[derive(Clone)]
struct Door {
    ingest: Arc<Ingest>,
    bodies: Room,
    results_max: usize,
}

/// What a sender may ask of the answer.
#[derive(Deserialize)]
struct Wish {
    /// `all`: every record is reported, not only those that did not simply become events.
    results: Option<String>,
    /// Tells two installations of one vendor apart.
    #[serde(default)]
    instance: String,
}

pub fn routes(ingest: Arc<Ingest>, config: &Config) -> Router {
    let bodies = Room::new(config.bodies_bytes_max, config.body_bytes_max);
    let door = Door { ingest, bodies, results_max: config.results_max };
    Router::new().route("/v1/ingest/{source}", post(receive)).with_state(door)
}

async fn receive(
    State(door): State<Door>,
    principal: Option<Extension<Principal>>,
    Path(source): Path<String>,
    Query(wish): Query<Wish>,
    body: Body,
) -> Response {
    let Some(Extension(principal)) = principal.filter(|p| p.may(Verb::Ingest)) else {
        return problem(StatusCode::FORBIDDEN, "this token may not send records");
    };
    let body = match door.bodies.read(body).await {
        Ok(body) => body,
        Err(error) => return body_error(&error),
    };
    let live = principal.may(Verb::Act);
    let admission = Admission {
        tenant: principal.tenant,
        door: "http",
        live,
        instance: wish.instance,
        carrier: Carrier::Request { token: principal.name },
    };
    match door.ingest.admit(&source, admission, body.bytes.clone()).await {
        Ok(receipt) => answer(receipt, wish.results.as_deref() == Some("all"), door.results_max),
        Err(error) => error_response(&error),
    }
}

fn answer(mut receipt: Receipt, all: bool, results_max: usize) -> Response {
    let found = if all { receipt.received as usize } else { receipt.results.len() };
    if all {
        let mut others = std::mem::take(&mut receipt.results).into_iter().peekable();
        let records = (0..receipt.received as u32).take(results_max);
        receipt.results = records
            .map(|n| others.next_if(|r| r.record == n).unwrap_or_else(|| RecordResult::new(n, "mapped")))
            .collect();
    }
    let omitted = found.saturating_sub(results_max);
    receipt.results.truncate(results_max);
    match serde_json::to_value(&receipt) {
        Ok(mut value) => {
            if omitted > 0 {
                value["results_omitted"] = omitted.into();
            }
            Json(value).into_response()
        }
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// An error of ingest as a problem document; of one that passes, when to come again.
pub fn error_response(error: &IngestError) -> Response {
    let status = match error {
        IngestError::UnknownSource { .. } => StatusCode::NOT_FOUND,
        IngestError::Empty => StatusCode::BAD_REQUEST,
        IngestError::Unrecognised(_) => StatusCode::UNPROCESSABLE_ENTITY,
        IngestError::Log(LogError::Overloaded(_)) => StatusCode::TOO_MANY_REQUESTS,
        IngestError::Log(LogError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
        IngestError::Log(_) => StatusCode::SERVICE_UNAVAILABLE,
        IngestError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(status, &error.to_string())
}

fn body_error(error: &BodyError) -> Response {
    let status = match error {
        BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::NoRoom => StatusCode::TOO_MANY_REQUESTS,
        BodyError::Broken(_) => StatusCode::BAD_REQUEST,
    };
    problem(status, &error.to_string())
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("error");
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    let mut response = (status, kind, body.to_string()).into_response();
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
    }
    response
}

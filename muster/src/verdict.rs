//! Verdicts of persons on alerts: `POST /v1/alerts/{id}/verdict` and `muster alerts dismiss|confirm`.
//!
//! The verdict as evidence and the control frame by which detection learns are one group of the log: neither is there
//! without the other. A verdict teaches (a dismissed call becomes a habit), so it needs the verb `order` and a person: a
//! program could otherwise teach the detectors what it is about to do. Whether the detectors still know the alert is theirs
//! to say; the verdict stands in any case, and the last one of an alert counts.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use lake::log::{Group, LogError};
use query::QueryError;
use schemas::{Holder, Judgement, Principal, Verb, VerdictRow, id, verdict};
use serde::Deserialize;

use crate::node::{Node, Store};
use crate::server::problem;

/// A shorter beginning of an alert's id names nothing.
const PREFIX_DIGITS_MIN: usize = 8;
const WHY_BYTES_MAX: usize = 1_000;

pub(crate) fn routes(node: Arc<Node>) -> Router {
    Router::new().route("/v1/alerts/{alert_id}/verdict", post(judge)).with_state(node)
}

/// What a person says of an alert.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    verdict: Judgement,
    why: String,
}

async fn judge(
    State(node): State<Arc<Node>>,
    Extension(principal): Extension<Principal>,
    Path(alert_id): Path<String>,
    said: Result<Json<Said>, JsonRejection>,
) -> Response {
    if !principal.may(Verb::Order) || principal.holder != Holder::Person {
        let detail = format!("token `{}` is not a person's with the verb order", principal.name);
        return problem(StatusCode::FORBIDDEN, &detail);
    }
    let Json(Said { verdict, why }) = match said {
        Ok(said) => said,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    // A task of its own: a caller that hangs up must not leave it open whether the verdict was given.
    let task = tokio::spawn(async move { give(&node, &principal, &alert_id, verdict, &why).await });
    match task.await {
        Ok(Ok(row)) => Json(row).into_response(),
        Ok(Err(Refused(status, detail))) => problem(status, &detail),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Why a verdict was not taken.
#[derive(Debug)]
pub(crate) struct Refused(StatusCode, String);

impl std::error::Error for Refused {}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

fn refused<T>(status: StatusCode, detail: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(status, detail.into()))
}

impl From<QueryError> for Refused {
    fn from(error: QueryError) -> Self {
        Refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<LogError> for Refused {
    fn from(error: LogError) -> Self {
        Refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

/// Takes a verdict on the alert whose id begins with `alert_id`. Durable when it returns.
pub(crate) async fn give(
    store: &Store,
    by: &Principal,
    alert_id: &str,
    judgement: Judgement,
    why: &str,
) -> Result<VerdictRow, Refused> {
    let why = why.trim();
    if why.is_empty() || why.len() > WHY_BYTES_MAX {
        return refused(StatusCode::BAD_REQUEST, format!("`why` needs 1 to {WHY_BYTES_MAX} bytes"));
    }
    let About { alert_id, detector, agent_id, micros } = find(store, &by.tenant, alert_id).await?;
    let now = store.clock.now_micros();
    let row = VerdictRow {
        time: now,
        event_day: id::day(now),
        tenant: by.tenant.clone(),
        verdict: judgement.name().to_owned(),
        judged_by: by.name.clone(),
        why: why.to_owned(),
        log_partition: id::partition(&by.tenant, agent_id.as_deref(), None, ingest::worker::PARTITIONS),
        detector,
        alert_time: micros,
        agent_id,
        alert_id,
        ..VerdictRow::default()
    };
    let group = Group {
        control: Some(judgement.control(&row.tenant, &row.alert_id)),
        verdicts: Some(verdict::batch([&row])),
        ..Group::default()
    };
    store.log.append(group).await?;
    Ok(row)
}

/// What a verdict keeps of its alert.
#[derive(Deserialize)]
struct About {
    alert_id: String,
    detector: String,
    agent_id: Option<String>,
    micros: i64,
}

async fn find(store: &Store, tenant: &str, prefix: &str) -> Result<About, Refused> {
    let digits = prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !digits || !(PREFIX_DIGITS_MIN..=32).contains(&prefix.len()) {
        let detail = format!("an alert's id has 32 hex digits, of which the first {PREFIX_DIGITS_MIN} are needed");
        return refused(StatusCode::BAD_REQUEST, detail);
    }
    let query = format!(
        "SELECT alert_id, detector, agent_id, arrow_cast(time, 'Int64') AS micros FROM alerts \
         WHERE starts_with(alert_id, '{prefix}') LIMIT 2"
    );
    let mut found = store.query.sql(tenant, &query).await?.rows_as::<About>()?;
    match (found.pop(), found.pop()) {
        (Some(alert), None) => Ok(alert),
        (Some(_), Some(_)) => refused(StatusCode::CONFLICT, format!("more than one alert's id begins with `{prefix}`")),
        (None, _) => {
            let detail = format!("no alert of tenant `{tenant}` has an id that begins with `{prefix}`");
            refused(StatusCode::NOT_FOUND, detail)
        }
    }
}

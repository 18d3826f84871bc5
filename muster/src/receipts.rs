//! `GET /v1/receipts/{receipt}`: whether what a sender was acknowledged is still there.

use std::sync::Arc;

use anyhow::Result;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use ingest::receipt::{Claims, Place};
use lake::log::Log;
use lake::tables::Removed;
use schemas::{Principal, Verb};
use serde::Serialize;
use serde_json::Value;

use crate::node::Node;
use crate::server::problem;

pub(crate) fn routes(node: Arc<Node>) -> Router {
    Router::new().route("/v1/receipts/{receipt}", get(answer)).with_state(node)
}

/// What became of acknowledged rows.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Fate {
    rows: i64,
    stored: i64,
    /// Stored, but a user was erased from them.
    erased: i64,
    /// Deleted by retention.
    expired: i64,
}

#[derive(Debug, Serialize)]
struct Standing {
    /// `stored`; `erased` where a user was erased from some of it; `expired` where retention deleted some of it;
    /// `missing` where rows are gone and nothing says why.
    state: &'static str,
    events: Fate,
    quarantine: Fate,
    receipt: Claims,
}

async fn answer(
    State(node): State<Arc<Node>>,
    Extension(principal): Extension<Principal>,
    Path(receipt): Path<String>,
) -> Response {
    if !principal.may(Verb::Query) && !principal.may(Verb::Ingest) {
        return problem(StatusCode::FORBIDDEN, "this token may neither send records nor query them");
    }
    let claims = match node.ingest.receipts().check(&receipt) {
        Ok(claims) => claims,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    if claims.tenant != principal.tenant {
        return problem(StatusCode::NOT_FOUND, "this receipt is of another tenant");
    }
    match standing(&node, claims).await {
        Ok(standing) => Json(standing).into_response(),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &format!("{error:#}")),
    }
}

async fn standing(node: &Node, claims: Claims) -> Result<Standing> {
    let removed = node.lake.removed("events").await?;
    let erased = "count(*) FILTER (WHERE array_has(flags, 'erased'))";
    let events = fate(node, &claims, "events", erased, &claims.events, &removed).await?;
    let removed = node.lake.removed("quarantine").await?;
    let erased = "count(*) FILTER (WHERE raw = arrow_cast('', 'Binary'))";
    let quarantine = fate(node, &claims, "quarantine", erased, &claims.quarantine, &removed).await?;
    let missing = |fate: &Fate| fate.rows > fate.stored + fate.expired;
    let state = if missing(&events) || missing(&quarantine) {
        "missing"
    } else if events.expired + quarantine.expired > 0 {
        "expired"
    } else if events.erased + quarantine.erased > 0 {
        "erased"
    } else {
        "stored"
    };
    Ok(Standing { state, events, quarantine, receipt: claims })
}

async fn fate(
    node: &Node,
    claims: &Claims,
    table: &str,
    erased: &str,
    places: &[Place],
    removed: &[Removed],
) -> Result<Fate> {
    let mut fate = Fate::default();
    let sequences = node.log.sequences();
    for Place(offset, index, rows, sequence) in places {
        let end = i64::from(*index) + i64::from(*rows);
        let place = format!("log_offset = {offset} AND log_partition % {sequences} = {sequence}");
        let query = format!(
            "SELECT count(*) AS stored, {erased} AS erased FROM {table} \
             WHERE {place} AND log_index >= {index} AND log_index < {end}"
        );
        let found = node.query.sql(&claims.tenant, &query).await?.rows_as::<Value>()?;
        let number = |name: &str| found.first().and_then(|row| row[name].as_i64()).unwrap_or(0);
        let rows = i64::from(*rows);
        let repeated = if table == "events" { repeated(node, claims, &place, rows).await? } else { 0 };
        let rows = rows - repeated;
        fate.rows += rows;
        fate.stored += number("stored");
        fate.erased += number("erased");
        let ours = |r: &&Removed| (&r.tenant, &r.door, &r.source) == (&claims.tenant, &claims.door, &claims.source);
        if removed.iter().filter(ours).any(|removed| removed.covers(*offset as i64)) {
            fate.expired += rows - number("stored");
        }
    }
    Ok(fate)
}

/// How many of a message's events its readers found to be duplicates, which the sender could not be told. The embedded log
/// claims none; in Kafka a message has one ledger entry.
async fn repeated(node: &Node, claims: &Claims, place: &str, rows: i64) -> Result<i64> {
    if !matches!(*node.log, Log::Kafka(_)) {
        return Ok(0);
    }
    let query = format!("SELECT events FROM ingest_ledger WHERE {place}");
    let entries = node.query.sql(&claims.tenant, &query).await?.rows_as::<Value>()?;
    Ok(entries.first().and_then(|entry| entry["events"].as_i64()).map_or(0, |events| rows - events))
}

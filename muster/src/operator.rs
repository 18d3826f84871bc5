//! Routes that only the operator's socket has: what the command line needs of a running server and a token must not.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use ingest::{Admission, Carrier};
use schemas::Principal;
use serde::Deserialize;

use crate::node::Node;
use crate::server::problem;

pub(crate) fn routes(node: Arc<Node>) -> Router {
    Router::new()
        .route("/operator/ingest/{source}", post(ingest_file))
        .route("/operator/settle", post(settle))
        .route("/operator/inventory", post(run_inventory))
        .route("/operator/sources", get(sources))
        .with_state(node)
}

/// Where a piece of a file comes from.
#[derive(Deserialize)]
struct Piece {
    file: String,
    offset: u64,
}

/// Takes a piece of a file: backfill, never live, its records named by their place in the file.
async fn ingest_file(
    State(node): State<Arc<Node>>,
    Extension(principal): Extension<Principal>,
    Path(source): Path<String>,
    Query(piece): Query<Piece>,
    body: Bytes,
) -> Response {
    let carrier = Carrier::File { name: piece.file, offset: piece.offset };
    let admission = Admission { tenant: principal.tenant, door: "file", live: false, instance: String::new(), carrier };
    match node.ingest.admit(&source, admission, body).await {
        Ok(receipt) => Json(receipt).into_response(),
        Err(error) => ingest::http::error_response(&error),
    }
}

/// Which inventory polls to run; all without a name.
#[derive(Deserialize)]
struct Polls {
    poll: Option<String>,
}

/// Runs inventory polls now, and answers when they have ended.
async fn run_inventory(State(node): State<Arc<Node>>, Query(polls): Query<Polls>) -> Response {
    match node.inventory.run_named(polls.poll.as_deref()).await {
        Ok(done) => Json(done).into_response(),
        Err(error) => problem(StatusCode::NOT_FOUND, &error.to_string()),
    }
}

/// Answers when everything received so far is in the tables, judged and handled.
async fn settle(State(node): State<Arc<Node>>) -> Response {
    match node.settle().await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}")),
    }
}

/// The mappings in force.
async fn sources(State(node): State<Arc<Node>>) -> Response {
    Json(node.sources()).into_response()
}

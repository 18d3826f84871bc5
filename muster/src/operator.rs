//! Routes that only the operator's socket has: what the command line needs of a running server and a token must not.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use ingest::{Admission, Carrier};
use lake::tables::{Hold, LakeError};
use schemas::Principal;
use serde::{Deserialize, Serialize};

use crate::keeping::{self, Erase};
use crate::node::Node;
use crate::quarantine::{self, Redrive};
use crate::server::problem;

pub(crate) fn routes(node: Arc<Node>) -> Router {
    Router::new()
        .route("/operator/ingest/{source}", post(ingest_file))
        .route("/operator/settle", post(settle))
        .route("/operator/inventory", post(run_inventory))
        .route("/operator/sources", get(sources))
        .route("/operator/quarantine/redrive", post(redrive))
        .route("/operator/verify", post(verify))
        .route("/operator/keep", post(keep))
        .route("/operator/holds", get(holds).post(hold))
        .route("/operator/holds/{name}/release", post(release))
        .route("/operator/erase", post(erase))
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

/// What settling left.
#[derive(Serialize, Deserialize)]
pub(crate) struct Settled {
    /// Rows of the log that other processes are to write to the tables; none where they were too many to count.
    pub(crate) rows_waiting: Option<u64>,
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

/// Answers when everything received so far is in the tables, judged and handled, as far as that is this process's.
async fn settle(State(node): State<Arc<Node>>) -> Response {
    answered(node.settle().await.map(|rows_waiting| Settled { rows_waiting }))
}

/// The mappings in force.
async fn sources(State(node): State<Arc<Node>>) -> Response {
    Json(node.sources()).into_response()
}

/// What came of a request that may fail.
fn answered<T: serde::Serialize>(done: anyhow::Result<T>) -> Response {
    match done {
        Ok(done) => Json(done).into_response(),
        Err(error) => {
            let refused = error.downcast_ref::<LakeError>().is_some_and(|error| {
                matches!(error, LakeError::Held { .. } | LakeError::NoHold(_) | LakeError::HoldRefused(..))
            });
            let status = if refused { StatusCode::CONFLICT } else { StatusCode::INTERNAL_SERVER_ERROR };
            problem(status, &format!("{error:#}"))
        }
    }
}

/// Drives quarantined records again.
async fn redrive(
    State(node): State<Arc<Node>>,
    Extension(principal): Extension<Principal>,
    Json(request): Json<Redrive>,
) -> Response {
    answered(quarantine::redrive(&node, &principal, &request).await)
}

/// Reconciles log, ledger and tables.
async fn verify(State(node): State<Arc<Node>>) -> Response {
    answered(node.lake.verify().await.map_err(Into::into))
}

/// Keeps the tables in order now.
async fn keep(State(node): State<Arc<Node>>) -> Response {
    answered(node.lake.keep().await.map_err(Into::into))
}

/// The tenant's holds.
async fn holds(State(node): State<Arc<Node>>, Extension(principal): Extension<Principal>) -> Response {
    answered(Ok(keeping::holds(&node.lake, &principal.tenant)))
}

async fn hold(
    State(node): State<Arc<Node>>,
    Extension(principal): Extension<Principal>,
    Json(hold): Json<Hold>,
) -> Response {
    answered(keeping::hold(&node, &principal, hold).await)
}

async fn release(
    State(node): State<Arc<Node>>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
) -> Response {
    answered(keeping::release(&node, &principal, &name).await)
}

/// Erases a user. Goes on when the caller hangs up: half an erasure is none.
async fn erase(
    State(node): State<Arc<Node>>,
    Extension(principal): Extension<Principal>,
    Json(request): Json<Erase>,
) -> Response {
    match tokio::spawn(async move { keeping::erase(&node, &principal, &request).await }).await {
        Ok(done) => answered(done),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

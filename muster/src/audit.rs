//! What Muster itself does to the record, as events of source `muster`: erasures, holds, redrives.
//!
//! They go through the same door as any event, so that they are counted, kept and queried as any other.

use anyhow::{Context, Result};
use ingest::{Admission, Carrier};
use schemas::Principal;
use serde_json::{Value, json};

use crate::node::Node;

/// The door of Muster's own events, and their source.
pub(crate) const DOOR: &str = "muster";

/// Records that `by` did `action` to a thing, with what came of it. Durable when it returns.
pub(crate) async fn record(
    node: &Node,
    by: &Principal,
    action: &str,
    effect: &str,
    thing: (&str, &str),
    what: Value,
) -> Result<()> {
    let now = node.clock.now_micros();
    let id = schemas::id::digest([by.tenant.as_bytes(), action.as_bytes(), thing.1.as_bytes(), &now.to_le_bytes()]);
    let event = json!({
        "source_event_id": id,
        "time": now,
        "actor_kind": "user",
        "user_id": by.name,
        "action": action,
        "effect": effect,
        "service": "muster",
        "resource_type": thing.0,
        "resource_id": thing.1,
        "outcome": "success",
        "what": what,
    });
    let admission = Admission {
        tenant: by.tenant.clone(),
        door: DOOR,
        live: false,
        instance: String::new(),
        carrier: Carrier::Request { token: by.name.clone() },
    };
    let body = serde_json::to_vec(&event)?;
    let receipt = node.ingest.admit("muster", admission, body.into()).await.context("cannot record what was done")?;
    anyhow::ensure!(
        receipt.mapped + receipt.duplicates == 1,
        "Muster's own event does not fit its mapping: {receipt:?}"
    );
    Ok(())
}

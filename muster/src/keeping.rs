//! Holds and erasures as persons ask for them: done by the lake, recorded as events of source `muster`, and honest about
//! what is out of reach.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use lake::log::{Log, Payload, Positions};
use lake::tables::{Erasure, Hold, Lake};
use schemas::Principal;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::audit;
use crate::node::{Node, exchange_topic};

/// So many ids of one user.
const IDS_MAX: usize = 20;
/// A shorter id would be found in ordinary words.
const ID_BYTES_MIN: usize = 3;
const LOG_STEP_BYTES: usize = 4 << 20;
/// How often it is looked whether the log let its segments go.
const LOOK: Duration = Duration::from_millis(250);

/// A request to erase a user.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Erase {
    /// The user's ids and names in all systems.
    pub(crate) ids: Vec<String>,
    pub(crate) dry_run: bool,
    /// Seconds to wait for the log to let the segments go that may name the user.
    pub(crate) wait_secs: u64,
}

/// What an erasure did, and what it could not reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Erased {
    #[serde(flatten)]
    pub(crate) erasure: Erasure,
    pub(crate) dry_run: bool,
    /// Places that may still name the user, with what to do about each.
    pub(crate) not_reached: Vec<String>,
}

/// The holds of a tenant.
pub(crate) fn holds(lake: &Lake, tenant: &str) -> Vec<Hold> {
    lake.holds().into_iter().filter(|hold| hold.tenant == tenant).collect()
}

/// Sets a hold in the tenant of `by`.
pub(crate) async fn hold(node: &Node, by: &Principal, hold: Hold) -> Result<Hold> {
    if node.lake.holds().iter().any(|there| there.name == hold.name && there.tenant != by.tenant) {
        bail!("the name {:?} is taken", hold.name);
    }
    let hold = Hold { tenant: by.tenant.clone(), set_by: by.name.clone(), set_at: node.clock.now_micros(), ..hold };
    node.lake.hold(hold.clone()).await?;
    audit::record(node, by, "hold.set", "admin", ("hold", &hold.name), json!({"reason": hold.reason})).await?;
    Ok(hold)
}

/// Lets a hold of the tenant of `by` go.
pub(crate) async fn release(node: &Node, by: &Principal, name: &str) -> Result<Hold> {
    let own = holds(&node.lake, &by.tenant).iter().any(|hold| hold.name == name);
    let hold = node.lake.release(if own { name } else { "" }).await.with_context(|| format!("hold {name:?}"))?;
    audit::record(node, by, "hold.release", "admin", ("hold", name), json!({})).await?;
    Ok(hold)
}

/// Erases a user of the tenant of `by` wherever tables name them.
pub(crate) async fn erase(node: &Node, by: &Principal, request: &Erase) -> Result<Erased> {
    let Erase { ids, dry_run, wait_secs } = request;
    if ids.is_empty() || ids.len() > IDS_MAX || ids.iter().any(|id| id.trim().len() < ID_BYTES_MIN) {
        bail!("an erasure needs 1 to {IDS_MAX} ids of at least {ID_BYTES_MIN} bytes");
    }
    // The event must not name who is erased; whoever knows the id finds it by the same digest.
    let subject = schemas::id::digest([by.tenant.as_bytes(), ids[0].as_bytes()]);
    if !dry_run {
        audit::record(node, by, "user.erase.begin", "delete", ("user", &subject), json!({"ids": ids.len()})).await?;
    }
    let erasure = node.lake.erase(&by.tenant, ids, *dry_run).await?;
    if !dry_run {
        let what = json!({"rows": erasure.rows(), "files_deleted": erasure.files_deleted});
        audit::record(node, by, "user.erase", "delete", ("user", &subject), what).await?;
        released(&node.log, erasure.log_until.clone(), Duration::from_secs(*wait_secs)).await;
    }
    let not_reached = not_reached(node, ids, &erasure).await?;
    Ok(Erased { erasure, dry_run: *dry_run, not_reached })
}

/// Waits until the log no longer holds frames below `until`.
async fn released(log: &Log, until: Positions, patience: Duration) {
    // What Kafka lets go nobody here decides.
    if matches!(log, Log::Kafka(_)) {
        return;
    }
    let waiting = async {
        while !log.firsts().reaches(&until) {
            tokio::time::sleep(LOOK).await;
        }
    };
    // What is still there is told.
    let _ = tokio::time::timeout(patience, waiting).await;
}

async fn not_reached(node: &Node, ids: &[String], erasure: &Erasure) -> Result<Vec<String>> {
    let mut places = Vec::new();
    if erasure.files_wait {
        places.push(
            "replaced files of the tables: a query still reads them; the next `muster keep` clears them away"
                .to_owned(),
        );
    }
    let first = node.log.firsts();
    if !first.reaches(&erasure.log_until) {
        let when = match &*node.log {
            Log::Embedded(_) => "when detectors and responder have passed them, within minutes on a running server",
            Log::Kafka(_) => "when the topic's retention ends",
        };
        places.push(format!("log: frames {first} to {}; they go {when}", erasure.log_until));
    }
    let (control, mine) = (node.control.clone(), ids.to_vec());
    let orders = tokio::task::spawn_blocking(move || naming(&control, &mine)).await??;
    if orders > 0 {
        places.push(format!(
            "control log: {orders} steps of orders name the user, and stay as the record of what was stopped"
        ));
    }
    let names = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        ids.iter().any(|id| text.contains(&id.to_ascii_lowercase()))
    };
    if node.memory.any(names).await? {
        places.push("detectors' memory: `muster learn` makes it anew from the lake".to_owned());
    }
    if let Some(kafka) = &node.config.log.kafka {
        places.push(format!(
            "what detectors handed over, in the topic {}; it goes when its retention ends",
            exchange_topic(kafka)
        ));
    }
    if let Some(url) = &node.config.lake.url {
        places.push(format!(
            "older versions of deleted objects, where versioning or a lock is on for the bucket of {url}"
        ));
    }
    if node.ingest.tokens().entries > 0 {
        places.push(format!(
            "what is remembered of tokens, in memory, for at most {} hours",
            node.config.ingest.tokens.ttl_hours
        ));
    }
    places.push("copies outside: backups, forwards, what others read from the tables".to_owned());
    Ok(places)
}

/// How many frames of the control log name one of `ids`.
fn naming(control: &Log, ids: &[String]) -> Result<u64> {
    let ids: Vec<String> = ids.iter().map(|id| id.to_ascii_lowercase()).collect();
    let (mut next, mut count) = (control.first(0), 0);
    while next < control.end(0) {
        for frame in control.read(0, next, LOG_STEP_BYTES)? {
            next = frame.offset + 1;
            if let Payload::Control(value) = &frame.payload {
                let text = value.to_string().to_ascii_lowercase();
                count += u64::from(ids.iter().any(|id| text.contains(id.as_str())));
            }
        }
    }
    Ok(count)
}

//! The quarantine: which records wait there, and driving them again once a mapping is fixed.
//!
//! A record waits until a correction in the ledger names its place. One redrive runs at a time, and sees what the one
//! before it appended, so that no record is driven twice; a crash leaves each moved or waiting.

use anyhow::Result;
use ingest::redrive::{REDRIVE_RECORDS_MAX, Redriven};
use schemas::Principal;
use schemas::quarantine::{Quarantine, QuarantineRow};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::audit;
use crate::cli::sql::quoted;
use crate::node::Node;

/// Which of the waiting records are meant; all without a condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Which {
    pub(crate) source: Option<String>,
    pub(crate) reason: Option<String>,
    /// Beginnings of record ids, or places (`offset/index`).
    pub(crate) records: Vec<String>,
}

/// A request to drive records again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redrive {
    #[serde(flatten)]
    pub(crate) which: Which,
    pub(crate) dry_run: bool,
}

/// The columns that say what a waiting record is.
pub(crate) const COLUMNS: &str = "concat(log_offset, '/', log_index) AS place, record_id, received_at, source, door, \
     record, reason, field, detail, size_bytes";
const ORDER: &str = "ORDER BY log_offset, log_index";

/// A query of the records that wait, with `columns` of them, from after a place on.
pub(crate) fn waiting(columns: &str, which: &Which, after: Option<(i64, i32)>, limit: usize) -> String {
    let mut conditions = vec![
        // Corrections are few: a set of places is made of them once.
        "concat(log_offset, '/', log_index) NOT IN (SELECT unnest(redriven) FROM ingest_ledger WHERE \
         redriven IS NOT NULL)"
            .to_owned(),
    ];
    conditions.extend(which.source.as_ref().map(|source| format!("source = {}", quoted(source))));
    conditions.extend(which.reason.as_ref().map(|reason| format!("reason = {}", quoted(reason))));
    let one = |record: &String| match record.contains('/') {
        true => format!("concat(log_offset, '/', log_index) = {}", quoted(record)),
        false => format!("starts_with(record_id, {})", quoted(record)),
    };
    if !which.records.is_empty() {
        conditions.push(format!("({})", which.records.iter().map(one).collect::<Vec<_>>().join(" OR ")));
    }
    if let Some((offset, index)) = after {
        conditions.push(format!("(log_offset > {offset} OR (log_offset = {offset} AND log_index > {index}))"));
    }
    format!("SELECT {columns} FROM quarantine WHERE {} {ORDER} LIMIT {limit}", conditions.join(" AND "))
}

/// Drives the tenant's waiting records again.
pub(crate) async fn redrive(node: &Node, by: &Principal, request: &Redrive) -> Result<Redriven> {
    let _alone = node.redriving.lock().await;
    let mut total = Redriven::default();
    let mut after = None;
    loop {
        let query = waiting("*", &request.which, after, REDRIVE_RECORDS_MAX);
        let answer = node.query.sql(&by.tenant, &query).await?;
        let mut rows: Vec<QuarantineRow> = Vec::new();
        for batch in &answer.batches {
            let found = Quarantine::new(batch)?;
            rows.extend((0..batch.num_rows()).map(|row| found.row(row)));
        }
        let Some(last) = rows.last() else { break };
        after = Some((last.log_offset, last.log_index));
        rows.sort_by(|a, b| (&a.source, &a.door).cmp(&(&b.source, &b.door)));
        for rows in rows.chunk_by(|a, b| (&a.source, &a.door) == (&b.source, &b.door)) {
            let done = node.ingest.redrive(rows, request.dry_run).await?;
            total.moved += done.moved;
            total.noise += done.noise;
            total.duplicates += done.duplicates;
            total.events += done.events;
            total.stay.extend(done.stay);
        }
    }
    if !request.dry_run && total.moved > 0 {
        let what = json!({"moved": total.moved, "events": total.events, "stay": total.stay.len()});
        audit::record(node, by, "quarantine.redrive", "write", ("quarantine", "records"), what).await?;
    }
    Ok(total)
}

//! Drives a quarantined record through the mapping in force now.
//!
//! What it becomes goes into the log as one group with the correction that counts it out of quarantine and names its
//! place: after a crash it has moved or it has not. Who calls sees to it that a place is driven once: it asks for the
//! places that no correction names, one caller at a time. Its events are flagged `backfill`, so that they start no
//! unattended order, and take their identity from the vendor's id, else from the record's place in quarantine.

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;
use lake::log::Group;
use schemas::ledger::LedgerRow;
use schemas::quarantine::QuarantineRow;
use serde::{Deserialize, Serialize};

use crate::context::{Carrier, Context, Normalized, Outcome};
use crate::normalize::normalize_joined;
use crate::split::{Piece, Span};
use crate::worker::{Ingest, IngestError, PARTITIONS};

/// Quarantined records of one tenant, source and door that are driven together, at most.
pub const REDRIVE_RECORDS_MAX: usize = 500;

/// What became of quarantined records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// Records that left quarantine.
    pub moved: i64,
    /// Of these, such as became noise.
    pub noise: i64,
    /// Of these, such as had come before.
    pub duplicates: i64,
    pub events: i64,
    /// Records that stay, with the reason of today.
    pub stay: Vec<Stays>,
}

/// A record that still cannot become an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stays {
    pub place: String,
    pub reason: String,
    pub detail: String,
}

/// The name of a quarantined record: where it is.
pub fn place(row: &QuarantineRow) -> String {
    format!("{}/{}", row.log_offset, row.log_index)
}

impl Ingest {
    /// Drives the records of `rows`, which are of one tenant, source and door; with `dry` only tells what would become
    /// of them. Durable when it returns.
    pub async fn redrive(&self, rows: &[QuarantineRow], dry: bool) -> Result<Redriven, IngestError> {
        let mut done = Redriven::default();
        let Some(first) = rows.first() else { return Ok(done) };
        let mut ledger = LedgerRow {
            received_at: self.now_micros(),
            tenant: first.tenant.clone(),
            door: first.door.clone(),
            source: first.source.clone(),
            ..LedgerRow::default()
        };
        ledger.event_day = schemas::id::day(ledger.received_at);
        let (mut events, mut quarantine) = (Vec::new(), Vec::new());
        for row in rows {
            match self.drive(row, ledger.received_at)? {
                Ok(normalized) => {
                    ledger.add(&normalized.ledger);
                    // It was received long ago, and leaves quarantine.
                    ledger.received -= 1;
                    ledger.quarantined -= 1;
                    ledger.noise_rules.extend(normalized.ledger.noise_rules);
                    ledger.redriven.push(place(row));
                    events.extend(normalized.events);
                    quarantine.extend(normalized.quarantine);
                }
                Err(stays) => done.stay.push(stays),
            }
        }
        done.moved = ledger.redriven.len() as i64;
        done.noise = ledger.noise;
        done.events = ledger.events;
        if dry || done.moved == 0 {
            return Ok(done);
        }
        let joined = |batches: &[RecordBatch]| {
            let schema = batches.first().map(RecordBatch::schema);
            schema.map(|schema| concat_batches(&schema, batches)).transpose()
        };
        let failed = |error: ArrowError| IngestError::Failed(error.to_string());
        let records = events.iter().flat_map(records).collect::<Vec<bool>>();
        let group = Group {
            events: joined(&events).map_err(failed)?,
            quarantine: joined(&quarantine).map_err(failed)?,
            ledger: Some(ledger),
            ..Group::default()
        };
        let appended = self.log().append(group).await?;
        done.events -= appended.duplicates.len() as i64;
        done.duplicates = appended.duplicates.iter().filter(|&&row| records[row as usize]).count() as i64;
        Ok(done)
    }

    /// What a record becomes today, or why it stays.
    fn drive(&self, row: &QuarantineRow, received_at: i64) -> Result<Result<Normalized, Stays>, IngestError> {
        let stays = |reason: &str, detail: String| Stays { place: place(row), reason: reason.to_owned(), detail };
        if row.size_bytes > row.raw.len() as i64 && row.reason == "too_large" {
            let detail = format!("{} of {} bytes were kept", row.raw.len(), row.size_bytes);
            return Ok(Err(stays("too_large", detail)));
        }
        let mapping = match self.mapping(&row.source, &row.raw) {
            Ok(mapping) => mapping,
            Err(error @ IngestError::UnknownSource { .. }) => return Ok(Err(stays("no_source", error.to_string()))),
            Err(error) => return Err(error),
        };
        let carrier = Carrier::File { name: format!("quarantine/{}", row.log_offset), offset: row.log_index as u64 };
        let context = Context {
            tenant: &row.tenant,
            instance: "",
            door: &row.door,
            live: false,
            received_at,
            carrier: &carrier,
            partitions: PARTITIONS,
            secret_key: self.secret_key(),
        };
        let end = row.raw.len();
        let records = vec![Span { start: 0, end, offset: 0, size: end as u64 }];
        let piece = Piece { data: (&row.raw[..]).into(), records };
        let normalized = normalize_joined(&mapping, &piece, 0, None, &context, self.limits(), self.joins());
        let refused = normalized.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Quarantined { reason, detail, .. } => Some((reason.name(), detail.clone())),
            Outcome::Mapped { .. } | Outcome::Noise { .. } => None,
        });
        let refused: Vec<_> = refused.collect();
        match refused.into_iter().next() {
            Some((reason, detail)) if normalized.ledger.quarantined == normalized.ledger.received => {
                Ok(Err(stays(reason, detail)))
            }
            _ => Ok(Ok(normalized)),
        }
    }
}

/// Of each event row, whether it is its record's first.
fn records(batch: &RecordBatch) -> Vec<bool> {
    let index = batch.column(schemas::event::col::event_index);
    index.as_primitive::<Int32Type>().values().iter().map(|index| *index == 0).collect()
}

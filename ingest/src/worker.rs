//! Admission: normalizes a body, makes its rows durable, and says what became of each record.
//!
//! A body is admitted a piece at a time, each piece one group of the log, so that memory stays bounded. The receipt is
//! given when all pieces are durable. Where a later piece fails, earlier ones stay: the sender repeats the whole body,
//! and the log's duplicate filter drops what was there.

use std::sync::{Arc, OnceLock};

use arrow::buffer::Buffer;
use bytes::Bytes;
use lake::clock::Clock;
use lake::log::{Group, Log, LogError, Payload, Positions};
use schemas::Registry;
use serde::Serialize;

use crate::catalog::{Catalog, InForce};
use crate::config::Config;
use crate::context::{Carrier, Context, Limits, Normalized, Outcome};
use crate::mapping::{Mapping, Sources};
use crate::normalize::{Joins, normalize_joined};
use crate::receipt::{Claims, Place, Receipts};
use crate::split::{Piece, split};
use crate::tokens::{TokenCounts, Tokens};

/// How many partitions events are tagged with.
pub const PARTITIONS: u32 = 64;
/// A piece has no more records or bytes than this, so that it fits one group of the log.
pub(crate) const PIECE_RECORDS_MAX: usize = 8_192;
pub(crate) const PIECE_BYTES_MAX: usize = 4 << 20;
/// A larger body is normalized on a thread of its own, so that it does not hold up other requests.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// The log is read in steps of this size: no less than a commit of it may have, which would else be read twice.
const REBUILD_BYTES_MAX: usize = 64 << 20;
/// So much of a body is looked at to recognise its source.
const SAMPLE_BYTES_MAX: usize = 64 << 10;

/// Normalizes and appends.
pub struct Ingest {
    log: Arc<Log>,
    catalog: Catalog,
    clock: Clock,
    secret_key: [u8; 32],
    receipts: Receipts,
    limits: Limits,
    known: Arc<Known>,
    rebuild_frames_max: u64,
}

/// What records are joined with.
struct Known {
    registry: Option<Registry>,
    tokens: Option<Tokens>,
}

impl Known {
    fn joins(&self) -> Joins<'_> {
        Joins { registry: self.registry.as_ref(), tokens: self.tokens.as_ref() }
    }
}

/// Who sends records, and how.
#[derive(Clone, Debug)]
pub struct Admission {
    pub tenant: String,
    pub door: &'static str,
    pub live: bool,
    /// Tells two installations of one vendor apart; empty where there is one.
    pub instance: String,
    pub carrier: Carrier,
}

/// What became of a body's records.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Receipt {
    pub source: String,
    pub received: i64,
    pub mapped: i64,
    pub noise: i64,
    pub quarantined: i64,
    pub duplicates: i64,
    /// Events kept although their id came before with other bytes.
    pub conflicts: i64,
    pub events: i64,
    pub masked: i64,
    /// What the sender can show later (`GET /v1/receipts/{receipt}`) to ask whether the records are still there.
    pub receipt: String,
    /// The records that did not simply become events, in order.
    pub results: Vec<RecordResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordResult {
    pub record: u32,
    /// `mapped`, `noise`, `quarantined`, `duplicate` or `conflict`.
    pub result: &'static str,
    /// The quarantine reason, or the noise rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("there is no source `{name}`{near}")]
    UnknownSource { name: String, near: String },
    #[error("{0}")]
    Unrecognised(String),
    #[error("the body holds no record")]
    Empty,
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("normalizing failed: {0}")]
    Failed(String),
}

impl Ingest {
    pub fn new(log: Arc<Log>, sources: Sources, clock: Clock, secret_key: [u8; 32], config: &Config) -> Ingest {
        let catalog = Catalog::new(sources, config.sources_folder.clone());
        let known = Arc::new(Known { registry: None, tokens: Tokens::new(&config.tokens) });
        let rebuild_frames_max = config.tokens.rebuild_frames_max;
        let (limits, receipts) = (config.limits.clone(), Receipts::new(&secret_key));
        Ingest { log, catalog, clock, secret_key, receipts, limits, known, rebuild_frames_max }
    }

    /// The same, with one agent's names joined.
    pub fn with_registry(mut self, registry: Registry) -> Ingest {
        let tokens = Arc::into_inner(self.known).and_then(|known| known.tokens);
        self.known = Arc::new(Known { registry: Some(registry), tokens });
        self
    }

    /// Gives and checks receipts.
    pub fn receipts(&self) -> &Receipts {
        &self.receipts
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn now_micros(&self) -> i64 {
        self.clock.now_micros()
    }

    pub(crate) fn secret_key(&self) -> &[u8; 32] {
        &self.secret_key
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn joins(&self) -> Joins<'_> {
        self.known.joins()
    }

    /// The mappings in force now.
    pub fn sources(&self) -> Arc<Sources> {
        self.catalog.sources()
    }

    /// The mappings in force, and what is wrong with files that are not.
    pub fn in_force(&self) -> InForce {
        self.catalog.in_force()
    }

    /// Takes the user's mapping files anew where one changed; gives what is then in force. Blocks on the disk.
    pub fn reload(&self) -> Option<InForce> {
        self.catalog.reload()
    }

    /// How the memory of tokens stands.
    pub fn tokens(&self) -> TokenCounts {
        self.known.tokens.as_ref().map(Tokens::counts).unwrap_or_default()
    }

    /// From where on the log is learned from at start, of what it retains.
    pub fn remembers_from(&self) -> Positions {
        let frames_max = self.rebuild_frames_max / self.log.sequences() as u64;
        let begin = |(sequence, end): (usize, u64)| self.log.first(sequence).max(end.saturating_sub(frames_max));
        self.log.ends().iter().map(begin).collect()
    }

    /// Learns again, from the log's frames from `next` on, what was said of tokens; gives how many events taught. To be called
    /// before the first record. Blocks on the disk.
    pub fn remember(&self, next: &mut Positions) -> Result<usize, LogError> {
        let (end, now) = (self.log.ends(), self.clock.now_micros());
        let Some(tokens) = &self.known.tokens else {
            *next = end;
            return Ok(0);
        };
        let (mut taught, mut room) = (0, Buffer::default());
        while !next.reaches(&end) {
            for frame in self.log.read_through(next, REBUILD_BYTES_MAX, &mut room)? {
                next.pass(frame.sequence, frame.offset + 1);
                if let Payload::Events(events) = &frame.payload {
                    let learned = tokens.learn_rows(events, self.known.registry.as_ref(), now);
                    taught += learned.map_err(|e| LogError::Malformed { table: "events", reason: e.to_string() })?;
                }
            }
        }
        Ok(taught)
    }

    /// Goes on with what other processes write to the log, until `shutdown` resolves or the log closes.
    pub async fn keep_remembering(
        self: Arc<Self>,
        mut next: Positions,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), LogError> {
        tokio::pin!(shutdown);
        loop {
            match tokio::select! { () = &mut shutdown => return Ok(()), come = self.log.wait(&next) => come } {
                Ok(()) => {}
                Err(LogError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
            let (ingest, mut read) = (self.clone(), next);
            let reading = tokio::task::spawn_blocking(move || (ingest.remember(&mut read), read));
            let (learned, read) = reading.await.map_err(|panic| LogError::Fatal(panic.to_string()))?;
            next = read;
            match learned {
                Err(LogError::Gone { .. }) => next.pass_all(&self.log.firsts()),
                Err(error) if error.retry_helps() => tracing::warn!(%error, "tokens are learned of again later"),
                learned => _ = learned?,
            }
        }
    }

    /// The mapping of a name, or, of `auto`, the one that recognises the body.
    pub fn mapping(&self, source: &str, body: &[u8]) -> Result<Arc<Mapping>, IngestError> {
        let sources = self.catalog.sources();
        if source == "auto" {
            let sample = &body[..body.len().min(SAMPLE_BYTES_MAX)];
            let found = sources.detect(sample);
            return found.one().cloned().ok_or_else(|| IngestError::Unrecognised(found.to_string()));
        }
        let unknown = || IngestError::UnknownSource { name: source.to_owned(), near: sources.nearest(source) };
        sources.get(source).cloned().ok_or_else(unknown)
    }

    /// Admits a body; its records are durable when this returns.
    pub async fn admit(&self, source: &str, admission: Admission, body: Bytes) -> Result<Receipt, IngestError> {
        if body.trim_ascii().is_empty() {
            return Err(IngestError::Empty);
        }
        let mapping = self.mapping(source, &body)?;
        let received_at = self.clock.now_micros();
        let digest = Arc::new(OnceLock::new());
        let whole = split(&body, mapping.array_keys());
        let mut receipt = Receipt { source: mapping.name().to_owned(), ..Receipt::default() };
        let mut claims = Claims { received_at, ..Claims::default() };
        let mut at = 0;
        let mut first = 0;
        while at < whole.records.len() {
            let end = piece_end(&whole, at);
            let piece = Piece { data: (&body[..]).into(), records: whole.records[at..end].to_vec() };
            let work = Work { mapping: &mapping, admission: &admission, received_at, digest: &digest, first };
            let normalized = if body.len() > INLINE_BYTES_MAX {
                self.normalize_aside(&work, &body, piece.records).await?
            } else {
                self.normalize(&work, &piece)
            };
            first += normalized.outcomes.len() as u32;
            self.append(normalized, first, &mut receipt, &mut claims).await?;
            at = end;
        }
        if receipt.received == 0 {
            return Err(IngestError::Empty);
        }
        let Admission { tenant, door, .. } = admission;
        let (door, source) = (door.to_owned(), receipt.source.clone());
        let (records, duplicates) = (receipt.received, receipt.duplicates);
        let body = blake3::hash(&body).to_hex().to_string();
        receipt.receipt = self.receipts.give(&Claims { tenant, door, source, records, duplicates, body, ..claims });
        Ok(receipt)
    }

    fn normalize(&self, work: &Work<'_>, piece: &Piece<'_>) -> Normalized {
        let context = work.context(&self.secret_key);
        let joins = self.known.joins();
        normalize_joined(work.mapping, piece, work.first, Some(work.digest), &context, &self.limits, joins)
    }

    async fn normalize_aside(
        &self,
        work: &Work<'_>,
        body: &Bytes,
        records: Vec<crate::split::Span>,
    ) -> Result<Normalized, IngestError> {
        let (mapping, admission, digest) = (work.mapping.clone(), work.admission.clone(), work.digest.clone());
        let (received_at, first, key, limits) = (work.received_at, work.first, self.secret_key, self.limits.clone());
        let (body, known) = (body.clone(), self.known.clone());
        let task = tokio::task::spawn_blocking(move || {
            let work = Work { mapping: &mapping, admission: &admission, received_at, digest: &digest, first };
            let piece = Piece { data: (&body[..]).into(), records };
            let context = work.context(&key);
            normalize_joined(&mapping, &piece, first, Some(&digest), &context, &limits, known.joins())
        });
        task.await.map_err(|error| IngestError::Failed(error.to_string()))
    }

    async fn append(
        &self,
        normalized: Normalized,
        next: u32,
        receipt: &mut Receipt,
        claims: &mut Claims,
    ) -> Result<(), IngestError> {
        let Normalized { events, event_record, quarantine, ledger, outcomes } = normalized;
        receipt.add(&ledger);
        let group = Group { events, quarantine, ledger: Some(ledger), ..Group::default() };
        let appended = self.log.append(group).await?;
        claims.events.extend(appended.events.iter().map(Place::from));
        claims.quarantine.extend(appended.quarantine.iter().map(Place::from));
        let first = next - outcomes.len() as u32;
        let record = |row: &u32| event_record[*row as usize];
        // A record of several events counts once, by its first event.
        let is_first = |row: &&u32| **row == 0 || record(row) != record(&(**row - 1));
        let conflicts = appended.conflicts.iter().map(|row| RecordResult::new(record(row), "conflict"));
        let mut results: Vec<RecordResult> = conflicts.collect();
        results.extend((first..).zip(outcomes).filter_map(|(record, outcome)| RecordResult::of(record, outcome)));
        let duplicates = appended.duplicates.iter().filter(is_first);
        results.extend(duplicates.map(|row| RecordResult::new(record(row), "duplicate")));
        let repeated = appended.duplicates.iter().filter(is_first).count() as i64;
        // What is said first of a record counts: a conflict before a duplicate.
        results.sort_by_key(|result| result.record);
        results.dedup_by_key(|result| result.record);
        receipt.events -= appended.duplicates.len() as i64;
        receipt.conflicts += appended.conflicts.len() as i64;
        receipt.mapped -= repeated;
        receipt.duplicates += repeated;
        receipt.results.extend(results);
        Ok(())
    }
}

/// One admission under way.
struct Work<'a> {
    mapping: &'a Arc<Mapping>,
    admission: &'a Admission,
    received_at: i64,
    digest: &'a Arc<OnceLock<String>>,
    first: u32,
}

impl Work<'_> {
    fn context<'c>(&'c self, secret_key: &'c [u8; 32]) -> Context<'c> {
        Context {
            tenant: &self.admission.tenant,
            instance: &self.admission.instance,
            door: self.admission.door,
            live: self.admission.live,
            received_at: self.received_at,
            carrier: &self.admission.carrier,
            partitions: PARTITIONS,
            secret_key,
        }
    }
}

/// Where the piece that begins with record `at` ends.
fn piece_end(whole: &Piece<'_>, at: usize) -> usize {
    let start = whole.records[at].start;
    let fits = |r: &&crate::split::Span| r.end - start <= PIECE_BYTES_MAX;
    let count = whole.records[at..].iter().take(PIECE_RECORDS_MAX).take_while(fits).count();
    at + count.max(1)
}

impl Receipt {
    fn add(&mut self, ledger: &schemas::ledger::LedgerRow) {
        self.received += ledger.received;
        self.mapped += ledger.mapped;
        self.noise += ledger.noise;
        self.quarantined += ledger.quarantined;
        self.events += ledger.events;
        self.masked += ledger.masked;
    }
}

impl RecordResult {
    pub(crate) fn new(record: u32, result: &'static str) -> RecordResult {
        RecordResult { record, result, reason: None, field: None, detail: None }
    }

    /// What is to be said of a record that did not become events.
    fn of(record: u32, outcome: Outcome) -> Option<RecordResult> {
        match outcome {
            Outcome::Mapped { .. } => None,
            Outcome::Noise { rule } => Some(RecordResult { reason: Some(rule), ..RecordResult::new(record, "noise") }),
            Outcome::Quarantined { reason, field, detail } => Some(RecordResult {
                reason: Some(reason.name().to_owned()),
                field,
                detail: Some(detail),
                ..RecordResult::new(record, "quarantined")
            }),
        }
    }
}

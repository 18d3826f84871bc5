//! Turns bytes into rows: a pure function of the bytes, the mapping, the context and what is joined. No clock, no IO.
//!
//! Each record is parsed once into a reused tape and walked once; the columns are then filled straight into builders.
//! What a record becomes is decided before its first column is set: events, noise, or a quarantine row.

mod fill;
mod recognise;
mod record;
mod who;

use std::sync::OnceLock;

use ahash::AHashMap;
use schemas::quarantine::col;
use schemas::{event, id, ledger::LedgerRow};
use simd_json::{Buffers, Tape};

use crate::context::{Builders, Carrier, Context, Limits, Normalized, Outcome, Reason};
use crate::mapping::Mapping;
use crate::split::{Piece, split};
use crate::walk::Slots;

pub(crate) use recognise::{Likeness, recognises};
pub use who::Joins;

/// Normalizes a whole body.
pub fn normalize(mapping: &Mapping, body: &[u8], context: &Context<'_>, limits: &Limits) -> Normalized {
    normalize_piece(mapping, &split(body, mapping.array_keys()), 0, None, context, limits)
}

/// Normalizes records of a larger input: `first` is the number of the first. `digest` is that of `piece.data`, made when
/// a record needs it; calls with the same data may share it.
pub fn normalize_piece(
    mapping: &Mapping,
    piece: &Piece<'_>,
    first: u32,
    digest: Option<&OnceLock<String>>,
    context: &Context<'_>,
    limits: &Limits,
) -> Normalized {
    normalize_joined(mapping, piece, first, digest, context, limits, Joins::default())
}

/// [`normalize_piece`], where records are joined with what is known beside them. With a memory of tokens the result also
/// rests on the records that were normalized before.
pub fn normalize_joined(
    mapping: &Mapping,
    piece: &Piece<'_>,
    first: u32,
    digest: Option<&OnceLock<String>>,
    context: &Context<'_>,
    limits: &Limits,
    joins: Joins<'_>,
) -> Normalized {
    let mut scratch = mapping.take_scratch();
    let own_digest = OnceLock::new();
    let mut builders = scratch.builders.take().unwrap_or_else(Builders::new);
    let mut parse = scratch.parse.take().unwrap_or_default();
    let bytes = piece.records.iter().map(|span| span.end - span.start).sum();
    builders.events.reserve(piece.records.len(), (event::col::raw, bytes));
    let mut run = Run {
        mapping,
        context,
        limits,
        joins,
        body: &piece.data,
        digest: digest.unwrap_or(&own_digest),
        scratch: &mut scratch,
        builders,
        first,
        event_record: Vec::with_capacity(piece.records.len()),
        outcomes: Vec::with_capacity(piece.records.len()),
        masked: 0,
    };
    for span in &piece.records {
        run.record(&mut parse, &piece.data[span.start..span.end], span.offset, span.size);
    }
    let (normalized, builders) = run.finish();
    scratch.builders = Some(builders);
    scratch.parse = Some(parse);
    mapping.give_scratch(scratch);
    normalized
}

/// Builders, buffers and memories that are kept from call to call.
#[derive(Default)]
pub(crate) struct Scratch {
    builders: Option<Builders>,
    parse: Option<Parse>,
    masked: String,
    texts: Texts,
    memory: Memory,
}

/// What parsing a record needs.
pub(crate) struct Parse {
    bytes: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
    slots: Slots,
}

impl Default for Parse {
    fn default() -> Self {
        Parse { bytes: Vec::new(), buffers: Buffers::default(), tape: Tape(Vec::new()), slots: Slots::default() }
    }
}

/// Texts of the row under way that later columns rest on.
#[derive(Default)]
struct Texts {
    agent: String,
    user: String,
    user_kind: String,
    vendor_id: String,
    token: String,
    credential: String,
    effect: String,
    outcome: String,
    resource: String,
}

/// Answers that repeat from record to record, so many at most.
#[derive(Default)]
struct Memory {
    classes: AHashMap<String, Option<usize>>,
    /// Of the agents of one tenant: another's agent of the same name has another partition.
    partitions: AHashMap<String, i32>,
    tenant: String,
}

impl Memory {
    fn partitions(&mut self, tenant: &str) -> &mut AHashMap<String, i32> {
        if self.tenant != tenant {
            self.partitions.clear();
            self.tenant = tenant.to_owned();
        }
        &mut self.partitions
    }
}

const MEMORY_MAX: usize = 4096;

/// One call under way.
struct Run<'a> {
    mapping: &'a Mapping,
    context: &'a Context<'a>,
    limits: &'a Limits,
    joins: Joins<'a>,
    body: &'a [u8],
    digest: &'a OnceLock<String>,
    scratch: &'a mut Scratch,
    builders: Builders,
    first: u32,
    event_record: Vec<u32>,
    outcomes: Vec<Outcome>,
    masked: i64,
}

/// Why a record cannot be mapped: reason, field at fault, detail.
type Refusal = (Reason, Option<&'static str>, String);

impl Run<'_> {
    /// Number of the record under way.
    fn number(&self) -> u32 {
        self.first + self.outcomes.len() as u32
    }

    /// The record's place in its carrier: its identity where the vendor gives none.
    fn place(&self, offset: u64) -> [Vec<u8>; 4] {
        match &self.context.carrier {
            Carrier::File { name, offset: base } => {
                [b"file".to_vec(), name.clone().into(), (base + offset).to_le_bytes().to_vec(), Vec::new()]
            }
            Carrier::Request { token } => {
                let digest = self.digest.get_or_init(|| id::digest([self.body]));
                [
                    b"request".to_vec(),
                    token.clone().into(),
                    digest.clone().into_bytes(),
                    self.number().to_le_bytes().to_vec(),
                ]
            }
            Carrier::Messages { topic, places } => {
                let (partition, offset, number) = places[self.outcomes.len()];
                let message = [&partition.to_le_bytes()[..], &offset.to_le_bytes()].concat();
                [b"kafka".to_vec(), topic.clone().into(), message, number.to_le_bytes().to_vec()]
            }
        }
    }

    #[cold]
    fn quarantine(&mut self, raw: &[u8], size: u64, (reason, field, detail): Refusal) {
        let Context { tenant, door, received_at, .. } = *self.context;
        let source = self.mapping.name();
        let rows = &mut self.builders.quarantine;
        rows.str(col::record_id, &id::digest([tenant.as_bytes(), source.as_bytes(), raw]));
        rows.time(col::received_at, received_at);
        rows.date(col::event_day, id::day(received_at));
        rows.str(col::tenant, tenant);
        rows.str(col::source, source);
        rows.str(col::door, door);
        rows.i64(col::record, i64::from(self.first) + self.outcomes.len() as i64);
        rows.i32(col::log_partition, id::partition(tenant, None, None, self.context.partitions));
        rows.i64(col::log_offset, 0);
        rows.i32(col::log_index, 0);
        rows.str(col::reason, reason.name());
        if let Some(field) = field {
            rows.str(col::field, field);
        }
        rows.str(col::detail, &detail);
        rows.i64(col::size_bytes, size as i64);
        let kept = &raw[..raw.len().min(self.limits.quarantine_bytes_max)];
        // Secrets are masked in what is text; bytes that are not stay as they are, so that nothing is lost.
        let masked = std::str::from_utf8(kept).or_else(|e| std::str::from_utf8(&kept[..e.valid_up_to()]));
        let count = masked.map_or(0, |text| self.mapping.masker.mask(text, &mut self.scratch.masked));
        if count == 0 {
            rows.bytes(col::raw, kept);
        } else {
            let text_length = masked.map_or(0, str::len);
            let mut bytes = std::mem::take(&mut self.scratch.masked).into_bytes();
            bytes.extend_from_slice(&kept[text_length..]);
            rows.bytes(col::raw, &bytes);
        }
        rows.end_row();
        self.masked += i64::from(count);
        self.outcomes.push(Outcome::Quarantined { reason, field, detail });
    }

    fn finish(mut self) -> (Normalized, Builders) {
        let context = self.context;
        let mut ledger = LedgerRow {
            received_at: context.received_at,
            event_day: id::day(context.received_at),
            tenant: context.tenant.to_owned(),
            door: context.door.to_owned(),
            source: self.mapping.name().to_owned(),
            received: self.outcomes.len() as i64,
            events: self.event_record.len() as i64,
            masked: self.masked,
            ..LedgerRow::default()
        };
        let mut rules: Vec<(&str, u64)> = Vec::new();
        for outcome in &self.outcomes {
            match outcome {
                Outcome::Mapped { .. } => ledger.mapped += 1,
                Outcome::Quarantined { .. } => ledger.quarantined += 1,
                Outcome::Noise { rule } => {
                    ledger.noise += 1;
                    match rules.iter_mut().find(|(name, _)| *name == &**rule) {
                        Some((_, count)) => *count += 1,
                        None => rules.push((rule, 1)),
                    }
                }
            }
        }
        ledger.noise_rules = rules.iter().map(|(rule, count)| format!("{rule}={count}")).collect();
        self.same_in_all();
        let builders = &mut self.builders;
        let events = (builders.events.rows() > 0).then(|| builders.events.finish());
        let quarantine = (builders.quarantine.rows() > 0).then(|| builders.quarantine.finish());
        let Run { event_record, outcomes, builders, .. } = self;
        (Normalized { events, event_record, quarantine, ledger, outcomes }, builders)
    }
}

//! Reconciles log, ledger and tables: every record that was admitted is accounted for exactly once.
//!
//! 1. *Ledger.* Each entry balances. The events and quarantined records of each commit are as many rows as its entries
//!    say, by tenant, door and source; less only where retention removed some, and then exactly as many.
//! 2. *Log.* Each frame that is retained reads and its checksum holds; the rows of those that are in the tables are there,
//!    as many as the frame has.
//!
//! A commit's frames are events, quarantine, ledger in this order, so the entries of a row are those of the first ledger
//! frame behind it. Rows are counted in the engine, a bounded span of offsets at a time; only the tables' files are read,
//! after a flush, and nothing is changed.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use deltalake::datafusion::execution::{SessionState, SessionStateBuilder};
use deltalake::datafusion::functions_aggregate::expr_fn::{count, count_distinct};
use deltalake::datafusion::prelude::{Expr, SessionConfig, SessionContext, col, lit};
use futures::StreamExt;
use schemas::TABLES;
use schemas::ledger::{Ledger, LedgerRow};
use serde::{Deserialize, Serialize};

use super::removed::{self, Removed};
use super::{Lake, LakeError, Snapshot, TableSnapshot};
use crate::log::{Log, LogError, Positions};

/// So many rows are counted in one scan.
const SPAN_ROWS: i64 = 2_000_000;
/// So many problems are told one by one.
const PROBLEMS_MAX: usize = 100;
const LOG_STEP_BYTES: usize = 16 << 20;
const LEDGER: &str = "ingest_ledger";

/// The sums of one tenant, door and source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub tenant: String,
    pub door: String,
    pub source: String,
    pub received: i64,
    pub mapped: i64,
    pub noise: i64,
    pub quarantined: i64,
    pub duplicates: i64,
    /// Events that the ledger says there were, and those that are in the tables or were removed by retention.
    pub events: i64,
    pub events_stored: i64,
    pub events_removed: i64,
    /// The same of records that ever went into quarantine.
    pub refused: i64,
    pub refused_stored: i64,
    pub refused_removed: i64,
}

/// What reconciling found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Whether everything is accounted for exactly once.
    pub holds: bool,
    /// What is not, the first of them.
    pub problems: Vec<String>,
    pub problems_omitted: u64,
    /// The frames of the log that were read: from, and up to but not with.
    pub log_from: Positions,
    pub log_until: Positions,
    /// Everything below was looked for in the tables.
    pub tables_until: Positions,
    /// Rows of the log beyond, in no table yet: another process is to write them.
    pub rows_waiting: u64,
    pub counts: Vec<Count>,
}

type Group = (String, String, String);

#[derive(Default)]
struct Problems {
    told: Vec<String>,
    omitted: u64,
}

impl Problems {
    fn add(&mut self, problem: String) {
        if self.told.len() < PROBLEMS_MAX { self.told.push(problem) } else { self.omitted += 1 }
    }
}

/// One of the two tables whose rows the ledger counts.
struct Counted {
    name: &'static str,
    removed: Vec<Removed>,
    missing: BTreeMap<Group, i64>,
}

impl Counted {
    fn removed(&self, group: &Group) -> Option<&Removed> {
        let same = |r: &&Removed| (&r.tenant, &r.door, &r.source) == (&group.0, &group.1, &group.2);
        self.removed.iter().find(same)
    }

    /// Compares what a commit should have with what is there.
    fn compare(&mut self, at: i64, group: &Group, expected: i64, found: &Found, problems: &mut Problems) {
        let name = self.name;
        let whose = || format!("tenant {} door {} source {}", group.0, group.1, group.2);
        if found.rows != found.distinct {
            problems.add(format!(
                "{name}: {} rows twice in the commit at {at}, {}",
                found.rows - found.distinct,
                whose()
            ));
        }
        let missing = expected - found.distinct;
        if missing < 0 {
            problems.add(format!("{name}: {} rows too many in the commit at {at}, {}", -missing, whose()));
        }
        if missing > 0 {
            *self.missing.entry(group.clone()).or_default() += missing;
            if !self.removed(group).is_some_and(|removed| removed.from <= at && removed.to >= found.from) {
                problems
                    .add(format!("{name}: {missing} of {expected} rows missing in the commit at {at}, {}", whose()));
            }
        }
    }
}

/// The rows of one commit, tenant, door and source that are there.
#[derive(Clone, Debug, Default)]
struct Found {
    rows: i64,
    distinct: i64,
    /// The first offset that the commit's rows may have.
    from: i64,
}

impl Lake {
    /// Reconciles everything that the log holds now. Beside ingest and queries; nothing is kept in order meanwhile.
    pub async fn verify(&self) -> Result<Verification, LakeError> {
        let _keeping = self.keeping.lock().await;
        let _running = self.running("verify");
        if self.only_follows() {
            self.refresh().await?
        } else {
            self.flush_all().await?
        }
        let snapshot = self.snapshot().await?;
        // What was flushed since the snapshot is not looked at.
        let until = snapshot.next().clone();
        let table = |name: &str| snapshot.table(name).expect("the lake has every declared table");
        let mut problems = Problems::default();
        let mut counted =
            [self.counted("events", &table("events")).await?, self.counted("quarantine", &table("quarantine")).await?];
        let tables = [table("events"), table("quarantine")];
        let mut counts: BTreeMap<Group, Count> = BTreeMap::new();
        for sequence in (0..self.log.sequences()).map(|number| self.sequence(number, &until)) {
            let mut entries = Entries::open(&table(LEDGER), &sequence).await?;
            let mut from = 0;
            while let Some(span) = entries.span(&mut problems).await? {
                for (counted, table) in counted.iter_mut().zip(&tables) {
                    let within = sequence.between(from, span.until);
                    compare(counted, table, (from, within), &span, &mut counts, &mut problems).await?;
                }
                from = span.until;
            }
            for (counted, table) in counted.iter().zip(&tables) {
                behind(counted, table, sequence.between(from, sequence.until), &mut problems).await?;
            }
        }
        counted.iter_mut().for_each(|counted| settle(counted, &mut counts, &mut problems));
        let log_from = self.log.firsts();
        self.log_against(&snapshot, &until, &mut problems).await?;
        Ok(Verification {
            holds: problems.told.is_empty(),
            problems: problems.told,
            problems_omitted: problems.omitted,
            log_from,
            log_until: self.log.ends(),
            tables_until: until,
            rows_waiting: if self.only_follows() { snapshot.waiting_rows() } else { 0 },
            counts: counts.into_values().collect(),
        })
    }

    /// What retention removed of a table up to now.
    pub async fn removed(&self, table: &str) -> Result<Vec<Removed>, LakeError> {
        let snapshot = self.snapshot().await?;
        let Some(found) = snapshot.table(table) else { return Ok(Vec::new()) };
        removed::load(&self.store, &self.root, table, found.state.removals().await?).await
    }

    async fn counted(&self, name: &'static str, table: &TableSnapshot) -> Result<Counted, LakeError> {
        let removed = removed::load(&self.store, &self.root, name, table.state.removals().await?).await?;
        Ok(Counted { name, removed, missing: BTreeMap::new() })
    }

    fn sequence(&self, number: usize, until: &Positions) -> Sequence {
        Sequence { number, of: self.log.sequences(), until: until.get(number) as i64 }
    }

    /// Reads the retained log, and looks for the rows of each frame that is written already.
    async fn log_against(
        &self,
        snapshot: &Snapshot,
        until: &Positions,
        problems: &mut Problems,
    ) -> Result<(), LakeError> {
        let mut tables = Vec::with_capacity(TABLES.len());
        for declared in TABLES {
            let table = snapshot.table(declared.name).expect("the lake has every declared table");
            let removed = self.counted(declared.name, &table).await?.removed;
            tables.push((table, removed));
        }
        for sequence in (0..self.log.sequences()).map(|number| self.sequence(number, until)) {
            let (number, until) = (sequence.number, sequence.until.unsigned_abs());
            let mut next = self.log.first(number);
            while next < until {
                let (log, from) = (self.log.clone(), next);
                let read = tokio::task::spawn_blocking(move || frames(&log, number, from, until)).await;
                let (end, frames) = match read.map_err(|e| LakeError::Panicked(e.to_string()))? {
                    Ok(read) => read,
                    // Released since: what is gone is in the tables, and was counted above.
                    Err(LogError::Gone { first }) => {
                        next = first.max(next + 1);
                        continue;
                    }
                    Err(error) => {
                        problems.add(format!("log: {error}"));
                        return Ok(());
                    }
                };
                for ((table, removed), frames) in tables.iter().zip(frames) {
                    let within = sequence.between(next as i64, end as i64);
                    against(table, removed, &frames, within, problems).await?;
                }
                next = end;
            }
        }
        Ok(())
    }
}

/// One sequence of the log, of how many, and up to where it is looked at.
struct Sequence {
    number: usize,
    of: usize,
    until: i64,
}

impl Sequence {
    /// The rows of the sequence from one offset to another.
    fn between(&self, from: i64, until: i64) -> Expr {
        let within = col("log_offset").gt_eq(lit(from)).and(col("log_offset").lt(lit(until)));
        if self.of == 1 {
            return within;
        }
        within.and((col("log_partition") % lit(self.of as i32)).eq(lit(self.number as i32)))
    }
}

/// Looks for the rows of one table's frames between two offsets.
async fn against(
    table: &TableSnapshot,
    removed: &[Removed],
    frames: &[(u64, i64)],
    within: Expr,
    problems: &mut Problems,
) -> Result<(), LakeError> {
    if frames.is_empty() {
        return Ok(());
    }
    let name = table.state.table.name;
    let groups = count_rows(table, Some(within), vec![col("log_offset")]).await?;
    let found: BTreeMap<i64, (i64, i64)> =
        groups.into_iter().map(|group| (group.offset, (group.rows, group.distinct))).collect();
    for (offset, expected) in frames {
        let (rows, distinct) = found.get(&(*offset as i64)).copied().unwrap_or_default();
        let fewer = distinct < *expected && removed.iter().any(|removed| removed.covers(*offset as i64));
        if rows != distinct || (distinct != *expected && !fewer) {
            let doubled = rows - distinct;
            problems.add(format!(
                "{name}: the frame at {offset} of the log has {expected} rows, the table {distinct} ({doubled} twice)"
            ));
        }
    }
    Ok(())
}

/// Of each table the frames from an offset on: where each is, and how many rows it has.
type Frames = Vec<Vec<(u64, i64)>>;

/// Up to which offset the log was read, and what was found.
fn frames(log: &Log, sequence: usize, from: u64, until: u64) -> Result<(u64, Frames), LogError> {
    let (mut next, mut total, mut found) = (from, 0, vec![Vec::new(); TABLES.len()]);
    while next < until && total < SPAN_ROWS {
        for frame in log.read(sequence, next, LOG_STEP_BYTES)? {
            if frame.offset >= until {
                return Ok((until, found));
            }
            next = frame.offset + 1;
            if let Some((table, batch)) = super::writer::rows(&frame.payload) {
                let rows = batch.num_rows() as i64;
                total += rows;
                // What the duplicate filter of a reader leaves of a frame may be nothing.
                if rows > 0 {
                    found[table].push((frame.offset, rows));
                }
            }
        }
    }
    Ok((next, found))
}

/// Entries of the ledger between two offsets.
struct Span {
    /// By offset of their frame.
    entries: BTreeMap<i64, BTreeMap<Group, LedgerRow>>,
    /// One past the last frame.
    until: i64,
}

/// The ledger in the order of the log.
struct Entries {
    stream: deltalake::datafusion::execution::SendableRecordBatchStream,
    held: Vec<LedgerRow>,
    ended: bool,
}

impl Entries {
    async fn open(ledger: &TableSnapshot, sequence: &Sequence) -> Result<Entries, LakeError> {
        let context = context();
        let rows = context.read_table(ledger.state.provider(Arc::new(context.state())).await?);
        let stream = async {
            let rows = rows?.filter(sequence.between(0, sequence.until))?;
            rows.sort(vec![col("log_offset").sort(true, true), col("log_index").sort(true, true)])?
                .execute_stream()
                .await
        };
        let stream = stream.await.map_err(failed(LEDGER))?;
        Ok(Entries { stream, held: Vec::new(), ended: false })
    }

    /// The next entries: whole frames, about as many rows as one scan counts.
    async fn span(&mut self, problems: &mut Problems) -> Result<Option<Span>, LakeError> {
        let mut rows = 0;
        while !self.ended && rows < SPAN_ROWS {
            let Some(batch) = self.stream.next().await else {
                self.ended = true;
                break;
            };
            let batch = batch.map_err(failed(LEDGER))?;
            let entries = Ledger::new(&batch).map_err(|error| LakeError::Root(error.to_string()))?;
            for entry in (0..batch.num_rows()).map(|row| entries.row(row)) {
                rows += entry.events.max(0) + entry.quarantined.max(0);
                self.held.push(entry);
            }
        }
        // The last frame may go on in the next batch.
        let last = self.held.last().map(|entry| entry.log_offset);
        let keep = if self.ended { self.held.len() } else { self.held.partition_point(|e| Some(e.log_offset) < last) };
        let rest = self.held.split_off(keep);
        let taken = std::mem::replace(&mut self.held, rest);
        let Some(until) = taken.last().map(|entry| entry.log_offset + 1) else {
            return if self.ended { Ok(None) } else { Box::pin(self.span(problems)).await };
        };
        let mut entries: BTreeMap<i64, BTreeMap<Group, LedgerRow>> = BTreeMap::new();
        for entry in taken {
            if !entry.balances() {
                problems
                    .add(format!("{LEDGER}: the entry at {}/{} does not balance", entry.log_offset, entry.log_index));
            }
            let group = (entry.tenant.clone(), entry.door.clone(), entry.source.clone());
            let sum = entries.entry(entry.log_offset).or_default().entry(group).or_default();
            sum.add(&entry);
            sum.redriven.extend(entry.redriven);
        }
        Ok(Some(Span { entries, until }))
    }
}

/// Records that a sum of entries put into quarantine, whether they left it since or not.
fn refused(entry: &LedgerRow) -> i64 {
    entry.quarantined + entry.redriven.len() as i64
}

/// Compares the rows of one table from `from` to the span's end with its entries.
async fn compare(
    counted: &mut Counted,
    table: &TableSnapshot,
    (from, within): (i64, Expr),
    span: &Span,
    counts: &mut BTreeMap<Group, Count>,
    problems: &mut Problems,
) -> Result<(), LakeError> {
    let events = counted.name == "events";
    let columns = ["log_offset", "tenant", "door", "source"].map(col).to_vec();
    let mut there: BTreeMap<i64, BTreeMap<Group, Found>> = BTreeMap::new();
    for group in count_rows(table, Some(within), columns).await? {
        // The entries of a row are those of the first ledger frame behind it.
        let Some((at, _)) = span.entries.range(group.offset..).next() else {
            problems.add(format!("{}: rows at offset {} that no entry counts", counted.name, group.offset));
            continue;
        };
        let found = there.entry(*at).or_default().entry(group.group).or_default();
        found.rows += group.rows;
        found.distinct += group.distinct;
    }
    let mut before = from;
    for (at, entries) in &span.entries {
        let mut found = there.remove(at).unwrap_or_default();
        for (group, entry) in entries {
            let found = Found { from: before, ..found.remove(group).unwrap_or_default() };
            let expected = if events { entry.events } else { refused(entry) };
            counted.compare(*at, group, expected, &found, problems);
            let count = counts.entry(group.clone()).or_insert_with(|| Count {
                tenant: group.0.clone(),
                door: group.1.clone(),
                source: group.2.clone(),
                ..Count::default()
            });
            if events {
                count.take(entry);
                count.events_stored += found.distinct;
            } else {
                count.refused += expected;
                count.refused_stored += found.distinct;
            }
        }
        for (group, found) in found {
            counted.compare(*at, &group, 0, &found, problems);
        }
        before = at + 1;
    }
    Ok(())
}

impl Count {
    fn take(&mut self, entry: &LedgerRow) {
        self.received += entry.received;
        self.mapped += entry.mapped;
        self.noise += entry.noise;
        self.quarantined += entry.quarantined;
        self.duplicates += entry.duplicates;
        self.events += entry.events;
    }
}

/// Rows behind the last entry: none may be there.
async fn behind(
    counted: &Counted,
    table: &TableSnapshot,
    within: Expr,
    problems: &mut Problems,
) -> Result<(), LakeError> {
    for group in count_rows(table, Some(within), vec![col("log_offset")]).await? {
        problems.add(format!("{}: rows at offset {} that no entry counts", counted.name, group.offset));
    }
    Ok(())
}

/// What is missing must be what was removed.
fn settle(counted: &mut Counted, counts: &mut BTreeMap<Group, Count>, problems: &mut Problems) {
    for removed in std::mem::take(&mut counted.removed) {
        let group = (removed.tenant, removed.door, removed.source);
        let missing = counted.missing.remove(&group).unwrap_or_default();
        if missing != removed.rows {
            let (tenant, door, source) = &group;
            problems.add(format!(
                "{}: {missing} rows are gone of tenant {tenant} door {door} source {source}, retention removed {}",
                counted.name, removed.rows
            ));
        }
        if let Some(count) = counts.get_mut(&group) {
            let place = if counted.name == "events" { &mut count.events_removed } else { &mut count.refused_removed };
            *place += removed.rows;
        }
    }
}

/// Rows of one group of columns.
struct Rows {
    offset: i64,
    group: Group,
    rows: i64,
    distinct: i64,
}

/// Made once, since its functions are many.
static SESSION: LazyLock<SessionState> = LazyLock::new(|| {
    let config = SessionConfig::new().set_bool("datafusion.execution.parquet.schema_force_view_types", false);
    SessionStateBuilder::new().with_config(config).with_default_features().build()
});

/// A session that knows no store yet: each lake has its own under the same URL.
fn context() -> SessionContext {
    let state = SessionStateBuilder::new_from_existing(SESSION.clone()).with_runtime_env(Arc::default());
    SessionContext::new_with_state(state.build())
}

fn failed(table: &'static str) -> impl Fn(deltalake::datafusion::error::DataFusionError) -> LakeError {
    move |error| LakeError::Delta { table, source: deltalake::DeltaTableError::Generic(error.to_string()) }
}

/// Counts a table's rows by `columns`, of which the first is the offset.
async fn count_rows(table: &TableSnapshot, filter: Option<Expr>, columns: Vec<Expr>) -> Result<Vec<Rows>, LakeError> {
    let name = table.state.table.name;
    let context = context();
    let provider = table.state.provider(Arc::new(context.state())).await?;
    let batches = async {
        let mut rows = context.read_table(provider)?;
        if let Some(filter) = filter {
            rows = rows.filter(filter)?;
        }
        let counts = vec![count(lit(1)).alias("rows"), count_distinct(col("log_index")).alias("distinct")];
        rows.aggregate(columns, counts)?.collect().await
    };
    let mut found = Vec::new();
    for batch in batches.await.map_err(failed(name))? {
        found.extend((0..batch.num_rows()).map(|row| Rows {
            offset: number(&batch, "log_offset", row),
            group: (text(&batch, "tenant", row), text(&batch, "door", row), text(&batch, "source", row)),
            rows: number(&batch, "rows", row),
            distinct: number(&batch, "distinct", row),
        }));
    }
    Ok(found)
}

fn number(batch: &RecordBatch, name: &str, row: usize) -> i64 {
    let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
    column.map_or(0, |column| column.value(row))
}

fn text(batch: &RecordBatch, name: &str, row: usize) -> String {
    let column = batch.column_by_name(name).and_then(|column| cast(column, &DataType::Utf8).ok());
    column.map_or_else(String::new, |column| column.as_string::<i32>().value(row).to_owned())
}

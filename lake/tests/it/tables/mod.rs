//! The lake over the log: each acknowledged row exactly once in a snapshot, whatever is cut, repeated or running.

mod bucket;
mod keep;
mod once;
mod shared;
mod together;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use deltalake::datafusion::execution::{SessionState, SessionStateBuilder};
use deltalake::datafusion::prelude::{SessionConfig, SessionContext};
use lake::clock::Clock;
use lake::files::sim::SimFiles;
use lake::log::{Group, Log, LogConfig};
use lake::tables::{GROUP, Lake, LakeConfig, LakeError, TableSnapshot};
use schemas::alert::{self, AlertRow};
use schemas::event::{self, EventRow};
use schemas::ledger::LedgerRow;

const NOW: i64 = 50_000 * 86_400_000_000;

async fn open(files: &SimFiles) -> Result<(Arc<Log>, Arc<Lake>), String> {
    // The window is of few events, so that segments are released as soon as they are in the tables.
    let (segment_bytes_max, cache_bytes_max, duplicates_window) = (20_000, 30_000, 12);
    let config = LogConfig { segment_bytes_max, cache_bytes_max, duplicates_window, ..LogConfig::default() };
    let clock = Clock::manual(NOW);
    let opened = Log::open(Arc::new(files.clone()), PathBuf::from("log"), &config, clock.clone(), &[GROUP]);
    let (log, _) = opened.map_err(|e| e.to_string())?;
    let folder = PathBuf::from("lake");
    let opened = Lake::open_folder(Arc::new(files.clone()), folder, log.clone(), clock, LakeConfig::default()).await;
    match opened {
        Ok(lake) => Ok((log, lake)),
        Err(e) => {
            log.close();
            Err(e.to_string())
        }
    }
}

/// A folder with a log and tables, all empty. Making the tables takes longer than most of the tests.
async fn made() -> SimFiles {
    let files = SimFiles::new();
    let (log, _) = open(&files).await.expect("opens");
    log.close();
    files.after_cut(None)
}

fn event(number: usize, i: usize) -> EventRow {
    EventRow {
        event_id: format!("{number:03}-{i}"),
        event_day: (i % 2) as i32,
        tenant: "acme".into(),
        raw: format!("{{\"number\":{number}}}"),
        ..EventRow::default()
    }
}

/// Four new events, and one of the group before again.
fn group(number: usize) -> Group {
    let again = number.checked_sub(1).map(|before| event(before, 0));
    let rows: Vec<EventRow> = (0..4).map(|i| event(number, i)).chain(again).collect();
    let count = rows.len() as i64;
    let ledger = LedgerRow { received: count, mapped: count, events: count, ..LedgerRow::default() };
    let alert = AlertRow { alert_id: format!("alert-{number}"), event_ids: vec!["e".into()], ..AlertRow::default() };
    Group {
        events: Some(event::batch(&rows)),
        ledger: Some(ledger),
        // Alerts are rare: most flushes find none.
        alerts: number.is_multiple_of(3).then(|| alert::batch([&alert])),
        ..Group::default()
    }
}

/// Made once, since its functions are many.
static SESSION: LazyLock<SessionState> = LazyLock::new(|| {
    let config = SessionConfig::new().set_bool("datafusion.execution.parquet.schema_force_view_types", false);
    SessionStateBuilder::new().with_config(config).with_default_features().build()
});

/// A session that knows no store yet: every lake here has the same URL.
fn session() -> SessionState {
    SessionStateBuilder::new_from_existing(SESSION.clone()).with_runtime_env(Arc::default()).build()
}

async fn files_of(table: &TableSnapshot) -> Vec<RecordBatch> {
    let state = session();
    let provider = table.state.provider(Arc::new(state.clone())).await.expect("a provider");
    SessionContext::new_with_state(state).read_table(provider).expect("reads").collect().await.expect("collects")
}

/// Rows of a table, files and tail together, without reading a file.
fn count(table: &TableSnapshot) -> usize {
    table.state.size().rows as usize + table.tail.iter().map(RecordBatch::num_rows).sum::<usize>()
}

/// A text column of a table, files and tail together, sorted.
async fn column(lake: &Lake, table: &str, name: &str) -> Result<Vec<String>, LakeError> {
    let table = lake.snapshot().await?.table(table).expect("a declared table");
    let mut batches = files_of(&table).await;
    batches.extend(table.tail);
    let mut found = Vec::new();
    for batch in &batches {
        let texts = arrow::array::AsArray::as_string::<i32>(batch.column_by_name(name).expect("the column"));
        found.extend(texts.iter().flatten().map(str::to_owned));
    }
    found.sort();
    Ok(found)
}

async fn ids(lake: &Lake) -> Vec<String> {
    column(lake, "events", "event_id").await.expect("a snapshot")
}

fn expected(groups: usize) -> Vec<String> {
    (0..groups).flat_map(|number| (0..4).map(move |i| format!("{number:03}-{i}"))).collect()
}

fn alerts(groups: usize) -> Vec<String> {
    let mut alerts: Vec<String> = (0..groups).filter(|n| n % 3 == 0).map(|n| format!("alert-{n}")).collect();
    alerts.sort();
    alerts
}

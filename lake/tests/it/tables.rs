//! The lake over the log: each acknowledged row exactly once in a snapshot, whatever is cut, repeated or running.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use deltalake::datafusion::execution::{SessionState, SessionStateBuilder};
use deltalake::datafusion::prelude::{SessionConfig, SessionContext};
use lake::clock::Clock;
use lake::files::sim::{Fault, SimFiles};
use lake::log::{Group, Log, LogConfig};
use lake::tables::{GROUP, Lake, LakeConfig, LakeError, TableSnapshot};
use schemas::alert::{self, AlertRow};
use schemas::event::{self, EventRow};
use schemas::ledger::LedgerRow;

const NOW: i64 = 50_000 * 86_400_000_000;

async fn open(files: &SimFiles) -> Result<(Arc<Log>, Arc<Lake>), String> {
    let config = LogConfig { segment_bytes_max: 20_000, cache_bytes_max: 30_000, ..LogConfig::default() };
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

fn group(number: usize) -> Group {
    let rows: Vec<EventRow> = (0..4)
        .map(|i| EventRow {
            event_id: format!("{number:03}-{i}"),
            event_day: i,
            tenant: "acme".into(),
            raw: format!("{{\"number\":{number}}}"),
            ..EventRow::default()
        })
        .collect();
    let ledger = LedgerRow { received: 4, mapped: 4, events: 4, ..LedgerRow::default() };
    let alert = AlertRow { alert_id: format!("alert-{number}"), event_ids: vec!["e".into()], ..AlertRow::default() };
    Group {
        events: Some(event::batch(&rows)),
        ledger: Some(ledger),
        // Alerts are rare: most flushes find none.
        alerts: (number % 3 == 0).then(|| alert::batch([&alert])),
        ..Group::default()
    }
}

fn session() -> SessionState {
    let config = SessionConfig::new().set_bool("datafusion.execution.parquet.schema_force_view_types", false);
    SessionStateBuilder::new().with_config(config).with_default_features().build()
}

async fn files_of(table: &TableSnapshot) -> Vec<RecordBatch> {
    let state = session();
    let provider = table.state.provider(Arc::new(state.clone())).await.expect("a provider");
    SessionContext::new_with_state(state).read_table(provider).expect("reads").collect().await.expect("collects")
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

/// Appends and flushes in turns until something fails; how many groups were acknowledged.
async fn work(files: &SimFiles, groups: usize) -> usize {
    let Ok((log, lake)) = open(files).await else { return 0 };
    let mut acknowledged = 0;
    for number in 0..groups {
        if log.append(group(number)).await.is_err() {
            break;
        }
        acknowledged += 1;
        if number % 2 == 1 && lake.flush().await.is_err() {
            break;
        }
    }
    log.close();
    acknowledged
}

/// Power goes at every call after the tables are made. What was acknowledged is there once; what was not, at most once; and again after a flush.
#[tokio::test]
async fn a_cut_anywhere_leaves_each_row_once() {
    const GROUPS: usize = 4;
    let made = SimFiles::new();
    let (log, _) = open(&made).await.unwrap();
    log.close();
    let whole = SimFiles::new();
    assert_eq!(work(&whole, GROUPS).await, GROUPS);
    for cut in made.calls()..whole.calls() {
        let files = SimFiles::new();
        files.cut_at(cut);
        let acknowledged = work(&files, GROUPS).await;
        let found = files.after_cut((cut % 2 == 1).then_some(cut));
        let (log, lake) = open(&found).await.unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        let before = ids(&lake).await;
        let groups = before.len() / 4;
        assert!((acknowledged..=acknowledged + 1).contains(&groups), "cut at {cut}: {groups} of {acknowledged}");
        assert_eq!(before, expected(groups), "cut at {cut}");
        assert_eq!(column(&lake, "alerts", "alert_id").await.expect("a snapshot"), alerts(groups), "cut at {cut}");
        for number in groups..GROUPS {
            log.append(group(number)).await.unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        }
        lake.flush().await.unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        assert_eq!(ids(&lake).await, expected(GROUPS), "cut at {cut}");
        assert_eq!(lake.status().behind, 0);
        log.close();
    }
}

/// The process dies after the commits and before the log is told: the log still holds what the tables hold.
#[tokio::test]
async fn a_log_that_was_not_told_changes_nothing() {
    let files = SimFiles::new();
    let (log, lake) = open(&files).await.unwrap();
    for number in 0..6 {
        log.append(group(number)).await.unwrap();
    }
    log.close();
    drop((log, lake));
    let kept = files.after_cut(None);
    for _ in 0..3 {
        let (log, lake) = open(&files).await.unwrap();
        lake.flush().await.unwrap();
        log.close();
        assert_eq!(ids(&lake).await, expected(6));
    }
    // The lake of later with the log of earlier that still has every frame.
    let both = SimFiles::new();
    for (from, folder) in [(&files, "lake"), (&kept, "log")] {
        copy(from, &both, folder);
    }
    let (log, lake) = open(&both).await.unwrap();
    assert_eq!(log.first(), 0);
    assert_eq!(ids(&lake).await, expected(6));
    lake.flush().await.unwrap();
    assert_eq!(ids(&lake).await, expected(6));
    assert_eq!(column(&lake, "alerts", "alert_id").await.unwrap(), alerts(6));
}

fn copy(from: &SimFiles, to: &SimFiles, folder: &str) {
    use lake::files::Files;
    for (path, length) in from.list_recursive(&PathBuf::from(folder)).unwrap() {
        to.create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = to.create(&path).unwrap();
        file.append(&from.read(&path, 0..length).unwrap()).unwrap();
        file.sync().unwrap();
        to.sync_dir(path.parent().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn a_log_older_than_the_lake_is_refused() {
    let files = SimFiles::new();
    assert_eq!(work(&files, 4).await, 4);
    let other = SimFiles::new();
    copy(&files, &other, "lake");
    let refused = open(&other).await.map(|_| ()).unwrap_err();
    assert!(refused.contains("the log ends at 0"), "{refused}");
}

/// A call fails and the next attempt works: nothing is lost or doubled.
#[tokio::test]
async fn a_failed_flush_is_tried_again() {
    let whole = SimFiles::new();
    let (log, lake) = open(&whole).await.unwrap();
    log.append(group(0)).await.unwrap();
    let before = whole.calls();
    lake.flush().await.unwrap();
    let calls = whole.calls() - before;
    for call in 0..calls {
        let files = SimFiles::new();
        let (log, lake) = open(&files).await.unwrap();
        log.append(group(0)).await.unwrap();
        files.fail_at(files.calls() + call, Fault::NoSpace);
        let failed = lake.flush().await;
        assert_eq!(failed.is_err(), lake.status().error.is_some());
        assert_eq!(ids(&lake).await, expected(1), "call {call}");
        log.append(group(1)).await.unwrap();
        lake.flush().await.unwrap();
        assert_eq!(ids(&lake).await, expected(2), "call {call}");
        assert_eq!(lake.status().error, None);
        log.close();
    }
}

/// Snapshots taken while rows are appended, flushed and released hold every row acknowledged before, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_never_doubles_nor_misses() {
    const GROUPS: usize = 60;
    let files = SimFiles::new();
    let (log, lake) = open(&files).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let appending = tokio::spawn({
        let (log, done) = (log.clone(), done.clone());
        async move {
            for number in 0..GROUPS {
                log.append(group(number)).await.unwrap();
                tokio::task::yield_now().await;
            }
            done.store(true, Ordering::SeqCst);
        }
    });
    let flushing = tokio::spawn({
        let (lake, done) = (lake.clone(), done.clone());
        async move {
            while !done.load(Ordering::SeqCst) {
                lake.flush().await.unwrap();
            }
        }
    });
    let (mut seen, mut snapshots) = (0, 0);
    while !appending.is_finished() {
        let found = ids(&lake).await;
        assert_eq!(found, expected(found.len() / 4));
        assert!(found.len() >= seen);
        (seen, snapshots) = (found.len(), snapshots + 1);
    }
    appending.await.unwrap();
    flushing.await.unwrap();
    assert!(snapshots > 0, "no snapshot was taken while rows came");
    assert_eq!(ids(&lake).await, expected(GROUPS));
    log.close();
}

//! Log and tables together while both work: groups are appended while a flush is under way, and then power goes or the
//! disk is full, at every call of a sample. What was acknowledged is there once, and the ledger says so.

use lake::files::sim::Fault;
use lake::log::LogError;
use schemas::ledger::Ledger;

use super::*;

const GROUPS: usize = 6;

/// Appends each group while the ones before are flushed, until an append fails; how many were acknowledged.
async fn work(log: &Log, lake: &Lake) -> usize {
    for number in 0..GROUPS {
        let (appended, _) = tokio::join!(log.append(group(number)), lake.flush());
        if appended.is_err() {
            return number;
        }
    }
    GROUPS
}

/// Counts a snapshot and reads it: each event once, a ledger that balances; how many groups it holds.
async fn check(lake: &Lake, what: &str) -> usize {
    let snapshot = lake.snapshot().await.unwrap_or_else(|e| panic!("{what}: {e}"));
    let [events, ledger] = ["events", "ingest_ledger"].map(|name| snapshot.table(name).expect("a declared table"));
    let found = ids(lake).await;
    let groups = found.len() / 4;
    assert_eq!(found, expected(groups), "{what}");
    assert_eq!(count(&events), found.len(), "{what}");
    let mut rows = Vec::new();
    for batch in files_of(&ledger).await.into_iter().chain(ledger.tail.clone()) {
        let ledger = Ledger::new(&batch).expect("has the columns");
        rows.extend((0..batch.num_rows()).map(|i| ledger.row(i)));
    }
    assert_eq!(count(&ledger), rows.len(), "{what}");
    let mut sum = LedgerRow::default();
    rows.iter().for_each(|row| sum.add(row));
    assert!(rows.iter().all(LedgerRow::balances) && sum.balances(), "{what}: {rows:?}");
    // Each record is one event here.
    assert_eq!((sum.mapped, sum.events), (found.len() as i64, found.len() as i64), "{what}: {rows:?}");
    groups
}

/// A client sends again what nobody acknowledged; then everything is there, before a flush and after it.
async fn go_on(log: &Log, lake: &Lake, acknowledged: usize, what: &str) {
    for number in acknowledged..GROUPS {
        log.append(group(number)).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    assert_eq!(check(lake, what).await, GROUPS, "{what}");
    lake.flush().await.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(check(lake, what).await, GROUPS, "{what}");
    assert_eq!(lake.status().behind, 0, "{what}");
}

/// Calls that an undisturbed run makes, more or less: how appends and flushes meet differs from run to run.
async fn calls(made: &SimFiles) -> u64 {
    let files = made.after_cut(None);
    let (log, lake) = open(&files).await.expect("opens");
    assert_eq!(work(&log, &lake).await, GROUPS);
    go_on(&log, &lake, GROUPS, "undisturbed").await;
    assert!(log.first(0) > 0, "the workload also releases segments");
    log.close();
    files.calls()
}

#[tokio::test]
async fn power_goes_while_both_work() {
    let made = made().await;
    for cut in (0..calls(&made).await).step_by(11) {
        let what = format!("cut at {cut}");
        let files = made.after_cut(None);
        files.cut_at(cut);
        let acknowledged = match open(&files).await {
            Ok((log, lake)) => work(&log, &lake).await,
            Err(_) => 0,
        };
        let (log, lake) = open(&files.after_cut((cut % 2 == 1).then_some(cut))).await.expect(&what);
        let groups = check(&lake, &what).await;
        assert!((acknowledged..=acknowledged + 1).contains(&groups), "{what}: {groups} of {acknowledged}");
        go_on(&log, &lake, acknowledged, &what).await;
        log.close();
    }
}

/// A full disk refuses one call or several in a row. A log that stopped over it is opened again, as a new process would.
#[tokio::test]
async fn a_full_disk_heals_while_both_work() {
    let made = made().await;
    for call in (0..calls(&made).await).step_by(13) {
        let what = format!("full at {call}");
        let files = made.after_cut(None);
        (call..call + 1 + call % 2 * 4).for_each(|call| files.fail_at(call, Fault::NoSpace));
        let opened = open(&files).await.ok();
        let mut acknowledged = 0;
        if let Some((log, lake)) = &opened {
            acknowledged = work(log, lake).await;
        }
        files.heal();
        let stopped = |(log, _): &(Arc<Log>, Arc<Lake>)| matches!(log.read(0, 0, 1), Err(LogError::Fatal(_)));
        let (log, lake) = match opened.filter(|opened| !stopped(opened)) {
            Some(opened) => opened,
            None => open(&files).await.expect(&what),
        };
        let groups = check(&lake, &what).await;
        assert!((acknowledged..=acknowledged + 1).contains(&groups), "{what}: {groups} of {acknowledged}");
        go_on(&log, &lake, acknowledged, &what).await;
        log.close();
    }
}

//! One at a time: cuts, failures, restarts, and snapshots while the writer works.

use std::sync::atomic::{AtomicBool, Ordering};

use lake::files::sim::Fault;

use super::*;

/// Appends and flushes in turns until something fails; how many groups were acknowledged.
async fn work(files: &SimFiles, groups: usize) -> usize {
    let Ok((log, lake)) = open(files).await else { return 0 };
    let mut acknowledged = 0;
    for number in 0..groups {
        if log.append(group(number)).await.is_err() {
            break;
        }
        acknowledged += 1;
        if number % 2 == 0 && lake.flush().await.is_err() {
            break;
        }
    }
    log.close();
    acknowledged
}

/// Power goes at every call after the tables are made. What was acknowledged is there once; what was not, at most once; and again after a flush.
#[tokio::test]
async fn a_cut_anywhere_leaves_each_row_once() {
    const GROUPS: usize = 3;
    let made = made().await;
    let whole = made.after_cut(None);
    assert_eq!(work(&whole, GROUPS).await, GROUPS);
    for cut in 0..whole.calls() {
        let files = made.after_cut(None);
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
    assert_eq!(log.first(0), 0);
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
    assert!(refused.contains("that log ends at 0 here: the log is older than the lake"), "{refused}");
}

/// A call fails and the next attempt works: nothing is lost or doubled.
#[tokio::test]
async fn a_failed_flush_is_tried_again() {
    let made = made().await;
    let whole = made.after_cut(None);
    let (log, lake) = open(&whole).await.unwrap();
    log.append(group(0)).await.unwrap();
    let before = whole.calls();
    lake.flush().await.unwrap();
    let calls = whole.calls() - before;
    for call in 0..calls {
        let files = made.after_cut(None);
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
    assert!(snapshots > 0);
    lake.flush().await.unwrap();
    log.append(group(GROUPS)).await.unwrap();
    assert!(log.first(0) > 0, "segments were released");
    assert_eq!(ids(&lake).await, expected(GROUPS + 1));
    log.close();
}

/// The log keeps nothing below the tables' end: then a snapshot must not ask for it.
#[tokio::test]
async fn a_snapshot_needs_no_frame_that_the_tables_hold() {
    let files = made().await;
    let (log, lake) = open(&files).await.unwrap();
    let mut nothing_below = 0;
    for number in 0..60 {
        log.append(group(number)).await.unwrap();
        nothing_below += usize::from(log.first(0) > 0 && log.first(0) == lake.status().next.get(0));
        let taken = tokio::time::timeout(std::time::Duration::from_secs(20), lake.snapshot()).await;
        let events = taken.expect("does not wait for ever").unwrap().table("events").expect("a declared table");
        assert_eq!(count(&events), (number + 1) * 4);
        if number % 5 == 4 {
            lake.flush().await.unwrap();
        }
    }
    assert!(nothing_below > 0);
    log.close();
}

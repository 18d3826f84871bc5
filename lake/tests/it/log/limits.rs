//! Every limit: what is refused, what is released, and that the log goes on.

use lake::files::Files;
use lake::files::sim::SimFiles;
use lake::log::{Group, LogConfig, LogError};

use super::*;

fn one(log: &Log, number: usize) -> Result<Appended, LogError> {
    append(log, events([(&*number.to_string(), "x".repeat(5000).as_str())]))
}

fn segments(files: &SimFiles) -> usize {
    files.list(&folder()).expect("lists").len()
}

#[test]
fn a_segment_goes_when_every_group_has_passed_and_the_window_lies_behind_it() {
    let files = SimFiles::new();
    let config = LogConfig { duplicates_window: 20, cache_bytes_max: 0, ..small() };
    let (log, _) = open(&files, &config).expect("opens");
    (0..40).for_each(|i| drop(one(&log, i).expect("appends")));
    let all = segments(&files);
    assert!(all > 8, "{all} segments");
    log.passed("lake", log.end());
    one(&log, 40).expect("appends");
    assert!(log.first() == 0 && segments(&files) >= all, "detect has passed nothing");
    log.passed("detect", log.end());
    one(&log, 41).expect("appends");
    assert!(log.first() > 0 && segments(&files) < all);
    assert!(matches!(log.read(0, 1), Err(LogError::Gone { first }) if first == log.first()));
    // The window is still whole, now and after a restart.
    let first = log.first();
    drop(log);
    let (log, _) = open(&files, &config).expect("opens again");
    assert_eq!(log.first(), first);
    assert!((22..42).all(|i| one(&log, i).expect("appends").events.is_empty()));
    assert!(!one(&log, 3).expect("appends").events.is_empty(), "it left the window");
}

#[test]
fn a_full_log_refuses_until_readers_pass_and_the_window_gives_way() {
    let files = SimFiles::new();
    let config = LogConfig { log_bytes_max: 200_000, ..small() };
    let (log, _) = open(&files, &config).expect("opens");
    let full = (0..100).find(|&i| matches!(one(&log, i), Err(LogError::Full(_)))).expect("fills up");
    assert!(matches!(one(&log, full), Err(LogError::Full(_))));
    assert_eq!(stream(&log).len(), full, "nothing was dropped");
    pass(&log, log.end());
    let appended = one(&log, full).expect("goes on");
    assert!(!appended.events.is_empty(), "what was refused is not taken for a repeat");
    assert!(log.first() > 0);
}

#[test]
fn large_and_unknown_groups_are_refused_alone() {
    let config = LogConfig { group_rows_max: 2, group_bytes_max: 20_000, queue_bytes_max: 20_000, ..small() };
    let (log, _) = open(&SimFiles::new(), &config).expect("opens");
    let three = append(&log, events([("a", ""), ("b", ""), ("c", "")]));
    assert!(matches!(three, Err(LogError::TooLarge { rows: 3, rows_max: 2, .. })));
    assert!(matches!(append(&log, events([("a", &*"x".repeat(20_001))])), Err(LogError::TooLarge { .. })));
    let wrong = Group { events: Some(alerts("a")), ..Group::default() };
    assert!(matches!(append(&log, wrong), Err(LogError::Malformed { table: "events", .. })));
    runtime().block_on(async {
        let raw = "x".repeat(9000);
        let group = || log.append(events([("a", &*raw)]));
        let (a, b, c) = tokio::join!(biased; group(), group(), group());
        let refused = [&a, &b, &c].iter().filter(|answer| matches!(answer, Err(LogError::Overloaded(_)))).count();
        assert!(a.is_ok() && refused <= 2, "{b:?} {c:?}");
    });
    assert_eq!(stream(&log).len(), 1);
}

#[test]
fn settings_that_cannot_work_are_refused_with_their_names() {
    let config = LogConfig { queue_groups_max: 0, linger_ms: 5000, ..LogConfig::default() };
    let error = open(&SimFiles::new(), &config).map(|_| ()).expect_err("fails").to_string();
    assert!(error.contains("queue_groups_max") && error.contains("linger_ms"), "{error}");
}

#[test]
fn frames_that_left_memory_come_from_the_disk() {
    for cache_bytes_max in [0, 20_000, 1 << 20] {
        let config = LogConfig { cache_bytes_max, ..small() };
        let (log, _) = open(&SimFiles::new(), &config).expect("opens");
        (0..60).for_each(|i| drop(one(&log, i).expect("appends")));
        let ids: Vec<String> = stream(&log).into_iter().map(|(id, ..)| id).collect();
        assert_eq!(ids, (0..60).map(|i| i.to_string()).collect::<Vec<_>>());
    }
}

//! A log without a window of the duplicate filter, as the control log is: it holds what its readers need and no more.

use lake::files::Files;
use lake::files::sim::SimFiles;
use lake::log::{Group, LogConfig, Payload};
use serde_json::json;

use super::*;

fn config() -> LogConfig {
    LogConfig { duplicates_window: 0, segment_bytes_max: 20_000, cache_bytes_max: 0, ..LogConfig::default() }
}

fn note(log: &Log, number: usize) {
    let control = Some(json!({"number": number, "text": "x".repeat(4000)}));
    append(log, Group { control, ..Group::default() }).expect("appends");
}

fn numbers(log: &Log) -> Vec<u64> {
    let number = |frame: &Arc<Frame>| match &frame.payload {
        Payload::Control(value) => value["number"].as_u64(),
        _ => None,
    };
    frames(log).iter().filter_map(number).collect()
}

#[test]
fn a_segment_goes_when_every_group_has_passed_it_also_after_a_restart() {
    assert_eq!(config().problems(), Vec::<String>::new());
    let files = SimFiles::new();
    let mut log = open(&files, &config()).expect("opens").0;
    for round in 0..4 {
        (0..30).for_each(|i| note(&log, round * 30 + i));
        let keep = log.end() - 5;
        assert!(log.segment_begins(log.first(), keep) && !log.segment_begins(keep, keep));
        pass(&log, keep);
        note(&log, 1000);
        assert!(log.first() > keep - 10 && log.first() <= keep, "first {} of {keep}", log.first());
        assert!(files.list(&folder()).expect("lists").len() <= 8);
        let (first, end, there) = (log.first(), log.end(), numbers(&log));
        log.close();
        log = open(&files, &config()).expect("opens again").0;
        assert_eq!((log.first(), log.end(), numbers(&log)), (first, end, there));
    }
    assert!(log.has_group("lake") && !log.has_group("orders"));
}

#[test]
fn nothing_is_a_repeat() {
    let files = SimFiles::new();
    for _ in 0..2 {
        let (log, _) = open(&files, &config()).expect("opens");
        let appended = append(&log, events([("a", "1"), ("a", "1"), ("a", "2")])).expect("appends");
        assert_eq!((appended.duplicates.len(), appended.conflicts.len()), (0, 0));
    }
}

/// What the window does not hold is not decoded at the opening, and checked all the same.
#[test]
fn damage_far_behind_the_window_is_found() {
    for duplicates_window in [0, 3] {
        let files = SimFiles::new();
        let config = LogConfig { duplicates_window, ..config() };
        let (log, _) = open(&files, &config).expect("opens");
        (0..30).for_each(|i| drop(append(&log, events([(&*i.to_string(), &*"x".repeat(5000))])).expect("appends")));
        log.close();
        let names = files.list(&folder()).expect("lists");
        assert!(names.len() > 8);
        for name in [&names[0], &names[4]] {
            let path = folder().join(name);
            let byte = files.len(&path).expect("has a length") - 2000;
            files.flip_bit(&path, byte).expect("flips");
            let error = open(&files, &config).map(|_| ()).expect_err("fails");
            assert!(matches!(&error, LogError::Corrupt { segment, .. } if *segment == path), "{error}");
            files.flip_bit(&path, byte).expect("flips back");
        }
        let (log, recovery) = open(&files, &config).expect("opens");
        assert_eq!((recovery.frames, log.end()), (60, 60));
    }
}

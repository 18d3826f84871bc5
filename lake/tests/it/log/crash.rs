//! Whatever call fails and wherever power goes: an acknowledged event is there exactly once, any other at most once.

use std::collections::BTreeMap;
use std::path::Path;

use lake::files::Files;
use lake::files::sim::{Fault, SimFiles};
use lake::log::{LogConfig, LogError};
use serde_json::json;

use super::*;

const ROUNDS: usize = 8;
const WRITERS: usize = 3;

fn config() -> LogConfig {
    LogConfig { segment_bytes_max: 60_000, duplicates_window: 12, ..LogConfig::default() }
}

fn ids(round: usize, writer: usize) -> [String; 2] {
    [0, 1].map(|i| format!("{round}-{writer}-{i}"))
}

/// Several writers append at once, readers pass and old segments go; the ids of the events that were acknowledged.
fn work(log: &Log) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let raw = "x".repeat(2000);
    for round in 0..ROUNDS {
        let write = |writer| {
            let ids = ids(round, writer);
            let mut group = events(ids.iter().map(|id| (id.as_str(), raw.as_str())));
            group.control = (writer == 1).then(|| json!({"round": round}));
            group.tick = (writer == 2).then_some(round as i64);
            async { log.append(group).await.map(|_| ids) }
        };
        let answers = runtime().block_on(async {
            let (a, b, c) = tokio::join!(write(0), write(1), write(2));
            [a, b, c]
        });
        acknowledged.extend(answers.into_iter().flatten().flatten());
        pass(log, log.end().saturating_sub(6));
    }
    acknowledged
}

/// Opens what is left and checks it; then everything is sent again, as a door's client would.
fn check(files: &SimFiles, acknowledged: &[String], first: u64, what: &str) {
    let (log, _) = open(files, &config()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (id, ..) in stream(&log) {
        *counts.entry(id).or_default() += 1;
    }
    assert!(counts.values().all(|count| *count == 1), "{what}: {counts:?}");
    // Offsets below what was released are gone by right; then the oldest acknowledged events are too.
    let released = if first.max(log.first()) == 0 { 0 } else { acknowledged.len().saturating_sub(12) };
    for id in &acknowledged[released..] {
        assert!(counts.contains_key(id), "{what}: lost {id}");
    }
    let last = [0, 1, 2].map(|writer| ids(ROUNDS - 1, writer));
    append(&log, events(last.iter().flatten().map(|id| (id.as_str(), "again")))).expect("the log goes on");
    let repeated: Vec<_> =
        stream(&log).into_iter().filter(|(_, raw, flags)| raw == "again" && flags.is_empty()).collect();
    assert!(repeated.iter().all(|(id, ..)| !counts.contains_key(id)), "{what}: {repeated:?}");
}

fn run(files: &SimFiles) -> (Vec<String>, u64) {
    match open(files, &config()) {
        Ok((log, _)) => (work(&log), log.first()),
        Err(_) => (Vec::new(), 0),
    }
}

#[test]
fn power_goes_at_every_call() {
    let whole = SimFiles::new();
    let (acknowledged, first) = run(&whole);
    assert_eq!(acknowledged.len(), ROUNDS * WRITERS * 2);
    assert!(first > 0, "the workload also releases segments");
    // How appends meet in commits differs from run to run, and so does the number of calls.
    for call in 0..whole.calls() + 20 {
        let files = SimFiles::new();
        files.cut_at(call);
        let (acknowledged, first) = run(&files);
        check(&files.after_cut(None), &acknowledged, first, &format!("cut at call {call}"));
        for seed in 0..4 {
            let what = format!("cut at call {call}, remains {seed}");
            check(&files.after_cut(Some(call * 4 + seed)), &acknowledged, first, &what);
        }
    }
}

#[test]
fn every_call_fails_once() {
    let whole = SimFiles::new();
    run(&whole);
    for call in 0..whole.calls() + 10 {
        for fault in [Fault::NoSpace, Fault::Io, Fault::Permission] {
            let files = SimFiles::new();
            files.fail_at(call, fault);
            let (acknowledged, first) = run(&files);
            files.heal();
            let cut = files.after_cut(None);
            check(&files, &acknowledged, first, &format!("{fault:?} at call {call}"));
            check(&cut, &acknowledged, first, &format!("{fault:?} at call {call}, then a cut"));
        }
    }
}

#[test]
fn a_full_disk_refuses_one_append_and_a_failing_fsync_ends_the_log() {
    let one = |log: &Log, id: &str| append(log, events([(id, "x")]));
    let files = SimFiles::new();
    let (log, _) = open(&files, &config()).expect("opens");
    one(&log, "a").expect("appends");
    let call = files.calls();
    files.fail_at(call, Fault::NoSpace);
    assert!(matches!(one(&log, "b"), Err(LogError::Full(_))));
    assert!(!one(&log, "b").expect("the log goes on").events.is_empty(), "what was refused is not taken for a repeat");
    let call = files.calls();
    files.fail_at(call + 1, Fault::Io);
    let failed = one(&log, "c");
    assert!(matches!(&failed, Err(LogError::Fatal(reason)) if reason.contains(".log")), "{failed:?}");
    assert!(matches!(one(&log, "d"), Err(LogError::Fatal(_))));
    assert!(matches!(runtime().block_on(log.wait(log.end())), Err(LogError::Fatal(_))));
    assert!(matches!(log.read(0, 1), Err(LogError::Fatal(_))));
}

/// One event whose size is much of a segment of [`small`].
fn large(log: &Log, id: usize) -> Result<Appended, LogError> {
    append(log, events([(&*id.to_string(), &*"x".repeat(9000))]))
}

/// What a cut leaves of a new segment is a torn header or a sound one, never a commit behind a torn header.
#[test]
fn a_new_segment_is_durable_before_its_first_commit() {
    let files = SimFiles::new();
    let (log, _) = open(&files, &small()).expect("opens");
    let (mut calls, mut count) = (0, 0);
    while files.list(&folder()).expect("lists").len() == 1 {
        calls = files.calls();
        large(&log, count).expect("appends");
        count += 1;
    }
    for call in calls..files.calls() {
        let files = SimFiles::new();
        files.cut_at(call);
        let (log, _) = open(&files, &small()).expect("opens");
        let acknowledged = (0..count).take_while(|&id| large(&log, id).is_ok()).count();
        for seed in 0..64 {
            let opened = open(&files.after_cut(Some(seed)), &small());
            let (log, _) = opened.unwrap_or_else(|error| panic!("cut at call {call}, remains {seed}: {error}"));
            assert!((acknowledged..=acknowledged + 1).contains(&stream(&log).len()), "cut at call {call}");
        }
    }
}

/// A removal that a cut undid, with a later one that it did not, would be a hole.
#[test]
fn segments_go_oldest_first_after_a_cut_too() {
    let config = LogConfig { duplicates_window: 1, ..small() };
    let fill = |files: &SimFiles| {
        let (log, _) = open(files, &config).expect("opens");
        (0..20).for_each(|id| drop(large(&log, id).expect("appends")));
        pass(&log, log.end());
        log
    };
    let files = SimFiles::new();
    let log = fill(&files);
    let calls = files.calls();
    large(&log, 20).expect("appends");
    assert!(files.calls() - calls > 8, "one append releases several segments");
    for call in calls..files.calls() {
        let files = SimFiles::new();
        files.cut_at(call);
        let acknowledged = large(&fill(&files), 20).is_ok();
        for seed in 0..16 {
            let opened = open(&files.after_cut(Some(seed)), &config);
            let (log, _) = opened.unwrap_or_else(|error| panic!("cut at call {call}, remains {seed}: {error}"));
            let ids: Vec<String> = stream(&log).into_iter().map(|(id, ..)| id).collect();
            assert!(ids.contains(&"19".to_owned()) && (ids.contains(&"20".to_owned()) || !acknowledged), "{ids:?}");
        }
    }
}

/// Three commits in one segment, and where each ends.
fn three_commits() -> (Vec<u8>, Vec<u64>) {
    let files = SimFiles::new();
    let (log, _) = open(&files, &LogConfig::default()).expect("opens");
    let path = segment();
    let mut ends = vec![files.len(&path).expect("has a length")];
    for id in ["a", "b", "c"] {
        let mut group = events([(id, "x")]);
        group.tick = Some(1);
        append(&log, group).expect("appends");
        ends.push(files.len(&path).expect("has a length"));
    }
    (files.read(&path, 0..ends[3]).expect("reads"), ends)
}

fn segment() -> PathBuf {
    folder().join("00000000000000000000.log")
}

fn holding(bytes: &[u8]) -> SimFiles {
    let files = SimFiles::new();
    files.create_dir_all(&folder()).expect("creates the folder");
    files.create(&segment()).expect("creates").append(bytes).expect("appends");
    files
}

/// At every byte of the frames' headers and at either end of their payloads; within the payloads at some.
#[test]
fn a_write_torn_at_any_byte_is_cut_back_to_the_commit_before() {
    let (bytes, ends) = three_commits();
    let commit = ends[2] as usize..ends[3] as usize;
    let begins: Vec<u64> = memchr::memmem::find_iter(&bytes[commit.clone()], b"MLF\x01").map(|at| at as u64).collect();
    assert_eq!(begins.len(), 3);
    let near = |cut: u64| begins.iter().any(|at| (at.saturating_sub(8)..at + 40).contains(&cut));
    let cuts = (1..commit.len() as u64).filter(|&cut| near(cut) || cut % 17 == 0 || cut + 8 > commit.len() as u64);
    for cut in cuts.map(|cut| ends[2] + cut) {
        for garbage in [0, 40] {
            let mut torn = bytes[..cut as usize].to_vec();
            torn.resize(torn.len() + garbage, 0x4d);
            let files = holding(&torn);
            let (log, recovery) = open(&files, &LogConfig::default()).expect("opens");
            assert_eq!((recovery.frames, recovery.truncated_bytes), (6, torn.len() as u64 - ends[2]), "cut at {cut}");
            assert!(recovery.reason.is_some());
            assert_eq!(stream(&log).len(), 2);
            assert_eq!(files.len(&segment()).expect("has a length"), ends[2]);
        }
    }
}

/// A killed process may leave what it wrote and did not sync. Who reads it acts on it.
#[test]
fn what_opening_found_survives_a_power_cut() {
    let (bytes, _) = three_commits();
    let files = holding(&bytes);
    let (_, found) = open(&files, &LogConfig::default()).expect("opens");
    let (_, again) = open(&files.after_cut(None), &LogConfig::default()).expect("opens after the cut");
    assert_eq!((found.frames, again.frames), (9, 9));
}

#[test]
fn an_opening_that_fails_does_no_harm() {
    let (bytes, ends) = three_commits();
    for call in 0..12 {
        let files = holding(&bytes[..ends[2] as usize + 99]);
        files.fail_at(files.calls() + call, Fault::Io);
        drop(open(&files, &LogConfig::default()));
        files.heal();
        let (log, _) = open(&files, &LogConfig::default()).expect("opens the second time");
        assert_eq!((stream(&log).len(), log.end()), (2, 6));
    }
}

#[test]
fn damage_before_the_last_commit_is_an_error_that_names_segment_and_byte() {
    let (bytes, ends) = three_commits();
    for byte in (ends[0]..ends[2]).step_by(37).chain([0, 9, 17, ends[0] - 1]) {
        let files = holding(&bytes);
        files.flip_bit(&segment(), byte).expect("flips");
        let error = open(&files, &LogConfig::default()).err().unwrap_or_else(|| panic!("byte {byte} went unseen"));
        let LogError::Corrupt { segment: path, at, .. } = &error else { panic!("{error}") };
        assert!(path == &segment() && *at <= byte.max(8), "{error}, not byte {byte}");
    }
}

#[test]
fn a_missing_segment_is_an_error() {
    let files = SimFiles::new();
    let (log, _) = open(&files, &small()).expect("opens");
    (0..20).for_each(|id| drop(large(&log, id).expect("appends")));
    drop(log);
    let names = files.list(&folder()).expect("lists");
    files.remove(&folder().join(&names[1])).expect("removes");
    let error = open(&files, &small()).map(|_| ()).expect_err("fails").to_string();
    assert!(error.contains(Path::new(&names[2]).to_str().expect("is text")), "{error}");
}

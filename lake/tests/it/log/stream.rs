//! What readers see: every kind of frame, each event once, the same stream for every cut into groups.

use arrow::buffer::Buffer;
use lake::files::Files;
use lake::files::sim::SimFiles;
use lake::log::{Group, LogConfig, LogError, Payload, Rows};
use proptest::prelude::*;
use schemas::ledger::Ledger;
use schemas::order::{self, OrderRow};
use schemas::quarantine::{self, Quarantine, QuarantineRow};
use schemas::verdict::{self, VerdictRow};
use serde_json::json;

use super::*;

fn ledgers(log: &Log) -> Vec<LedgerRow> {
    let mut rows = Vec::new();
    for frame in frames(log) {
        let Payload::Ledger(batch) = &frame.payload else { continue };
        let ledger = Ledger::new(batch).expect("has the columns");
        rows.extend((0..batch.num_rows()).map(|i| ledger.row(i)));
    }
    rows
}

#[test]
fn every_kind_reads_back_from_memory_and_from_disk() {
    let files = SimFiles::new();
    let (log, recovery) = open(&files, &LogConfig::default()).expect("opens");
    assert_eq!(recovery, Recovery::default());
    let mut group = events([("a", "1"), ("b", "2")]);
    group.quarantine = Some(quarantine::batch(&[QuarantineRow { raw: vec![0xff], ..QuarantineRow::default() }]));
    group.alerts = Some(alerts("x"));
    group.orders = Some(order::batch(&[OrderRow { order_id: "o".into(), ..OrderRow::default() }]));
    group.control = Some(json!({"rules": [1, "ä"]}));
    group.verdicts = Some(verdict::batch(&[VerdictRow { alert_id: "x".into(), ..VerdictRow::default() }]));
    group.tick = Some(-3);
    let appended = append(&log, group).expect("appends");
    let rows = |offset, count| vec![Rows { sequence: 0, offset, index: 0, count }];
    assert_eq!((appended.events, appended.end), (rows(2, 2), 8));
    let memory = frames(&log);
    assert!(matches!(memory[1].payload, Payload::Verdicts(_)), "right behind its control frame");
    assert!(memory.iter().all(|frame| frame.written_at == 7));
    log.close();
    let uncached = LogConfig { cache_bytes_max: 0, ..LogConfig::default() };
    let (log, recovery) = open(&files, &uncached).expect("opens again");
    assert_eq!((recovery.frames, recovery.truncated_bytes), (8, 0));
    assert_eq!(format!("{:?}", frames(&log)), format!("{memory:?}"));
}

/// Frames that are still held keep the memory they were read into; those that are gone give it to the next.
#[test]
fn reading_through_gives_the_same_frames_whether_those_before_are_held_or_not() {
    let uncached = LogConfig { cache_bytes_max: 0, ..small() };
    let (log, _) = open(&SimFiles::new(), &uncached).expect("opens");
    for number in 0..40 {
        append(&log, events([(format!("{number}").as_str(), "r".repeat(number * 50).as_str())])).expect("appends");
    }
    let shown = |frames: &[Arc<Frame>]| frames.iter().map(|frame| format!("{frame:?}")).collect::<Vec<_>>();
    let expected = shown(&frames(&log));
    for holds in [true, false] {
        let (mut room, mut next, mut seen, mut held) = (Buffer::default(), log.first(), Vec::new(), Vec::new());
        while next < log.end() {
            let read = log.read_through(next, 3000, &mut room).expect("reads");
            next += read.len() as u64;
            seen.extend(shown(&read));
            held.extend(read.into_iter().filter(|_| holds));
        }
        assert_eq!(seen, expected);
        assert!(!holds || shown(&held) == expected);
    }
}

#[test]
fn a_repeat_is_dropped_and_other_bytes_under_the_same_id_are_kept() {
    let files = SimFiles::new();
    let (log, _) = open(&files, &LogConfig::default()).expect("opens");
    append(&log, events([("a", "1")])).expect("appends");
    let appended = append(&log, events([("a", "1"), ("a", "2"), ("b", "1"), ("b", "1"), ("a", "2")])).expect("appends");
    let rows = vec![Rows { sequence: 0, offset: 2, index: 0, count: 2 }];
    assert_eq!((appended.events, appended.duplicates, appended.conflicts), (rows, vec![0, 3, 4], vec![1]));
    let new = schemas::id::digest([&b"a"[..], b"2"]);
    let conflict = vec!["id_conflict".to_owned()];
    let text = |text: &str| text.to_owned();
    let expected = [(text("a"), text("1"), vec![]), (new, text("2"), conflict), (text("b"), text("1"), vec![])];
    assert_eq!(stream(&log), expected);
    let ledger = &ledgers(&log)[1];
    assert_eq!((ledger.received, ledger.mapped, ledger.duplicates, ledger.events), (5, 2, 3, 2));
    assert!(ledger.balances());
    // The same again after a restart: nothing but a ledger row.
    log.close();
    let (log, _) = open(&files, &LogConfig::default()).expect("opens again");
    let appended = append(&log, events([("a", "2"), ("b", "1")])).expect("appends");
    assert_eq!((appended.events, appended.duplicates.len()), (vec![], 2));
    assert_eq!(stream(&log).len(), 3);
}

/// Groups that wait together share frames.
#[test]
fn each_group_is_told_where_its_rows_are() {
    let (log, _) = open(&SimFiles::new(), &LogConfig { linger_ms: 50, ..small() }).expect("opens");
    let quarantined = |n: usize| vec![QuarantineRow { reason: n.to_string(), ..QuarantineRow::default() }];
    let groups = [700, 0, 1_100, 1].into_iter().enumerate().map(|(n, count)| {
        let ids: Vec<String> = (0..count).map(|row| format!("{n}/{row}")).collect();
        Group {
            quarantine: Some(quarantine::batch(&quarantined(n))),
            ..events(ids.iter().map(|id| (id.as_str(), "r")))
        }
    });
    let appended = runtime().block_on(futures::future::join_all(groups.map(|group| log.append(group))));
    let frames = frames(&log);
    for (n, appended) in appended.into_iter().map(|appended| appended.expect("appends")).enumerate() {
        let own = |rows: &Rows| {
            (rows.index as usize..(rows.index + rows.count) as usize, &frames[rows.offset as usize].payload)
        };
        for (range, payload) in appended.events.iter().map(own) {
            let Payload::Events(batch) = payload else { panic!("no events at {n}") };
            let events = Events::new(batch).expect("has the columns");
            let mut ids = range.enumerate();
            assert!(ids.all(|(row, at)| events.event_id.value(at) == format!("{n}/{row}")), "group {n}");
        }
        let (range, Payload::Quarantine(batch)) = own(&appended.quarantine[0]) else { panic!("no refused row of {n}") };
        let refused = Quarantine::new(batch).expect("has the columns");
        assert_eq!((range.len(), refused.reason.value(range.start)), (1, n.to_string().as_str()));
    }
}

#[test]
fn the_ledger_counts_records_and_an_alert_is_raised_once() {
    let (log, _) = open(&SimFiles::new(), &LogConfig::default()).expect("opens");
    let rows = |index| EventRow { event_index: index, ..row(&format!("a{index}"), "one record") };
    let ledger = LedgerRow { received: 1, mapped: 1, events: 3, ..LedgerRow::default() };
    for _ in 0..2 {
        let batch = event::batch(&[rows(0), rows(1), rows(2)]);
        let alerts = alerts("x");
        let group =
            Group { events: Some(batch), ledger: Some(ledger.clone()), alerts: Some(alerts), ..Group::default() };
        append(&log, group).expect("appends");
    }
    let again = &ledgers(&log)[1];
    assert_eq!((again.mapped, again.duplicates, again.events), (0, 1, 0));
    let alerts = frames(&log).iter().filter(|frame| matches!(frame.payload, Payload::Alerts(_))).count();
    assert_eq!(alerts, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Few ids over a small window, so that repeats, conflicts and ids that left the window all happen.
    #[test]
    fn any_cut_into_groups_and_any_restart_give_the_same_stream(
        rows in prop::collection::vec((0..12u8, 0..3u8), 1..120),
        cuts in prop::collection::vec(1..20usize, 1..60),
        restart in 0..60usize,
    ) {
        let config = LogConfig { duplicates_window: 8, ..small() };
        let texts: Vec<(String, String)> = rows.iter().map(|(id, raw)| (id.to_string(), raw.to_string())).collect();
        let whole = {
            let (log, _) = open(&SimFiles::new(), &config).expect("opens");
            append(&log, events(texts.iter().map(|(id, raw)| (&**id, &**raw)))).expect("appends");
            stream(&log)
        };
        let files = SimFiles::new();
        let (mut log, _) = open(&files, &config).expect("opens");
        let mut rest = &texts[..];
        for (i, cut) in cuts.iter().cycle().enumerate() {
            if i == restart {
                log.close();
                log = open(&files, &config).expect("opens again").0;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            // Appends that wait together become one commit, in the order in which they came.
            let (a, b) = now.split_at(now.len() / 2);
            let groups = [a, b].map(|part| log.append(events(part.iter().map(|(id, raw)| (&**id, &**raw)))));
            let [a, b] = groups;
            runtime().block_on(async { tokio::join!(biased; a, b) }).0.expect("appends");
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(stream(&log), whole);
    }
}

#[test]
fn waiting_readers_wake_with_the_end_and_with_the_close() {
    let (log, _) = open(&SimFiles::new(), &LogConfig::default()).expect("opens");
    runtime().block_on(async {
        let tick = Group { tick: Some(1), ..Group::default() };
        let (end, appended) = tokio::join!(log.wait(0), log.append(tick));
        assert_eq!((end.expect("wakes"), appended.expect("appends").end), (1, 1));
        let (woken, ()) = tokio::join!(log.wait(1), async { log.close() });
        assert!(matches!(woken, Err(LogError::Closed)));
    });
    assert!(matches!(append(&log, Group::default()), Err(LogError::Closed)));
    assert_eq!(log.read(0, 1).expect("a closed log is still read").len(), 1);
    assert!(log.read(1, 1).expect("reads").is_empty());
}

/// A segment as version 0.1.0 wrote it, kept as it is.
#[test]
fn the_first_version_is_still_read() {
    let files = SimFiles::new();
    files.create_dir_all(&folder()).expect("creates the folder");
    let mut file = files.create(&folder().join("00000000000000000000.log")).expect("creates");
    file.append(include_bytes!("../fixtures/segment-0.1.0.log")).expect("appends");
    let (log, recovery) = open(&files, &LogConfig::default()).expect("opens");
    assert_eq!((recovery.frames, recovery.truncated_bytes), (7, 0));
    assert_eq!(stream(&log).iter().map(|(id, ..)| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

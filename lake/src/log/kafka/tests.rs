//! Without a broker: a group cut and read back, and the filter, which must say the same wherever a reader begins.

use schemas::ledger::{Ledger, LedgerRow};
use schemas::quarantine::{self, QuarantineRow};
use schemas::{EventRow, Events, event, id};

use super::super::{Group, Payload};
use super::cut::{Share, cut};
use super::filter::{Filter, Keys, apply};
use super::message::{self, Writing};

fn row(number: usize, tag: i32) -> EventRow {
    let (event_id, raw) = (format!("e{number}"), format!("raw {number}"));
    EventRow { event_id, raw, tenant: "acme".into(), log_partition: tag, ..EventRow::default() }
}

fn group(rows: &[EventRow], quarantined: usize, noise: i64) -> Group {
    let mapped = rows.iter().filter(|row| row.event_index == 0).count() as i64;
    let refused = QuarantineRow {
        tenant: "acme".into(),
        log_partition: id::partition("acme", None, None, 64),
        ..QuarantineRow::default()
    };
    let ledger = LedgerRow {
        tenant: "acme".into(),
        received: mapped + noise + quarantined as i64,
        mapped,
        noise,
        quarantined: quarantined as i64,
        events: rows.len() as i64,
        noise_rules: vec![format!("ping={noise}")],
        ..LedgerRow::default()
    };
    Group {
        events: (!rows.is_empty()).then(|| event::batch(rows)),
        quarantine: (quarantined > 0).then(|| quarantine::batch(&vec![refused; quarantined])),
        ledger: Some(ledger),
        ..Group::default()
    }
}

fn sum(shares: &[Share]) -> LedgerRow {
    let mut sum = LedgerRow::default();
    for share in shares {
        for part in &share.batches.ledger {
            assert!(part.balances(), "{part:?}");
            sum.add(part);
        }
    }
    sum
}

#[test]
fn each_message_counts_its_own_rows_and_all_of_them_the_group() {
    for (partitions, bytes_max) in [(1, 1 << 20), (3, 1 << 20), (8, 1 << 20), (8, 2_000)] {
        for (events, quarantined, noise) in [(0, 0, 3), (0, 4, 0), (1, 0, 0), (200, 7, 5)] {
            let rows: Vec<EventRow> = (0..events)
                .map(|number| EventRow { event_index: (number % 3 == 1).into(), ..row(number, (number % 64) as i32) })
                .collect();
            let total = group(&rows, quarantined, noise).ledger.expect("has one");
            let shares = cut(group(&rows, quarantined, noise), partitions, bytes_max).expect("cuts");
            let found = sum(&shares);
            let counts = |row: &LedgerRow| (row.received, row.mapped, row.noise, row.quarantined, row.events);
            assert_eq!(counts(&found), counts(&total), "{partitions} {events} {quarantined} {noise}");
            let mut ids: Vec<String> = Vec::new();
            for share in &shares {
                assert!(!share.late);
                for batch in &share.batches.events {
                    let events = Events::new(batch).expect("has the columns");
                    for row in (0..batch.num_rows()).map(|row| events.row(row)) {
                        assert_eq!(row.log_partition as usize % partitions, share.partition);
                        ids.push(row.event_id);
                    }
                }
            }
            ids.sort();
            let mut expected: Vec<String> = rows.iter().map(|row| row.event_id.clone()).collect();
            expected.sort();
            assert_eq!(ids, expected);
        }
    }
}

#[test]
fn control_and_ticks_go_everywhere_and_a_correction_comes_last() {
    let told = Group { control: Some(serde_json::json!({"a": 1})), tick: Some(9), ..Group::default() };
    let shares = cut(told, 4, 1 << 20).expect("cuts");
    let kinds = |share: &Share| (share.partition, share.batches.control.len(), share.batches.ticks.len());
    let expected: Vec<_> = (0..4).map(|p| (p, 1, 0)).chain((0..4).map(|p| (p, 0, 1))).collect();
    assert_eq!(shares.iter().map(kinds).collect::<Vec<_>>(), expected);

    let cursor = Group { control: Some(serde_json::json!({"door": 1})), ..group(&[row(1, 0), row(2, 1)], 0, 1) };
    let shares = cut(cursor, 4, 1 << 20).expect("cuts");
    assert!(
        shares.iter().all(
            |share| share.late == share.batches.ledger.is_empty() && share.late != share.batches.control.is_empty()
        )
    );
    assert_eq!(shares.iter().filter(|share| share.late).count(), 4, "a cursor comes behind its records, everywhere");

    let tag = id::partition("acme", None, None, 64);
    let mut moved = group(&[row(1, tag + 1)], 0, 0);
    let ledger = moved.ledger.as_mut().expect("has one");
    (ledger.received, ledger.quarantined, ledger.redriven) = (0, -1, vec!["4/0".into()]);
    let shares = cut(moved, 64, 1 << 20).expect("cuts");
    let late: Vec<bool> = shares.iter().map(|share| share.late).collect();
    assert_eq!(late.iter().filter(|late| **late).count(), 1);
    assert_eq!(sum(&shares).quarantined, -1);
}

#[test]
fn a_message_reads_back_and_any_cut_or_changed_byte_shows() {
    let mut shares = cut(group(&[row(1, 3), row(2, 3)], 0, 1), 1, 1 << 20).expect("cuts");
    let value = Writing::new().write(&mut shares[0], 7).expect("writes");
    let frames = message::read(2, 41, &value).expect("reads");
    let Payload::Events(batch) = &frames[0].payload else { panic!("events come first") };
    let events = Events::new(batch).expect("has the columns");
    let second = events.row(1);
    assert_eq!((second.event_id.as_str(), second.log_offset, second.log_index), ("e2", 41, 1));
    assert!(frames.iter().all(|frame| (frame.sequence, frame.offset, frame.written_at) == (2, 41, 7)));
    (0..value.len()).step_by(13).for_each(|cut| assert!(message::read(0, 0, &value[..cut]).is_err(), "{cut}"));
    for at in (0..value.len()).step_by(7) {
        let mut changed = value.clone();
        changed[at] ^= 0x40;
        assert!(message::read(0, 0, &changed).is_err(), "{at}");
    }
}

/// Messages of a few rows with few different ids and bytes, so that repeats and conflicts are many.
fn messages(random: &mut fastrand::Rng, count: u64) -> Vec<Keys> {
    let message = |offset| {
        let rows = random.usize(0..5);
        let events = (0..rows).map(|_| (u128::from(random.u8(1..40)) << 64, u128::from(random.u8(0..2)))).collect();
        let mut few = || (0..random.usize(0..2)).map(|_| u128::from(random.u8(1..20))).collect();
        Keys { offset, events, alerts: few(), orders: few() }
    };
    (0..count).map(message).collect()
}

#[test]
fn every_reader_finds_the_same_wherever_it_begins() {
    let mut random = fastrand::Rng::with_seed(11);
    for rows_max in [1, 7, 30] {
        let messages = messages(&mut random, 300);
        let mut first = Filter::new(rows_max);
        let verdicts: Vec<_> = messages.iter().map(|keys| first.judge(keys)).collect();
        assert!(verdicts.iter().any(|v| !v.duplicates.is_empty()) && verdicts.iter().any(|v| !v.conflicts.is_empty()));
        for begin in 0..messages.len() {
            // Back until more rows than the filter knows lie behind.
            let mut rows = 0;
            let back = (0..begin).rev().find(|at| {
                rows += messages[*at].events.len() as u64;
                rows > rows_max
            });
            let mut filter = Filter::new(rows_max);
            messages[back.unwrap_or(0)..begin].iter().for_each(|keys| drop(filter.judge(keys)));
            for (keys, expected) in messages[begin..].iter().zip(&verdicts[begin..]) {
                assert_eq!(&filter.judge(keys), expected, "{rows_max} rows, begun at {begin}");
            }
        }
    }
}

#[test]
fn a_repeat_leaves_the_stream_and_the_ledger_says_so() {
    let mut filter = Filter::new(100);
    let mut read = |rows: &[EventRow], offset| {
        let mut shares = cut(group(rows, 0, 0), 1, 1 << 20).expect("cuts");
        let value = Writing::new().write(&mut shares[0], 0).expect("writes");
        let frames = message::read(0, offset, &value).expect("reads");
        let verdict = filter.judge(&Keys::of(&frames).expect("has keys"));
        apply(frames, &verdict).expect("applies")
    };
    read(&[row(1, 0), row(2, 0)], 0);
    let changed = EventRow { raw: "other".into(), ..row(2, 0) };
    let frames = read(&[row(3, 0), row(1, 0), changed], 1);
    let Payload::Events(batch) = &frames[0].payload else { panic!("events come first") };
    let events = Events::new(batch).expect("has the columns");
    let rows: Vec<_> = (0..batch.num_rows()).map(|at| events.row(at)).collect();
    let kept: Vec<_> = rows.iter().map(|row| (row.log_index, row.flags.len())).collect();
    assert_eq!((kept, rows[0].event_id.as_str()), (vec![(0, 0), (2, 1)], "e3"));
    assert_ne!(rows[1].event_id, "e2");
    let Payload::Ledger(batch) = &frames[1].payload else { panic!("the ledger comes behind") };
    let ledger = Ledger::new(batch).expect("has the columns").row(0);
    assert_eq!((ledger.received, ledger.mapped, ledger.duplicates, ledger.events), (3, 2, 1, 2));
    assert!(ledger.balances());
}

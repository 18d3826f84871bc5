//! Keeping: merged, expired, held and erased, beside writers and queries, cut at every call; and always reconciled.

use lake::files::Files;
use lake::files::sim::Fault;
use lake::tables::{Hold, RetentionRule};
use schemas::quarantine::{self, QuarantineRow};

use super::*;

pub(super) const DAY_MICROS: i64 = 86_400_000_000;
/// Meets each fault at each kind of call.
const STRIDE: usize = 7;
pub(super) const ANN: &str = "ann@acme.example";

pub(super) fn rule(class: &str, days: u32, sources: &[&str]) -> RetentionRule {
    let sources = sources.iter().map(|source| (*source).to_owned()).collect();
    RetentionRule { class: class.into(), days, sources, ..RetentionRule::default() }
}

fn keeping(retention: &[RetentionRule]) -> LakeConfig {
    LakeConfig { retention: retention.to_vec(), ..LakeConfig::default() }
}

async fn opened(files: &SimFiles, clock: &Clock, config: LakeConfig) -> Result<(Arc<Log>, Arc<Lake>), String> {
    let log = LogConfig { segment_bytes_max: 20_000, duplicates_window: 1_000, ..LogConfig::default() };
    let log = Log::open(Arc::new(files.clone()), PathBuf::from("log"), &log, clock.clone(), &[GROUP]);
    let (log, _) = log.map_err(|e| e.to_string())?;
    let folder = PathBuf::from("lake");
    match Lake::open_folder(Arc::new(files.clone()), folder, log.clone(), clock.clone(), config).await {
        Ok(lake) => Ok((log, lake)),
        Err(error) => {
            log.close();
            Err(error.to_string())
        }
    }
}

/// Four events of one admission, one of which names Ann, and a quarantined record that names her too.
pub(super) fn admission(number: usize, source: &str, received_at: i64) -> Group {
    let row = |i: usize| EventRow {
        event_id: format!("{number:03}-{i}"),
        time: received_at,
        received_at,
        event_day: schemas::id::day(received_at),
        tenant: "acme".into(),
        source: source.into(),
        door: "http".into(),
        agent_id: Some(format!("agent-{}", i % 2)),
        user_id: Some(if i == 0 { ANN.into() } else { format!("user-{i}") }),
        raw: format!("{{\"number\":{number},\"sub\":\"{}\"}}", if i == 0 { "Ann@ACME.example" } else { "x" }),
        ..EventRow::default()
    };
    let refused = QuarantineRow {
        record_id: format!("refused-{number}"),
        received_at,
        event_day: schemas::id::day(received_at),
        tenant: "acme".into(),
        source: source.into(),
        door: "http".into(),
        reason: "no_time".into(),
        raw: format!("{{\"user\":\"{ANN}\"}}").into_bytes(),
        ..QuarantineRow::default()
    };
    let ledger = LedgerRow {
        received_at,
        event_day: schemas::id::day(received_at),
        tenant: "acme".into(),
        door: "http".into(),
        source: source.into(),
        received: 5,
        mapped: 4,
        quarantined: 1,
        events: 4,
        ..LedgerRow::default()
    };
    Group {
        events: Some(event::batch(&(0..4).map(row).collect::<Vec<_>>())),
        quarantine: Some(quarantine::batch([&refused])),
        ledger: Some(ledger),
        ..Group::default()
    }
}

pub(super) async fn filled(
    log: &Log,
    lake: &Lake,
    numbers: std::ops::Range<usize>,
    source: &str,
    received_at: i64,
) -> Result<(), LakeError> {
    for number in numbers {
        log.append(admission(number, source, received_at)).await?;
        lake.flush().await?;
    }
    Ok(())
}

pub(super) fn wanted(numbers: impl Iterator<Item = usize>) -> Vec<String> {
    numbers.flat_map(|number| (0..4).map(move |i| format!("{number:03}-{i}"))).collect()
}

pub(super) async fn holds_together(lake: &Lake, what: &str) {
    let found = lake.verify().await.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(found.holds, "{what}: {:#?}", found.problems);
}

pub(super) fn hold(name: &str, ids: &[&str]) -> Hold {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    Hold { name: name.into(), tenant: "acme".into(), ids, reason: "a case".into(), ..Hold::default() }
}

/// All calls take minutes: `MUSTER_STRIDE=1` asks for them.
pub(super) fn stride(default: usize) -> usize {
    std::env::var("MUSTER_STRIDE").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The data files of a table that lie on the disk.
fn on_disk(files: &SimFiles, table: &str) -> usize {
    let found = files.list_recursive(&PathBuf::from(format!("lake/{table}"))).unwrap();
    found.iter().filter(|(path, _)| !path.to_string_lossy().contains("_delta_log")).count()
}

#[tokio::test]
async fn small_files_become_one_and_nothing_else_changes() {
    let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
    let (log, lake) = opened(&files, &clock, LakeConfig::default()).await.unwrap();
    filled(&log, &lake, 0..10, "okta", NOW).await.unwrap();
    let position = lake.snapshot().await.unwrap().table("events").unwrap().state.position(0);
    let kept = lake.keep().await.unwrap();
    assert_eq!((kept.merged_files, kept.merged_into), (30, 3), "events, quarantine, ledger: {kept:?}");
    let table = lake.snapshot().await.unwrap().table("events").unwrap();
    assert_eq!((table.state.size().files, table.state.size().rows, table.state.position(0)), (1, 40, position));
    let merged = files_of(&table).await;
    let keys = merged.iter().flat_map(|batch| {
        let events = schemas::Events::new(batch).unwrap();
        (0..batch.num_rows()).map(|i| (events.row(i).agent_id, events.row(i).time)).collect::<Vec<_>>()
    });
    assert!(keys.collect::<Vec<_>>().is_sorted());
    assert_eq!(ids(&lake).await, wanted(0..10));
    assert_eq!(lake.keep().await.unwrap().merged_files, 0, "nothing is left to merge");
    filled(&log, &lake, 10..12, "okta", NOW).await.unwrap();
    assert_eq!(ids(&lake).await, wanted(0..12), "the writer goes on");
    holds_together(&lake, "merged").await;
    assert_eq!(on_disk(&files, "events"), 13, "what was replaced stays for queries");
    clock.set(NOW + 2 * 3_600_000_000);
    assert!(lake.keep().await.unwrap().vacuumed_files >= 30);
    assert_eq!(on_disk(&files, "events"), 4, "one file of ten, two new ones, and the one that these three became");
    log.close();
    let (log, lake) = opened(&files, &clock, LakeConfig::default()).await.unwrap();
    assert_eq!(ids(&lake).await, wanted(0..12));
    log.close();
}

#[tokio::test]
async fn rows_go_when_their_class_says_so_and_are_accounted_for() {
    let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
    let config = keeping(&[rule("payments", 400, &["stripe"]), rule("others", 30, &[])]);
    let (log, lake) = opened(&files, &clock, config.clone()).await.unwrap();
    filled(&log, &lake, 0..2, "okta", NOW - 31 * DAY_MICROS).await.unwrap();
    filled(&log, &lake, 2..4, "stripe", NOW - 31 * DAY_MICROS).await.unwrap();
    filled(&log, &lake, 4..6, "okta", NOW - 29 * DAY_MICROS).await.unwrap();
    // A clock that runs ahead keeps nothing longer, and takes nothing early.
    let mut ahead = admission(6, "okta", NOW - 31 * DAY_MICROS);
    let rows = ahead.events.take().unwrap();
    let rows: Vec<EventRow> = (0..4)
        .map(|i| {
            let row = schemas::Events::new(&rows).unwrap().row(i);
            EventRow { time: NOW + 900 * DAY_MICROS, event_day: schemas::id::day(NOW + 900 * DAY_MICROS), ..row }
        })
        .collect();
    log.append(Group { events: Some(event::batch(&rows)), ..ahead }).await.unwrap();
    lake.flush().await.unwrap();

    assert_eq!(lake.keep().await.unwrap().removed_rows, 3 * 5, "two admissions of okta, and the one ahead");
    assert_eq!(ids(&lake).await, wanted(2..6));
    holds_together(&lake, "expired").await;
    let found = lake.verify().await.unwrap();
    let okta = found.counts.iter().find(|count| count.source == "okta").unwrap();
    assert_eq!((okta.events, okta.events_stored, okta.events_removed), (20, 8, 12));
    assert_eq!((okta.refused, okta.refused_stored, okta.refused_removed), (5, 2, 3));
    assert_eq!(lake.keep().await.unwrap().removed_rows, 0);
    log.close();

    let (log, lake) = opened(&files, &clock, config).await.unwrap();
    clock.set(NOW + 2 * DAY_MICROS);
    assert_eq!(lake.keep().await.unwrap().removed_rows, 2 * 5);
    assert_eq!(ids(&lake).await, wanted(2..4));
    holds_together(&lake, "expired after a restart").await;
    log.close();
}

#[tokio::test]
async fn what_is_held_stays_until_it_is_released() {
    let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
    let config = keeping(&[rule("all", 30, &[])]);
    let (log, lake) = opened(&files, &clock, config.clone()).await.unwrap();
    filled(&log, &lake, 0..3, "okta", NOW - 31 * DAY_MICROS).await.unwrap();
    lake.hold(hold("case-1", &[ANN])).await.unwrap();
    log.close();
    let (log, lake) = opened(&files, &clock, config).await.unwrap();
    assert_eq!(lake.holds().len(), 1, "a hold survives a restart");
    assert_eq!(lake.keep().await.unwrap().removed_rows, 9);
    assert_eq!(ids(&lake).await, ["000-0", "001-0", "002-0"], "the rows that name her, and no others");
    holds_together(&lake, "held").await;
    let refused = lake.erase("acme", &[ANN.to_owned()], false).await.unwrap_err();
    assert!(matches!(&refused, LakeError::Held { holds } if holds == &["case-1"]), "{refused}");
    assert_eq!(column(&lake, "events", "user_id").await.unwrap(), [ANN; 3], "and nothing was erased");
    lake.release("case-1").await.unwrap();
    assert_eq!(lake.keep().await.unwrap().removed_rows, 6);
    assert!(ids(&lake).await.is_empty());
    holds_together(&lake, "released").await;
    assert!(matches!(lake.release("case-1").await, Err(LakeError::NoHold(_))));
    assert!(lake.hold(Hold { reason: String::new(), ..hold("x", &[]) }).await.is_err(), "a hold needs a reason");
    log.close();
}

/// A hold is set while retention runs: what is there when it is set stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_set_in_the_middle_keeps_what_is_there() {
    for delay in 0..6 {
        let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
        let (log, lake) = opened(&files, &clock, keeping(&[rule("all", 30, &[])])).await.unwrap();
        for number in 0..8 {
            filled(&log, &lake, number..number + 1, "okta", NOW - (31 + number as i64) * DAY_MICROS).await.unwrap();
        }
        let pass = tokio::spawn({
            let lake = lake.clone();
            async move { lake.keep().await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(4 * delay)).await;
        lake.hold(hold("case-1", &[ANN])).await.unwrap();
        let hers = |all: Vec<String>| all.into_iter().filter(|id| id.ends_with("-0")).collect::<Vec<_>>();
        let there = hers(ids(&lake).await);
        pass.await.unwrap().unwrap();
        lake.keep().await.unwrap();
        assert_eq!(hers(ids(&lake).await), there, "delay {delay}");
        holds_together(&lake, "a hold in the middle").await;
        log.close();
    }
}

#[tokio::test]
async fn an_erased_user_is_named_nowhere_any_more() {
    let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
    let (log, lake) = opened(&files, &clock, LakeConfig::default()).await.unwrap();
    filled(&log, &lake, 0..3, "okta", NOW).await.unwrap();
    let mut alert = AlertRow {
        alert_id: "alert".into(),
        tenant: "acme".into(),
        event_ids: vec!["e".into()],
        ..AlertRow::default()
    };
    (alert.user_id, alert.explanation) = (Some(ANN.into()), format!("agent-1 never acted for {ANN}."));
    log.append(Group { alerts: Some(alert::batch([&alert])), ..Group::default() }).await.unwrap();
    let mut other = admission(9, "okta", NOW);
    let rows = schemas::Events::new(other.events.as_ref().unwrap()).unwrap().row(0);
    other = Group {
        events: Some(event::batch([&EventRow { tenant: "blue".into(), ..rows }])),
        ledger: Some(LedgerRow {
            tenant: "blue".into(),
            received: 1,
            mapped: 1,
            events: 1,
            door: "http".into(),
            source: "okta".into(),
            ..LedgerRow::default()
        }),
        ..Group::default()
    };
    log.append(other).await.unwrap();

    let found = lake.erase("acme", &[ANN.to_owned()], true).await.unwrap();
    let rows: Vec<(&str, u64)> = found.tables.iter().filter(|t| t.rows > 0).map(|t| (&*t.table, t.rows)).collect();
    assert_eq!(rows, [("events", 3), ("quarantine", 3), ("alerts", 1)]);
    assert_eq!(column(&lake, "alerts", "user_id").await.unwrap(), [ANN], "a dry run changes nothing");

    let done = lake.erase("acme", &[ANN.to_owned()], false).await.unwrap();
    assert_eq!((done.rows(), done.files_wait), (7, false));
    assert_eq!(ids(&lake).await.len(), 13, "every event is still there");
    let users = column(&lake, "events", "user_id").await.unwrap();
    assert_eq!(users.iter().filter(|user| *user == ANN).count(), 1, "another tenant's user is another user");
    assert_eq!(users.iter().filter(|user| *user == "erased").count(), 3);
    assert_eq!(column(&lake, "alerts", "explanation").await.unwrap(), ["agent-1 never acted for erased."]);
    for table in ["events", "quarantine", "alerts"] {
        let table = lake.snapshot().await.unwrap().table(table).unwrap();
        assert_eq!(
            on_disk(&files, table.state.table.name) as u64,
            table.state.size().files,
            "no replaced file is left"
        );
        for batch in files_of(&table).await {
            let mut text = Vec::new();
            arrow::json::LineDelimitedWriter::new(&mut text).write_batches(&[&batch]).unwrap();
            let text = String::from_utf8(text).unwrap().to_lowercase();
            let lines = text.lines().filter(|line| line.contains(ANN) && !line.contains("\"tenant\":\"blue\""));
            assert_eq!(lines.count(), 0, "{text}");
        }
    }
    holds_together(&lake, "erased").await;

    // The log lets its segments go with what comes after: nobody finds the name in its files.
    assert!(log.first(0) < done.log_until.get(0));
    for number in 20..22 {
        log.append(Group { tick: Some(number), ..Group::default() }).await.unwrap();
    }
    assert!(log.first(0) >= done.log_until.get(0), "{} of {}", log.first(0), done.log_until.get(0));
    for name in files.list(&PathBuf::from("log")).unwrap() {
        let path = PathBuf::from("log").join(name);
        let bytes = files.read(&path, 0..files.len(&path).unwrap()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(ANN));
    }
    assert_eq!(lake.erase("acme", &[ANN.to_owned()], false).await.unwrap().rows(), 0, "the same again finds nothing");
    log.close();
}

/// A query that reads what is being replaced ends as it began; files go when nobody reads them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_during_vacuum_reads_on() {
    let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
    let (log, lake) = opened(&files, &clock, LakeConfig::default()).await.unwrap();
    filled(&log, &lake, 0..9, "okta", NOW).await.unwrap();
    let query = lake.snapshot().await.unwrap();
    let erasing = tokio::spawn({
        let lake = lake.clone();
        async move { lake.erase("acme", &[ANN.to_owned()], false).await }
    });
    while lake.keep_status().erased_rows == 0 {
        tokio::task::yield_now().await;
    }
    let table = query.table("events").unwrap();
    assert_eq!(files_of(&table).await.iter().map(RecordBatch::num_rows).sum::<usize>(), 36, "it reads on");
    assert!(!erasing.is_finished(), "the files wait for the query");
    drop((query, table));
    let done = erasing.await.unwrap().unwrap();
    assert!(done.files_deleted >= 18 && !done.files_wait, "{done:?}");
    log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_erasure_writer_and_queries_at_once() {
    let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
    let (log, lake) = opened(&files, &clock, LakeConfig::default()).await.unwrap();
    filled(&log, &lake, 0..20, "okta", NOW).await.unwrap();
    let ann = [ANN.to_owned()];
    let writing = filled(&log, &lake, 20..30, "okta", NOW);
    let compacting = async {
        for _ in 0..4 {
            lake.keep().await?;
        }
        Ok(())
    };
    let asking = async {
        for _ in 0..10 {
            let found = ids(&lake).await;
            assert!(found.len() >= 80 && found.len().is_multiple_of(4), "{}", found.len());
        }
        Ok(())
    };
    let erasing = async { lake.erase("acme", &ann, false).await.map(|_| ()) };
    tokio::try_join!(writing, compacting, asking, erasing).unwrap();
    assert_eq!(ids(&lake).await, wanted(0..30));
    let users = column(&lake, "events", "user_id").await.unwrap();
    assert!(users.iter().filter(|user| *user == ANN).count() <= 10, "what came before the erasure is erased");
    holds_together(&lake, "all at once").await;
    log.close();
}

/// Power goes at every call of a pass that merges, expires and vacuums.
#[tokio::test]
async fn a_cut_anywhere_in_a_pass_loses_and_doubles_nothing() {
    let config = || keeping(&[rule("all", 30, &[])]);
    let made = SimFiles::new();
    let clock = Clock::manual(NOW);
    let (log, lake) = opened(&made, &clock, config()).await.unwrap();
    filled(&log, &lake, 0..2, "okta", NOW - 31 * DAY_MICROS).await.unwrap();
    filled(&log, &lake, 2..10, "okta", NOW).await.unwrap();
    log.close();
    drop((log, lake));
    let made = made.after_cut(None);
    let pass = async |files: &SimFiles| -> Result<(), String> {
        let (log, lake) = opened(files, &clock, config()).await?;
        let done = lake.keep().await.map(|_| ()).map_err(|e| e.to_string());
        log.close();
        done
    };
    let whole = made.after_cut(None);
    pass(&whole).await.unwrap();
    let calls = whole.calls();
    for cut in (0..calls).step_by(stride(STRIDE)) {
        let files = made.after_cut(None);
        files.cut_at(cut);
        let _ = pass(&files).await;
        let found = files.after_cut((cut % 2 == 1).then_some(cut));
        let (log, lake) = opened(&found, &clock, config()).await.unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        let there = ids(&lake).await;
        assert!(there.ends_with(&wanted(2..10)), "cut at {cut}: {there:?}");
        // What is half done agrees with what is counted, and so does the rest once it is done.
        if cut % 3 > 0 {
            lake.keep().await.unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
            assert_eq!(ids(&lake).await, wanted(2..10), "cut at {cut}");
        }
        holds_together(&lake, &format!("cut at {cut}")).await;
        log.close();
    }
}

#[tokio::test]
async fn verify_names_what_is_missing() {
    let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
    let (log, lake) = opened(&files, &clock, LakeConfig::default()).await.unwrap();
    filled(&log, &lake, 0..2, "okta", NOW).await.unwrap();
    holds_together(&lake, "at first").await;
    // An entry that counts an event which is nowhere, one that does not balance, and an event that no entry counts.
    let admitted = admission(2, "kong", NOW);
    log.append(Group { ledger: admitted.ledger.clone(), ..Group::default() }).await.unwrap();
    let ledger = admitted.ledger.map(|ledger| LedgerRow { received: 9, source: "nginx".into(), ..ledger });
    log.append(Group { ledger, ..admission(3, "nginx", NOW) }).await.unwrap();
    log.append(Group { ledger: None, ..admission(4, "okta", NOW) }).await.unwrap();
    let found = lake.verify().await.unwrap();
    assert!(!found.holds);
    let told = found.problems.join("\n");
    for part in [
        "events: 4 of 4 rows missing",
        "source kong",
        "quarantine: 1 of 1 rows missing",
        "does not balance",
        "events: rows at offset",
        "that no entry counts",
    ] {
        assert!(told.contains(part), "{part:?} in:\n{told}");
    }
    assert!(!told.contains("source okta"), "{told}");
    log.close();
}

/// The disk is full to the brim, and stays so: the tables are written from the reserve, the log lets segments go, and
/// appends go on. Without a reserve only a person could make room.
#[tokio::test]
async fn a_full_disk_makes_room_by_itself() {
    let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
    let (log, lake) = opened(&files, &clock, LakeConfig::default()).await.unwrap();
    log.keep_reserve(PathBuf::from("log/reserve"), 1 << 20);
    log.append(admission(0, "okta", NOW)).await.unwrap();
    lake.flush().await.unwrap();
    let taken: u64 = files.list_recursive(&PathBuf::new()).unwrap().iter().map(|(_, bytes)| bytes).sum();
    files.set_room(Some(taken + 600_000));
    let mut number = 1;
    while log.append(admission(number, "okta", NOW)).await.is_ok() {
        number += 1;
    }
    assert!(number > 10);
    // Nothing but the tables can make room, and they need some.
    assert!(lake.flush().await.is_err(), "at first there is none");
    assert!(log.reserve_is_spent());
    lake.flush().await.unwrap();
    assert_eq!(ids(&lake).await, wanted(0..number));
    // Ticks come every second, and let segments go; a flush takes the reserve back.
    for _ in 0..3 {
        let _ = log.append(Group { tick: Some(1), ..Group::default() }).await;
        log.restore_reserve();
    }
    log.append(admission(number, "okta", NOW)).await.expect("appends go on");
    assert!(!log.reserve_is_spent());
    log.close();
    let (log, lake) = opened(&files.after_cut(None), &clock, LakeConfig::default()).await.unwrap();
    lake.flush().await.unwrap();
    assert_eq!(ids(&lake).await, wanted(0..number + 1));
    log.close();
}

/// Every changing call of writing and keeping fails once, in each way: nothing acknowledged is lost, doubled or held back.
#[tokio::test]
async fn every_call_fails_once_while_tables_are_written_and_kept() {
    let config = || keeping(&[rule("all", 30, &[])]);
    let clock = Clock::manual(NOW);
    let made = SimFiles::new();
    let (log, lake) = opened(&made, &clock, config()).await.unwrap();
    filled(&log, &lake, 0..8, "okta", NOW - 31 * DAY_MICROS).await.unwrap();
    log.close();
    drop((log, lake));
    let made = made.after_cut(None);
    let run = async |files: &SimFiles| -> Result<(), String> {
        let (log, lake) = opened(files, &clock, config()).await?;
        let mut done = log.append(admission(8, "okta", NOW)).await.map(|_| ()).map_err(|e| e.to_string());
        done = done.and(lake.keep().await.map(|_| ()).map_err(|e| e.to_string()));
        done = done.and(lake.flush().await.map_err(|e| e.to_string()));
        log.close();
        done
    };
    let whole = made.after_cut(None);
    run(&whole).await.unwrap();
    for call in (0..whole.calls()).step_by(stride(STRIDE)) {
        let fault = [Fault::NoSpace, Fault::Io, Fault::Permission][call as usize % 3];
        let files = made.after_cut(None);
        files.fail_at(call, fault);
        let _ = run(&files).await;
        files.heal();
        let what = format!("{fault:?} at {call}");
        let (log, lake) = opened(&files, &clock, config()).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        let acknowledged = ids(&lake).await.ends_with(&wanted(8..9));
        if !acknowledged {
            log.append(admission(8, "okta", NOW)).await.unwrap();
        }
        lake.keep().await.unwrap_or_else(|e| panic!("{what}: {e}"));
        lake.flush().await.unwrap();
        assert_eq!(ids(&lake).await, wanted(8..9), "{what}");
        holds_together(&lake, &what).await;
        log.close();
    }
}

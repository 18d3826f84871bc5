//! The tables alone, without a log: what each holds after appends, repeats and cuts.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use deltalake::datafusion::execution::SessionStateBuilder;
use deltalake::datafusion::prelude::{SessionConfig, SessionContext};
use schemas::event::{self, EventRow, Events};
use url::Url;

use super::data::Why;
use super::delta::Placed;
use super::*;
use crate::files::sim::SimFiles;

const DAY_MICROS: i64 = 86_400_000_000;

/// One frame's rows: `count` events of `offset`, two days among them.
pub(crate) fn frame(offset: u64, count: usize) -> (u64, RecordBatch) {
    let rows: Vec<EventRow> = (0..count)
        .map(|i| {
            let time = (20_000 + i as i64 % 2) * DAY_MICROS + (1_000_000 - offset as i64);
            EventRow {
                event_id: format!("{offset}-{i}"),
                time,
                received_at: time,
                event_day: schemas::id::day(time),
                tenant: if i % 3 == 0 { "blue" } else { "acme" }.into(),
                source: "okta".into(),
                door: "http".into(),
                actor_kind: "agent".into(),
                agent_id: (i % 4 != 0).then(|| format!("agent-{}", i % 5)),
                attribution: "agent_only".into(),
                action: "read".into(),
                effect: "read".into(),
                outcome: "success".into(),
                raw: format!("{{\"n\":{i}}}"),
                scopes: vec!["a".into(), "b".into()],
                delegation: vec![schemas::Hop { kind: "user".into(), id: "u".into(), issuer: None }],
                log_offset: offset as i64,
                log_index: i as i32,
                ..EventRow::default()
            }
        })
        .collect();
    (offset, event::batch(&rows))
}

async fn append(table: &mut TableState, frames: &[(u64, RecordBatch)], last: u64) -> Result<(), LakeError> {
    let placed = |(offset, batch): &(u64, RecordBatch)| Placed { sequence: 0, offset: *offset, batch: batch.clone() };
    let rows: Vec<Placed> = frames.iter().map(placed).collect();
    table.append(&rows, &[last + 1].into_iter().collect(), 1).await
}

async fn open(files: &SimFiles) -> Result<TableState, LakeError> {
    open_as(files, &event::TABLE).await
}

/// `events` as a version before the column `without` declared it.
fn older(without: &str) -> &'static schemas::Table {
    let columns = event::TABLE.columns.iter().filter(|c| c.name != without);
    let columns = columns.map(|c| schemas::Column { name: c.name, ..*c }).collect::<Vec<_>>();
    Box::leak(Box::new(schemas::Table { name: "events", doc: event::TABLE.doc, columns: columns.leak() }))
}

async fn open_as(files: &SimFiles, table: &'static schemas::Table) -> Result<TableState, LakeError> {
    open_of(files, table, &["log/main/0"]).await
}

async fn open_of(
    files: &SimFiles,
    table: &'static schemas::Table,
    sequences: &[&str],
) -> Result<TableState, LakeError> {
    let store =
        Arc::new(FileStore::new(Arc::new(files.clone()), PathBuf::from("lake"), Clock::manual(50_000 * DAY_MICROS)));
    let apps = sequences.iter().map(|name| (*name).to_owned()).collect();
    TableState::open(store, &Url::parse("lake://folder/").expect("a URL"), table, apps).await
}

/// All rows in the table's files, read by SQL.
async fn rows(table: &TableState) -> Vec<RecordBatch> {
    let config = SessionConfig::new().set_bool("datafusion.execution.parquet.schema_force_view_types", false);
    let state = SessionStateBuilder::new().with_config(config).with_default_features().build();
    let provider = table.provider(Arc::new(state.clone())).await.unwrap();
    let context = SessionContext::new_with_state(state);
    context.read_table(provider).unwrap().collect().await.unwrap()
}

async fn ids(table: &TableState) -> Vec<String> {
    let mut ids = Vec::new();
    for batch in rows(table).await {
        let events = Events::new(&batch).unwrap();
        ids.extend(events.event_id.iter().flatten().map(str::to_owned));
    }
    ids.sort();
    ids
}

fn ids_of(frames: &[(u64, RecordBatch)]) -> Vec<String> {
    let mut ids = Vec::new();
    for (_, batch) in frames {
        ids.extend(Events::new(batch).unwrap().event_id.iter().flatten().map(str::to_owned));
    }
    ids.sort();
    ids
}

#[tokio::test]
async fn rows_come_back_as_they_were() {
    let files = SimFiles::new();
    let mut table = open(&files).await.unwrap();
    assert_eq!((table.position(0), table.protocol()), (-1, (1, 2)));
    let frame = frame(7, 100);
    append(&mut table, std::slice::from_ref(&frame), 9).await.unwrap();
    assert_eq!(table.position(0), 9);
    assert_eq!(table.size(), Size { version: 1, files: 2, rows: 100 });
    let table = open(&files).await.unwrap();
    assert_eq!((table.position(0), table.protocol()), (9, (1, 2)));
    let mut found: Vec<EventRow> = Vec::new();
    for batch in rows(&table).await {
        assert_eq!(batch.schema().field(3).data_type(), event::TABLE.schema().field(3).data_type());
        let events = Events::new(&batch).unwrap();
        found.extend((0..batch.num_rows()).map(|i| events.row(i)));
    }
    found.sort_by_key(|row| row.log_index);
    let events = Events::new(&frame.1).unwrap();
    let expected: Vec<EventRow> = (0..100).map(|i| events.row(i)).collect();
    assert_eq!(found, expected);
}

/// The rows of a frame without a column, as a version before it wrote them.
fn project(batch: &RecordBatch, without: &str) -> RecordBatch {
    let columns: Vec<usize> = (0..batch.num_columns()).filter(|&i| batch.schema().field(i).name() != without).collect();
    batch.project(&columns).unwrap()
}

#[tokio::test]
async fn a_table_of_a_version_before_a_column_gets_it_and_keeps_its_rows() {
    let files = SimFiles::new();
    let mut old = open_as(&files, older("agent_alias")).await.unwrap();
    let before = frame(0, 10);
    append(&mut old, &[(0, project(&before.1, "agent_alias"))], 0).await.unwrap();

    let mut table = open(&files).await.unwrap();
    assert_eq!((table.position(0), table.protocol()), (0, (1, 2)));
    assert_eq!(ids(&table).await, ids_of(std::slice::from_ref(&before)));
    let row = EventRow { agent_alias: Some("consumer-7".into()), ..Events::new(&before.1).unwrap().row(0) };
    let after = (1, event::batch([&EventRow { event_id: "aliased".into(), log_offset: 1, ..row }]));
    append(&mut table, std::slice::from_ref(&after), 1).await.unwrap();

    // Opened again, nothing is left to add.
    let version = table.size().version;
    let table = open(&files).await.unwrap();
    assert_eq!(table.size().version, version);
    let mut aliases = Vec::new();
    for batch in rows(&table).await {
        let events = Events::new(&batch).unwrap();
        aliases.extend((0..batch.num_rows()).map(|i| events.row(i).agent_alias));
    }
    assert_eq!(aliases.len(), 11);
    assert_eq!(aliases.iter().flatten().collect::<Vec<_>>(), ["consumer-7"]);
}

/// Power goes at every call of the start that adds the column: it is there afterwards, or the next start adds it.
#[tokio::test]
async fn a_cut_while_a_column_is_added_loses_nothing() {
    let rows = frame(0, 4);
    let written = async || {
        let files = SimFiles::new();
        let mut old = open_as(&files, older("agent_alias")).await.unwrap();
        append(&mut old, &[(0, project(&rows.1, "agent_alias"))], 0).await.unwrap();
        files
    };
    let whole = written().await;
    let first = whole.calls();
    open(&whole).await.unwrap();
    for cut in first..whole.calls() {
        let files = written().await;
        files.cut_at(cut);
        // The last calls only tidy up: the start may succeed.
        let _ = open(&files).await;
        let table = open(&files.after_cut((cut % 2 == 1).then_some(cut))).await.unwrap();
        assert_eq!(ids(&table).await, ids_of(std::slice::from_ref(&rows)), "cut at {cut}");
        assert_eq!(table.protocol(), (1, 2));
    }
}

#[tokio::test]
async fn a_table_of_a_later_version_or_without_a_required_column_is_refused() {
    for (written, opened) in [(&event::TABLE, older("agent_alias")), (older("tenant"), &event::TABLE)] {
        let files = SimFiles::new();
        open_as(&files, written).await.unwrap();
        let refused = open_as(&files, opened).await.map(|_| ()).unwrap_err();
        assert!(matches!(refused, LakeError::Columns { table: "events", .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_repeat_adds_nothing() {
    let files = SimFiles::new();
    let mut table = open(&files).await.unwrap();
    let frames = [frame(0, 10), frame(1, 10), frame(2, 10), frame(3, 10)];
    append(&mut table, &frames[..2], 1).await.unwrap();
    let (mut stale, mut staler) = (table.clone(), table.clone());
    append(&mut table, &frames[..3], 2).await.unwrap();
    append(&mut table, &frames[..3], 2).await.unwrap();
    // A writer whose state is older than the table's looks before it writes, the same file as another or a larger one.
    append(&mut stale, &frames[..3], 2).await.unwrap();
    append(&mut stale, &frames[..1], 0).await.unwrap();
    append(&mut staler, &frames, 3).await.unwrap();
    assert_eq!(ids(&open(&files).await.unwrap()).await, ids_of(&frames));
}

#[tokio::test]
async fn checkpoints_keep_position_and_rows() {
    let files = SimFiles::new();
    let mut table = open(&files).await.unwrap();
    let frames: Vec<_> = (0..105).map(|offset| frame(offset, 2)).collect();
    for frame in &frames {
        append(&mut table, std::slice::from_ref(frame), frame.0).await.unwrap();
    }
    let names = files.list(&PathBuf::from("lake/events/_delta_log")).unwrap();
    assert_eq!(names.iter().filter(|n| n.to_string_lossy().contains("checkpoint.parquet")).count(), 2, "{names:?}");
    let table = open(&files).await.unwrap();
    assert_eq!(table.position(0), 104);
    assert_eq!(ids(&table).await, ids_of(&frames));
}

/// Power goes at every single call of two appends; afterwards the same frames are appended again.
#[tokio::test]
async fn a_cut_anywhere_leaves_each_row_once() {
    let frames = [frame(0, 6), frame(1, 6), frame(2, 6)];
    let run = async |files: &SimFiles| -> Result<(), LakeError> {
        let mut table = open(files).await?;
        append(&mut table, &frames[..1], 0).await?;
        append(&mut table, &frames[1..], 2).await
    };
    let whole = SimFiles::new();
    run(&whole).await.unwrap();
    let calls = whole.calls();
    assert!(calls > 20, "{calls}");
    for cut in 0..calls {
        let files = SimFiles::new();
        files.cut_at(cut);
        run(&files).await.unwrap_err();
        let seed = (cut % 2 == 1).then_some(cut);
        let found = files.after_cut(seed);
        let mut table = open(&found).await.unwrap();
        let before = ids(&table).await;
        let held = frames.iter().filter(|(offset, _)| *offset as i64 <= table.position(0)).cloned().collect::<Vec<_>>();
        assert_eq!(before, ids_of(&held), "cut at {cut}");
        append(&mut table, &frames, 2).await.unwrap();
        assert_eq!(ids(&open(&found).await.unwrap()).await, ids_of(&frames), "cut at {cut}");
    }
}

/// Two that both look at the table, and then both write.
#[tokio::test]
async fn a_commit_of_one_sequence_is_refused_and_of_another_let_through() {
    let files = SimFiles::new();
    let mut table = open_of(&files, &event::TABLE, &["log/t/0", "log/t/1"]).await.unwrap();
    let placed = |sequence, offset| Placed { sequence, offset, batch: frame(offset, 4).1 };
    let below = |ends: [u64; 2]| ends.into_iter().collect();
    let (mut same, mut other) = (table.clone(), table.clone());
    table.append(&[placed(0, 0)], &below([1, 0]), 1).await.unwrap();
    let refused = same.append_missing(vec![placed(0, 0), placed(0, 1)], &below([2, 0]), 1).await.unwrap_err();
    assert!(refused.is_conflict(), "{refused}");
    same.append(&[placed(0, 0), placed(0, 1)], &below([2, 0]), 1).await.unwrap();
    other.append_missing(vec![placed(1, 7)], &below([0, 8]), 1).await.unwrap();
    assert_eq!((other.position(0), other.position(1)), (1, 7), "what it holds of others is known");
    assert_eq!(ids(&other).await, ids_of(&[frame(0, 4), frame(1, 4), frame(7, 4)]));
    table.refresh().await.unwrap();
    assert_eq!((table.position(0), table.position(1)), (1, 7));
}

#[tokio::test]
async fn of_two_that_replace_a_file_one_wins_and_whoever_does_not_know_a_hold_loses() {
    let files = SimFiles::new();
    let mut table = open(&files).await.unwrap();
    let frames = [frame(0, 2), frame(1, 2), frame(2, 2)];
    for frame in &frames {
        append(&mut table, std::slice::from_ref(frame), frame.0).await.unwrap();
    }
    let day = table.data()[0].day().to_owned();
    let data: Vec<_> = table.data().into_iter().filter(|data| data.day() == day).collect();
    let merged = |offsets: [usize; 2]| {
        let batches = offsets.map(|offset| frames[offset].1.clone());
        encode::encode(&event::TABLE, &batches).unwrap().into_iter().filter(|f| data[0].day_number() == Some(f.day))
    };
    let at =
        |offset: usize| data.iter().find(|data| data.path.contains(&format!("part-{offset:020}"))).unwrap().clone();
    let mut other = table.clone();
    let done = table.replace(&[at(0), at(1)], merged([0, 1]).collect(), Why::Compaction, 1).await.unwrap();
    let second = other.replace(&[at(1), at(2)], merged([1, 2]).collect(), Why::Compaction, 1).await.unwrap();
    assert_eq!((done, second), (true, false));
    assert_eq!(ids(&open(&files).await.unwrap()).await, ids_of(&frames));

    other.refresh().await.unwrap();
    open(&files).await.unwrap().mark_holds(1).await.unwrap();
    assert!(!other.replace(&[at(2)], Vec::new(), Why::Removal(1), 1).await.unwrap());
    other.refresh().await.unwrap();
    assert!(other.replace(&[at(2)], Vec::new(), Why::Removal(1), 1).await.unwrap());
    assert_eq!(other.position(0), 2);
}

#[test]
fn files_are_sorted_cut_by_day_and_say_their_bounds() {
    let (_, first) = frame(3, 50);
    let (_, second) = frame(2, 50);
    let files = encode::encode(&event::TABLE, &[first, second]).unwrap();
    assert_eq!(files.iter().map(|f| f.day).collect::<Vec<_>>(), [20_000, 20_001]);
    let stats: serde_json::Value = serde_json::from_str(&files[0].stats).unwrap();
    assert_eq!(stats["numRecords"], 50);
    assert_eq!(stats["minValues"]["log_offset"], 2);
    assert_eq!(stats["maxValues"]["tenant"], "blue");
    assert_eq!(stats["minValues"]["time"], "2024-10-04T00:00:00.999997Z");
    let bytes = bytes::Bytes::from(files[0].bytes.clone());
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 1_000).unwrap();
    let keys: Vec<(String, Option<String>, i64)> = reader
        .flat_map(|batch| {
            let batch = batch.unwrap();
            let text =
                |name: &str| arrow::array::AsArray::as_string::<i32>(batch.column_by_name(name).unwrap()).clone();
            let (tenants, agents) = (text("tenant"), text("agent_id"));
            let times = batch.column_by_name("time").unwrap().clone();
            let times =
                arrow::array::AsArray::as_primitive::<arrow::datatypes::TimestampMicrosecondType>(&times).clone();
            (0..batch.num_rows())
                .map(|i| {
                    let agent = agents.iter().nth(i).flatten().map(str::to_owned);
                    (tenants.value(i).to_owned(), agent, times.value(i))
                })
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(keys.len(), 50);
    assert!(keys.is_sorted(), "{keys:?}");
}

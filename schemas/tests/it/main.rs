//! What is derived from a declaration agrees with it: schema, builder, reader, row, documentation.

mod intent;

use arrow::array::RecordBatch;
use proptest::prelude::*;
use schemas::{EventRow, Events, Hop, RowBuilder, TABLES, event};

#[test]
fn every_column_is_documented_and_named_once() {
    for table in TABLES {
        for (i, column) in table.columns.iter().enumerate() {
            assert!(column.doc.ends_with('.'), "{}.{} has no sentence", table.name, column.name);
            assert_eq!(table.index_of(column.name), Some(i), "{}.{} is declared twice", table.name, column.name);
        }
        let schema = schemas::docs::json_schema(table);
        let properties = schema["properties"].as_object().expect("a schema has properties");
        assert_eq!(properties.len(), table.columns.len());
        let page = schemas::docs::markdown(table);
        assert!(table.columns.iter().all(|column| page.contains(&format!("| `{}` |", column.name))));
    }
}

#[test]
fn a_builder_makes_the_declared_columns() {
    for table in TABLES {
        let batch = RowBuilder::new(table).finish();
        assert_eq!(batch.schema(), table.schema());
    }
}

/// All required columns but tenant, source and door.
fn put(rows: &mut RowBuilder, number: i64) {
    use event::col;
    let id = number.to_string();
    for column in [col::event_id, col::actor_kind, col::attribution, col::action, col::effect, col::outcome, col::raw] {
        rows.str(column, &id);
    }
    rows.time(col::time, number);
    rows.time(col::received_at, number);
    rows.date(col::event_day, 0);
    for column in
        [col::event_index, col::log_partition, col::log_index, col::class_uid, col::activity_id, col::severity_id]
    {
        rows.i32(column, 0);
    }
    rows.i64(col::log_offset, 0);
}

/// Gives all rows the columns that [`put`] left out, and makes the batch.
fn finish(rows: &mut RowBuilder) -> RecordBatch {
    for column in [event::col::tenant, event::col::source, event::col::door] {
        rows.all_str(column, "here");
    }
    rows.finish()
}

#[test]
fn what_is_the_same_in_all_rows_is_given_once() {
    let mut rows = RowBuilder::new(&event::TABLE);
    // The builder makes room for a batch by the one before.
    for count in [3, 20, 1] {
        rows.reserve(count, (event::col::raw, 10));
        for number in 0..count as i64 {
            put(&mut rows, number);
            if number % 2 == 1 {
                rows.str(event::col::agent_id, "agent");
            }
            rows.end_row();
        }
        let batch = finish(&mut rows);
        let events = Events::new(&batch).expect("a batch of events");
        assert_eq!(batch.num_rows(), count);
        for number in 0..count {
            let event = events.row(number);
            assert_eq!((event.tenant.as_str(), event.door.as_str(), event.raw), ("here", "here", number.to_string()));
            assert_eq!(event.agent_id.is_some(), number % 2 == 1);
        }
    }
}

#[test]
fn one_long_text_reserves_nothing_for_thousands_of_short_ones() {
    const LONG: usize = 1 << 20;
    let mut rows = RowBuilder::new(&event::TABLE);
    let mut batch = |count: i64, long: usize| {
        let bytes = long.max(count as usize * 10);
        rows.reserve(count as usize, (event::col::raw, bytes));
        for number in 0..count {
            put(&mut rows, number);
            if long > 0 {
                rows.str(event::col::agent_id, &"a".repeat(long));
            }
            rows.end_row();
        }
        finish(&mut rows).get_array_memory_size()
    };
    batch(1, LONG);
    assert!(batch(1_000, 1) < 2 * LONG);
    // Nor for a batch after one that had none.
    batch(1, LONG);
    batch(1_000, 0);
    assert!(batch(1, 1) < LONG);
}

#[test]
#[should_panic(expected = "required column tenant")]
fn a_row_without_a_required_column_before_one_with_it_is_a_bug() {
    let mut rows = RowBuilder::new(&event::TABLE);
    put(&mut rows, 0);
    rows.end_row();
    rows.str(event::col::tenant, "t");
}

#[test]
#[should_panic(expected = "set twice in one row")]
fn a_column_set_twice_is_a_bug() {
    let mut rows = RowBuilder::new(&event::TABLE);
    rows.str(event::col::tenant, "t");
    rows.str(event::col::tenant, "t");
}

#[test]
#[should_panic(expected = "required column event_id")]
fn a_row_without_a_required_column_is_a_bug() {
    let mut rows = RowBuilder::new(&event::TABLE);
    rows.end_row();
    rows.finish();
}

#[test]
fn a_batch_without_a_column_is_refused_by_name() {
    let whole = event::batch([]);
    let fewer = whole.project(&[0, 1]).expect("projects");
    let error = Events::new(&fewer).err().expect("is refused");
    assert_eq!(error.to_string(), "column received_at of table events is missing");
}

fn text() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("\\PC{0,12}")
}

prop_compose! {
    fn row()(
        id in "[0-9a-f]{32}", time in any::<i64>(), agent in text(), user in text(), scopes in prop::collection::vec("[a-z.]{1,8}", 0..4),
        hops in prop::collection::vec(("[a-z]{1,5}", "\\PC{0,8}", text()), 0..3), status in proptest::option::of(any::<i32>()), raw in "\\PC{0,40}",
    ) -> EventRow {
        EventRow {
            event_id: id, time, received_at: time, tenant: "t".into(), source: "s".into(), door: "d".into(),
            actor_kind: "agent".into(), agent_id: agent, user_id: user, scopes,
            delegation: hops.into_iter().map(|(kind, id, issuer)| Hop { kind, id, issuer }).collect(),
            attribution: "none".into(), action: "a".into(), effect: "read".into(), outcome: "success".into(),
            http_status: status, raw, ..EventRow::default()
        }
    }
}

proptest! {
    /// Rows come out of a batch as they went in, whatever stands before and after them.
    #[test]
    fn rows_come_back(rows in prop::collection::vec(row(), 0..8)) {
        let batch: RecordBatch = event::batch(&rows);
        let events = Events::new(&batch).expect("is a batch of events");
        let back: Vec<EventRow> = (0..batch.num_rows()).map(|i| events.row(i)).collect();
        prop_assert_eq!(back, rows);
    }
}

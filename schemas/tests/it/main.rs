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

//! All rows in the order of their arrival, whatever the order in the files, and with less memory than they need.

use query::QueryConfig;
use query::history::{Span, arrivals};
use schemas::event::TABLE;
use schemas::{EventRow, Events, id};

use crate::world::{NOW, World, row};

const DAY: i64 = 86_400_000_000;

/// Rows of two tenants whose agents and times run against the order in which they come.
fn rows(group: i64) -> Vec<EventRow> {
    let make = |n: i64| {
        let tenant = if n % 2 == 0 { "acme" } else { "globex" };
        let mut row = row(&format!("{group}-{n}"), tenant, &format!("agent-{:04}", 9_999 - n));
        row.time = NOW - group * DAY / 4 - n;
        row.event_day = id::day(row.time);
        row.reason = Some(format!("{n:04}").repeat(300));
        row
    };
    (0..1_000).map(make).collect()
}

async fn read(world: &World, span: &Span) -> Vec<(i64, i32, String, String)> {
    let mut rows = arrivals(&world.lake, &QueryConfig::default(), &TABLE, span).await.unwrap();
    let mut found = Vec::new();
    while let Some(batch) = rows.next().await.unwrap() {
        let events = Events::new(&batch).unwrap();
        found.extend((0..batch.num_rows()).map(|at| {
            let id = events.event_id.value(at).to_owned();
            (events.log_offset.value(at), events.log_index.value(at), id, events.raw.value(at).to_owned())
        }));
    }
    found
}

#[tokio::test]
async fn rows_come_in_the_order_of_arrival_in_bounded_memory() {
    let world = World::new(QueryConfig::default()).await;
    for group in 0..40 {
        world.append(&rows(group)).await;
        if group % 8 == 7 && group < 32 {
            world.lake.flush().await.unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let spill = folder.path().to_owned();
    // The rows have about 50 MB.
    let mut span = Span { from: None, to: None, spill, memory_bytes_max: 32 << 20 };
    let found = read(&world, &span).await;
    assert_eq!(found.len(), 40_000);
    assert!(found.is_sorted(), "by offset and index");
    let expected = (0..40).flat_map(|group| (0..1_000).map(move |n| format!("{group}-{n}")));
    assert!(found.iter().map(|(_, _, id, _)| id.clone()).eq(expected));
    assert!(found.iter().all(|(_, _, _, raw)| raw.is_empty()), "raw records stay in the lake");
    (span.from, span.to) = (Some(id::day(NOW) - 2), Some(id::day(NOW) - 1));
    let days = read(&world, &span).await;
    assert!(!days.is_empty() && days.len() < found.len() && days.is_sorted());
}

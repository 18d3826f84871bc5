//! One tenant never sees another's rows, whatever it writes.

use query::QueryConfig;

use crate::world::{World, row};

async fn two() -> World {
    let world = World::new(QueryConfig::default()).await;
    world.append(&[row("acme-1", "acme", "acme-bot")]).await;
    world.append(&[row("blue-1", "blue", "blue-bot"), row("blue-2", "blue", "blue-bot")]).await;
    world.lake.flush().await.unwrap();
    world.append(&[row("acme-2", "acme", "acme-bot")]).await;
    world.append(&[row("blue-3", "blue", "blue-bot")]).await;
    world
}

#[tokio::test]
async fn no_sql_reaches_another_tenant() {
    let world = two().await;
    for text in [
        "SELECT * FROM events",
        "SELECT * FROM events WHERE tenant = 'blue'",
        "SELECT * FROM events WHERE tenant = 'acme' OR tenant = 'blue' OR true",
        "SELECT * FROM muster.public.events",
        "SELECT * FROM agents",
        "SELECT * FROM ingest_ledger",
        "SELECT * FROM (SELECT * FROM events) e",
        "SELECT (SELECT max(tenant) FROM events) AS t, (SELECT max(raw) FROM events) AS r",
        "WITH events AS (SELECT * FROM events) SELECT * FROM events",
        "WITH RECURSIVE e AS (SELECT event_id FROM events UNION SELECT event_id FROM events) SELECT * FROM e",
        "SELECT tenant, raw FROM events UNION ALL SELECT tenant, raw FROM events",
        "SELECT a.* FROM events a FULL OUTER JOIN events b ON a.tenant <> b.tenant",
        "SELECT a.* FROM events a WHERE EXISTS (SELECT 1 FROM events b WHERE b.tenant <> a.tenant)",
        "SELECT * FROM events WHERE tenant NOT IN (SELECT tenant FROM events WHERE false)",
        "SELECT tenant, count(*) FROM events GROUP BY ROLLUP (tenant)",
        "SELECT first_value(tenant) OVER (ORDER BY tenant DESC) AS t, max(raw) OVER () AS r FROM events",
        "SELECT * FROM events, LATERAL (SELECT max(e.tenant) FROM events e) l",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM information_schema.views",
        "SELECT * FROM information_schema.schemata",
        "SELECT * FROM information_schema.df_settings",
        "SHOW TABLES",
        "SHOW ALL",
        "SHOW COLUMNS FROM events",
        "DESCRIBE events",
        "TABLE events",
    ] {
        for format in [query::Format::Json, query::Format::Csv] {
            let Ok(answer) = world.query.sql("acme", text).await else { continue };
            let shown = String::from_utf8(answer.write(format).unwrap()).unwrap();
            assert!(!shown.contains("blue"), "{text}: {shown}");
        }
    }
    for (tenant, rows) in [("acme", 2), ("blue", 3), ("green", 0), ("acme' OR true --", 0)] {
        assert_eq!(world.sql(tenant, "SELECT * FROM events").await.rows(), rows, "{tenant}");
    }
}

#[tokio::test]
async fn the_schema_lists_the_views_and_no_more() {
    let world = two().await;
    let tables =
        "SELECT table_name FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY 1";
    let names: Vec<String> = world.lines("acme", tables).await;
    let names: Vec<&str> = names.iter().map(|n| n.split('"').nth(3).unwrap()).collect();
    assert_eq!(names, ["agents", "alerts", "events", "ingest_ledger", "orders", "quarantine"]);
}

//! One tenant never sees another's rows, whatever it writes.

use query::QueryConfig;

use schemas::InventoryRow;

use crate::inventory::listed;
use crate::world::{World, row};

async fn two() -> World {
    let world = World::new(QueryConfig::default()).await;
    world.append(&[row("acme-1", "acme", "acme-bot")]).await;
    world.append(&[row("blue-1", "blue", "blue-bot"), row("blue-2", "blue", "blue-bot")]).await;
    world.lake.flush().await.unwrap();
    world.append(&[row("acme-2", "acme", "acme-bot")]).await;
    world.append(&[row("blue-3", "blue", "blue-bot")]).await;
    for tenant in ["acme", "blue"] {
        let listed = |kind: &str| listed(tenant, tenant, kind, &format!("{tenant}-{kind}"));
        let run = InventoryRow { outcome: Some("complete".into()), ..listed("run") };
        world.append_inventory(&[listed("client"), listed("credential"), listed("grant"), run]).await;
    }
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
        "SELECT * FROM inventory",
        "SELECT * FROM credentials",
        "SELECT * FROM grants",
        "SELECT * FROM grants WHERE all_users OR tenant = 'blue'",
        "SELECT g.*, i.* FROM grants g FULL OUTER JOIN inventory i ON i.tenant <> g.poll",
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
    for (tenant, rows) in [("acme", 1), ("blue", 1), ("green", 0)] {
        for view in ["grants", "credentials"] {
            assert_eq!(world.sql(tenant, &format!("SELECT * FROM {view}")).await.rows(), rows, "{tenant} {view}");
        }
    }
}

#[tokio::test]
async fn the_schema_lists_the_views_and_no_more() {
    let world = two().await;
    let tables =
        "SELECT table_name FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY 1";
    let names: Vec<String> = world.lines("acme", tables).await;
    let names: Vec<&str> = names.iter().map(|n| n.split('"').nth(3).unwrap()).collect();
    let views = "agents alerts credentials detector_precision events grants ingest_ledger inventory judged_alerts orders \
                 quarantine verdicts";
    assert_eq!(names, views.split(' ').collect::<Vec<_>>());
}

/// Rows of two tenants in one frame of the log, and in one file too where `files`.
async fn side_by_side(files: bool, log: bool) -> World {
    let world = World::new(QueryConfig::default()).await;
    for (step, wanted) in [files, log].into_iter().enumerate() {
        if !wanted {
            continue;
        }
        let mut secret = row(&format!("SECRET-{step}"), "acme", "SECRET-bot");
        secret.user_name = Some("SECRET-of-acme(".into());
        secret.src_asn = Some(0);
        secret.raw = "SECRET-of-acme{".into();
        let mut own = row(&format!("g{step}"), "globex", "7");
        own.user_name = Some("42".into());
        own.src_asn = Some(7);
        own.raw = r#"{"n":"42"}"#.into();
        world.append(&[secret.clone(), own]).await;
        if step == 0 {
            world.lake.flush().await.unwrap();
        }
    }
    world
}

/// Whatever a query computes, it computes over its tenant's rows alone: where those are fine it succeeds.
#[tokio::test]
async fn nothing_is_computed_over_another_tenants_rows() {
    let answered = [
        "SELECT event_id FROM events WHERE cast(user_name AS int) = 42",
        "SELECT event_id FROM events WHERE event_id LIKE 'g%' AND arrow_cast(user_name, 'Int32') > 0",
        "SELECT event_id FROM events WHERE agent_id = '7' AND time > TIMESTAMP '2020-01-01T00:00:00Z' AND 1 / src_asn = 0",
        "SELECT event_id FROM events WHERE regexp_like('42', user_name)",
        "SELECT event_id FROM events WHERE cast(raw->>'n' AS int) = 42 AND json_get_str(raw, 'n') = '42'",
        "SELECT a.event_id FROM events a JOIN events b ON cast(a.user_name AS int) = cast(b.user_name AS int)",
        "SELECT a.event_id FROM events a JOIN events b ON a.event_id = b.event_id WHERE 1 / b.src_asn = 0",
        "SELECT CASE WHEN cast(user_name AS int) > 0 THEN 100 / src_asn ELSE 0 END AS x FROM events",
        "SELECT agent_id FROM events GROUP BY agent_id HAVING max(cast(user_name AS int)) > 0",
        "SELECT 100 / src_asn AS x, count(*) AS n FROM events GROUP BY 100 / src_asn",
        "SELECT 1 AS x FROM events WHERE user_name IN (SELECT cast(cast(user_name AS int) AS varchar) FROM events)",
        "SELECT (SELECT max(cast(user_name AS int)) FROM events) AS x",
        "SELECT event_id FROM events ORDER BY cast(user_name AS int) DESC LIMIT 1",
        "SELECT sum(cast(user_name AS int)) OVER (PARTITION BY 100 / src_asn) AS x FROM events",
        "WITH e AS (SELECT cast(user_name AS int) AS n FROM events) SELECT n FROM e WHERE n > 0",
        "SELECT cast(agent_id AS int) AS x FROM agents",
        "SELECT min(user_name) AS a, max(user_name) AS b, max(raw) AS c FROM events",
        "SELECT DISTINCT user_name FROM events LIMIT 1",
        "SELECT event_id FROM events LIMIT 1",
    ];
    let failing =
        ["cast(event_id AS int)", "1 / (src_asn - 7)", "to_timestamp(user_name)", "arrow_cast(raw, 'Date32')"];
    for (files, log) in [(true, false), (false, true), (true, true)] {
        let world = side_by_side(files, log).await;
        for text in answered {
            let lines = world.lines("globex", text).await;
            assert!(!lines.is_empty() && !lines.concat().contains("SECRET"), "{text}: {lines:?}");
        }
        let other = "SELECT event_id FROM events WHERE tenant = 'acme' AND cast(user_name AS int) = 42";
        assert!(world.lines("globex", other).await.is_empty());
        let count = format!(r#"{{"n":{}}}"#, usize::from(files) + usize::from(log));
        assert_eq!(world.lines("globex", "SELECT count(*) AS n FROM events").await, [count]);
        for expression in failing {
            for text in [
                format!("SELECT {expression} AS x FROM events"),
                format!("SELECT 1 AS x FROM events WHERE {expression} IS NOT NULL"),
                format!("SELECT 1 AS x FROM events ORDER BY {expression}"),
                format!("SELECT 1 AS x FROM events a JOIN (SELECT {expression} AS k FROM events) b ON b.k IS NOT NULL"),
            ] {
                // A column that nobody asks for may never be computed.
                if let Err(refused) = world.query.sql("globex", &text).await {
                    assert!(!refused.to_string().contains("SECRET"), "{text}: {refused}");
                }
            }
            let refused = world.refused("globex", &format!("SELECT {expression} AS x FROM events")).await;
            assert!(!refused.contains("SECRET"), "{refused}");
        }
        assert!(world.refused("acme", answered[0]).await.contains("SECRET"));
    }
}

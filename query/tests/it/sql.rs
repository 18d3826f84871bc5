//! What a query may and may not say, and what it costs at most.

use query::{QueryConfig, QueryError};
use schemas::Hop;

use crate::world::{World, row};

/// A row is visible as soon as it is appended, and once, whether it lies in the log or in the files or in both.
#[tokio::test]
async fn rows_are_seen_at_once_and_once() {
    let world = World::new(QueryConfig::default()).await;
    let count = "SELECT count(*) AS n, count(DISTINCT event_id) AS d FROM events";
    for step in 1..=6 {
        world.append(&[row(&format!("a{step}"), "acme", "bot"), row(&format!("b{step}"), "acme", "bot")]).await;
        let seen = format!(r#"{{"n":{0},"d":{0}}}"#, step * 2);
        assert_eq!(world.lines("acme", count).await, std::slice::from_ref(&seen));
        if step % 2 == 0 {
            world.lake.flush().await.unwrap();
            assert_eq!(world.lines("acme", count).await, [seen]);
        }
    }
    let ledger = "SELECT sum(received) AS r, sum(mapped) AS m FROM ingest_ledger";
    assert_eq!(world.lines("acme", ledger).await, [r#"{"r":12,"m":12}"#]);
}

#[tokio::test]
async fn columns_of_files_and_log_agree() {
    let world = World::new(QueryConfig::default()).await;
    let chain = vec![
        Hop { kind: "user".into(), id: "ann".into(), issuer: None },
        Hop { kind: "agent".into(), id: "bot".into(), issuer: Some("idp".into()) },
    ];
    let mut first = row("1", "acme", "bot");
    first.delegation = chain.clone();
    first.scopes = vec!["read".into()];
    world.append(&[first.clone()]).await;
    world.lake.flush().await.unwrap();
    first.event_id = "2".into();
    world.append(&[first, row("3", "acme", "other")]).await;
    let chains = "SELECT event_id, chain_root(delegation) AS root, chain_contains(delegation, 'bot') AS has, \
                  raw->'actor'->>'name' AS name FROM events ORDER BY 1";
    let expected = [
        r#"{"event_id":"1","root":"ann","has":true,"name":"bot"}"#,
        r#"{"event_id":"2","root":"ann","has":true,"name":"bot"}"#,
        r#"{"event_id":"3","root":null,"has":null,"name":"other"}"#,
    ];
    assert_eq!(world.lines("acme", chains).await, expected);
    let found = "SELECT event_id FROM events WHERE agent_id = 'bot' AND event_day = DATE '2024-10-04' AND \
                 time >= TIMESTAMP '2024-10-04T00:00:00Z' AND array_has(scopes, 'read') ORDER BY event_id DESC LIMIT 1";
    assert_eq!(world.lines("acme", found).await, [r#"{"event_id":"2"}"#]);
    let all = world.sql("acme", "SELECT * FROM events").await;
    assert_eq!(all.rows(), 3);
    for format in [query::Format::Json, query::Format::Csv, query::Format::Arrow] {
        assert!(!all.write(format).unwrap().is_empty());
    }
    assert!(all.table().unwrap().contains("invoices.read"));
}

#[tokio::test]
async fn only_questions_are_answered() {
    let world = World::new(QueryConfig::default()).await;
    world.append(&[row("1", "acme", "bot")]).await;
    for text in [
        "CREATE TABLE t AS SELECT * FROM events",
        "CREATE VIEW v AS SELECT * FROM events",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE FUNCTION f(BIGINT) RETURNS BIGINT RETURN $1",
        "DROP TABLE events",
        "INSERT INTO events SELECT * FROM events",
        "DELETE FROM events",
        "UPDATE events SET tenant = 'blue'",
        "COPY events TO '/tmp/events.parquet'",
        "COPY (SELECT 1) TO 'x.csv' STORED AS CSV",
        "SET datafusion.execution.batch_size = 1",
        "PREPARE p AS SELECT 1",
        "EXPLAIN SELECT * FROM events",
        "EXPLAIN ANALYZE SELECT * FROM events",
        "BEGIN",
        "SELECT 1; SELECT 2",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"/etc/hosts.csv\"",
        "SELECT * FROM read_parquet('x')",
        "SELECT * FROM generate_series(1, 1000000000000)",
        "SELECT repeat('x', 1000000000)",
        "SELECT array_repeat(1, 1000000000000)",
        "SELECT range(1, 1000000000000)",
        "",
    ] {
        world.refused("acme", text).await;
    }
    assert_eq!(world.lines("acme", "SELECT count(*) AS n FROM events").await, [r#"{"n":1}"#]);
}

#[tokio::test]
async fn errors_help() {
    let world = World::new(QueryConfig::default()).await;
    let unknown = world.refused("acme", "SELECT agentid FROM events").await;
    assert!(unknown.contains("no column agentid") && unknown.contains("agent_id"), "{unknown}");
    let unknown = world.refused("acme", "SELECT * FROM event").await;
    assert!(unknown.contains("'event' not found") && unknown.contains("ingest_ledger"), "{unknown}");
    let syntax = world.refused("acme", "SELEC 1").await;
    assert!(syntax.contains("SELEC"), "{syntax}");
    assert!(!syntax.contains("backtrace"), "{syntax}");
}

#[tokio::test]
async fn limits_hold() {
    let config = QueryConfig { rows_max: 3, memory_bytes_max: 1 << 20, timeout_secs: 1, ..QueryConfig::default() };
    let world = World::new(config).await;
    let rows: Vec<_> = (0..200).map(|i| row(&i.to_string(), "acme", "bot")).collect();
    world.append(&rows).await;
    let answer = world.sql("acme", "SELECT event_id FROM events").await;
    assert_eq!((answer.rows(), answer.truncated), (3, true));
    let answer = world.sql("acme", "SELECT event_id FROM events LIMIT 3").await;
    assert_eq!((answer.rows(), answer.truncated), (3, false));
    let cross = "SELECT a.event_id || b.event_id || c.event_id AS x FROM events a, events b, events c ORDER BY x";
    let refused = world.refused("acme", cross).await;
    assert!(refused.contains("memory_bytes_max") || refused.contains("timeout_secs"), "{refused}");
    let slow = "SELECT count(*) FROM events a, events b, events c, events d, events e";
    let refused = world.refused("acme", slow).await;
    assert!(refused.contains("timeout_secs"), "{refused}");
    let long = format!("SELECT {}", "1+".repeat(40_000));
    assert!(world.refused("acme", &long).await.contains("text_bytes_max"));
}

/// As deep as the limits let it be, and deeper: an answer or a clear error, never a dead process.
#[tokio::test]
async fn deep_queries_do_not_kill_the_process() {
    let world = World::new(QueryConfig::default()).await;
    for text in [
        format!("SELECT {}1{}", "(".repeat(15_000), ")".repeat(15_000)),
        format!("SELECT 1 FROM events WHERE {}true", "severity_id=1 OR ".repeat(1_700)),
        format!("SELECT {}1", "1+".repeat(15_000)),
        format!("SELECT {}1", "- ".repeat(15_000)),
        format!("SELECT {} 1", "NOT ".repeat(7_000)),
        format!("SELECT 1 {}", "UNION ALL SELECT 1 ".repeat(1_500)),
    ] {
        let refused = world.refused("acme", &text).await;
        assert!(refused.contains("operators_max"), "{refused}");
    }
    let config = QueryConfig { operators_max: 1_000, ..QueryConfig::default() };
    let world = World::new(config).await;
    world.append(&[row("1", "acme", "bot")]).await;
    for text in [
        format!("SELECT 1 AS x FROM events WHERE {}true", "severity_id=1 OR ".repeat(490)),
        format!("SELECT {}log_offset AS x FROM events", "log_offset+".repeat(990)),
        format!("SELECT log_offset AS x FROM events {}", "UNION ALL SELECT 1 ".repeat(490)),
    ] {
        assert!(world.sql("acme", &text).await.rows() > 0, "{text}");
    }
    for text in [
        format!("SELECT {}1{}", "(".repeat(990), ")".repeat(990)),
        format!("SELECT {}severity_id FROM events", "- ".repeat(990)),
        format!("SELECT {} true", "NOT ".repeat(990)),
    ] {
        world.refused("acme", &text).await;
    }
}

/// `now()` is the installation's clock, in a filter that is pushed down to the files too.
#[tokio::test]
async fn now_is_the_clock_in_files_and_log() {
    let world = World::new(QueryConfig::default()).await;
    world.append(&[row("1", "acme", "a")]).await;
    world.lake.flush().await.unwrap();
    world.append(&[row("2", "acme", "a")]).await;
    let recent = "SELECT count(*) AS n FROM events WHERE time > now() - INTERVAL '1 hour'";
    assert_eq!(world.lines("acme", recent).await, [r#"{"n":2}"#]);
    let later = "SELECT count(*) AS n FROM events WHERE time > now() + INTERVAL '1 hour'";
    assert_eq!(world.lines("acme", later).await, [r#"{"n":0}"#]);
}

/// What fails in the query's own expressions is said plainly, with what to do.
#[tokio::test]
async fn errors_are_plain() {
    let world = World::new(QueryConfig::default()).await;
    world.append(&[row("1", "acme", "bot")]).await;
    world.lake.flush().await.unwrap();
    for (text, says) in [
        ("SELECT 1/0", "division by zero; nullif"),
        ("SELECT 1 / severity_id FROM events", "division by zero; nullif"),
        (
            "SELECT 1 FROM events WHERE cast(agent_id AS int) = 1",
            "Cannot cast string 'bot' to value of Int32 type; try_cast",
        ),
        ("SELECT 1 FROM events WHERE time > 'yesterday'", "'yesterday'"),
        ("SELECT regexp_like(agent_id, '(') FROM events", "unclosed group"),
        ("SELECT sum(agent_id) FROM events", "No function matches"),
        ("SELECT * FROM events e, LATERAL (SELECT * FROM events f WHERE f.agent_id = e.agent_id LIMIT 1) x", "a join"),
        ("SELEC 1", "not valid SQL: Expected: an SQL statement, found: SELEC"),
        ("SELECT 'abc", "not valid SQL: Unterminated string literal"),
    ] {
        let error = world.query.sql("acme", text).await.unwrap_err();
        assert!(matches!(error, QueryError::Invalid(_)), "{text}: {error:?}");
        let error = error.to_string();
        assert!(error.contains(says), "{text}: {error}");
        for noise in ["DataFusion", "Error(", "error: ", "Internal", "Arrow", "muster.public", "Some("] {
            assert!(noise == "error: " && error.starts_with("regex") || !error.contains(noise), "{text}: {error}");
        }
    }
    let json = world.sql("acme", "SELECT raw->'actor' AS a FROM events").await.write(query::Format::Json);
    assert!(json.unwrap_err().to_string().contains("->>"));
}

/// A recursion without an end is cut by the limits, and stops using the one thread there is.
#[tokio::test]
async fn limits_hold_in_recursion() {
    let config =
        QueryConfig { rows_max: 3, memory_bytes_max: 1 << 20, timeout_secs: 1, threads: 1, ..QueryConfig::default() };
    let world = World::new(config).await;
    world.append(&[row("1", "acme", "bot")]).await;
    let endless = "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t)";
    let answer = world.sql("acme", &format!("{endless} SELECT n FROM t")).await;
    assert_eq!((answer.rows(), answer.truncated), (3, true));
    for (text, limit) in [
        (format!("{endless} SELECT count(*) FROM t"), "timeout_secs"),
        (
            "WITH RECURSIVE t AS (SELECT event_id AS s FROM events UNION ALL SELECT t.s FROM t JOIN events e ON \
             t.s = e.event_id) SELECT count(*) FROM t"
                .to_owned(),
            "timeout_secs",
        ),
        (
            "WITH RECURSIVE t AS (SELECT 'x' AS s UNION ALL SELECT s || s FROM t) SELECT max(length(s)) FROM t"
                .to_owned(),
            "memory_bytes_max",
        ),
    ] {
        let refused = world.refused("acme", &text).await;
        assert!(refused.contains(limit), "{text}: {refused}");
        assert_eq!(world.lines("acme", "SELECT count(*) AS n FROM events").await, [r#"{"n":1}"#]);
    }
}

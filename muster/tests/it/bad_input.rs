//! Bad input over HTTP: a clear error or a flagged row for each, nothing lost, and the process stands.

use serde_json::Value;

use crate::server::{Server, envoy_record};

fn counts(receipt: &Value) -> [i64; 5] {
    ["received", "mapped", "noise", "quarantined", "duplicates"].map(|name| receipt[name].as_i64().unwrap_or(-1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_gets_a_clear_answer_and_stops_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::start(folder.path());
    let token = server.token.take().expect("a first start shows a token");
    let door = "/v1/ingest/envoy";

    let (status, problem) = server.post(door, "muster_nobody_00", "{}").await;
    assert_eq!((status, problem["title"].as_str()), (401, Some("Unauthorized")));

    let (status, problem) = server.post("/v1/ingest/envoi", &token, "{}").await;
    assert_eq!(status, 404);
    assert!(problem["detail"].as_str().is_some_and(|d| d.contains("envoy")), "names the nearest source: {problem}");

    let (status, problem) = server.post(door, &token, "").await;
    assert_eq!(status, 400, "an empty body is an error: {problem}");

    let whole = envoy_record("ok-1", "a", "/x");
    let body = format!("{whole}\n{}\n", &whole[..whole.len() - 20]);
    let (status, receipt) = server.post(door, &token, body).await;
    assert_eq!((status, counts(&receipt)), (200, [2, 1, 0, 1, 0]), "{receipt}");
    assert_eq!(receipt["results"][0]["record"].as_i64(), Some(1), "the receipt names the record: {receipt}");
    assert!(receipt["results"][0]["reason"].is_string(), "and the reason: {receipt}");

    let mut latin = envoy_record("latin-1", "a", "/caf").into_bytes();
    let place = latin.windows(4).position(|w| w == b"/caf").expect("is there") + 3;
    latin[place] = 0xe9;
    let (status, receipt) = server.post(door, &token, latin).await;
    assert_eq!((status, counts(&receipt)), (200, [1, 0, 0, 1, 0]), "{receipt}");

    let mut long = envoy_record("long-1", "a", "/x").into_bytes();
    long.truncate(long.len() - 1);
    long.extend_from_slice(b",\"padding\":\"");
    long.resize(50 << 20, b'x');
    long.extend_from_slice(b"\"}\n");
    long.extend_from_slice(envoy_record("after-long", "a", "/x").as_bytes());
    let (status, receipt) = server.post(door, &token, long).await;
    assert_eq!((status, counts(&receipt)), (200, [2, 1, 0, 1, 0]), "{receipt}");

    let (status, receipt) = server.post(door, &token, envoy_record("twice", "a", "/x")).await;
    assert_eq!((status, counts(&receipt)), (200, [1, 1, 0, 0, 0]), "{receipt}");
    let (status, receipt) = server.post(door, &token, envoy_record("twice", "a", "/x")).await;
    assert_eq!((status, counts(&receipt)), (200, [1, 0, 0, 0, 1]), "the same again is a duplicate: {receipt}");
    let (status, receipt) = server.post(door, &token, envoy_record("twice", "thief", "/secret")).await;
    assert_eq!((status, counts(&receipt)), (200, [1, 1, 0, 0, 0]), "other bytes are kept: {receipt}");
    assert_eq!(receipt["conflicts"].as_i64(), Some(1), "{receipt}");

    let rows = server
        .sql(&token, "SELECT agent_id, flags FROM events WHERE source_event_id = 'twice' ORDER BY agent_id")
        .await;
    assert_eq!(rows.len(), 2, "the reused id hides nothing: {rows:?}");
    assert!(rows[1]["flags"].to_string().contains("id_conflict"), "{rows:?}");
    let ledger = server
        .sql(
            &token,
            "SELECT sum(received) AS r, sum(mapped + noise + quarantined + duplicates) AS s FROM ingest_ledger",
        )
        .await;
    assert_eq!(ledger[0]["r"], ledger[0]["s"]);
    let quarantined = server.sql(&token, "SELECT reason, size_bytes FROM quarantine ORDER BY size_bytes").await;
    assert_eq!(quarantined.len(), 3, "{quarantined:?}");
    assert!(quarantined[2]["size_bytes"].as_i64().is_some_and(|size| size > 50 << 20), "{quarantined:?}");
    let (status, _) = server.get("/v1/deny", &token).await;
    assert_eq!(status, 200);
    let (status, _) = server.get("/readyz", &token).await;
    assert_eq!(status, 200, "the process stands");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_does_only_what_its_verbs_say_and_only_in_its_tenant() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let create = |arguments: &[&str]| {
        let mut command = std::process::Command::new(crate::server::MUSTER);
        let output = command.arg("--data").arg(folder.path()).args(["tokens", "create"]).args(arguments).output();
        let output = output.expect("muster runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("is text").trim().to_owned()
    };
    let sender = create(&["sender", "--tenant", "acme", "--verb", "ingest"]);
    let reader = create(&["reader", "--tenant", "acme", "--verb", "query"]);
    let other = create(&["other", "--tenant", "globex", "--verb", "query", "--verb", "ingest"]);
    let server = Server::start(folder.path());
    assert_eq!(server.post("/v1/ingest/envoy", &sender, envoy_record("1", "a", "/x")).await.0, 200);
    assert_eq!(server.post("/v1/ingest/envoy", &reader, envoy_record("2", "a", "/x")).await.0, 403);
    assert_eq!(server.post("/v1/sql", &sender, r#"{"sql":"SELECT 1"}"#).await.0, 403);
    let count = "SELECT count(*) AS n FROM events";
    assert_eq!(server.sql(&reader, count).await[0]["n"].as_i64(), Some(1));
    assert_eq!(server.sql(&other, count).await[0]["n"].as_i64(), Some(0), "another tenant's rows are not there");
}

/// Fills a real file system of 24 MB: appends are refused with 503, nothing acknowledged is lost, and room heals it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a small file system: .ci/full_disk mounts one and names it in MUSTER_SMALL_FOLDER"]
async fn needs_a_small_file_system() {
    let folder = std::path::PathBuf::from(std::env::var("MUSTER_SMALL_FOLDER").expect("names a small file system"));
    let data = folder.join("data");
    let reserve = [("MUSTER__DATA__RESERVE_BYTES", "4194304"), ("MUSTER__LAKE__FLUSH_SECS", "3600")];
    let mut server = Server::start_with(&data, &reserve);
    let token = server.token.take().expect("a first start shows a token");
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![0; 8 << 20]).expect("there is room at first");
    let mut acknowledged = 0;
    let refusal = loop {
        let lines: Vec<String> = (0..500).map(|i| envoy_record(&format!("{acknowledged}-{i}"), "a", "/x")).collect();
        let (status, answer) = server.post("/v1/ingest/envoy", &token, lines.join("\n")).await;
        if status != 200 {
            assert_eq!(status, 503, "{answer}");
            break answer;
        }
        acknowledged += 500;
        assert!(acknowledged < 1_000_000, "the disk never filled");
    };
    assert!(refusal["detail"].is_string(), "{refusal}");
    std::fs::remove_file(&ballast).expect("goes");
    // The tables are written first, and the reserve is taken back.
    for looks in 0.. {
        let (status, answer) = server.post("/v1/ingest/envoy", &token, envoy_record("after", "a", "/x")).await;
        if status == 200 {
            break;
        }
        assert!(status == 503 && looks < 10_000, "room heals it: {answer}");
    }
    let rows = server.sql(&token, "SELECT count(*) AS n FROM events").await;
    assert_eq!(rows[0]["n"].as_i64(), Some(acknowledged + 1));
    server.kill();
    let server = Server::start(&data);
    let rows = server.sql(&token, "SELECT count(*) AS n FROM events").await;
    assert_eq!(rows[0]["n"].as_i64(), Some(acknowledged + 1), "and the same after a kill");
}

//! What may start an order without a person: a fresh record through a door marked `may_act`, and nothing else.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::server::Server;
use crate::verdicts::muster;

const POLICIES: &str = r#"[{ detector = "token_dead", severity_min = "informational", mode = "act", switches = [] }]"#;
/// The answer comes long before; a broken server must not be asked for ever.
const LOOKS_MAX: usize = 2_000;

/// A call that went through with a token that had expired an hour before it, so many seconds ago.
fn dead_token(agent: &str, age_secs: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is right");
    let time = now.as_secs() as i64 - age_secs;
    let expired = time - 3_600;
    json!({
        "start_time": time, "request_id": format!("call-{agent}"), "method": "GET", "path": "/v1/invoices",
        "response_code": 200, "response_flags": "-", "authority": "billing.example", "user_agent": "agent/1.0",
        "downstream_remote_address": "10.1.2.3:4711",
        "jwt_payload": {"iss": "https://id.example", "azp": agent, "sub": "ada@example.com", "jti": format!("jti-{agent}"),
            "scope": "read", "iat": expired - 3_600, "exp": expired},
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_a_replayed_and_an_imported_record_stop_nobody() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let settings = [("MUSTER__RESPOND__POLICIES", POLICIES), ("MUSTER__RESPOND__ACTIVE_AGENTS_SHARE_MAX", "1.0")];
    let mut server = Server::start_with(&folder, &settings);
    let operator = server.token.take().expect("a first start shows a token");
    let (_, forger) = muster(&folder, &["tokens", "create", "forger", "--verb", "ingest"]);
    let (_, gateway) = muster(&folder, &["tokens", "create", "gateway", "--verb", "ingest", "--verb", "act"]);
    let file = parent.path().join("import.jsonl");
    std::fs::write(&file, dead_token("imported", 0)).unwrap();
    let (fine, text) = muster(&folder, &["ingest", "--source", "envoy", file.to_str().expect("is text")]);
    assert!(fine, "{text}");
    for (token, record) in [
        (&forger, dead_token("forged", 0)),
        (&gateway, dead_token("replayed", 600)),
        (&gateway, dead_token("turned", 0)),
    ] {
        let (status, answer) = server.post("/v1/ingest/envoy", token.trim(), record).await;
        assert_eq!(status, 200, "{answer}");
    }
    // Alerts are handled in the order of their events: when the last one is answered, so are the others.
    let mut denied: Vec<Value> = Vec::new();
    for _ in 0..LOOKS_MAX {
        let (_, list) = server.get("/v1/deny", &operator).await;
        denied = list["entries"].as_array().expect("a list").iter().map(|entry| entry["id"].clone()).collect();
        if !denied.is_empty() {
            break;
        }
    }
    assert_eq!(denied, ["turned"]);
    let alerts = server.sql(&operator, "SELECT agent_id FROM alerts WHERE detector = 'token_dead' ORDER BY 1").await;
    let agents: Vec<&str> = alerts.iter().filter_map(|alert| alert["agent_id"].as_str()).collect();
    assert_eq!(agents, ["forged", "imported", "replayed", "turned"], "all four are seen");
    let begun = server.sql(&operator, "SELECT DISTINCT target_id FROM orders WHERE state <> 'requested'").await;
    assert_eq!(begun, [json!({"target_id": "turned"})]);
}

//! For each gateway: who the deny list thinks is asking is who the gateway's log says did it.
//!
//! The same request twice: as the gateway asks Muster's door (the examples in `examples/`), and as it logs it afterwards.

use axum::http::HeaderMap;
use ingest::{Carrier, Context, Limits, Sources};
use respond::gateway::Gateway;
use serde_json::{Value, json};

/// The agent of the one event that the gateway's record becomes.
fn logged(source: &str, record: &Value) -> Option<String> {
    let sources = Sources::load(None).expect("the built-in mappings are right");
    let mapping = sources.iter().find(|mapping| mapping.name() == source).expect("it is built in");
    let carrier = Carrier::File { name: "log".into(), offset: 0 };
    let context = Context {
        tenant: "acme",
        instance: "",
        door: "http",
        live: true,
        received_at: 1_767_225_600_000_000,
        carrier: &carrier,
        partitions: 64,
        secret_key: &[7; 32],
    };
    let found = ingest::normalize(mapping, record.to_string().as_bytes(), &context, &Limits::default());
    let events = ingest::event_objects(&found.events.unwrap_or_else(|| panic!("{record} becomes an event")));
    assert_eq!(events.len(), 1, "{record}");
    events[0].get("agent_id").and_then(Value::as_str).map(str::to_owned)
}

fn asked(gateway: &str, headers: &[(&str, String)]) -> Option<String> {
    let rules = Gateway::built_in();
    let rule = rules.iter().find(|rule| rule.name == gateway).expect("it is built in");
    let pair = |(name, value): &(&str, String)| (name.parse().expect("a name"), value.parse().expect("a value"));
    rule.asker(&headers.iter().map(pair).collect::<HeaderMap>()).agent
}

fn bearer(claims: &Value) -> String {
    let encode = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
    format!("Bearer {}.{}.c2ln", encode(r#"{"alg":"RS256"}"#), encode(&claims.to_string()))
}

/// Tokens of the providers' several shapes.
fn tokens() -> Vec<Value> {
    vec![
        json!({"azp": "invoice-bot", "sub": "ann", "jti": "t-1"}),
        json!({"client_id": "invoice-bot", "sub": "invoice-bot"}),
        json!({"cid": "0oa1", "sub": "ann@acme.example"}),
        json!({"appid": "4b0d", "sub": "x"}),
        json!({"azp": "first", "client_id": "second", "appid": "third", "cid": "fourth"}),
        json!({"client_id": "second", "appid": "third", "cid": "fourth"}),
        json!({"appid": "third", "cid": "fourth"}),
        json!({"sub": "nobody", "act": {"sub": "planner"}}),
    ]
}

#[test]
fn envoy_asks_for_whom_its_log_names() {
    let record = |extra: Value| {
        let mut record = json!({
            "start_time": "2025-12-03T10:11:12.345Z", "method": "GET", "path": "/v1/invoices", "response_code": 200,
            "response_flags": "-", "authority": "billing", "downstream_remote_address": "203.0.113.9:40000",
        });
        record.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        record
    };
    for claims in tokens() {
        let asked = asked("envoy", &[("authorization", bearer(&claims))]);
        assert_eq!(asked, logged("envoy", &record(json!({"jwt_payload": claims}))), "{claims}");
    }
    let certificate = "By=spiffe://example/gw;Hash=aabb;Subject=\"\";URI=spiffe://example/ns/agents/sa/chat-bot";
    let asked = asked("envoy", &[("x-forwarded-client-cert", certificate.into())]);
    assert_eq!(asked.as_deref(), Some("spiffe://example/ns/agents/sa/chat-bot"));
    assert_eq!(asked, logged("envoy", &record(json!({"x_forwarded_client_cert": certificate}))));
}

#[test]
fn kong_asks_for_whom_its_log_names() {
    let record = |extra: Value, headers: Value| {
        let mut record = json!({
            "started_at": 1_764_756_672_345_i64, "client_ip": "203.0.113.9", "latencies": {"request": 12},
            "request": {"id": "r-1", "method": "GET", "uri": "/v1/invoices", "headers": headers},
            "response": {"status": 200, "headers": {}}, "service": {"name": "billing"},
        });
        record.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        record
    };
    for (consumer, headers) in [
        (
            json!({"id": "c-1", "username": "billing", "custom_id": "0oa1"}),
            [("id", "c-1"), ("username", "billing"), ("custom-id", "0oa1")].as_slice(),
        ),
        (json!({"id": "c-1", "username": "billing"}), &[("id", "c-1"), ("username", "billing")]),
        (json!({"id": "c-1"}), &[("id", "c-1")]),
    ] {
        // Kong gives the consumer to plugins and upstream in these headers, and writes it to the log as an object.
        let named: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (format!("x-consumer-{name}"), (*value).to_owned())).collect();
        let pairs: Vec<(&str, String)> = named.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let asked = asked("kong", &pairs);
        assert!(asked.is_some());
        assert_eq!(asked, logged("kong", &record(json!({"consumer": consumer}), json!({}))), "{consumer}");
    }
    for claims in tokens() {
        let token = bearer(&claims);
        let asked = asked("kong", &[("authorization", token.clone())]);
        assert_eq!(asked, logged("kong", &record(json!({}), json!({"authorization": token}))), "{claims}");
    }
}

#[test]
fn nginx_asks_for_whom_its_log_names() {
    for claims in tokens() {
        let token = bearer(&claims);
        // The log format of `examples/nginx/muster.conf`.
        let record = json!({
            "time_iso8601": "2025-12-03T10:11:12+00:00", "remote_addr": "203.0.113.9", "request_method": "GET",
            "request_uri": "/v1/invoices", "status": "200", "body_bytes_sent": "512", "request_time": "0.012",
            "host": "billing.example", "http_authorization": token,
        });
        assert_eq!(asked("nginx", &[("authorization", token)]), logged("nginx", &record), "{claims}");
    }
}

#[test]
fn opa_asks_for_whom_its_log_names() {
    let rules = Gateway::built_in();
    let rule = rules.iter().find(|rule| rule.name == "opa").expect("it is built in");
    // The facts themselves, as `examples/opa` asks, and what Envoy's plugin passes on.
    let facts = json!({"agent": "invoice-bot", "user": "ann", "method": "GET", "path": "/v1/invoices"});
    let passed = |claims: &Value| {
        let headers = json!({"authorization": bearer(claims)});
        json!({"attributes": {"request": {"http": {"method": "GET", "path": "/v1/invoices", "headers": headers}}}})
    };
    for input in tokens().iter().map(passed).chain([facts]) {
        let record = json!({
            "decision_id": "d-1", "labels": {"id": "opa-1"}, "path": "muster/allow", "input": input, "result": true,
            "timestamp": "2025-12-03T10:11:12.345Z",
        });
        assert_eq!(rule.asker_of_input(&input).agent, logged("opa", &record), "{input}");
    }
}

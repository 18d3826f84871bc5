//! Drafts from samples: framing, columns by name and form, nothing by chance, nobody's data in the fixture.

use ingest::draft::draft;
use ingest::{Limits, Mapping, event_objects, normalize};

use crate::support::{context, file};

const GATEWAY: &str = r#"{"@timestamp":"2026-02-03T04:05:06Z","event":{"operation":"invoice.read","outcome":"success"},"client":{"client_id":"0oaAgent","ip":"198.51.100.7:443"},"claims":{"sub":"alice@corp.test","jti":"9f2c1d7e-30b4-4c8a-9d5e-6a7b8c9d0e1f","scope":"a b","exp":1770095106},"shoe_size":43,"my_passcode":"hunter22","headers":{"authorization":"Bearer abc.def"}}
{"@timestamp":"2026-02-03T04:05:07Z","event":{"operation":"invoice.delete","outcome":"DENY"},"client":{"client_id":"0oaAgent","ip":"198.51.100.8"},"claims":{"sub":"bob@corp.test","jti":"1f2c1d7e-30b4-4c8a-9d5e-6a7b8c9d0e2f","scope":"a","exp":1770095107},"shoe_size":44}
"#;

#[test]
fn what_is_plain_is_mapped_and_the_rest_is_left_out() {
    let found = draft("gateway", GATEWAY.as_bytes()).expect("a draft");
    let column = |name: &str| found.columns.iter().find(|(column, _)| column == name).map(|(_, term)| term.as_str());
    for (name, term) in [
        ("time", "@timestamp"),
        ("action", "event.operation"),
        ("agent_id", "client.client_id"),
        ("user_id", "claims.sub"),
        ("token_id", "claims.jti"),
        ("scopes", "claims.scope | split ', '"),
        ("token_expires_at", "claims.exp"),
        ("outcome", "event.outcome | lookup outcome"),
        ("src_ip", "client.ip | ip"),
    ] {
        assert_eq!(column(name), Some(term), "{name} in {:?}", found.columns);
    }
    assert!(found.mapping.contains("#   shoe_size  (100 %)"), "{}", found.mapping);
    assert!(found.mapping.contains(r#"["invoice.delete", "delete", 6003, 4]"#), "{}", found.mapping);

    // The draft works on the sample itself.
    let mapping = Mapping::parse("gateway", "gateway.toml", &found.mapping).expect("the draft compiles");
    let carrier = file();
    let normalized = normalize(&mapping, GATEWAY.as_bytes(), &context(&carrier), &Limits::default());
    let events = event_objects(&normalized.events.expect("events"));
    let told = |n: usize| [&events[n]["agent_id"], &events[n]["user_id"], &events[n]["effect"], &events[n]["outcome"]];
    assert_eq!(told(0).map(|v| v.as_str().expect("a text")), ["0oaAgent", "alice@corp.test", "read", "success"]);
    assert_eq!(told(1).map(|v| v.as_str().expect("a text")), ["0oaAgent", "bob@corp.test", "delete", "denied"]);
}

#[test]
fn the_fixture_says_nothing_of_people_and_secrets() {
    let found = draft("gateway", GATEWAY.replace("my_passcode", "my_signature").as_bytes()).expect("a draft");
    for private in ["alice", "corp.test", "0oaAgent", "198.51.100", "hunter22", "abc.def", "9f2c1d7e"] {
        assert!(!found.fixtures.contains(private), "`{private}` in\n{}", found.fixtures);
        assert!(!found.mapping.contains(private), "`{private}` in\n{}", found.mapping);
    }
    assert!(found.fixtures.contains("invoice.read"), "words of the vendor stay: {}", found.fixtures);
    assert!(
        found.mapping.contains(r#"mask = ["my_signature"]"#),
        "what the general net does not know: {}",
        found.mapping
    );
}

#[test]
fn wrapped_records_are_found() {
    let record = GATEWAY.lines().next().expect("a record");
    for (body, envelope) in [
        (format!("[{record},{record}]"), None),
        (format!(r#"{{"Records":[{record},{record}]}}"#), Some("Records")),
        (format!(r#"{{"eventId":"x","data":{{"events":[{record}]}}}}"#), Some("data.events")),
    ] {
        let found = draft("gateway", body.as_bytes()).expect("a draft");
        let line = envelope.map(|path| format!("envelopes = [\"{path}\"]"));
        assert_eq!(found.mapping.contains("envelopes"), line.is_some(), "{}", found.mapping);
        assert!(line.is_none_or(|line| found.mapping.contains(&line)), "{}", found.mapping);
        let mapping = Mapping::parse("gateway", "gateway.toml", &found.mapping).expect("the draft compiles");
        let normalized = normalize(&mapping, body.as_bytes(), &context(&file()), &Limits::default());
        assert_eq!(normalized.ledger.mapped, found.records as i64);
    }
}

#[test]
fn names_without_fitting_values_are_not_taken_and_said() {
    let sample = r#"{"time":"soon","client_id":true,"ip":"here","actor":{"id":"x","type":"robot"},"type":"did.it"}"#;
    let found = draft("odd", sample.as_bytes()).expect("a draft");
    let columns: Vec<&str> = found.columns.iter().map(|(column, _)| column.as_str()).collect();
    assert_eq!(columns, ["action"], "{:?}", found.columns);
    assert!(found.fixtures.contains("quarantined = \"no_time\""), "{}", found.fixtures);
    for said in ["time: no field", "agent_id: no field", "`actor.id`"] {
        assert!(found.checks.iter().any(|check| check.contains(said)), "{said} in {:?}", found.checks);
    }
    assert!(draft("odd", b"plain text\nlines\n").expect_err("is no JSON").contains("framing.text"));
    assert!(draft("odd", b"").expect_err("is empty").contains("no record"));
}

/// Every sample of real records gives a draft that compiles and whose fixture passes.
#[test]
fn every_built_in_fixture_drafts() {
    for (name, text) in schemas::sources::FIXTURES {
        let fixtures: toml::Value = toml::from_str(text).expect("fixtures are TOML");
        let records: Vec<&str> =
            fixtures["fixture"].as_array().expect("a list").iter().filter_map(|f| f["record"].as_str()).collect();
        match draft(name, records.join("\n").as_bytes()) {
            Ok(found) => assert!(found.records > 0),
            Err(problem) => assert!(problem.contains("framing.text"), "{name}: {problem}"),
        }
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_at_all(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = draft("any", &bytes);
    }

    #[test]
    fn any_json(keys in proptest::collection::vec("[a-z.\\[\\]\"'| @é{}]{1,12}", 1..6), value in "\\PC{0,30}") {
        let record: serde_json::Map<String, serde_json::Value> =
            keys.into_iter().map(|key| (key, serde_json::json!([{"type": value, "k": value}, {"id": {"time": value}}]))).collect();
        let body = serde_json::Value::Object(record).to_string();
        draft("any", body.as_bytes()).expect("whatever the keys are, the draft compiles");
    }
}

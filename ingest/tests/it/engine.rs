//! What a mapping may say about a record's shape: wrapping, lists of events at any depth, text lines, pairs.

use ingest::{Limits, Mapping, Outcome, event_objects, normalize};
use serde_json::{Map, Value, json};

use crate::support::{context, file};

fn events(mapping: &str, body: &str) -> Vec<Map<String, Value>> {
    let mapping = Mapping::parse("x", "x.toml", mapping).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let found = normalize(&mapping, body.as_bytes(), &context(&file()), &Limits::default());
    let outcomes: Vec<&Outcome> = found.outcomes.iter().filter(|o| !matches!(o, Outcome::Mapped { .. })).collect();
    assert!(outcomes.is_empty(), "{outcomes:?}");
    event_objects(&found.events.expect("there are events"))
}

fn rows(events: &[Map<String, Value>], columns: [&str; 3]) -> Vec<Value> {
    events.iter().map(|e| json!(columns.map(|c| e.get(c).cloned().unwrap_or(Value::Null)))).collect()
}

#[test]
fn a_record_may_stand_in_a_field() {
    let mapping = "[framing]\nwrapped = [\"data\", \"a.b\"]\n[columns]\ntime = \"at\"\naction = \"what.name\"\nuser_id = \"who\"\nsource_event_id = \"id\"";
    let body = concat!(
        r#"{"at":1764756672,"what":{"name":"x"},"who":"u"}"#,
        "\n",
        r#"{"id":"7","data":{"at":1764756672,"what":{"name":"y"},"who":"v"}}"#,
        "\n",
        r#"{"a":{"b":"{\"at\":1764756672,\"what\":{\"name\":\"z\"}}"},"who":"w"}"#,
    );
    let found = rows(&events(mapping, body), ["action", "user_id", "source_event_id"]);
    assert_eq!(found, [json!(["x", "u", null]), json!(["y", "v", "7"]), json!(["z", "w", null])]);
}

#[test]
fn events_may_lie_several_lists_deep() {
    let mapping = "explode = \"groups[].parts[].events\"\n[columns]\ntime = \"groups[].parts[].events[].at\"\naction = \"groups[].parts[].events[].name\"\nservice = \"groups[].service\"\nuser_id = \"groups[].parts[].who\"";
    let body = r#"{"groups":[{"service":"s1","parts":[{"who":"u","events":[{"at":1764756672,"name":"a"},{"at":1764756672,"name":"b"}]}]},{"service":"s2"},{"parts":[{"who":"v","events":[{"at":1764756672,"name":"c"}]},{"events":[]}]}]}"#;
    let found = events(mapping, body);
    assert_eq!(
        rows(&found, ["action", "service", "user_id"]),
        [json!(["a", "s1", "u"]), json!(["b", "s1", "u"]), json!(["c", null, "v"])]
    );
    let numbers: Vec<i64> = found.iter().map(|e| e.get("event_index").and_then(Value::as_i64).unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn entries_of_an_object_are_events_beside_their_request() {
    let mapping = "explode = [\"new.out[].actions.*\", \"out[].actions.*\"]\nbeside = \"in\"\n[columns]\ntime = \"at\"\naction = \"$key\"\nuser_id = \"in[].who\"\noutcome = [\"out[].actions.* | lookup o\", \"out[].actions.*.effect | lookup o\"]\n[tables]\no = [[\"YES\", \"success\"], [\"NO\", \"denied\"]]";
    let body = r#"{"at":1764756672,"in":[{"who":"u"},{"who":"v"}],"out":[{"actions":{"read":"YES","write":"NO"}},{"actions":{"read":{"effect":"NO"}}}]}"#;
    let found = rows(&events(mapping, body), ["action", "user_id", "outcome"]);
    assert_eq!(
        found,
        [json!(["read", "u", "success"]), json!(["write", "u", "denied"]), json!(["read", "v", "denied"])]
    );
}

#[test]
fn a_line_may_hold_pairs_and_stand_in_a_record() {
    let mapping = r#"
[framing]
lines = ["message"]
text = [{ name = "line", regex = '^(?P<at>\S+) (?P<rest>.*)$', pairs = { group = "rest", form = "logfmt" } }]
[columns]
time = "at"
action = "req.method"
user_id = "user"
service = "$outer.host"
"#;
    let line = r#"2025-12-03T10:11:12Z user="a b" req=map[method:GET path:/x]"#;
    let body = format!("{line}\n{}", json!({"host": "h", "message": line}));
    let found = events(mapping, &body);
    assert_eq!(
        rows(&found, ["action", "user_id", "service"]),
        [json!(["GET", "a b", null]), json!(["GET", "a b", "h"])]
    );
    assert_eq!(found[1]["raw"], json!({"host": "h", "message": line}).to_string());
}

#[test]
fn a_case_may_be_told_in_several_ways() {
    let mapping = r#"
[columns]
time = "at"
action = "what"
user_id = "who"
[[cases]]
when = [{ console = true }, { who = { matches = '^i-[0-9a-f]{8}$' } }]
[cases.columns]
user_id = []
service = "'machine'"
"#;
    let record = |who: &str, more: &str| format!(r#"{{"at":1764756672,"what":"x","who":"{who}"{more}}}"#);
    let body = [record("i-robot", ""), record("i-0a1b2c3d", ""), record("ann", r#","console":1"#)].join("\n");
    let found = rows(&events(mapping, &body), ["user_id", "service", "action"]);
    assert_eq!(found, [json!(["i-robot", null, "x"]), json!([null, "machine", "x"]), json!([null, "machine", "x"])]);
}

#[test]
fn a_person_may_have_the_id_of_the_client() {
    let mapping =
        "[columns]\ntime = \"at\"\naction = \"what\"\nagent_id = \"app\"\nuser_id = \"who\"\nuser_kind = \"kind\"";
    let record = |kind: &str| format!(r#"{{"at":1764756672,"what":"x","app":"1","who":"1","kind":"{kind}"}}"#);
    let body = [record("human"), record("service")].join("\n");
    let found = rows(&events(mapping, &body), ["agent_id", "user_id", "attribution"]);
    assert_eq!(found, [json!(["1", "1", "both"]), json!(["1", null, "agent_only"])]);
}

#[test]
fn a_chain_of_delegation_is_read_from_a_token_or_a_list() {
    let claims = json!({"sub": "alice", "act": {"sub": "helper", "act": {"sub": "planner"}}}).to_string();
    let token = format!("Bearer e30.{}.sig", base64_url(claims.as_bytes()));
    let mapping = "[columns]\ntime = \"at\"\naction = \"what\"\n[delegation]\njwt = \"token\"\nlist = \"chain\"";
    let chain = json!([{"kind": "user", "id": "alice"}, {"kind": "agent", "id": "helper", "issuer": "i"}]);
    let body = format!(
        "{}\n{}",
        json!({"at": 1764756672, "what": "x", "token": token}),
        json!({"at": 1764756672, "what": "x", "chain": chain})
    );
    let found = events(mapping, &body);
    let ids = |n: usize| -> Vec<&str> {
        let hops = found[n]["delegation"].as_array().expect("a chain");
        hops.iter().filter_map(|hop| hop["id"].as_str()).collect()
    };
    assert_eq!((ids(0), ids(1)), (vec!["alice", "planner", "helper"], vec!["alice", "helper"]));
}

fn base64_url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

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
    data_encoding::BASE64URL_NOPAD.encode(bytes)
}

#[test]
fn a_json_object_may_stand_in_a_field_of_a_record() {
    let mapping = r#"
explode = "checks"
[framing]
lines = ["log"]
envelopes = ["records"]
[columns]
time = "at"
action = ["checks[].name", "what"]
user_id = "who"
service = "$outer.kubernetes.pod"
"#;
    let inner = [
        json!({"at": 1764756672, "who": "u", "checks": [{"name": "a"}, {"name": "b"}]}),
        json!({"at": 1764756672, "what": "c"}),
        json!({"records": [{"at": 1764756672, "what": "d"}, {"at": 1764756672, "what": "e"}]}),
    ];
    let lines = inner.map(|inner| json!({"kubernetes": {"pod": "p"}, "log": format!(" {inner}\n")}).to_string());
    let found = events(mapping, &lines.join("\n"));
    assert_eq!(
        rows(&found, ["action", "user_id", "service"]),
        [
            json!(["a", "u", "p"]),
            json!(["b", "u", "p"]),
            json!(["c", null, "p"]),
            json!(["d", null, null]),
            json!(["e", null, null])
        ]
    );
    assert_eq!(found[2]["raw"], json!(lines[1]));
    let ids: std::collections::BTreeSet<_> = found.iter().map(|e| e["event_id"].to_string()).collect();
    assert_eq!(ids.len(), 5);
}

#[test]
fn several_objects_on_one_line_are_records() {
    let mapping = "[columns]\ntime = \"at\"\naction = \"what\"";
    let body = r#"{"at":1764756672,"what":"}{"}{"at":1764756672,"what":"b"}  {"at":1764756672,"what":"c"}"#;
    let found = events(mapping, body);
    assert_eq!(found.iter().map(|e| &e["action"]).collect::<Vec<_>>(), ["}{", "b", "c"]);
    let ids: std::collections::BTreeSet<_> = found.iter().map(|e| e["event_id"].to_string()).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_record_without_any_time_may_have_that_of_its_receipt() {
    let mapping = "[columns]\ntime = [\"at\", { when = { kind = \"old\" }, take = \"$received\" }]\naction = \"what\"";
    let body = "{\"what\":\"x\",\"kind\":\"old\"}\n{\"what\":\"y\",\"kind\":\"old\",\"at\":1764756672}";
    let found = events(mapping, body);
    assert_eq!(found[0]["time"], found[0]["received_at"]);
    assert_eq!(found[0]["flags"], json!(["time_received", "backfill"]));
    assert_eq!(found[1]["flags"], json!(["backfill"]));
    let without = normalize(
        &Mapping::parse("x", "x.toml", mapping).expect("the mapping is right"),
        br#"{"what":"x","kind":"new"}"#,
        &context(&file()),
        &Limits::default(),
    );
    assert!(matches!(without.outcomes[0], Outcome::Quarantined { reason: ingest::Reason::NoTime, .. }));
    let wrong = Mapping::parse("x", "x.toml", "[columns]\ntime = \"t\"\naction = \"$received\"").expect_err("no time");
    assert_eq!(wrong[0].to_string(), "x.toml:3: columns.action: `$received` is a time, for the column `time` alone");
}

#[test]
fn a_condition_holds_where_any_of_several_values_fits() {
    let mapping = r#"
absent = ["", "00000000-0000-0000-0000-000000000000"]
[columns]
time = "at"
action = [
  { when = { "parts[].kind" = "b*", roles = ["agent", "bot"] }, take = "'both'" },
  { when = { roles = { not = ["agent"] }, list = { empty = true } }, take = "'empty'" },
  "'neither'",
]
user_id = "who"
"#;
    let body = concat!(
        r#"{"at":1764756672,"who":"u","parts":[{"kind":"a"},{"kind":"b1"}],"roles":["x","Agent"]}"#,
        "\n",
        r#"{"at":1764756672,"who":"00000000-0000-0000-0000-000000000000","roles":["x"],"list":[]}"#,
        "\n",
        r#"{"at":1764756672,"roles":["x","agent"],"list":{}}"#,
        "\n",
        r#"{"at":1764756672,"list":{}}"#,
        "\n",
        r#"{"at":1764756672,"list":[1]}"#,
        "\n",
        r#"{"at":1764756672}"#,
    );
    let found = events(mapping, body);
    let actions: Vec<&str> = found.iter().filter_map(|e| e["action"].as_str()).collect();
    assert_eq!(actions, ["both", "empty", "neither", "empty", "neither", "neither"]);
    assert_eq!((&found[0]["user_id"], found[1].get("user_id")), (&json!("u"), None));
    let long = format!("absent = [\"{}\"]\n[columns]\ntime = \"t\"\naction = \"a\"", "x".repeat(41));
    assert!(Mapping::parse("x", "x.toml", &long).is_err());
}

#[test]
fn what_stands_beside_is_read_where_nothing_is_exploded() {
    let mapping = "explode = \"out\"\nbeside = \"in\"\n[columns]\ntime = \"at\"\naction = [\"out[].name\", \"what\"]\nuser_id = \"in[].who\"";
    let body = concat!(
        r#"{"at":1764756672,"what":"plan","in":[{"who":"u"}]}"#,
        "\n",
        r#"{"at":1764756672,"what":"plan","in":[{"who":"v"}],"out":[]}"#,
        "\n",
        r#"{"at":1764756672,"in":[{"who":"u"},{"who":"w"}],"out":[{"name":"a"},{"name":"b"},{"name":"c"}]}"#,
    );
    let found = rows(&events(mapping, body), ["action", "user_id", "outcome"]);
    assert_eq!(
        found,
        [["plan", "u"], ["plan", "v"], ["a", "u"], ["b", "w"]]
            .map(|[action, user]| json!([action, user, "unknown"]))
            .into_iter()
            .chain([json!(["c", null, "unknown"])])
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_mapping_says_what_is_no_secret() {
    let mapping = "not_secret = [\"authorization\"]\n[columns]\ntime = \"at\"\naction = \"Authorization.action\"";
    let body = r#"{"at":1764756672,"Authorization":{"action":"x/write","scope":"/a"},"password":{"a":["b"]}}"#;
    let found = events(mapping, body);
    let raw = r#"{"at":1764756672,"Authorization":{"action":"x/write","scope":"/a"},"password":{"a":["***"]}}"#;
    assert_eq!((&found[0]["raw"], &found[0]["action"]), (&json!(raw), &json!("x/write")));
}

/// A folder with one mapping and its fixtures.
fn folder(mapping: &str, fixtures: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("x.toml"), mapping).expect("a file");
    std::fs::write(folder.path().join("x.fixtures.toml"), fixtures).expect("a file");
    folder
}

#[test]
fn a_fixture_may_name_the_ids_of_a_chain() {
    let mapping = "[columns]\ntime = \"at\"\naction = \"what\"\n[delegation]\nlist = \"chain\"";
    let fixture = |ids: &str| {
        format!(
            "[[fixture]]\ntitle = \"t\"\nrecord = '''{{\"at\":1764756672,\"what\":\"x\",\"chain\":[{{\"kind\":\"user\",\"id\":\"a\"}},{{\"kind\":\"agent\",\"id\":\"b\"}}]}}'''\nevent = {{ delegation = {ids} }}\n"
        )
    };
    let found = |ids: &str| {
        let folder = folder(mapping, &fixture(ids));
        ingest::fixtures::run(&Mapping::parse("x", "x.toml", mapping).expect("right"), folder.path())
    };
    assert_eq!(found("[\"a\", \"b\"]").passed, 1);
    assert_eq!(found("[\"b\", \"a\"]").failures.len(), 1);
    assert_eq!(found("[\"a\"]").failures.len(), 1);
}

#[test]
fn a_source_may_be_recognised_by_the_form_and_the_fields_of_a_line() {
    let mapping = r#"
recognise = [{ "$format" = "line", app = "mine" }, { "$format" = "json", app = "mine", at = true }]
[framing]
lines = ["log"]
text = [
  { name = "line", regex = '^(?P<at>\S+) app=(?P<app>\S+) did (?P<what>\S+)$' },
  { name = "plain", regex = '^mine alone: (?P<what>\S+)$' },
]
[columns]
time = "at"
action = "what"
"#;
    let folder = folder(mapping, "");
    let sources = ingest::Sources::load(Some(folder.path())).expect("the mappings are right");
    let name = |record: &str| sources.detect(record.as_bytes()).one().map(|m| m.name().to_owned());
    let line = "2025-12-03T10:11:12Z app=mine did x";
    let inside = json!({"log": line}).to_string();
    let inside_json = json!({"log": "{\"app\":\"mine\",\"at\":1}"}).to_string();
    for record in [line, &inside, "{\"app\":\"mine\",\"at\":1}", &inside_json, "mine alone: x"] {
        assert_eq!(name(record).as_deref(), Some("x"), "{record}");
    }
    for record in [&line.replace("mine", "other"), "{\"app\":\"other\",\"at\":1}"] {
        assert_eq!(name(record), None, "{record}");
    }
    let wrong = Mapping::parse("x", "x.toml", "recognise = [{ \"$format\" = true }]").expect_err("it is always there");
    assert!(wrong[0].to_string().contains("`$format` is always there"), "{}", wrong[0]);
}

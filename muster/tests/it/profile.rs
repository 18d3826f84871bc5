//! `muster agents show`: one agent in plain words, and the same as JSON.

use serde_json::{Value, json};

use crate::verdicts::{call, history, ingest, muster};

#[test]
fn a_profile_tells_what_is_usual() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let mut records = history("one");
    records.extend(history("two"));
    records.push(call("one", 30, 63, "DELETE", "/v1/customers/7"));
    ingest(&folder, "month.jsonl", &records);

    let (fine, text) = muster(&folder, &["agents", "show", "one", "--format", "json"]);
    assert!(fine, "{text}");
    let profile: Value = serde_json::from_str(&text).expect("is JSON");
    assert_eq!(profile["roster"]["agent_id"], "one");
    let known = &profile["history"];
    // The first day's calls came more than 30 days before the last call.
    assert_eq!((&known["events"], &known["sessions"], &known["actions"]), (&json!(88), &json!(30), &json!(4)));
    assert_eq!((&known["known_days"], &known["may_be_judged"]), (&json!(30), &json!(true)));
    let first = &profile["actions"][0];
    assert_eq!((&first["calls"], &first["sessions"]), (&json!(29), &json!(29)), "{first}");
    let follow = &profile["follows"][0];
    assert_eq!((&follow["previous"], &follow["action"]), (&json!("GET /v1/invoices"), &json!("GET /v1/invoices/{id}")));
    assert_eq!((&follow["calls"], &follow["share"]), (&json!(29), &json!(1.0)));
    assert_eq!(profile["resources"].as_array().map(Vec::len), Some(4), "{}", profile["resources"]);
    assert_eq!((&profile["hours"][1], &profile["hours"][2]), (&json!(88), &json!(0)));
    let days = profile["days"].as_array().expect("a list");
    assert_eq!((days.len(), &days[0]), (14, &json!({"day": "2026-05-21", "events": 3})));
    assert_eq!(days[13], json!({"day": "2026-06-03", "events": 1}));
    let cohort = json!({"label": "source envoy", "agents": 1, "only_here": ["DELETE /v1/customers/{id}"]});
    assert_eq!(profile["cohort"], cohort);
    assert_eq!(profile["verdicts"], json!({"open": 1, "confirmed": 0, "dismissed": 0}));
    assert_eq!(profile["alerts"].as_array().map(Vec::len), Some(1));

    let (_, text) = muster(&folder, &["agents", "show", "one"]);
    for told in [
        "it made 88 calls of 4 actions in 30 sessions",
        "  97 %  GET /v1/invoices (read), 29 calls",
        " 100 %  GET /v1/invoices → GET /v1/invoices/{id} (29 times)",
        "2026-05-21       3 ████████████████████████████████████████",
        "  0 ·█······················ 23",
        "Compared with 1 other agent of source envoy; none of them did DELETE /v1/customers/{id}.",
        "It may be judged by its own habits: 30 sessions (needs 8), known for 30 days (needs 3).",
        "Alerts: 1 open, 0 confirmed, 0 dismissed",
        "  acts for     ada@example.com",
    ] {
        assert!(text.contains(told), "`{told}` is not in\n{text}");
    }
    let (fine, text) = muster(&folder, &["agents", "show", "three"]);
    assert!(!fine && text.contains("no agent with the id or name `three`"), "{text}");
}

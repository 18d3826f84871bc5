//! `muster learn`: the detectors' memory built anew from the lake, with the data folder for itself.

use serde_json::{Value, json};

use crate::server::Server;
use crate::verdicts::{call, history, ingest, muster, rows};

#[test]
fn what_is_learned_from_the_lake_judges_what_comes_next() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let mut records = history("one");
    records.extend(history("two"));
    ingest(&folder, "month.jsonl", &records);
    let learn = |arguments: &[&str]| {
        let (fine, text) = muster(&folder, &[&["learn", "--format", "json"], arguments].concat());
        assert!(fine, "{text}");
        serde_json::from_str::<Value>(&text).expect("is JSON")
    };
    let odd = |agent: &str| call(agent, 30, 63, "DELETE", "/v1/customers/7");
    let alerts = "SELECT agent_id FROM alerts";

    assert_eq!(learn(&["--to", "2026-05-05"]), json!({"agents": 2, "events": 12, "controls": 0, "alerts": 0}));
    ingest(&folder, "odd.jsonl", &[odd("one")]);
    assert_eq!(rows(&folder, alerts), [] as [Value; 0], "after two days nobody can say");
    assert_eq!(learn(&[])["events"], 181);
    ingest(&folder, "odd.jsonl", &[odd("two")]);
    assert_eq!(rows(&folder, alerts), [json!({"agent_id": "two"})], "after a month one can");
    assert!(!folder.join("detect/spill").exists());

    let (fine, text) = muster(&folder, &["learn", "--from", "yesterday"]);
    assert!(!fine && text.contains("expected a day"), "{text}");
    let (fine, text) = muster(&folder, &["learn", "--from", "2026-05-05", "--to", "2026-05-04"]);
    assert!(!fine && text.contains("after --to"), "{text}");
    let _server = Server::start(&folder);
    let (fine, text) = muster(&folder, &["learn"]);
    assert!(!fine && text.contains("another muster process holds"), "{text}");
}

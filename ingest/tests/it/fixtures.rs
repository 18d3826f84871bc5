//! Every built-in mapping's fixtures hold, and mistakes in a mapping are named with file, line and key.

use ingest::{Mapping, Sources};

#[test]
fn every_fixture_holds_and_is_recognised() {
    let sources = Sources::load(None).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let mut failures = Vec::new();
    for mapping in sources.iter() {
        let report = ingest::fixtures::run_built_in(mapping, &sources);
        assert!(report.passed + report.failures.len() > 0);
        failures.extend(report.failures.iter().map(ToString::to_string));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn mistakes_are_named() {
    let text = "title = \"x\"\n[columns]\ntime = \"t | epock s\"\nuser_idd = \"u\"\noutcome = \"'won'\"\naction = \"a[\"\nsession_id = { when = { a = { matches = \"(\" } }, take = \"b\" }\npurpose = \"p | before ''\"\n";
    let errors = Mapping::parse("x", "x.toml", text).expect_err("the mapping is wrong");
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        "x.toml:3: columns.time: unknown function `epock`; did you mean `epoch`?",
        "x.toml:4: columns.user_idd: unknown column; did you mean `user_id`?",
        "x.toml:5: columns.outcome: `won` is not one of: success, failure, denied, challenged, unknown",
        "x.toml:6: columns.action: `a[`: a `[` is not closed",
        "x.toml:8: columns.purpose: `before`: the separator is empty",
    ];
    for line in expected {
        assert!(errors.iter().any(|e| e == line), "{line}\nis not in\n{}", errors.join("\n"));
    }
    let regex = "x.toml:7: columns.session_id: regex parse error";
    assert!(errors.iter().any(|e| e.starts_with(regex)), "{}", errors.join("\n"));
}

#[test]
fn a_mapping_may_make_several_events_of_one_record() {
    let text = "explode = \"events\"\n[columns]\ntime = \"at\"\naction = \"events[].name\"\nuser_id = \"who\"\n";
    let mapping = Mapping::parse("x", "x.toml", text).expect("the mapping is right");
    let carrier = crate::support::file();
    let body = br#"{"at":1764756672,"who":"u","events":[{"name":"a"},{"name":"b"}]}"#;
    let found = ingest::normalize(&mapping, body, &crate::support::context(&carrier), &ingest::Limits::default());
    let events = ingest::event_objects(&found.events.expect("there are events"));
    let names: Vec<&str> = events.iter().filter_map(|e| e["action"].as_str()).collect();
    assert_eq!(
        (names, found.event_record, found.ledger.mapped, found.ledger.events),
        (vec!["a", "b"], vec![0, 0], 1, 2)
    );
    assert_ne!(events[0]["event_id"], events[1]["event_id"]);
}

//! The worked example in each detector's header holds.

use detect::Engine;
use detect::detectors::{About, DETECTORS};
use schemas::{EventRow, table::Hop};

use crate::support::*;

/// Agents that do the same as the example's, so that there is something to compare with.
const PEERS: usize = 5;

/// One call, the hours that pass before it, and the columns that it sets.
struct Made<'a> {
    pause: i64,
    call: Call<'a>,
    columns: Vec<(&'a str, &'a str)>,
}

/// `[+HOURSh] action effect [resource] [{column=value ...}]`, separated by `, `.
fn calls(text: &str) -> Vec<Made<'_>> {
    text.split(", ").map(made).collect()
}

fn made(text: &str) -> Made<'_> {
    let (pause, text) = match text.strip_prefix('+') {
        Some(rest) => rest.split_once("h ").expect("`+HOURSh call`"),
        None => ("0", text),
    };
    let (text, columns) =
        text.split_once(" {").map_or((text, ""), |(text, columns)| (text, columns.trim_end_matches('}')));
    let (action, rest) = text.split_once(' ').expect("`action effect [resource]`");
    let (effect, resource) = rest.split_once(' ').map_or((rest, None), |(effect, on)| (effect, Some(on)));
    let columns = columns.split_whitespace().map(|column| column.split_once('=').expect("`column=value`")).collect();
    Made { pause: pause.parse().expect("hours"), call: (action, effect, resource), columns }
}

/// Times are hours from the call's own.
fn set(row: &mut EventRow, column: &str, value: &str) {
    let hours = || Some(row.time + value.parse::<i64>().expect("hours") * HOUR);
    let texts = || value.split(',').map(str::to_owned).collect();
    let hop = |hop: &str| {
        let (kind, id) = hop.split_once(':').expect("`kind:id`");
        Hop { kind: kind.into(), id: id.into(), issuer: None }
    };
    match column {
        "scopes" => row.scopes = texts(),
        "scopes_used" => row.scopes_used = texts(),
        "delegation" => row.delegation = value.split('>').map(hop).collect(),
        "outcome" => row.outcome = value.into(),
        "org_id" => row.org_id = Some(value.into()),
        "resource_tenant" => row.resource_tenant = Some(value.into()),
        "grant_id" => row.grant_id = Some(value.into()),
        "approval_id" => row.approval_id = Some(value.into()),
        "credential_id" => row.credential_id = Some(value.into()),
        "user_id" => row.user_id = Some(value.into()),
        "records" => row.records = Some(value.parse().expect("a number")),
        "token_id" => row.token_id = Some(value.into()),
        "token_issued_at" => row.token_issued_at = hours(),
        "token_expires_at" => row.token_expires_at = hours(),
        "user_agent" => row.user_agent = Some(value.into()),
        "src_country" => row.src_country = Some(value.into()),
        "src_ip" => row.src_ip = Some(value.into()),
        other => panic!("examples cannot set the column {other}"),
    }
}

fn line<'a>(source: &'a str, word: &str) -> Option<&'a str> {
    let wanted = format!("//! {word}");
    source.lines().find_map(|line| line.strip_prefix(&wanted))
}

/// `$agent` in a value is the agent's own name, `$hour` the hour of the call.
fn session(rows: &mut Vec<EventRow>, agent: &str, start: i64, calls: &[Made]) {
    let mut time = start;
    for Made { pause, call, columns } in calls {
        time += SECOND + pause * HOUR;
        let mut row = row(agent, time, *call);
        let hour = (time / HOUR).to_string();
        for (column, value) in columns {
            set(&mut row, column, &value.replace("$agent", agent).replace("$hour", &hour));
        }
        rows.push(row);
    }
}

#[test]
fn the_worked_example_of_every_detector_holds() {
    DETECTORS.iter().for_each(holds);
}

fn holds(detector: &About) {
    let (name, source) = (detector.name, detector.source);
    let line = |word| line(source, word).unwrap_or_else(|| panic!("{name}: the header has no line `{word}`"));
    let (times, usual) = line("usual ").split_once(": ").expect("`usual N: calls`");
    let times: i64 = times.parse().expect("a number of sessions");
    let mut rows = Vec::new();
    for at in 0..times {
        for peer in 0..=PEERS {
            let start = START + at * 6 * HOUR + peer as i64 * MINUTE;
            session(&mut rows, &format!("agent-{peer}"), start, &calls(usual));
        }
    }
    let now = START + times * 6 * HOUR;
    let mut engine = engine();
    assert_eq!(feed(&mut engine, &steps(rows, HOUR), 100), [], "{name}: habits raise nothing");

    let mut quiet = Vec::new();
    session(&mut quiet, "agent-0", now, &calls(line("quiet: ")));
    assert_eq!(feed(&mut engine, &steps(quiet, HOUR), 100), [], "{name}: the quiet session");

    before(&mut engine, source, now + HOUR);
    let mut then = Vec::new();
    let then_calls = calls(line("then: "));
    session(&mut then, "agent-0", now + 2 * HOUR, &then_calls);
    let last = then.last().expect("calls").event_id.clone();
    let mut alerts = feed(&mut engine, &steps(then, HOUR), 100);
    alerts.retain(|alert| alert.detector == name);
    assert_eq!(alerts.len(), 1, "{name}: one alert");
    assert_eq!(alerts[0].event_ids.last(), Some(&last), "{name}: by the last call");
    assert_eq!(alerts[0].event_ids.len(), then_calls.len());
    let terms: Vec<serde_json::Value> = serde_json::from_str(&alerts[0].terms).expect("terms are JSON");
    let sum: f64 = terms.iter().filter_map(|term| term["bits"].as_f64()).sum();
    assert!((sum - alerts[0].score).abs() < 0.1, "{name}: the terms sum to the score");
}

/// What the others do, and what somebody orders, at `time`.
fn before(engine: &mut Engine, source: &str, time: i64) {
    let mut others = Vec::new();
    for peer in 1..=PEERS {
        let calls = line(source, "others: ").map(calls).unwrap_or_default();
        session(&mut others, &format!("agent-{peer}"), time + peer as i64 * SECOND, &calls);
    }
    feed(engine, &steps(others, HOUR), 100);
    if let Some(control) = line(source, "control: ") {
        let mut control: serde_json::Value = serde_json::from_str(control).expect("a control frame is JSON");
        (control["tenant"], control["time"]) = ("acme".into(), time.into());
        assert!(engine.control(&control));
    }
    engine.tick(time + HOUR, &mut Vec::new());
}

#[test]
fn names_are_unique_and_documented() {
    let mut names: Vec<&str> = DETECTORS.iter().map(|detector| detector.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), DETECTORS.len());
    assert!(DETECTORS.iter().all(|detector| !detector.doc.is_empty() && detector.version > 0));
}

//! The worked example in each detector's header holds.

use detect::detectors::DETECTORS;
use schemas::EventRow;

use crate::support::*;

/// Agents that do the same as the example's, so that there is something to compare with.
const PEERS: usize = 5;

/// A call, the further columns that it sets, and the hours that pass before it.
type Told<'a> = (Call<'a>, &'a str, i64);

fn calls(text: &str) -> Vec<Told<'_>> {
    let call = |text| {
        let (pause, text) = match str::strip_prefix(text, "+") {
            Some(rest) => rest.split_once("h ").expect("`+HOURSh call`"),
            None => ("0", text),
        };
        let (call, columns) = text.split_once(" {").unwrap_or((text, ""));
        let (action, rest) = call.split_once(' ').expect("`action effect [resource]`");
        let (effect, resource) = rest.split_once(' ').map_or((rest, None), |(effect, on)| (effect, Some(on)));
        ((action, effect, resource), columns.trim_end_matches('}'), pause.parse().expect("hours"))
    };
    text.split(", ").map(call).collect()
}

/// Sets `column=value`; times are hours from the call's own.
fn set(row: &mut EventRow, assignment: &str) {
    let (column, value) = assignment.split_once('=').expect("`column=value`");
    let number = || value.parse::<i64>().expect("a number");
    let owned = || Some(value.to_owned());
    match column {
        "outcome" => row.outcome = value.to_owned(),
        "records" => row.records = Some(number()),
        "token_id" => row.token_id = owned(),
        "credential_id" => row.credential_id = owned(),
        "token_issued_at" => row.token_issued_at = Some(row.time + number() * HOUR),
        "token_expires_at" => row.token_expires_at = Some(row.time + number() * HOUR),
        "user_agent" => row.user_agent = owned(),
        "src_ip" => row.src_ip = owned(),
        "src_country" => row.src_country = owned(),
        other => panic!("no example may set `{other}` yet"),
    }
}

fn line<'a>(source: &'a str, word: &str) -> &'a str {
    let wanted = format!("//! {word}");
    let line = source.lines().find_map(|line| line.strip_prefix(&wanted));
    line.unwrap_or_else(|| panic!("the header has no line `{word}`"))
}

/// `$agent` in a value is the agent's own name, `$hour` the hour of the call; `+48h` before a call lets time pass.
fn session(rows: &mut Vec<EventRow>, agent: &str, start: i64, calls: &[Told]) {
    let mut time = start;
    for (call, columns, pause) in calls {
        time += SECOND + pause * HOUR;
        let mut row = row(agent, time, *call);
        let hour = (time / HOUR).to_string();
        for column in columns.split_whitespace() {
            set(&mut row, &column.replace("$agent", agent).replace("$hour", &hour));
        }
        rows.push(row);
    }
}

#[test]
fn the_worked_example_of_every_detector_holds() {
    for detector in DETECTORS {
        let source = detector.source;
        let (times, usual) = line(source, "usual ").split_once(": ").expect("`usual N: calls`");
        let times: i64 = times.parse().expect("a number of sessions");
        let mut rows = Vec::new();
        for at in 0..times {
            for peer in 0..=PEERS {
                session(
                    &mut rows,
                    &format!("agent-{peer}"),
                    START + at * 6 * HOUR + peer as i64 * MINUTE,
                    &calls(usual),
                );
            }
        }
        let now = START + times * 6 * HOUR;
        let mut engine = engine();
        assert_eq!(feed(&mut engine, &steps(rows, HOUR), 100), [], "{}: habits raise nothing", detector.name);

        let mut quiet = Vec::new();
        session(&mut quiet, "agent-0", now, &calls(line(source, "quiet: ")));
        assert_eq!(feed(&mut engine, &steps(quiet, HOUR), 100), [], "{}: the quiet session", detector.name);

        let mut then = Vec::new();
        let then_calls = calls(line(source, "then: "));
        session(&mut then, "agent-0", now + HOUR, &then_calls);
        let last = then.last().expect("calls").event_id.clone();
        let mut alerts = feed(&mut engine, &steps(then, HOUR), 100);
        alerts.retain(|alert| alert.detector == detector.name);
        assert_eq!(alerts.len(), 1, "{}: one alert", detector.name);
        assert_eq!(alerts[0].event_ids.last(), Some(&last), "{}: by the last call", detector.name);
        assert_eq!(alerts[0].event_ids.len(), then_calls.len());
    }
}

#[test]
fn names_are_unique_and_documented() {
    let mut names: Vec<&str> = DETECTORS.iter().map(|detector| detector.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), DETECTORS.len());
    assert!(DETECTORS.iter().all(|detector| !detector.doc.is_empty() && detector.version > 0));
}

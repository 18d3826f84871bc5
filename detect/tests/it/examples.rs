//! The worked example in each detector's header holds.

use detect::detectors::DETECTORS;
use schemas::EventRow;

use crate::support::*;

/// Agents that do the same as the example's, so that there is something to compare with.
const PEERS: usize = 5;

fn calls(text: &str) -> Vec<Call<'_>> {
    let call = |text| {
        let (action, rest) = str::split_once(text, ' ').expect("`action effect [resource]`");
        let (effect, resource) = rest.split_once(' ').map_or((rest, None), |(effect, on)| (effect, Some(on)));
        (action, effect, resource)
    };
    text.split(", ").map(call).collect()
}

fn line<'a>(source: &'a str, word: &str) -> &'a str {
    let wanted = format!("//! {word}");
    let line = source.lines().find_map(|line| line.strip_prefix(&wanted));
    line.unwrap_or_else(|| panic!("the header has no line `{word}`"))
}

fn session(rows: &mut Vec<EventRow>, agent: &str, start: i64, calls: &[Call]) {
    for (i, call) in calls.iter().enumerate() {
        rows.push(row(agent, start + i as i64 * SECOND, *call));
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

//! Detectors that watch how much an agent does, how long it was silent, and in whose hands its credentials are.

use detect::Config;
use schemas::{AlertRow, EventRow};

use crate::support::*;

fn by<'a>(detector: &str, alerts: &'a [AlertRow]) -> Vec<&'a AlertRow> {
    alerts.iter().filter(|alert| alert.detector == detector).collect()
}

/// `agent` lists invoices every ten minutes for five days.
fn steady(agent: &str) -> Vec<EventRow> {
    (0..5 * 144).map(|i| row(agent, START + i * 10 * MINUTE, ("invoices.list", "read", None))).collect()
}

fn run(rows: Vec<EventRow>) -> Vec<AlertRow> {
    feed(&mut engine(), &steps(rows, MINUTE), 1_000)
}

#[test]
fn a_burst_is_one_alert_whatever_it_is_made_of() {
    let burst = |rows: &mut Vec<EventRow>, start: i64| {
        for i in 0..600 {
            rows.push(row(
                "agent-0",
                start + i * SECOND,
                (["a.read", "b.read", "c.read"][i as usize % 3], "read", None),
            ));
        }
    };
    let mut rows = steady("agent-0");
    burst(&mut rows, START + 5 * DAY);
    let alerts = run(rows.clone());
    let found = by("rate", &alerts);
    assert_eq!(found.len(), 1);
    assert!(found[0].title.contains("calls in 5 minutes"), "{}", found[0].title);
    assert!(found[0].time < START + 5 * DAY + MINUTE, "while it lasts");
    burst(&mut rows, START + 8 * DAY);
    assert_eq!(by("rate", &run(rows)).len(), 2, "another burst is another alert");
}

#[test]
fn limits_hold_without_history_and_are_apart_for_people() {
    let calls = |kind: &str, count: i64| {
        let mut rows: Vec<EventRow> =
            (0..count).map(|i| row("new", START + i * MINUTE / count, ("invoices.list", "read", None))).collect();
        rows.iter_mut().for_each(|row| row.actor_kind = kind.into());
        by("rate", &run(rows)).len()
    };
    let Config { agent_calls_min_max, user_calls_min_max, .. } = Config::default();
    let (agents, users) = (i64::from(agent_calls_min_max), i64::from(user_calls_min_max));
    assert_eq!([calls("agent", agents), calls("agent", agents + 1)], [0, 1]);
    assert_eq!([calls("user", users), calls("user", users + 1)], [0, 1]);
}

#[test]
fn much_data_in_few_calls_is_a_burst() {
    let mut rows = steady("agent-0");
    rows.iter_mut().for_each(|row| row.bytes_out = Some(20_000));
    let mut large = row("agent-0", START + 5 * DAY + MINUTE, ("invoices.list", "read", None));
    large.bytes_out = Some(3_000_000);
    rows.push(large);
    let alerts = run(rows);
    assert!(by("rate", &alerts)[0].title.contains("kB"), "{alerts:?}");
}

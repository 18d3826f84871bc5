//! A fleet that goes about its work, and one agent in it that is hijacked.

use schemas::{AlertRow, EventRow};
use serde_json::{Value, json};

use crate::support::*;

const WEEK: i64 = 7;

/// Agent 0 reads invoices; now it reads a secret and exports customers.
fn hijack(day: i64) -> Vec<EventRow> {
    let calls = [
        ("GET /invoices", "read", None),
        ("secrets.read", "read", Some("vault/prod")),
        ("GET /customers/export", "export", Some("s3/elsewhere")),
    ];
    let time = |i: usize| START + day * DAY + 13 * HOUR + i as i64 * 5 * SECOND;
    calls.iter().enumerate().map(|(i, call)| row("agent-0", time(i), *call)).collect()
}

fn print(alerts: &[AlertRow]) {
    for alert in alerts {
        println!(
            "[{} sev {} p {:.5}] {}\n  {}\n  {}",
            alert.detector, alert.severity_id, alert.p_value, alert.title, alert.explanation, alert.terms
        );
    }
}

fn bits_of(alert: &AlertRow) -> f64 {
    let terms: Vec<Value> = serde_json::from_str(&alert.terms).expect("terms are JSON");
    terms.iter().map(|term| term["bits"].as_f64().expect("bits")).sum()
}

#[test]
fn a_regular_fleet_is_left_alone() {
    // Ticks a minute apart; two days apart, as when a week is loaded in seconds.
    for (seed, tick) in [(1, MINUTE), (2, MINUTE), (3, 2 * DAY)] {
        let rows = fleet(200, WEEK, seed);
        let events = rows.len();
        let alerts = feed(&mut engine(), &steps(rows, tick), 1000);
        print(&alerts);
        println!("{} alerts in {events} events", alerts.len());
        assert!(alerts.len() <= 2, "{} alerts", alerts.len());
    }
}

#[test]
fn a_hijacked_agent_is_noticed_and_explained() {
    let mut rows = fleet(200, WEEK, 2);
    rows.extend(hijack(WEEK - 1));
    let alerts = feed(&mut engine(), &steps(rows, MINUTE), 1000);
    let about: Vec<AlertRow> =
        alerts.into_iter().filter(|alert| alert.agent_id.as_deref() == Some("agent-0")).collect();
    print(&about);
    let raised: Vec<(&str, Option<&str>)> = about.iter().map(|a| (a.detector.as_str(), a.action.as_deref())).collect();
    for expected in ["secrets.read", "GET /customers/export"] {
        assert!(
            raised.contains(&("first_action", Some(expected))) && raised.contains(&("combination", Some(expected))),
            "{raised:?}"
        );
    }
    for alert in &about {
        assert!((bits_of(alert) - alert.score).abs() < 0.1 && alert.score >= alert.threshold && alert.live);
        assert!(alert.p_value < 0.01 && alert.severity_id >= 3);
        assert!(alert.explanation.contains("never") && alert.explanation.contains("sessions"), "{}", alert.explanation);
    }
    let export = about.last().expect("alerts");
    assert!(export.explanation.contains("right after GET /invoices → secrets.read"), "{}", export.explanation);
    assert_eq!(export.event_ids.len(), 3);
}

#[test]
fn a_repeated_hijack_stays_strange_and_a_dismissal_makes_it_usual() {
    let mut rows = fleet(200, WEEK, 2);
    rows.extend((3..WEEK).flat_map(hijack));
    let mut engine = engine();
    let alerts = feed(&mut engine, &steps(rows, MINUTE), 1000);
    let exports: Vec<&AlertRow> = alerts
        .iter()
        .filter(|a| {
            a.agent_id.as_deref() == Some("agent-0")
                && a.detector == "first_action"
                && a.action.as_deref() == Some("GET /customers/export")
        })
        .collect();
    assert!(exports.len() >= 3, "one a day: {}", exports.len());

    let alert = exports[exports.len() - 1];
    assert!(
        !engine.control(&json!({"tenant": "other", "dismiss": alert.alert_id})),
        "another tenant's word does not count"
    );
    assert!(engine.control(&json!({"tenant": "acme", "dismiss": alert.alert_id})));
    assert!(!engine.control(&json!({"tenant": "acme", "dismiss": alert.alert_id})), "once");
    let again = feed(&mut engine, &steps(hijack(WEEK + 2), MINUTE), 1000);
    let raised: Vec<_> = again.iter().filter(|a| a.detector == "first_action").map(|a| a.action.as_deref()).collect();
    assert_eq!(raised, [Some("secrets.read")], "the export is known now");
}

#[test]
fn a_new_agent_is_not_judged_and_a_reset_one_is_new() {
    let mut rows = fleet(200, WEEK, 2);
    rows.extend(hijack(WEEK - 1));
    let newcomer = |time| row("newcomer", time, ("jobs.purge", "write", Some("db")));
    rows.push(newcomer(START + 6 * DAY));
    let mut engine = engine();
    let alerts = feed(&mut engine, &steps(rows, MINUTE), 1000);
    assert!(alerts.iter().all(|alert| alert.agent_id.as_deref() != Some("newcomer")));
    assert!(!alerts.is_empty());
    assert!(engine.control(&json!({"tenant": "acme", "reset_agent": "agent-0"})));
    let again = feed(&mut engine, &steps(hijack(WEEK + 2), MINUTE), 1000);
    assert!(again.iter().all(|alert| alert.severity_id == 2), "only its cohort may speak");
    assert!(!engine.control(&json!({"something": "else"})) && !engine.control(&json!([1])));
}

#[test]
fn a_backfilled_week_counts_as_a_week_but_its_alerts_are_not_live() {
    let mut rows = fleet(200, WEEK, 2);
    rows.extend(hijack(WEEK - 1));
    let mut steps = steps(rows, HOUR);
    for step in &mut steps {
        if let Step::Row(row) = step {
            row.received_at = START + 30 * DAY;
            row.flags = vec!["backfill".into()];
        }
    }
    let alerts = feed(&mut engine(), &steps, 1000);
    let about: Vec<_> = alerts.iter().filter(|alert| alert.agent_id.as_deref() == Some("agent-0")).collect();
    assert!(about.len() >= 2 && about.iter().all(|alert| !alert.live));
}

#[test]
fn a_clock_that_runs_ahead_does_not_age_an_agent() {
    let mut rows = fleet(200, 1, 2);
    for row in &mut rows {
        let ahead = row.time - START;
        (row.time, row.received_at) = (START + ahead * 10, START + ahead);
    }
    rows.extend(hijack(0));
    let alerts = feed(&mut engine(), &steps(rows, HOUR), 1000);
    assert!(alerts.iter().all(|alert| alert.severity_id == 2), "a day is not the history that an alert needs");
}

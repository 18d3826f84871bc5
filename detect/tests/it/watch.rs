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

/// Ten days of `agent`, four sessions a day, each row shown to `more` with its number.
fn usual(agent: &str, more: impl Fn(&mut EventRow, i64)) -> Vec<EventRow> {
    let rows = (0..40).map(|i| {
        let mut row = row(agent, START + i * 6 * HOUR, ("invoices.list", "read", None));
        more(&mut row, i);
        row
    });
    rows.collect()
}

#[test]
fn an_old_credential_that_turns_up_again_is_dormant_too() {
    let key = |row: &mut EventRow, i: i64| row.credential_id = Some(if i < 20 { "old" } else { "new" }.into());
    let used_after = |days: i64| {
        let mut rows = usual("agent-0", key);
        rows.extend((10..days).map(|day| {
            let mut row = row("agent-0", START + day * DAY, ("invoices.list", "read", None));
            key(&mut row, 30);
            row
        }));
        let mut last = row("agent-0", START + days * DAY, ("export", "export", Some("customers")));
        last.credential_id = Some("old".into());
        rows.push(last);
        let alerts = run(rows);
        by("dormant", &alerts).iter().map(|alert| alert.title.clone()).collect::<Vec<_>>()
    };
    assert_eq!(used_after(12), Vec::<String>::new(), "a week is no silence");
    assert_eq!(used_after(40).len(), 1);
}

#[test]
fn who_is_awake_and_does_the_usual_is_left_alone() {
    let mut rows = usual("agent-0", |_, _| {});
    rows.push(row("agent-0", START + 60 * DAY, ("invoices.list", "read", None)));
    rows.push(row("agent-0", START + 62 * DAY, ("export", "export", Some("customers"))));
    assert!(by("dormant", &run(rows)).is_empty(), "the wake is over after a day");
}

#[test]
fn a_token_that_grows_old_with_its_agent_is_usual() {
    let rows = usual("agent-0", |row, _| row.token_issued_at = Some(START - HOUR));
    assert!(by("token_age", &run(rows)).is_empty());
    let renewed = |row: &mut EventRow, _| row.token_issued_at = Some(row.time - HOUR);
    let mut rows = usual("agent-0", renewed);
    for i in 0..3 {
        let mut row =
            row("agent-0", START + 10 * DAY + i * HOUR, (["a.get", "b.get", "c.get"][i as usize], "read", None));
        row.token_issued_at = Some(START);
        rows.push(row);
    }
    assert_eq!(by("token_age", &run(rows)).len(), 1, "once a token");
}

#[test]
fn a_revoked_token_that_goes_on_is_a_fact_and_its_refusal_is_none() {
    let used = |after: i64, outcome: &str, action: &str| {
        let mut revoked = row("admin", START, (action, "admin", Some("t-1")));
        revoked.token_id = Some("admins-own".into());
        let mut used = row("agent-0", START + after, ("invoices.list", "read", None));
        (used.token_id, used.outcome) = (Some("t-1".into()), outcome.into());
        let mut own = row("admin", START + after, ("invoices.list", "read", None));
        own.token_id = Some("admins-own".into());
        let alerts = run(vec![revoked, used, own]);
        by("token_dead", &alerts).iter().map(|alert| alert.agent_id.clone().expect("an agent")).collect::<Vec<_>>()
    };
    assert_eq!(used(HOUR, "success", "tokens.Revoke"), ["agent-0"]);
    assert_eq!(used(HOUR, "success", "DELETE /api-keys/{id}"), ["agent-0"]);
    assert!(used(HOUR, "denied", "tokens.Revoke").is_empty());
    assert!(used(2 * MINUTE, "success", "tokens.Revoke").is_empty(), "caches may take a while");
    assert!(used(HOUR, "success", "tokens.list").is_empty());
}

#[test]
fn a_token_in_two_hands_is_a_fact_within_a_day_and_a_source() {
    let shown = |after: i64, source: &str, flag: Option<&str>| {
        let mut rows =
            [row("agent-0", START, ("a.get", "read", None)), row("agent-1", START + after, ("a.get", "read", None))];
        rows.iter_mut().for_each(|row| row.token_id = Some("t-1".into()));
        rows[1].source = source.into();
        rows[1].flags = flag.into_iter().map(str::to_owned).collect();
        by("shared_credential", &run(rows.to_vec())).len()
    };
    assert_eq!(shown(HOUR, "envoy", None), 1);
    assert_eq!(shown(2 * DAY, "envoy", None), 0);
    assert_eq!(shown(HOUR, "okta", None), 0, "another source may name the agent otherwise");
    assert_eq!(shown(2 * DAY, "okta", Some("token_conflict")), 1, "ingest knows who it was issued to");
    assert_eq!(shown(2 * DAY, "okta", Some("no_owner")), 0);
}

#[test]
fn a_key_that_is_shared_from_the_start_is_a_decision() {
    let key = |row: &mut EventRow, _| row.credential_id = Some("team-key".into());
    let mut rows = usual("agent-0", key);
    rows.extend(usual("agent-1", key));
    assert!(by("shared_credential", &run(rows)).is_empty());
}

#[test]
fn who_moves_all_day_may_and_a_network_alone_is_no_other_place() {
    let from = |row: &mut EventRow, network: i64, client: &str| {
        row.src_ip = Some(format!("198.{network}.0.1"));
        row.user_agent = Some(client.into());
    };
    let runs = |other: &str, usually: i64| {
        let mut rows = Vec::new();
        for i in 0..120 {
            for call in 0..3 {
                let mut row = row("agent-0", START + i * 2 * HOUR + call * MINUTE, ("a.get", "read", None));
                row.token_id = Some(format!("t{i}"));
                let away = call == 1 && (i == 119 || usually == 1);
                from(&mut row, i64::from(away), if away { other } else { "bot/1" });
                rows.push(row);
            }
        }
        by("moved_token", &run(rows)).len()
    };
    assert_eq!(runs("curl/8", 0), 1);
    assert_eq!(runs("curl/8", 1), 0, "its tokens always do");
    assert_eq!(runs("bot/2", 0), 0, "a new version of the same client on another address");
}

//! What every detector gets for free: batch cuts and restarts change nothing, and every table has its limit.

use detect::detectors::DETECTORS;
use detect::{Config, Engine, RestoreError};
use proptest::prelude::*;
use schemas::table::Hop;
use schemas::{AlertRow, EventRow};
use serde_json::json;

use crate::support::*;

/// Ten days of a small fleet, with agents that start to do another role's work.
pub(crate) fn stream() -> Vec<Step> {
    let mut rows = fleet(24, 10, 3);
    for agent in [0, 5, 9] {
        let time = |i: i64| START + 6 * DAY + agent * HOUR + i * SECOND;
        let calls = [("secrets.read", "read", Some("vault/prod")), ("users.create", "admin", Some("directory"))];
        // Twice, so that the second time is a repeat.
        for later in [0, 5 * HOUR] {
            rows.extend((0..2).map(|i| row(&format!("agent-{agent}"), time(i as i64) + later, calls[i])));
        }
    }
    // The same odd thing, by many.
    let everybody = (0..8).map(|i| {
        let time = START + 7 * DAY + i * HOUR;
        row(&format!("agent-{i}"), time, ("mailbox.copy", "export", Some("drop@evil.example")))
    });
    rows.extend(everybody);
    let mut steps = steps(rows, HOUR);
    // Rows without an agent, of other tenants, late and early ones are part of every stream.
    for (i, step) in steps.iter_mut().enumerate() {
        let Step::Row(row) = step else { continue };
        match i % 101 {
            7 => row.agent_id = None,
            11 => row.tenant = "globex".into(),
            13 => row.time -= 3 * HOUR,
            17 => row.time += 3 * HOUR,
            19 => row.event_id = "not a digest".into(),
            23 => row.session_id = Some(format!("s{}", i % 3)),
            _ => {}
        }
        // Tokens: renewed and old, from here and there, now and then in other hands, revoked or expired.
        let agent = row.agent_id.clone().unwrap_or_default();
        row.token_id =
            Some(if i.is_multiple_of(97) { "t0".to_owned() } else { format!("{agent}-{}", row.time / HOUR) });
        row.credential_id = Some(if i.is_multiple_of(89) { "key-agent-1".to_owned() } else { format!("key-{agent}") });
        row.token_issued_at = Some(row.time - if i.is_multiple_of(83) { 40 * DAY } else { HOUR });
        row.token_expires_at = Some(row.time + if i.is_multiple_of(79) { -HOUR } else { HOUR });
        let (ip, client) = if i.is_multiple_of(19) { ("203.0.113.9", "curl/8") } else { ("192.0.2.7", "bot/1") };
        (row.src_ip, row.user_agent) = (Some(ip.to_owned()), Some(client.to_owned()));
        row.records = Some(if i.is_multiple_of(73) { 100_000 } else { 10 });
        if i.is_multiple_of(71) {
            row.action = "tokens.revoke".to_owned();
            row.resource_id = Some("t0".to_owned());
            row.effect = "admin".to_owned();
        }
        set_facts(row, i);
    }
    // Somebody is stopped, goes on all the same, and is let go.
    let at = |day: i64| steps.iter().position(|step| matches!(step, Step::Tick(time) if *time > START + day * DAY));
    let (killed, released) = (at(8).expect("a tick"), at(9).expect("a tick"));
    let kill = json!({"tenant": "acme", "killed": {"agent": "agent-3"}, "order": "o", "time": START + 8 * DAY});
    steps.insert(released, Step::Control(json!({"tenant": "acme", "released": "o"})));
    steps.insert(killed, Step::Control(kill));
    steps
}

/// Scopes, organizations, chains, grants and approvals: nearly always the same, now and then others.
fn set_facts(row: &mut EventRow, i: usize) {
    let agent = row.agent_id.clone().unwrap_or_default();
    let hop = |id: &str| Hop { kind: "agent".into(), id: id.into(), issuer: None };
    row.scopes = vec!["a.read".into(), "mail".into()];
    row.scopes_used = vec![if i.is_multiple_of(67) { "a.write" } else { "a.read" }.into()];
    row.resource_tenant = Some("north".into());
    row.delegation = vec![hop("planner"), hop(&agent)];
    row.grant_id = Some(if i.is_multiple_of(37) { "shared".to_owned() } else { format!("grant-{agent}") });
    row.approval_id = (!i.is_multiple_of(211)).then(|| format!("approval-{i}"));
    if i > 2_000 && i.is_multiple_of(401) {
        row.scopes.push(format!("scope-{i}"));
        row.resource_tenant = Some(format!("org-{i}"));
        row.delegation = vec![hop(&agent), hop("stranger"), hop(&agent)];
    }
}

pub(crate) fn config() -> Config {
    // Two or three agents a shard: some are forgotten.
    Config { agents_max: 130, moved_token_bits: 3.0, ..Config::default() }
}

fn expected() -> &'static (Vec<Step>, Vec<AlertRow>, Vec<u8>) {
    static EXPECTED: std::sync::OnceLock<(Vec<Step>, Vec<AlertRow>, Vec<u8>)> = std::sync::OnceLock::new();
    EXPECTED.get_or_init(|| {
        let (steps, mut engine) = (stream(), Engine::new(&config()));
        let alerts = feed(&mut engine, &steps, 1);
        for detector in DETECTORS {
            let found = alerts.iter().any(|alert| alert.detector == detector.name);
            assert!(found || detector.name == "dormant", "the stream has something to find for {}", detector.name);
        }
        for alert in &alerts {
            let terms: Vec<serde_json::Value> = serde_json::from_str(&alert.terms).expect("terms are JSON");
            let bits: f64 = terms.iter().map(|term| term["bits"].as_f64().expect("bits")).sum();
            assert!((bits - alert.score).abs() < 0.01, "the terms are the score: {alert:?}");
        }
        (steps, alerts, engine.snapshot())
    })
}

#[test]
fn any_number_of_threads_gives_the_same_alerts() {
    let (steps, alerts, snapshot) = expected();
    for threads in [2, 3, 64] {
        let mut engine = Engine::new(&config()).with_threads(threads);
        assert_eq!(&feed(&mut engine, steps, usize::MAX), alerts, "{threads} threads");
        assert_eq!(&engine.snapshot(), snapshot);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_into_batches_gives_the_same_alerts(rows_max in 2usize..400) {
        let (steps, alerts, snapshot) = expected();
        let mut engine = Engine::new(&config());
        prop_assert_eq!(&feed(&mut engine, steps, rows_max), alerts);
        prop_assert_eq!(&engine.snapshot(), snapshot);
    }

    #[test]
    fn restarts_anywhere_give_the_same_alerts(mut cuts in prop::collection::vec(0.0..1.0, 1..6)) {
        let (steps, alerts, snapshot) = expected();
        cuts.sort_by(f64::total_cmp);
        let (mut engine, mut found, mut from) = (Engine::new(&config()), Vec::new(), 0);
        for cut in cuts.into_iter().chain([1.0]) {
            let to = (cut * steps.len() as f64) as usize;
            found.extend(feed(&mut engine, &steps[from..to], 64));
            engine = Engine::restore(&config(), &engine.snapshot()).expect("its own snapshot");
            from = to;
        }
        prop_assert_eq!(&found, alerts);
        prop_assert_eq!(&engine.snapshot(), snapshot);
    }

    #[test]
    fn a_damaged_snapshot_is_refused(at in 0.0..1.0, bit in 0u8..8) {
        let mut bytes = expected().2.clone();
        let at = (at * bytes.len() as f64) as usize;
        prop_assert!(Engine::restore(&config(), &bytes[..at]).is_err());
        bytes[at] ^= 1 << bit;
        prop_assert!(Engine::restore(&config(), &bytes).is_err());
    }
}

/// A session that a late record began is left alone at the same tick whether or not there was a restart.
#[test]
fn restarts_at_many_places_change_nothing() {
    let (steps, alerts, snapshot) = expected();
    for to in (0..steps.len()).step_by(304) {
        let mut engine = Engine::new(&config());
        let mut found = feed(&mut engine, &steps[..to], 64);
        engine = Engine::restore(&config(), &engine.snapshot()).expect("its own snapshot");
        found.extend(feed(&mut engine, &steps[to..], 64));
        assert_eq!((&found, engine.snapshot() == *snapshot), (alerts, true), "{to}");
    }
}

/// Between ticks no partition sees another's rows: they could be read in any interleaving.
#[test]
fn partitions_do_not_see_each_other_between_ticks() {
    let (steps, engine) = (stream(), || Engine::new(&Config::default()));
    let mut apart = steps.clone();
    for between in apart.split_mut(|step| !matches!(step, Step::Row(_))) {
        between.sort_by_key(|step| match step {
            Step::Row(row) => row.log_partition,
            Step::Tick(_) | Step::Control(_) => 0,
        });
    }
    let sorted = |mut alerts: Vec<AlertRow>| {
        alerts.sort_by(|a, b| a.alert_id.cmp(&b.alert_id));
        alerts
    };
    let alerts = sorted(feed(&mut engine(), &steps, 100));
    assert!(!alerts.is_empty());
    assert_eq!(sorted(feed(&mut engine(), &apart, 100)), alerts);
}

#[test]
fn an_agent_stays_under_8_kb_and_a_usual_one_under_3() {
    let mut engine = engine();
    feed(&mut engine, &steps(fleet(100, 7, 1), HOUR), 1000);
    let (bytes, _) = engine.agent_bytes();
    assert!(bytes / engine.agents() <= 3 << 10, "{} bytes an agent", bytes / engine.agents());

    let mut dice = Dice(1);
    let greedy: Vec<EventRow> = (0..50_000)
        .map(|i| {
            let mut row = row(
                "greedy",
                START + i * 10 * SECOND,
                (&format!("do.{}", (b'a' + dice.roll(26) as u8) as char), "admin", Some("x")),
            );
            row.action.push((b'a' + dice.roll(26) as u8) as char);
            row.session_id = Some(format!("s{}", dice.roll(9)));
            row
        })
        .collect();
    feed(&mut engine, &steps(greedy, HOUR), 1000);
    assert!(engine.agent_bytes().1 <= 8 << 10, "{} bytes", engine.agent_bytes().1);
}

#[test]
fn a_flood_of_agents_does_not_push_out_the_known_ones() {
    let config = Config { agents_max: 64 * 8, ..Config::default() };
    let mut engine = Engine::new(&config);
    feed(&mut engine, &steps(fleet(24, 7, 3), HOUR), 1000);
    let flood = (0..5_000).map(|i| row(&format!("made-up-{i}"), START + 7 * DAY + i, ("x.y", "write", None))).collect();
    feed(&mut engine, &steps(flood, HOUR), 1000);
    assert!(engine.agents() <= 64 * 8);
    let hijack = row("agent-0", START + 8 * DAY, ("payroll.export", "export", Some("s3/elsewhere")));
    assert_eq!(feed(&mut engine, &steps(vec![hijack], HOUR), 1)[0].agent_id.as_deref(), Some("agent-0"));
}

#[test]
fn an_agent_that_had_to_make_room_comes_back_with_its_history() {
    let config = Config { agents_max: 64 * 2, ..Config::default() };
    let mut engine = Engine::new(&config);
    // One after the other works for five days.
    let sessions = (0..3_000).map(|i| {
        let time = START + i / 10 * 5 * DAY + i % 10 * 11 * HOUR;
        row(&format!("agent-{}", i / 10), time, ("invoices.list", "read", Some("invoices")))
    });
    feed(&mut engine, &steps(sessions.collect(), 5 * HOUR), 1000);
    assert!(engine.agents() <= 128 && engine.cold_agents().0 > 150, "{:?}", engine.cold_agents());
    let mut engine = Engine::restore(&config, &engine.snapshot()).expect("its own snapshot");
    for agent in [0, 150, 299].map(|number| format!("agent-{number}")) {
        let hijack = row(&agent, START + 1_600 * DAY, ("payroll.export", "export", Some("s3/elsewhere")));
        let alerts = feed(&mut engine, &steps(vec![hijack], HOUR), 1);
        let known = |alert: &&AlertRow| alert.explanation.contains(&format!("days {agent} did "));
        assert!(alerts.iter().any(|alert| known(&alert)), "{agent}: {alerts:?}");
    }
}

#[test]
fn a_snapshot_of_another_key_or_version_is_refused() {
    let mut bytes = engine().snapshot();
    let other = Config { hash_key: [1, 2], ..Config::default() };
    assert_eq!(Engine::restore(&other, &bytes).err(), Some(RestoreError::OtherKey));
    bytes[8] = 9;
    assert_eq!(Engine::restore(&Config::default(), &bytes).err(), Some(RestoreError::Version(9)));
}

#[test]
fn a_batch_of_another_table_is_an_error() {
    let batch = schemas::alert::batch(&[]);
    assert!(engine().observe(&batch, &mut Vec::new()).is_err());
}

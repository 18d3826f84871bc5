//! Facts about one call, at their edges: what each detector must not say, and what its memory does.

use detect::{Config, Engine};
use schemas::table::Hop;
use schemas::{AlertRow, Catalogue, EventRow};
use serde_json::json;

use crate::support::*;

const READ: Call = ("list", "read", Some("invoices"));

/// An agent and its peers at the same work for ten days, every row made by `set`.
fn at_work(config: &Config, set: impl Fn(&mut EventRow)) -> Engine {
    let mut engine = Engine::new(config);
    let mut rows = Vec::new();
    for hour in (0..240).step_by(4) {
        for agent in 0..6 {
            let mut row = row(&format!("agent-{agent}"), START + hour * HOUR + agent * MINUTE, READ);
            set(&mut row);
            rows.push(row);
        }
    }
    assert_eq!(feed(&mut engine, &steps(rows, HOUR), 100), []);
    engine
}

/// What the detector `name` says of a call of agent 0, so many hours after those ten days.
fn then(engine: &mut Engine, name: &str, hours: i64, call: Call, set: impl Fn(&mut EventRow)) -> Vec<AlertRow> {
    let mut row = row("agent-0", START + (240 + hours) * HOUR, call);
    set(&mut row);
    let mut alerts = feed(engine, &[Step::Row(Box::new(row))], 1);
    engine.tick(START + (240 + hours) * HOUR + MINUTE, &mut alerts);
    alerts.retain(|alert| alert.detector == name);
    alerts
}

fn scopes(granted: &[&str], used: &[&str]) -> impl Fn(&mut EventRow) {
    let own = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let (granted, used) = (own(granted), own(used));
    move |row| (row.scopes, row.scopes_used) = (granted.clone(), used.clone())
}

fn chain(ids: &[&str]) -> Vec<Hop> {
    ids.iter().map(|id| Hop { kind: "agent".into(), id: (*id).into(), issuer: None }).collect()
}

#[test]
fn a_source_that_names_scopes_and_permissions_in_other_words_is_not_believed() {
    let mut engine = at_work(&Config::default(), scopes(&["cloud-platform"], &["storage.get"]));
    let excess = scopes(&["cloud-platform"], &["storage.delete"]);
    assert_eq!(then(&mut engine, "scope", 1, READ, excess), []);
}

#[test]
fn a_scope_that_was_denied_was_not_used_and_a_wildcard_grants() {
    let mut engine = at_work(&Config::default(), scopes(&["a.read"], &["a.read"]));
    let denied = |row: &mut EventRow| {
        scopes(&["a.read"], &["a.write"])(row);
        row.outcome = "denied".into();
    };
    assert_eq!(then(&mut engine, "scope", 1, READ, denied), []);
    assert_eq!(then(&mut engine, "scope", 2, READ, scopes(&["a.*"], &["a.write"])), []);
    let alerts = then(&mut engine, "scope", 3, READ, scopes(&["a.read"], &["a.write"]));
    assert_eq!((alerts.len(), alerts[0].p_value, alerts[0].threshold), (1, 0.0, 0.0), "it is hard");
    assert!(alerts[0].title.contains("a.write") && alerts[0].terms.contains("granted were a.read"), "{alerts:?}");
}

#[test]
fn an_organization_is_new_once_and_what_others_reach_is_less_so() {
    let org = |name: &'static str| move |row: &mut EventRow| row.resource_tenant = Some(name.into());
    let mut engine = at_work(&Config::default(), |row| {
        let whose = if row.agent_id.as_deref() == Some("agent-0") { "north" } else { "south" };
        row.resource_tenant = Some(whose.into());
    });
    assert_eq!(then(&mut engine, "tenant_reach", 1, READ, org("south")), [], "all others go there");
    assert_eq!(then(&mut engine, "tenant_reach", 2, READ, org("nowhere")).len(), 1);
    assert_eq!(then(&mut engine, "tenant_reach", 40, READ, org("nowhere")), [], "known by now");
}

#[test]
fn a_deeper_chain_is_said_to_be_deeper() {
    let mut engine = at_work(&Config::default(), |row| row.delegation = chain(&["planner", "worker"]));
    let deeper = |row: &mut EventRow| row.delegation = chain(&["planner", "planner", "planner", "worker"]);
    let alerts = then(&mut engine, "delegation", 1, READ, deeper);
    assert_eq!(alerts.len(), 1);
    assert!(alerts[0].title.contains("a chain of 4, the deepest was 2"), "{}", alerts[0].title);
    let back = |row: &mut EventRow| row.delegation = chain(&["worker", "planner", "worker"]);
    assert_eq!(then(&mut engine, "delegation_loop", 2, READ, back).len(), 1);
    let twice = |row: &mut EventRow| row.delegation = chain(&["planner", "worker", "worker"]);
    assert_eq!(then(&mut engine, "delegation_loop", 3, READ, twice), [], "named twice is no way back");
}

#[test]
fn an_approval_that_the_catalogue_asks_for_is_missed_at_once() {
    let own = "[[actions]]\nof = 'pay'\nkind = 'payment'\nmatch = ['pay.*']\nneeds_approval = true\n";
    let catalogue = Catalogue::parse("own.toml", own).expect("a right file").before(&Catalogue::default());
    let mut engine = Engine::new(&Config { catalogue, ..Config::default() });
    let pay = ("pay.out", "write", Some("bank"));
    let with = |row: &mut EventRow| row.approval_id = Some("a-1".into());
    assert_eq!(then(&mut engine, "approval", 1, pay, with), []);
    assert_eq!(then(&mut engine, "approval", 2, ("refund.created", "execute", None), |_| {}), [], "nobody asked");
    assert_eq!(then(&mut engine, "approval", 3, pay, |_| {}).len(), 1);
    assert_eq!(then(&mut engine, "approval", 50, ("pay.in", "write", None), |row| row.outcome = "denied".into()), []);
}

#[test]
fn only_what_gets_through_after_a_kill_counts_until_it_is_released() {
    let with = |row: &mut EventRow| (row.credential_id, row.user_id) = (Some("c-1".into()), Some("ann".into()));
    for target in
        [json!({"agent": "agent-0"}), json!({"credential": "c-1"}), json!({"agent": "agent-0", "user": "ann"})]
    {
        let mut engine = at_work(&Config::default(), with);
        let time = START + 241 * HOUR;
        for order in ["o-1", "o-2", "o-2"] {
            let kill = json!({"tenant": "acme", "killed": target, "order": order, "time": time});
            assert!(engine.control(&kill));
        }
        let say = |engine: &mut Engine, hours, set: &dyn Fn(&mut EventRow)| {
            then(engine, "after_kill", hours, READ, |row| {
                with(row);
                set(row);
            })
            .len()
        };
        assert_eq!(say(&mut engine, 2, &|row| row.outcome = "denied".into()), 0, "the stop holds");
        assert_eq!(say(&mut engine, 2, &|row| row.time = time - MINUTE), 0, "it was before");
        assert_eq!(say(&mut engine, 2, &|row| row.time = time + 20 * SECOND), 0, "clocks differ");
        assert_eq!(say(&mut engine, 2, &|row| row.tenant = "globex".into()), 0, "another tenant's agent");
        let mut engine = Engine::restore(&Config::default(), &engine.snapshot()).expect("its own snapshot");
        assert_eq!(say(&mut engine, 3, &|_| {}), 1, "{target}");
        for (order, expected) in [("o-1", 1), ("o-2", 0)] {
            assert!(engine.control(&json!({"tenant": "acme", "released": order})));
            let hours = if order == "o-1" { 40 } else { 80 };
            assert_eq!(say(&mut engine, hours, &|_| {}), expected, "{target} {order}");
        }
    }
}

#[test]
fn an_order_without_an_id_is_released_by_its_target() {
    let mut engine = at_work(&Config::default(), |_| {});
    let target = json!({"agent": "agent-0"});
    assert!(engine.control(&json!({"tenant": "acme", "killed": target, "time": START + 241 * HOUR})));
    assert_eq!(then(&mut engine, "after_kill", 2, READ, |_| {}).len(), 1);
    assert!(engine.control(&json!({"tenant": "acme", "released": target})));
    assert_eq!(then(&mut engine, "after_kill", 40, READ, |_| {}).len(), 0);
}

#[test]
fn an_order_that_does_not_say_whom_is_not_for_detection() {
    for killed in [json!({}), json!({"user": "ann"}), json!("agent-0"), json!({"agent": 7})] {
        assert!(
            !at_work(&Config::default(), |_| {})
                .control(&json!({"tenant": "acme", "killed": killed, "order": "o", "time": 1}))
        );
    }
}

#[test]
fn a_campaign_is_told_once() {
    let mut engine = at_work(&Config::default(), |_| {});
    let send = ("send", "export", Some("mailto:eve"));
    let mut told = Vec::new();
    for agent in 0..6 {
        let time = START + 241 * HOUR + agent * MINUTE;
        let one = vec![row(&format!("agent-{agent}"), time, send)];
        let alerts = feed(&mut engine, &steps(one, HOUR), 1);
        told.extend(alerts.into_iter().filter(|alert| alert.detector == "campaign").map(|_| agent));
        engine.tick(time + SECOND, &mut Vec::new());
    }
    assert_eq!(told, [4], "by the fifth agent, and by none after");
}

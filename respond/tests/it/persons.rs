//! Orders that persons ask for and approve: what counts as an approval, and what never does.

use respond::config::Mode;
use respond::order::{State, Target};
use respond::{Config, Error, Handled, Request};
use schemas::{AlertRow, Holder, Principal, Verb};

use crate::receiver::Receiver;
use crate::world::{START, World, acting, alert, calling, person};

fn request(target: Target) -> Request {
    let (switches, switches_next) = (Vec::new(), Vec::new());
    Request { target, switches, switches_next, stands_secs: 3600, reason: "it exports".into(), key: "k".into() }
}

fn agent(agent: &str) -> Target {
    Target::Agent { agent: agent.into() }
}

/// Asking, with nothing else done.
fn asking() -> Config {
    let mut config = acting();
    config.policies[0].mode = Mode::Ask;
    config
}

fn why(result: Result<respond::order::Order, Error>) -> String {
    result.expect_err("refused").to_string()
}

#[tokio::test]
async fn an_order_by_hand_waits_for_another_person() {
    let world = World::new(acting());
    let responder = &world.responder;
    let order = responder.request(&person("ann"), &request(agent("billing"))).await.expect("asked");
    assert_eq!((order.state, world.denied("billing")), (State::Requested, false));
    assert!(why(responder.approve(&person("ann"), &order.order_id, &order.plan).await).contains("asked for it"));
    let machine = Principal { holder: Holder::Machine, ..person("bot") };
    assert!(why(responder.approve(&machine, &order.order_id, &order.plan).await).contains("not a person"));
    let asker = Principal { verbs: vec![Verb::Order], ..person("eve") };
    assert!(why(responder.approve(&asker, &order.order_id, &order.plan).await).contains("not a person who may"));
    let other = Principal { tenant: "globex".into(), ..person("bob") };
    assert!(why(responder.approve(&other, &order.order_id, &order.plan).await).contains("not a person who may"));
    assert!(!world.denied("billing"));
    let order = responder.approve(&person("bob"), &order.order_id, &order.plan).await.expect("approved");
    assert_eq!((order.state, world.denied("billing")), (State::Executed, true));
    let rows = world.mirrored().await;
    let who = |state: &str| rows.iter().find(|row| row.state == state).map(|row| row.requested_by.clone());
    assert_eq!((who("requested").as_deref(), who("approved").as_deref()), (Some("ann"), Some("bob")));
    assert!(rows.iter().any(|row| row.detail.as_deref().is_some_and(|detail| detail.contains("approved by bob"))));
    // Asked again with the same key it is the same order.
    let again = responder.request(&person("ann"), &request(agent("billing"))).await.expect("asked");
    assert_eq!(again.order_id, order.order_id);
}

#[tokio::test]
async fn an_approval_for_one_plan_is_none_for_another() {
    let receiver = Receiver::new([]).await;
    let world = World::new(calling(&receiver.address));
    let responder = &world.responder;
    let one = responder.request(&person("ann"), &request(agent("one"))).await.expect("asked");
    let mut longer = request(agent("one"));
    longer.stands_secs = 7200;
    longer.key = "longer".into();
    let longer = responder.request(&person("ann"), &longer).await.expect("asked");
    let mut calls = request(agent("one"));
    calls.switches = vec!["soc".into()];
    calls.key = "calls".into();
    let calls = responder.request(&person("ann"), &calls).await.expect("asked");
    let plans = [&one.plan, &longer.plan, &calls.plan];
    for (i, order) in [&one, &longer, &calls].into_iter().enumerate() {
        for (j, plan) in plans.iter().enumerate().filter(|(j, _)| *j != i) {
            let refused = why(responder.approve(&person("bob"), &order.order_id, plan).await);
            assert!(refused.contains("another plan"), "{i} {j} {refused}");
        }
    }
    assert!(!world.denied("one"));
    // The configuration changes what the switch calls: what was asked for is not what would be done.
    let mut config = world.config.clone();
    config.webhooks[0].url = config.webhooks[0].url.replace("/hook", "/other");
    let (order_id, plan) = (calls.order_id.clone(), calls.plan.clone());
    let mut world = world;
    world.config = config;
    let world = world.restart();
    let refused = why(world.responder.approve(&person("bob"), &order_id, &plan).await);
    assert!(refused.contains("configuration changed"), "{refused}");
    assert!(!world.denied("one") && receiver.got().is_empty());
}

#[tokio::test]
async fn an_approval_expires_with_its_order() {
    let world = World::new(acting());
    let order = world.responder.request(&person("ann"), &request(agent("billing"))).await.expect("asked");
    let now = world.pass(3600);
    let refused = why(world.responder.approve(&person("bob"), &order.order_id, &order.plan).await);
    assert!(refused.contains("is over"), "{refused}");
    world.responder.tick(now).await.expect("looked at");
    assert_eq!(world.state(&order.order_id), State::Expired);
    assert!(!world.denied("billing"));
}

#[tokio::test]
async fn what_is_wide_needs_two_others() {
    for target in [Target::Tenant, Target::Delegation { grant: "ann@acme".into() }] {
        let world = World::new(Config { protected: vec!["root".into()], ..acting() });
        let order = world.responder.request(&person("ann"), &request(target)).await.expect("asked");
        assert_eq!(order.approvals_needed, 2);
        let one = world.responder.approve(&person("bob"), &order.order_id, &order.plan).await.expect("counted");
        assert_eq!(one.state, State::Requested);
        let again = why(world.responder.approve(&person("bob"), &order.order_id, &order.plan).await);
        assert!(again.contains("approved it already"), "{again}");
        // The first approval survives a restart.
        let world = world.restart();
        let two = world.responder.approve(&person("cleo"), &order.order_id, &order.plan).await.expect("counted");
        assert_eq!(two.state, State::Executed);
        if two.target == Target::Tenant {
            assert!(world.denied("anybody") && !world.denied("root"), "the protected are let through");
        }
    }
}

#[tokio::test]
async fn the_protected_are_not_even_asked_about() {
    let world = World::new(Config { protected: vec!["root".into()], ..acting() });
    let text = "[[agents]]\nid = \"root\"\naliases = [{ id = \"0oa-root\" }]\n";
    world.responder.deny().know(schemas::Registry::parse("agents.toml", text, &[]).expect("is right"));
    for target in [
        agent("root"),
        agent("0oa-root"),
        Target::Instance { agent: "root".into(), instance: "1".into() },
        Target::Client { client: "root".into() },
        Target::Credential { credential: "whose?".into() },
    ] {
        let refused = world.responder.request(&person("ann"), &request(target.clone())).await;
        assert!(matches!(refused, Err(Error::Request(_))), "{target:?} {refused:?}");
    }
    assert_eq!(world.responder.deny().len("acme"), 0);
}

#[tokio::test]
async fn an_alert_asks_persons_and_tells_them() {
    let receiver = Receiver::new([]).await;
    let mut config = calling(&receiver.address);
    config.policies[0].mode = Mode::Ask;
    config.policies[0].approvals = 2;
    config.tell = vec!["soc".into()];
    let world = World::new(config);
    let handled = world.responder.handle_alert(&alert("billing", START)).await.expect("handled");
    let Handled::Asked(order_id) = handled else { panic!("{handled:?}") };
    world.responder.due(START).await.expect("told");
    let told = &receiver.got()[0].body;
    assert_eq!(told["type"], "killswitch.requested");
    let plan = told["data"]["order"]["plan"].as_str().expect("the plan is told").to_owned();
    assert!(told["data"]["order"]["detail"].as_str().expect("says why").contains("waits for 2 to approve"));
    // Another alert about the same agent asks for nothing more.
    let again = world.responder.handle_alert(&alert("billing", START + 1)).await.expect("handled");
    assert_eq!(again, Handled::Covered(order_id.clone()));
    for name in ["ann", "bob"] {
        assert!(!world.denied("billing"));
        world.responder.approve(&person(name), &order_id, &plan).await.expect("counted");
    }
    assert!(world.denied("billing"));
    world.responder.due(START).await.expect("called");
    assert_eq!(receiver.got()[1].body["type"], "killswitch.approved");
    assert_eq!(world.state(&order_id), State::Executed);
}

#[tokio::test]
async fn statistics_act_unattended_only_where_they_are_critical() {
    let world = World::new(acting());
    let statistical = |agent, severity_id| AlertRow { threshold: 20.0, severity_id, ..alert(agent, START) };
    let handled = world.responder.handle_alert(&statistical("high", 4)).await.expect("handled");
    assert!(matches!(handled, Handled::Asked(_)), "{handled:?}");
    let handled = world.responder.handle_alert(&statistical("critical", 5)).await.expect("handled");
    assert!(matches!(handled, Handled::Acting(_)), "{handled:?}");
    assert!(!world.denied("high") && world.denied("critical"));
    // The same agent gets critical: that one does not wait for persons.
    let handled = world.responder.handle_alert(&statistical("high", 5)).await.expect("handled");
    assert!(matches!(handled, Handled::Acting(_)), "{handled:?}");
}

#[tokio::test]
async fn what_is_beyond_the_budget_is_evidence_and_no_more() {
    let world = World::new(acting());
    let critical = AlertRow { threshold: 20.0, severity_id: 5, over_budget: Some(true), ..alert("billing", START) };
    assert_eq!(world.responder.handle_alert(&critical).await.expect("handled"), Handled::OverBudget);
    assert!(!world.denied("billing") && world.responder.orders("acme", 10).is_empty());
    let within = AlertRow { over_budget: Some(false), ..critical };
    assert!(matches!(world.responder.handle_alert(&within).await.expect("handled"), Handled::Acting(_)));
}

#[tokio::test]
async fn what_is_not_live_asks_nobody() {
    let world = World::new(asking());
    let backfill = AlertRow { live: false, ..alert("billing", START) };
    let handled = world.responder.handle_alert(&backfill).await.expect("handled");
    assert!(matches!(handled, Handled::Observed(_)), "{handled:?}");
}

#[tokio::test]
async fn disarmed_nothing_acts_and_persons_still_can() {
    let world = World::new(acting());
    world.responder.arm(&person("ann"), false, "a migration").await.expect("disarmed");
    assert!(world.responder.arm(&person("ann"), false, "again").await.expect("fine").is_none());
    let world = world.restart();
    let handled = world.responder.handle_alert(&alert("billing", START)).await.expect("handled");
    assert!(matches!(handled, Handled::Observed(_)), "{handled:?}");
    let order = world.responder.request(&person("ann"), &request(agent("billing"))).await.expect("asked");
    world.responder.approve(&person("bob"), &order.order_id, &order.plan).await.expect("approved");
    assert!(world.denied("billing"));
    // Noted again with everything else, it is still disarmed.
    world.mirrored().await;
    world.responder.keep(1).await.expect("noted");
    let world = world.restart();
    assert_eq!(world.responder.disarmed("acme").map(|arming| arming.by), Some("ann".into()));
    assert!(world.mirrored().await.iter().any(|row| row.state == "disarmed" && row.reason == "a migration"));
}

#[tokio::test]
async fn a_waiting_order_is_withdrawn() {
    let world = World::new(acting());
    let order = world.responder.request(&person("ann"), &request(agent("billing"))).await.expect("asked");
    let order = world.responder.release(&order.order_id, "ann", "never mind").await.expect("withdrawn");
    assert_eq!(order.state, State::Released);
    let refused = why(world.responder.approve(&person("bob"), &order.order_id, &order.plan).await);
    assert!(refused.contains("does not wait"), "{refused}");
}

#[tokio::test]
async fn a_plan_says_what_is_called_and_what_stays_alive() {
    let receiver = Receiver::new([]).await;
    let world = World::new(calling(&receiver.address));
    let mut wanted = request(agent("billing"));
    wanted.switches = vec!["soc".into()];
    let (_, plan) = world.responder.draft(&person("ann"), &wanted).expect("a plan");
    assert_eq!(plan.steps.len(), 2);
    assert!(plan.steps[1].reversible && plan.steps[1].calls[0].contains("/hook"), "{plan:?}");
    assert!(plan.steps.iter().all(|step| !step.stays_alive.is_empty()));
    assert!(world.mirrored().await.is_empty() && receiver.got().is_empty(), "a dry run writes and does nothing");
    wanted.switches = vec!["nobody".into()];
    assert!(world.responder.draft(&person("ann"), &wanted).is_err());
}

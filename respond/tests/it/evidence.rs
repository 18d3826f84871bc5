//! Verified needs evidence; quiet is no evidence; let through is a violation.

use respond::Config;
use respond::order::State;
use schemas::{EventRow, Hop};

use crate::receiver::{Receiver, Reply};
use crate::world::{SECOND, START, World, acting, calling, event};

#[tokio::test]
async fn a_denied_attempt_verifies() {
    let world = World::new(acting());
    let order_id = world.acted("billing").await;
    let limited = EventRow { http_status: Some(429), ..event("billing", START + SECOND, "denied") };
    let backfill = EventRow { flags: vec!["backfill".into()], ..event("billing", START + SECOND, "denied") };
    let other = EventRow { tenant: "globex".into(), ..event("billing", START + SECOND, "denied") };
    let before = event("billing", START - SECOND, "denied");
    let failed = event("billing", START + SECOND, "failure");
    world.see([limited, backfill, other, before, failed, event("innocent", START + SECOND, "denied")]).await;
    assert_eq!(world.state(&order_id), State::Executed, "none of these is evidence");
    world.see([event("billing", START + SECOND, "denied")]).await;
    assert_eq!(world.state(&order_id), State::Verified);
    world.see([event("billing", START + 2 * SECOND, "denied")]).await;
    let rows = world.mirrored().await;
    assert_eq!(rows.iter().filter(|row| row.state == "verified").count(), 1, "once is enough");
    assert!(rows.last().expect("rows").detail.as_deref().expect("says what").starts_with("denied attempt at"));
    let world = world.restart();
    assert_eq!((world.state(&order_id), world.denied("billing")), (State::Verified, true));
}

#[tokio::test]
async fn an_allowed_call_after_the_slack_violates_and_the_next_layer_is_tried() {
    let receiver = Receiver::new([]).await;
    let mut config = calling(&receiver.address);
    config.policies[0].switches.clear();
    config.policies[0].switches_next = vec!["soc".into()];
    config.tell = vec!["soc".into()];
    let world = World::new(config);
    let order_id = world.acted("billing").await;
    world.see([event("billing", START + 10 * SECOND, "success")]).await;
    assert_eq!(world.state(&order_id), State::Executed, "within the slack");
    world.pass(12);
    // A clock ahead of its arrival is no proof.
    let ahead = EventRow { received_at: START + 9 * SECOND, ..event("billing", START + 60 * SECOND, "success") };
    let backfill = EventRow { flags: vec!["backfill".into()], ..event("billing", START + 11 * SECOND, "success") };
    world.see([ahead, backfill]).await;
    assert_eq!(world.state(&order_id), State::Executed);
    world.see([event("billing", START + 11 * SECOND, "success")]).await;
    let now = world.clock.now_micros();
    assert_eq!(world.responder.due(now).await.expect("called"), 2, "a person is told, and the next layer called");
    let mut types: Vec<_> =
        receiver.got().iter().map(|got| got.body["type"].as_str().expect("text").to_owned()).collect();
    types.sort();
    assert_eq!(types, ["killswitch.approved", "killswitch.violated"]);
    assert_eq!(world.state(&order_id), State::Executed, "the next layer is done");
    // It is let through again: there is no layer left, and it is said again.
    world.pass(30);
    world.see([event("billing", now + 20 * SECOND, "success")]).await;
    assert_eq!((world.state(&order_id), world.denied("billing")), (State::Violated, true));
    // Then it holds after all.
    world.pass(30);
    world.see([event("billing", now + 50 * SECOND, "denied")]).await;
    assert_eq!(world.state(&order_id), State::Verified);
    let states = world.states().await;
    assert_eq!(states.iter().filter(|state| *state == "verified").count(), 1);
}

#[tokio::test]
async fn evidence_waits_until_every_switch_is_done() {
    let receiver = Receiver::new([Reply::Slam]).await;
    let world = World::new(calling(&receiver.address));
    let order_id = world.acted("billing").await;
    world.responder.due(START).await.expect("slammed");
    world.see([event("billing", START + SECOND, "denied")]).await;
    assert_eq!(world.state(&order_id), State::Executing, "never verified before it is executed");
    let world = world.restart();
    let now = world.pass(2);
    world.responder.due(now).await.expect("called");
    assert_eq!(world.state(&order_id), State::Verified);
    let states = world.states().await;
    assert_eq!(states[states.len() - 2..], ["executed", "verified"]);
}

#[tokio::test]
async fn quiet_is_shown_as_quiet_and_silence_as_nothing() {
    for (spoke, words) in [(true, "while its sources went on (kong)"), (false, "this proves nothing")] {
        let world = World::new(acting());
        world.see([event("billing", START - SECOND, "success")]).await;
        let order_id = world.acted("billing").await;
        if spoke {
            world.see([event("other", START + SECOND, "success")]).await;
        }
        world.responder.tick(world.pass(299)).await.expect("too early");
        assert_eq!(world.state(&order_id), State::Executed);
        world.responder.tick(world.pass(1)).await.expect("quiet");
        assert_eq!((world.state(&order_id), world.denied("billing")), (State::Quiet, true));
        let rows = world.mirrored().await;
        let detail = rows.last().and_then(|row| row.detail.clone()).expect("says what");
        assert!(detail.contains(words), "{detail}");
        world.see([event("billing", START + 300 * SECOND, "denied")]).await;
        assert_eq!(world.state(&order_id), State::Verified, "quiet is not the end");
    }
}

#[tokio::test]
async fn a_switch_that_was_given_up_is_partial_whatever_the_evidence() {
    let bad = Reply::Answer("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    let receiver = Receiver::new([bad]).await;
    let config = Config { tell: vec!["soc".into()], ..calling(&receiver.address) };
    let world = World::new(config);
    let order_id = world.acted("billing").await;
    world.responder.due(START).await.expect("refused");
    assert_eq!(world.state(&order_id), State::Partial);
    world.responder.due(START).await.expect("told");
    assert_eq!(receiver.got()[1].body["type"], "killswitch.partial");
    assert!(world.states().await.iter().all(|state| state != "executed"));
    world.see([event("billing", START + SECOND, "denied")]).await;
    assert_eq!(world.state(&order_id), State::Verified);
}

/// One event for each kind of target, and what stops it.
#[tokio::test]
async fn every_kind_of_target_is_denied_and_verified_by_the_same_rule() {
    use respond::order::Target;
    use respond::{Asker, Request};
    let own = str::to_owned;
    let hop = |id: &str| Hop { kind: "agent".into(), id: id.into(), issuer: None };
    let row = EventRow {
        agent_alias: Some("client-7".into()),
        agent_instance: Some("run-1".into()),
        credential_id: Some("cred-1".into()),
        token_id: Some("jti-1".into()),
        user_id: Some("ann".into()),
        delegation: vec![hop("ann"), hop("planner"), hop("billing")],
        grant_id: Some("grant-1".into()),
        ..event("billing", START + SECOND, "denied")
    };
    let asker = Asker {
        agent: Some(own("billing")),
        instance: Some(own("run-1")),
        credential: Some(own("cred-1")),
        token: Some(own("jti-1")),
        user: Some(own("ann")),
        client: Some(own("client-7")),
        grants: vec![own("grant-1"), own("ann"), own("planner")],
    };
    for target in [
        Target::Agent { agent: own("billing") },
        Target::Instance { agent: own("billing"), instance: own("run-1") },
        Target::Credential { credential: own("cred-1") },
        Target::Token { token: own("jti-1") },
        Target::AgentUser { agent: own("billing"), user: own("ann") },
        Target::Client { client: own("client-7") },
        Target::Client { client: own("billing") },
        Target::Delegation { grant: own("grant-1") },
        Target::Delegation { grant: own("planner") },
        Target::Tenant,
    ] {
        let world = World::new(Config { approvals: 0, ..acting() });
        let (switches, switches_next) = (Vec::new(), Vec::new());
        let (reason, key) = (own("test"), own("k"));
        let request = Request { target: target.clone(), switches, switches_next, stands_secs: 60, reason, key };
        let (ann, bob, cleo) = (crate::world::person("ann"), crate::world::person("bob"), crate::world::person("cleo"));
        let order = world.responder.request(&ann, &request).await.expect("asked");
        for person in [bob, cleo].iter().take(order.approvals_needed as usize) {
            world.responder.approve(person, &order.order_id, &order.plan).await.expect("approved");
        }
        assert!(world.responder.deny().check("acme", &asker).is_some(), "{target:?}");
        if target != Target::Tenant {
            assert!(!world.denied("another"), "{target:?}");
        }
        world.see([row.clone()]).await;
        assert_eq!(world.state(&order.order_id), State::Verified, "{target:?}");
    }
}

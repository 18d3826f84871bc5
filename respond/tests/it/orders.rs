//! What an alert leads to, and what it must never lead to.

use lake::files::sim::Fault;
use respond::config::TargetKind;
use respond::order::State;
use respond::{Asker, Config, Error, Handled};

use crate::receiver::Receiver;
use crate::world::{SECOND, START, World, acting, alert, by, calling, person};

#[tokio::test]
async fn the_default_policy_only_observes() {
    let world = World::new(Config::default());
    let handled = world.responder.handle_alert(&alert("billing", START)).await.expect("handled");
    assert!(matches!(handled, Handled::Observed(_)), "{handled:?}");
    assert!(!world.denied("billing"));
    let rows = world.mirrored().await;
    assert_eq!((rows.len(), rows[0].state.as_str(), rows[0].mode.as_str()), (1, "requested", "observe"));
    assert!(rows[0].detail.as_deref().expect("says what").contains("would do: deny agent billing"), "{:?}", rows[0]);
}

#[tokio::test]
async fn observing_never_calls_out() {
    let receiver = Receiver::new([]).await;
    let mut config = calling(&receiver.address);
    config.policies[0].mode = respond::config::Mode::Observe;
    let world = World::new(config);
    world.responder.handle_alert(&alert("billing", START)).await.expect("handled");
    assert_eq!(world.responder.due(world.pass(7200)).await.expect("nothing fails"), 0);
    assert!(receiver.got().is_empty());
}

#[tokio::test]
async fn acting_denies_until_it_is_released() {
    let world = World::new(acting());
    let handled = world.responder.handle_alert(&alert("billing", START)).await.expect("handled");
    let Handled::Acting(order_id) = handled else { panic!("{handled:?}") };
    assert!(world.denied("billing") && !world.denied("other"));
    assert_eq!(world.states().await, ["requested", "approved", "executing", "executed"]);
    let released = world.responder.release(&order_id, "ann", "false alarm").await.expect("released");
    assert_eq!(released.state, State::Released);
    assert!(!world.denied("billing"));
    let rows = world.mirrored().await;
    let last = rows.last().expect("there are rows");
    assert_eq!(
        (last.state.as_str(), last.requested_by.as_str(), last.reason.as_str()),
        ("released", "ann", "false alarm")
    );
    let again = world.responder.release(&order_id, "ann", "again").await;
    assert!(matches!(again, Err(Error::NotStanding { state: State::Released, .. })), "{again:?}");
    assert!(matches!(world.responder.release("none", "ann", "?").await, Err(Error::Unknown(_))));
}

#[tokio::test]
async fn the_same_alert_asks_once_across_restarts() {
    let mut world = World::new(acting());
    let same = alert("billing", START);
    world.responder.handle_alert(&same).await.expect("handled");
    for _ in 0..3 {
        let handled = world.responder.handle_alert(&same).await.expect("handled");
        assert!(matches!(handled, Handled::Covered(_)), "{handled:?}");
        world = world.restart();
        assert!(world.denied("billing"));
    }
    // Nor does it ask for anything when it comes so late that it could only be observed.
    world.pass(600);
    world.responder.handle_alert(&same).await.expect("handled");
    assert_eq!(world.states().await, ["requested", "approved", "executing", "executed"]);
}

#[tokio::test]
async fn a_second_alert_is_covered_and_a_late_one_does_not_undo_a_release() {
    let world = World::new(acting());
    let Handled::Acting(order_id) = world.responder.handle_alert(&alert("billing", START)).await.expect("handled")
    else {
        panic!("it acts")
    };
    let second = world.responder.handle_alert(&alert("billing", START + 1)).await.expect("handled");
    assert_eq!(second, Handled::Covered(order_id.clone()));
    world.pass(10);
    world.responder.release(&order_id, "ann", "false alarm").await.expect("released");
    let late = world.responder.handle_alert(&alert("billing", START + 2)).await.expect("handled");
    assert_eq!(late, Handled::Covered(order_id));
    let new = world.responder.handle_alert(&alert("billing", START + 11 * SECOND)).await.expect("handled");
    assert!(matches!(new, Handled::Acting(_)), "{new:?}");
}

#[tokio::test]
async fn what_is_not_live_or_not_fresh_never_acts() {
    let world = World::new(acting());
    let mut backfill = alert("a", START);
    backfill.live = false;
    for alert in [backfill, alert("b", START - 61 * SECOND), alert("c", START + 61 * SECOND)] {
        let handled = world.responder.handle_alert(&alert).await.expect("handled");
        assert!(matches!(handled, Handled::Observed(_)), "{handled:?}");
    }
    assert_eq!(world.responder.deny().len("acme"), 0);
    assert!(
        world.mirrored().await.iter().all(|row| row.detail.as_deref().expect("says why").starts_with("only observed"))
    );
}

#[tokio::test]
async fn the_protected_are_never_stopped() {
    for target in [TargetKind::Agent, TargetKind::Credential, TargetKind::AgentUser] {
        let mut config = acting();
        config.policies[0].target = target;
        config.protected = vec!["root".into(), "key-of-ops".into()];
        let world = World::new(config);
        let mut nobody = alert("x", START);
        nobody.agent_id = None;
        for alert in [alert("root", START), nobody] {
            let handled = world.responder.handle_alert(&alert).await.expect("handled");
            assert!(matches!(handled, Handled::Observed(_) | Handled::NoTarget), "{target:?} {handled:?}");
        }
        if target == TargetKind::Credential {
            let handled = world.responder.handle_alert(&alert("ops", START)).await.expect("handled");
            assert!(matches!(handled, Handled::Observed(_)), "{handled:?}");
        }
        assert_eq!(world.responder.deny().len("acme"), 0);
        let handled = world.responder.handle_alert(&alert("billing", START)).await.expect("handled");
        assert!(matches!(handled, Handled::Acting(_)), "{handled:?}");
    }
}

/// What the registry protects is not stopped either, by whatever name the alert calls it.
#[tokio::test]
async fn the_registry_protects_too() {
    let text = "[[agents]]\nid = \"payroll\"\ntenant = \"acme\"\nprotected = true\naliases = [{ id = \"consumer-7\" }]\n\
                [[agents]]\nid = \"billing\"\n[[agents]]\nid = \"shipping\"\ntenant = \"globex\"\nprotected = true\n";
    let mut config = acting();
    config.policies[0].target = TargetKind::Credential;
    for (config, observed) in [(acting(), vec!["payroll", "consumer-7"]), (config, vec!["payroll", "nobody"])] {
        let world = World::new(config);
        world.responder.deny().know(schemas::Registry::parse("agents.toml", text, &["kong"]).expect("is right"));
        for name in observed {
            let mut alert = alert(name, START);
            alert.agent_id = alert.agent_id.filter(|_| name != "nobody");
            let handled = world.responder.handle_alert(&alert).await.expect("handled");
            assert!(matches!(handled, Handled::Observed(_)), "{name} {handled:?}");
        }
        for name in ["billing", "shipping"] {
            let handled = world.responder.handle_alert(&alert(name, START)).await.expect("handled");
            assert!(matches!(handled, Handled::Acting(_)), "{name} {handled:?}");
        }
    }
}

#[tokio::test]
async fn a_wild_detector_stops_no_more_than_the_caps() {
    let world = World::new(Config { orders_per_minute_max: 3, ..acting() });
    let mut acted = 0;
    for agent in 0..20 {
        let handled = world.responder.handle_alert(&alert(&format!("agent-{agent}"), START)).await.expect("handled");
        acted += usize::from(matches!(handled, Handled::Acting(_)));
    }
    assert_eq!((acted, world.responder.deny().len("acme")), (3, 3));
    let rows = world.mirrored().await;
    let failed: Vec<_> = rows.iter().filter(|row| row.state == "failed").collect();
    assert_eq!(failed.len(), 1, "then nothing acts any more");
    assert!(failed[0].detail.as_deref().expect("says why").contains("orders_per_minute_max"));
    assert!(rows.iter().any(|row| row.state == "disarmed" && row.requested_by == "muster"));
    assert_eq!(rows.iter().filter(|row| row.mode == "observe").count(), 16);
    // It stays so, over time and restarts, until a person has looked.
    let world = world.restart();
    let now = world.pass(3600);
    let handled = world.responder.handle_alert(&alert("more", now)).await.expect("handled");
    assert!(matches!(handled, Handled::Observed(_)), "{handled:?}");
    world.responder.arm(&person("ann"), true, "it was the new release").await.expect("armed");
    let handled = world.responder.handle_alert(&alert("later", now)).await.expect("handled");
    assert!(matches!(handled, Handled::Acting(_)), "{handled:?}");
}

/// The minute counts orders from before a restart.
#[tokio::test]
async fn a_restart_does_not_give_a_wild_detector_another_minute() {
    let world = World::new(Config { orders_per_minute_max: 1, ..acting() });
    world.responder.handle_alert(&alert("a", START)).await.expect("handled");
    let world = world.restart();
    let handled = world.responder.handle_alert(&alert("b", START)).await.expect("handled");
    assert!(matches!(handled, Handled::Refused(_)), "{handled:?}");
}

#[tokio::test]
async fn a_tenant_has_no_more_standing_orders_than_its_cap() {
    let world = World::new(Config { orders_standing_max: 2, ..acting() });
    for agent in ["a", "b", "c"] {
        let now = world.pass(61);
        world.responder.handle_alert(&alert(agent, now)).await.expect("handled");
    }
    assert_eq!(world.responder.deny().len("acme"), 2);
    let failed = world.mirrored().await.into_iter().find(|row| row.state == "failed").expect("one was refused");
    assert!(failed.detail.expect("says why").contains("orders_standing_max"));
}

/// Hands the responder a main log in which `agents` agents of `acme` act.
async fn see_agents(world: &World, agents: usize) {
    let mut builder = schemas::RowBuilder::new(&schemas::event::TABLE);
    for agent in 0..agents {
        let agent_id = Some(format!("agent-{agent}"));
        let row = schemas::EventRow { tenant: "acme".into(), agent_id, ..schemas::EventRow::default() };
        row.append_to(&mut builder);
    }
    world.responder.see_events(&builder.finish()).await.expect("these are events");
}

#[tokio::test]
async fn only_a_share_of_the_active_agents_is_stopped() {
    let mut world = World::new(Config { active_agents_share_max: 0.02, orders_per_minute_max: 100, ..acting() });
    see_agents(&world, 200).await;
    for restarted in [false, true] {
        if restarted {
            world.responder.flush().await.expect("remembered");
            world = world.restart();
        }
        for agent in 0..10 {
            let alert = alert(&format!("agent-{agent}"), START);
            world.responder.handle_alert(&alert).await.expect("handled");
        }
        assert_eq!(world.responder.deny().len("acme"), 4);
    }
}

#[tokio::test]
async fn an_order_expires_and_the_receiver_is_told() {
    let receiver = Receiver::new([]).await;
    let world = World::new(calling(&receiver.address));
    world.responder.handle_alert(&alert("billing", START)).await.expect("handled");
    world.responder.due(START).await.expect("called");
    world.responder.tick(world.pass(3599)).await.expect("nothing is over");
    assert!(world.denied("billing"));
    let now = world.pass(1);
    world.responder.tick(now).await.expect("expired");
    assert!(!world.denied("billing"));
    world.responder.due(now).await.expect("called");
    let got = receiver.got();
    let types: Vec<_> = got.iter().map(|got| got.body["type"].as_str().expect("has a type")).collect();
    assert_eq!(types, ["killswitch.approved", "killswitch.expired"]);
    assert_ne!(got[0].id, got[1].id);
    assert_eq!(world.mirrored().await.last().map(|row| row.state.clone()).as_deref(), Some("expired"));
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let world = World::new(acting());
    world.responder.handle_alert(&alert("billing", START)).await.expect("handled");
    let mut other = alert("billing", START);
    other.tenant = "globex".into();
    let deny = world.responder.deny();
    assert!(deny.check("acme", &by("billing")).is_some());
    assert!(deny.check("globex", &by("billing")).is_none());
    assert!(world.responder.orders("globex", 10).is_empty());
    let handled = world.responder.handle_alert(&other).await.expect("handled");
    assert!(matches!(handled, Handled::Acting(_)), "{handled:?}");
    assert_eq!((deny.len("acme"), deny.len("globex")), (1, 1));
}

#[tokio::test]
async fn a_pair_is_denied_as_a_pair() {
    let mut config = acting();
    config.policies[0].target = TargetKind::AgentUser;
    let world = World::new(config);
    let mut spaced = alert("bill ing", START);
    spaced.user_id = Some("ann".into());
    world.responder.handle_alert(&spaced).await.expect("handled");
    let asker = |agent, user: &str| Asker { user: Some(user.into()), ..by(agent) };
    let check = |agent, user| world.responder.deny().check("acme", &asker(agent, user)).is_some();
    assert!(check("bill ing", "ann"));
    assert!(!check("bill", "ing ann") && !check("bill ing", "bob"));
    assert!(!world.denied("bill ing"));
}

#[tokio::test]
async fn versions_of_the_list_never_go_back() {
    let mut world = World::new(acting());
    let mut last = world.responder.deny().version("acme");
    for agent in ["a", "b"] {
        world.responder.handle_alert(&alert(agent, START)).await.expect("handled");
        let version = world.responder.deny().version("acme");
        assert!(version > last);
        world = world.restart();
        last = world.responder.deny().version("acme");
        assert!(last >= version);
    }
}

#[test]
fn configuration_says_all_that_is_wrong() {
    let mut config = acting();
    config.policies[0].switches = vec!["nobody".into()];
    config.deny_secs = 1;
    config.webhooks.push(respond::config::Webhook { url: "ftp://x".into(), ..Default::default() });
    let problems = config.problems().join("\n");
    for part in ["deny_secs", "policies[0].switches", "webhooks[0].name", "webhooks[0].url", "webhooks[0].secret_file"]
    {
        assert!(problems.contains(part), "{part} in {problems}");
    }
}

#[tokio::test]
async fn nothing_is_done_that_is_not_written_down() {
    let mut refused = 0;
    for call in 0..6 {
        let world = World::new(acting());
        world.files.fail_at(world.files.calls() + call, Fault::NoSpace);
        let Err(error) = world.responder.handle_alert(&alert("billing", START)).await else { continue };
        assert!(!world.denied("billing") && world.responder.orders("acme", 10).is_empty(), "{error}");
        if error.retry_later() {
            world.responder.handle_alert(&alert("billing", START)).await.expect("the disk has room again");
            assert!(world.denied("billing"));
            refused += 1;
        }
    }
    assert!(refused > 0, "a full disk is met");
}

#[tokio::test]
async fn noting_all_orders_again_changes_nothing() {
    let world = World::new(acting());
    for agent in ["a", "b", "c"] {
        world.responder.handle_alert(&alert(agent, START)).await.expect("handled");
    }
    let Handled::Covered(order_id) = world.responder.handle_alert(&alert("a", START)).await.expect("handled") else {
        panic!("it stands")
    };
    world.responder.release(&order_id, "ann", "false alarm").await.expect("released");
    world.mirrored().await;
    world.responder.keep(1).await.expect("noted");
    let before = world.responder.orders("acme", 10);
    let world = world.restart();
    assert_eq!(world.responder.orders("acme", 10), before);
    assert_eq!((world.denied("a"), world.denied("b"), world.denied("c")), (false, true, true));
    assert_eq!(world.mirrored().await.len(), 13);
}

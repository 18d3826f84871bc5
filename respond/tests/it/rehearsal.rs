//! Drills: the canary is stopped by the same path, let go again, and the time it took is kept.

use respond::config::{Drill, Hidden};
use respond::order::State;
use respond::{Config, Error};

use crate::stub::{Answer, Stub};
use crate::world::{World, acting, alert, person};

const OK: Answer = Answer::Text("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
const FORBIDDEN: Answer = Answer::Text("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");

#[tokio::test]
async fn a_drill_stops_its_canary_and_lets_it_go() {
    // It counts for no cap, and a disarmed tenant can rehearse.
    let world = World::new(Config { orders_per_minute_max: 0, ..acting() });
    world.responder.arm(&person("ann"), false, "a migration").await.expect("disarmed");
    let report = world.responder.drill(&person("ann"), "deny-list").await.expect("rehearsed");
    assert!(report.stopped && report.released && report.path.contains("no gateway"), "{report:?}");
    assert!(!world.denied(&report.agent));
    let rows = world.mirrored().await;
    let states: Vec<_> = rows.iter().map(|row| row.state.as_str()).filter(|state| *state != "disarmed").collect();
    assert_eq!(states, ["requested", "approved", "executing", "executed", "verified", "released", "released"]);
    let drill: Vec<_> = rows.iter().filter(|row| row.state != "disarmed").collect();
    assert!(drill.iter().all(|row| row.mode == "drill"));
    let kept: respond::Report =
        serde_json::from_str(rows.last().and_then(|row| row.detail.as_deref()).expect("is kept")).expect("is JSON");
    assert_eq!(kept, report);
}

#[tokio::test]
async fn a_canary_calls_through_the_gateway_with_its_credential() {
    let gateway = Stub::new([OK, OK, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, OK]).await;
    let drill = Drill {
        name: "edge".into(),
        agent: "canary".into(),
        url: Some(format!("http://{}/api/health", gateway.address)),
        header: "x-api-key".into(),
        credential: Some(Hidden::new("k-1")),
        ..Drill::default()
    };
    let world = World::new(Config { drills: vec![drill], private_addresses_allowed: true, ..acting() });
    let report = world.responder.drill(&person("ann"), "edge").await.expect("rehearsed");
    assert!(report.stopped && report.released, "{report:?}");
    assert_eq!(report.calls, 4, "one got through after the decision");
    assert!(gateway.got().iter().all(|got| got.headers["x-api-key"] == "k-1" && got.path == "/api/health"));
    let order = world.responder.order(&report.order_id).expect("it is there");
    assert_eq!((order.state, order.ended_at.is_some()), (State::Released, true));
    // The real thing is not covered by a rehearsal, nor the other way round.
    let handled = world.responder.handle_alert(&alert("canary", world.clock.now_micros())).await.expect("handled");
    assert!(matches!(handled, respond::Handled::Acting(_)), "{handled:?}");
    let refused = world.responder.drill(&person("ann"), "edge").await;
    assert!(matches!(refused, Err(Error::Request(_))), "{refused:?}");
}

#[tokio::test]
async fn a_path_that_breaks_leaves_no_canary_stopped() {
    let gateway = Stub::new([OK, Answer::Slam]).await;
    let url = Some(format!("http://{}/", gateway.address));
    let drill = Drill { name: "edge".into(), agent: "canary".into(), url, ..Drill::default() };
    let world = World::new(Config { drills: vec![drill], private_addresses_allowed: true, ..acting() });
    let failed = world.responder.drill(&person("ann"), "edge").await.expect_err("it cannot be said");
    assert!(failed.to_string().contains("canary's call"), "{failed}");
    assert!(!world.denied("canary"));
    assert!(world.states().await.iter().all(|state| state != "verified"));
    assert!(matches!(world.responder.drill(&person("ann"), "nobody").await, Err(Error::Request(_))));
}

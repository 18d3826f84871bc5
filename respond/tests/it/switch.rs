//! The webhook switch against a receiver that misbehaves: nothing done twice, nothing claimed that is not so.

use respond::order::{Order, State};
use respond::{Config, Handled};

use crate::receiver::{OK, Receiver, Reply};
use crate::world::{START, World, alert, calling};

/// Handles one alert and makes what is due until nothing is, or `attempts` were made; the seconds at which they were made.
async fn drive(world: &World, attempts: usize) -> (Order, Vec<i64>) {
    let Handled::Acting(order_id) = world.responder.handle_alert(&alert("billing", START)).await.expect("handled")
    else {
        panic!("it acts")
    };
    let mut at = Vec::new();
    while let Some(due) = world.responder.next_due().filter(|_| at.len() < attempts) {
        world.clock.set(due.max(world.clock.now_micros()));
        assert_eq!(world.responder.due(due).await.expect("the logs work"), 1);
        at.push((due - START) / 1_000_000);
    }
    (world.responder.order(&order_id).expect("it is there"), at)
}

#[tokio::test]
async fn every_failure_is_repeated_with_the_same_id_until_it_is_done() {
    let failures = [
        Reply::Slam,
        Reply::Silence,
        Reply::Answer("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"),
        Reply::Answer("no protocol of this world\r\n\r\n"),
        Reply::Answer("HTTP/1.1 20"),
        Reply::Answer("HTTP/1.1 429 Too Many Requests\r\nretry-after: 90\r\ncontent-length: 0\r\n\r\n"),
    ];
    let receiver = Receiver::new(failures).await;
    let world = World::new(calling(&receiver.address));
    let (order, at) = drive(&world, 100).await;
    assert_eq!(at, [0, 1, 3, 8, 18, 48, 138]);
    assert_eq!((order.state, order.calls[0].attempt, order.calls[0].done), (State::Executed, 7, true));
    let got = receiver.got();
    assert_eq!(got.len(), 6, "all but the one that was slammed");
    assert!(got.iter().all(|one| one.id == got[0].id && one.body == got[0].body));
    assert_eq!(got[0].body["type"], "killswitch.approved");
    assert_eq!(got[0].body["data"]["order"]["target"]["agent"], "billing");
    assert_eq!(got[0].body["data"]["alert"]["title"], "billing exports customers for the first time");
    let executed = world.mirrored().await.iter().filter(|row| row.state == "executed").count();
    assert_eq!(executed, 1);
}

#[tokio::test]
async fn what_cannot_succeed_is_given_up_at_once_and_said() {
    for (answer, said) in [
        ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", "400"),
        ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "302"),
        ("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", "410"),
    ] {
        let receiver = Receiver::new([Reply::Answer(answer), OK]).await;
        let world = World::new(calling(&receiver.address));
        let (order, at) = drive(&world, 100).await;
        assert_eq!((order.state, at.len()), (State::Partial, 1), "{said}");
        assert!(order.calls[0].detail.as_deref().expect("says why").contains(said), "{order:?}");
        assert!(world.denied("billing"), "the deny list holds whatever the switch does");
        assert_eq!(receiver.got().len(), 1);
    }
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_not_called_again() {
    let gone = Reply::Answer("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n");
    let receiver = Receiver::new([gone]).await;
    let world = World::new(calling(&receiver.address));
    drive(&world, 100).await;
    world.responder.handle_alert(&alert("other", START)).await.expect("handled");
    world.responder.due(START).await.expect("the logs work");
    assert_eq!(receiver.got().len(), 1);
}

#[tokio::test]
async fn attempts_end() {
    let receiver = Receiver::new(std::iter::repeat_n(Reply::Slam, 20)).await;
    let world = World::new(Config { attempts_max: 8, ..calling(&receiver.address) });
    let (order, at) = drive(&world, 100).await;
    assert_eq!(at, [0, 1, 3, 8, 18, 48, 108, 168]);
    assert_eq!(order.state, State::Partial);
}

#[tokio::test]
async fn a_private_address_is_refused_unless_allowed() {
    let receiver = Receiver::new([]).await;
    let mut config = calling(&receiver.address);
    // A name passes the check of the URL; its address does not.
    config.webhooks[0].url = format!("https://localhost:{}/", receiver.address.rsplit(':').next().expect("has a port"));
    config.private_addresses_allowed = false;
    let world = World::new(config);
    let (order, at) = drive(&world, 100).await;
    assert_eq!((order.state, at.len()), (State::Partial, 1));
    assert!(order.calls[0].detail.as_deref().expect("says why").contains("private_addresses_allowed"), "{order:?}");
    let mut config = calling(&receiver.address);
    config.private_addresses_allowed = false;
    assert!(config.problems().join(" ").contains("https"));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_tried_again() {
    let mut config = calling("127.0.0.1:1");
    config.webhooks[0].url = "https://does-not-exist.invalid/".into();
    let world = World::new(config);
    let (order, _) = drive(&world, 1).await;
    assert_eq!((order.state, order.calls[0].done), (State::Executing, false));
    assert!(order.calls[0].next_at.is_some());
}

#[tokio::test]
async fn a_release_waits_for_the_stop_and_calls_the_rest_off() {
    let receiver = Receiver::new([Reply::Slam]).await;
    let world = World::new(calling(&receiver.address));
    let (order, _) = drive(&world, 1).await;
    world.responder.release(&order.order_id, "ann", "false alarm").await.expect("released");
    let now = world.pass(60);
    assert_eq!(world.responder.due(now).await.expect("the logs work"), 1, "the stop is not repeated");
    let got = receiver.got();
    assert_eq!((got.len(), got[0].body["type"].as_str()), (1, Some("killswitch.released")));
    assert_eq!(world.mirrored().await.last().map(|row| row.state.clone()).as_deref(), Some("released"));
}

#[tokio::test]
async fn a_long_explanation_is_cut_to_fit() {
    let receiver = Receiver::new([]).await;
    let world = World::new(calling(&receiver.address));
    let mut long = alert("billing", START);
    long.explanation = "\u{1}".repeat(100_000);
    world.responder.handle_alert(&long).await.expect("handled");
    world.responder.due(START).await.expect("called");
    assert_eq!(receiver.got().len(), 1);
}

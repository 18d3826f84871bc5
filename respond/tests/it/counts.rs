//! What is counted of orders and switches.

use respond::counts::{Attempt, Fate, Switched};
use respond::{Config, Handled};

use crate::receiver::{OK, Receiver, Reply};
use crate::world::{START, World, alert, calling};

#[tokio::test]
async fn attempts_by_outcome_times_and_escalations_are_counted() {
    let receiver = Receiver::new([Reply::Slam, OK]).await;
    let world = World::new(Config { orders_per_minute_max: 1, ..calling(&receiver.address) });
    world.acted("billing").await;
    for secs in [0, 1] {
        let now = world.pass(secs);
        assert_eq!(world.responder.due(now).await.expect("the logs work"), 1);
    }
    let refused = world.responder.handle_alert(&alert("other", START)).await.expect("handled");
    assert!(matches!(refused, Handled::Refused(_)), "{refused:?}");
    let counts = world.responder.counts();
    let attempts = ["done", "again", "given_up"].map(|outcome| Attempt { switch: "soc".into(), outcome });
    assert_eq!(attempts.map(|attempt| counts.attempts.get_or_create(&attempt).get()), [1, 1, 0]);
    assert!(counts.call_secs.get(&Switched { switch: "soc".into() }).is_some());
    assert_eq!(counts.escalations.get_or_create(&Fate { result: "cap" }).get(), 1);
    let alerts = ["acting", "refused"].map(|result| counts.alerts.get_or_create(&Fate { result }).get());
    assert_eq!(alerts, [1, 1]);
    let orders = world.responder.orders_by_state();
    assert_eq!((orders[&("executed", "act")], orders[&("failed", "act")]), (1, 1));
}

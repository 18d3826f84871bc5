//! The responder as a task: an alert in the main log becomes a message, and the position survives.

use std::sync::Arc;
use std::time::Duration;

use lake::clock::Clock;
use lake::files::sim::SimFiles;
use lake::log::Group;
use respond::Responder;

use crate::receiver::Receiver;
use crate::world::{World, alert, calling, log, rows};

#[tokio::test]
async fn an_alert_in_the_log_calls_the_receiver_once() {
    let receiver = Receiver::new([]).await;
    let (files, clock) = (SimFiles::new(), Clock::system());
    let (control, main) = (log(&files, "control", "orders", &clock), log(&files, "main", "respond", &clock));
    let config = calling(&receiver.address);
    for _ in 0..2 {
        let responder = Responder::open(control.clone(), main.clone(), config.clone(), clock.clone()).expect("opens");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(responder.clone().run(async move { drop(stopped.await) }));
        let alerts = Some(schemas::alert::batch([&alert("billing", clock.now_micros())]));
        main.append(Group { alerts, ..Group::default() }).await.expect("appended");
        let until = async {
            while receiver.got().is_empty() || !rows(&main).iter().any(|row| row.state == "executed") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), until).await.expect("the order is executed and mirrored");
        stop.send(()).expect("it runs");
        task.await.expect("no panic").expect("no failure");
    }
    assert_eq!(receiver.got().len(), 1);
    assert_eq!(rows(&main).len(), 6);
}

#[tokio::test]
async fn a_lost_log_ends_the_task_with_its_reason() {
    let world = World::new(respond::Config::default());
    world.main.close();
    let running = Arc::clone(&world.responder).run(std::future::pending());
    let ended = tokio::time::timeout(Duration::from_secs(20), running).await.expect("it ends");
    assert!(ended.is_err(), "{ended:?}");
}

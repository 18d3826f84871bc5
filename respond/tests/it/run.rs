//! The responder as a task: an alert in the main log becomes a message, and the position survives.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lake::clock::Clock;
use lake::files::sim::SimFiles;
use lake::log::{Group, Log, LogConfig};
use respond::Responder;

use crate::receiver::Receiver;
use crate::world::{START, World, alert, calling, log, rows};

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

/// Appends `group` so often, and waits until the responder has handled it all.
async fn handle(world: &World, times: usize, group: impl Fn() -> Group) {
    for _ in 0..times {
        world.main.append(group()).await.expect("appended");
    }
    let until = async {
        while !world.responder.alerts_passed().reaches(&world.main.ends()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until).await.expect("it is handled");
}

fn tick() -> Group {
    Group { tick: Some(START), ..Group::default() }
}

#[tokio::test]
async fn time_that_passes_is_not_worth_a_note() {
    let world = World::new(respond::Config { policies: Vec::new(), ..respond::Config::default() });
    let task = tokio::spawn(world.responder.clone().run(std::future::pending()));
    handle(&world, 50, tick).await;
    world.responder.flush_news().await.expect("nothing to write");
    assert_eq!(world.control.end(0), 0);
    let alerts = || Group { alerts: Some(schemas::alert::batch([&alert("billing", START)])), ..Group::default() };
    handle(&world, 1, alerts).await;
    for _ in 0..2 {
        world.responder.flush_news().await.expect("written");
        assert_eq!(world.control.end(0), 1, "one note of an alert");
        handle(&world, 50, tick).await;
    }
    task.abort();
}

#[tokio::test]
async fn a_segment_that_is_held_back_is_worth_a_note() {
    let mut world = World::new(respond::Config::default());
    let config = LogConfig { segment_bytes_max: 1, duplicates_window: 0, ..LogConfig::default() };
    let (files, groups) = (Arc::new(world.files.clone()), [respond::MAIN_GROUP]);
    let folder = PathBuf::from("small");
    world.main = Log::open(files, folder, &config, world.clock.clone(), &groups).expect("the log opens").0;
    let opened = Responder::open(world.control.clone(), world.main.clone(), world.config.clone(), world.clock.clone());
    world.responder = opened.expect("the responder opens");
    let task = tokio::spawn(world.responder.clone().run(std::future::pending()));
    handle(&world, 50, tick).await;
    assert_eq!((world.main.first(0), world.control.end(0)), (0, 0));
    world.responder.flush_news().await.expect("written");
    handle(&world, 1, tick).await;
    assert!(world.main.first(0) >= 49 && world.control.end(0) == 1, "{} {}", world.main.first(0), world.control.end(0));
    task.abort();
}

#[tokio::test]
async fn logs_that_would_not_retain_are_refused() {
    let (files, clock) = (SimFiles::new(), Clock::manual(START));
    let (control, main) = (log(&files, "control", "lake", &clock), log(&files, "main", "respond", &clock));
    let refused = Responder::open(control, main, respond::Config::default(), clock).err().expect("fails").to_string();
    assert!(refused.contains("the control log is open without the group `orders`"), "{refused}");
}

#[tokio::test]
async fn a_lost_log_ends_the_task_with_its_reason() {
    let world = World::new(respond::Config::default());
    world.main.close();
    let running = Arc::clone(&world.responder).run(std::future::pending());
    let ended = tokio::time::timeout(Duration::from_secs(20), running).await.expect("it ends");
    assert!(ended.is_err(), "{ended:?}");
}

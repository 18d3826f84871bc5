//! Power lost at every write: after the restart the order goes on, once.

use std::collections::BTreeSet;
use std::sync::Arc;

use lake::clock::Clock;
use lake::files::sim::{Fault, SimFiles};
use lake::log::{Log, LogConfig};
use respond::{Config, Error, Responder};

use crate::receiver::{Receiver, Reply};
use crate::world::{START, alert, calling, rows};

/// Opens everything, handles the alert, calls, mirrors, and remembers: all that a run does, stopping at the first failure.
async fn live(files: &SimFiles, config: &Config) -> Result<(), Error> {
    let clock = Clock::manual(START);
    let open = |folder: &str, group| {
        let opened = Log::open(Arc::new(files.clone()), folder.into(), &LogConfig::default(), clock.clone(), &[group]);
        opened.map(|(log, _)| log)
    };
    let (control, main) = (open("control", respond::CONTROL_GROUP)?, open("main", respond::MAIN_GROUP)?);
    let ended = steps(&control, &main, config, &clock).await;
    control.close();
    main.close();
    ended
}

async fn steps(control: &Arc<Log>, main: &Arc<Log>, config: &Config, clock: &Clock) -> Result<(), Error> {
    let responder = Responder::open(control.clone(), main.clone(), config.clone(), clock.clone())?;
    again(async || responder.handle_alert(&alert("billing", START)).await.map(drop)).await?;
    again(async || responder.mirror().await).await?;
    for _ in 0..4 {
        let now = responder.next_due().unwrap_or(START).max(clock.now_micros());
        clock.set(now);
        again(async || responder.tick(now).await.map(drop)).await?;
        again(async || responder.due(now).await.map(drop)).await?;
        // Before the mirror has caught up, too: what is remembered must not run ahead of it.
        again(async || responder.flush().await).await?;
        again(async || responder.mirror().await).await?;
        again(async || responder.flush().await).await?;
    }
    Ok(())
}

/// Tries once more where that may help, as the running responder does.
async fn again(step: impl AsyncFn() -> Result<(), Error>) -> Result<(), Error> {
    match step().await {
        Err(error) if error.retry_later() => step().await,
        ended => ended,
    }
}

/// What must hold at the end, whatever happened on the way.
fn check(files: &SimFiles, receiver: &Receiver, when: &str) {
    let main = crate::world::log(files, "main", respond::MAIN_GROUP, &Clock::manual(START));
    let all = rows(&main);
    let steps: Vec<i32> = all.iter().map(|row| row.step).collect();
    assert_eq!(steps, (0..steps.len() as i32).collect::<Vec<_>>(), "each step once, in order, {when}");
    assert_eq!(all.last().map(|row| row.state.as_str()), Some("executed"), "{when}");
    let ids: BTreeSet<String> = receiver.got().into_iter().map(|got| got.id).collect();
    assert_eq!(ids.len(), 1, "one order, one id, {when}");
}

#[tokio::test]
async fn power_lost_at_every_write_repeats_nothing() {
    let (mut cut, mut whole) = (0, false);
    while !whole {
        let receiver = Receiver::new([Reply::Slam]).await;
        let config = calling(&receiver.address);
        let files = SimFiles::new();
        files.cut_at(cut);
        whole = live(&files, &config).await.is_ok();
        let after = files.after_cut(cut.is_multiple_of(2).then_some(cut));
        live(&after, &config).await.expect("the second run ends well");
        check(&after, &receiver, &format!("cut at {cut}"));
        cut += 1;
    }
    assert!(cut > 20, "the cuts reach into the order's life, {cut}");
}

#[tokio::test]
async fn a_full_disk_at_any_write_only_delays() {
    let mut call = 0;
    loop {
        let receiver = Receiver::new([Reply::Slam]).await;
        let config = calling(&receiver.address);
        let files = SimFiles::new();
        files.fail_at(call, Fault::NoSpace);
        let ended = live(&files, &config).await;
        if files.calls() <= call {
            break;
        }
        // A log that cannot be opened, or cannot be sure, ends the process; a new one goes on.
        let files = if ended.is_err() { files.after_cut(None) } else { files };
        live(&files, &config).await.expect("the second run ends well");
        check(&files, &receiver, &format!("full at {call}"));
        call += 1;
    }
    assert!(call > 20, "the faults reach into the order's life, {call}");
}

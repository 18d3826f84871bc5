//! Runs the detection engine over the log: reads frames in order, appends the alerts, keeps snapshots with the position.
//!
//! A thread of its own, because judging is all CPU. What it appends may be appended again after a crash (it goes on from
//! its last snapshot): the log drops an alert whose id came before, so that readers see each alert once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::Array;
use detect::Engine;
use lake::files::Whole;
use lake::log::{Frame, Group, Log, LogError, Payload};
use respond::budget::Budget;
use schemas::order::Orders;
use schemas::{AlertRow, OrderRow};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Where below the data folder, or beside the tables in a bucket, the detectors' memory is, and its file.
pub(crate) const FOLDER: &str = "detect";
pub(crate) const SNAPSHOT: &str = "engine.snapshot";
/// Name of the reader group in the log.
pub(crate) const GROUP: &str = "detect";
/// A snapshot holds the position and the length of what is left of the alert budgets, 8 bytes each, that budget as JSON, and
/// the engine's own bytes.
const NUMBER_BYTES: usize = 8;
const READ_BYTES_MAX: usize = 8 << 20;
/// So long until alerts that found no room are appended again.
const RETRY: Duration = Duration::from_millis(200);
const SNAPSHOT_EVENTS_MAX: usize = 200_000;
/// A tick is a second: so long until a snapshot when frames came, and when none did.
const SNAPSHOT_TICKS_MAX: usize = 60;
const SNAPSHOT_IDLE_TICKS_MAX: usize = 3_600;

/// What was judged since the last snapshot. Until the next one the log keeps all of it.
#[derive(Default)]
struct Unsaved {
    events: usize,
    /// Frames that are no ticks.
    frames: usize,
    ticks: usize,
}

impl Unsaved {
    fn is_due(&self) -> bool {
        self.events >= SNAPSHOT_EVENTS_MAX
            || (self.frames > 0 && self.ticks >= SNAPSHOT_TICKS_MAX)
            || self.ticks >= SNAPSHOT_IDLE_TICKS_MAX
    }
}

/// The detection role: engine, position, snapshot file.
pub(crate) struct Detection {
    log: Arc<Log>,
    snapshot: Whole,
    unsaved: Unsaved,
    /// A snapshot on its way, and the position in it.
    saving: Option<(u64, JoinHandle<Result<()>>)>,
    engine: Engine,
    budget: Budget,
    alerts_day_max: u32,
    position: u64,
    progress: Arc<AtomicU64>,
}

impl Detection {
    /// Restores the last snapshot; without one, or where it makes no sense, starts at the oldest frame there is. Fails where it
    /// cannot be read: to learn anew because a bucket is out of reach would forget what is there.
    pub(crate) async fn open(
        log: Arc<Log>,
        snapshot: Whole,
        config: &detect::Config,
        alerts_day_max: u32,
    ) -> Result<Self> {
        let stored = snapshot.read().await.context("the detectors' snapshot cannot be read")?;
        let (engine, budget, position) = match stored.map(|bytes| restore(&bytes, config)) {
            Some(Ok(restored)) => restored,
            None => (Engine::new(config), Budget::default(), log.first()),
            Some(Err(error)) => {
                tracing::error!("the detectors' snapshot cannot be used, they learn anew from the log: {error:#}");
                (Engine::new(config), Budget::default(), log.first())
            }
        };
        // Frames that the log no longer has are in the lake; learning from there is `muster learn`'s.
        let position = position.max(log.first());
        log.passed(GROUP, position);
        let progress = Arc::new(AtomicU64::new(position));
        let (unsaved, saving) = (Unsaved::default(), None);
        Ok(Detection { log, snapshot, unsaved, saving, engine, budget, alerts_day_max, position, progress })
    }

    /// One past the last frame judged; readable from other threads.
    pub(crate) fn progress(&self) -> Arc<AtomicU64> {
        self.progress.clone()
    }

    /// Judges until the log closes; then writes a last snapshot.
    pub(crate) fn run(mut self, runtime: &tokio::runtime::Handle) -> Result<()> {
        loop {
            match runtime.block_on(self.log.wait(self.position)) {
                Ok(_) => {}
                Err(LogError::Closed) => return self.save_last(runtime),
                Err(error) => return Err(error).context("the detectors cannot read the log"),
            }
            let frames = self.log.read(self.position, READ_BYTES_MAX).context("the detectors cannot read the log")?;
            let mut alerts = Vec::new();
            for frame in &frames {
                self.judge(frame, &mut alerts)?;
            }
            if !alerts.is_empty() {
                alerts.iter_mut().for_each(|alert| self.budget.weigh(alert, self.alerts_day_max));
                match self.write(&alerts, runtime) {
                    Ok(()) => {}
                    Err(LogError::Closed) => return Ok(()), // judged again from the last snapshot
                    Err(error) => return Err(error).context("the detectors cannot write their alerts"),
                }
            }
            self.progress.store(self.position, Ordering::Release);
            self.saved(runtime);
            if self.unsaved.is_due() && self.saving.is_none() {
                self.save(runtime)?;
            }
        }
    }

    /// Appends alerts; where there is no room they wait for it, and judging with them.
    fn write(&self, alerts: &[AlertRow], runtime: &tokio::runtime::Handle) -> Result<(), LogError> {
        loop {
            let group = Group { alerts: Some(schemas::alert::batch(alerts)), ..Group::default() };
            match runtime.block_on(self.log.append(group)) {
                Err(error) if error.retry_helps() => std::thread::sleep(RETRY),
                done => return done.map(|_| ()),
            }
        }
    }

    fn judge(&mut self, frame: &Frame, alerts: &mut Vec<AlertRow>) -> Result<()> {
        match &frame.payload {
            Payload::Events(events) => {
                self.engine.observe(events, alerts)?;
                self.unsaved.events += events.num_rows();
            }
            Payload::Tick(time) => {
                self.engine.tick(*time, alerts);
                self.unsaved.ticks += 1;
            }
            Payload::Control(control) => {
                // A control frame that is not about detection is somebody else's.
                self.engine.control(control);
            }
            Payload::Orders(orders) => {
                let orders = Orders::new(orders)?;
                let controls = (0..orders.order_id.len()).filter_map(|row| control_of(&orders.row(row)));
                controls.for_each(|control| _ = self.engine.control(&control));
            }
            Payload::Quarantine(_)
            | Payload::Ledger(_)
            | Payload::Alerts(_)
            | Payload::Inventory(_)
            | Payload::Verdicts(_) => {}
        }
        self.unsaved.frames += usize::from(!matches!(frame.payload, Payload::Tick(_)));
        self.position = frame.offset + 1;
        Ok(())
    }

    /// Begins to write a snapshot. Judging goes on meanwhile: alerts never wait for the place where the lake is.
    fn save(&mut self, runtime: &tokio::runtime::Handle) -> Result<()> {
        let (bytes, place) = (snapshot(&self.engine, &self.budget, self.position)?, self.snapshot.clone());
        let writing = runtime.spawn(async move { Ok(place.write(bytes).await?) });
        self.saving = Some((self.position, writing));
        self.unsaved = Unsaved::default();
        Ok(())
    }

    /// Tells the log of a snapshot that is written. One that could not be is made again later; the log keeps what it needs.
    fn saved(&mut self, runtime: &tokio::runtime::Handle) {
        let Some((position, writing)) = self.saving.take_if(|(_, writing)| writing.is_finished()) else { return };
        match runtime.block_on(writing).map_err(anyhow::Error::from).and_then(|written| written) {
            Ok(()) => self.log.passed(GROUP, position),
            Err(error) => {
                tracing::error!("the detectors' snapshot cannot be written, and is tried again: {error:#}");
                self.unsaved.frames += 1;
            }
        }
    }

    fn save_last(&mut self, runtime: &tokio::runtime::Handle) -> Result<()> {
        if let Some((_, writing)) = self.saving.take() {
            // The one that follows says the same and more.
            let _ = runtime.block_on(writing);
        }
        let bytes = snapshot(&self.engine, &self.budget, self.position)?;
        runtime.block_on(self.snapshot.write(bytes)).context("the detectors' snapshot cannot be written")?;
        self.log.passed(GROUP, self.position);
        Ok(())
    }
}

/// The bytes of a snapshot.
pub(crate) fn snapshot(engine: &Engine, budget: &Budget, position: u64) -> Result<Vec<u8>> {
    let budget = serde_json::to_vec(budget)?;
    let mut bytes = Vec::from(position.to_le_bytes());
    bytes.extend((budget.len() as u64).to_le_bytes());
    bytes.extend(budget);
    bytes.extend(engine.snapshot());
    Ok(bytes)
}

/// What a step of an order means to the detectors: its target is stopped, or let go. Other steps change neither.
pub(crate) fn control_of(step: &OrderRow) -> Option<Value> {
    let OrderRow { tenant, order_id, target_id, time, .. } = step;
    match step.state.as_str() {
        "executing" | "executed" | "partial" => {
            let target = match step.target_kind.as_str() {
                "agent_user" => {
                    let (agent, user) = target_id.split_once(' ')?;
                    json!({"agent": agent, "user": user})
                }
                kind => json!({kind: target_id}),
            };
            Some(json!({"tenant": tenant, "killed": target, "order": order_id, "time": time}))
        }
        "released" | "expired" | "failed" => Some(json!({"tenant": tenant, "released": order_id})),
        _ => None,
    }
}

fn restore(bytes: &[u8], config: &detect::Config) -> Result<(Engine, Budget, u64)> {
    let (position, budget, engine) = parts(bytes).context("the snapshot is too short")?;
    let budget = serde_json::from_slice(budget).context("the snapshot's budget is damaged")?;
    let engine = Engine::restore(config, engine).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok((engine, budget, position))
}

/// Position, budget and engine of a snapshot.
pub(crate) fn parts(snapshot: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (position, rest) = snapshot.split_first_chunk::<NUMBER_BYTES>()?;
    let (length, rest) = rest.split_first_chunk::<NUMBER_BYTES>()?;
    let (budget, engine) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    Some((u64::from_le_bytes(*position), budget, engine))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(state: &str, target_kind: &str, target_id: &str) -> OrderRow {
        let (tenant, order_id) = ("acme".to_owned(), "o-1".to_owned());
        let (state, target_kind, target_id) = (state.to_owned(), target_kind.to_owned(), target_id.to_owned());
        OrderRow { tenant, order_id, state, target_kind, target_id, time: 7, ..OrderRow::default() }
    }

    #[test]
    fn the_detectors_hear_who_is_stopped_and_who_is_let_go() {
        let killed = |target: Value| Some(json!({"tenant": "acme", "killed": target, "order": "o-1", "time": 7}));
        let released = Some(json!({"tenant": "acme", "released": "o-1"}));
        for (step, expected) in [
            (step("requested", "agent", "a"), None),
            (step("executing", "agent", "a"), killed(json!({"agent": "a"}))),
            (step("partial", "credential", "c"), killed(json!({"credential": "c"}))),
            (step("executed", "agent_user", "a u v"), killed(json!({"agent": "a", "user": "u v"}))),
            (step("expired", "agent", "a"), released.clone()),
            (step("failed", "agent", "a"), released),
        ] {
            assert_eq!(control_of(&step), expected, "{step:?}");
            let control = expected.into_iter().all(|control| Engine::new(&detect::Config::default()).control(&control));
            assert!(control, "{step:?}");
        }
    }
}

//! Runs the detection engine over the log: reads frames in order, appends the alerts, keeps snapshots with the position.
//!
//! A thread of its own, because judging is all CPU. What it appends may be appended again after a crash (it goes on from
//! its last snapshot): the log drops an alert whose id came before, so that readers see each alert once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::Array;
use detect::Engine;
use lake::files::Files;
use lake::log::{Frame, Group, Log, LogError, Payload};
use respond::budget::Budget;
use schemas::order::Orders;
use schemas::{AlertRow, OrderRow};
use serde_json::{Value, json};

/// Where below the data folder the detectors' memory is, and its file.
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
    files: Arc<dyn Files>,
    snapshot: PathBuf,
    unsaved: Unsaved,
    engine: Engine,
    budget: Budget,
    alerts_day_max: u32,
    position: u64,
    progress: Arc<AtomicU64>,
}

impl Detection {
    /// Restores the last snapshot; without one, or where a snapshot cannot be read, starts at the oldest frame there is.
    pub(crate) fn open(
        log: Arc<Log>,
        files: Arc<dyn Files>,
        folder: PathBuf,
        config: &detect::Config,
        alerts_day_max: u32,
    ) -> Result<Self> {
        files.create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let snapshot = folder.join(SNAPSHOT);
        let (engine, budget, position) = match restore(files.as_ref(), &snapshot, config) {
            Ok(Some(restored)) => restored,
            Ok(None) => (Engine::new(config), Budget::default(), log.first()),
            Err(error) => {
                tracing::error!("the detectors' snapshot cannot be used, they learn anew from the log: {error:#}");
                (Engine::new(config), Budget::default(), log.first())
            }
        };
        // Frames that the log no longer has are in the lake; learning from there is `muster learn`'s.
        let position = position.max(log.first());
        log.passed(GROUP, position);
        let progress = Arc::new(AtomicU64::new(position));
        let unsaved = Unsaved::default();
        Ok(Detection { log, files, snapshot, unsaved, engine, budget, alerts_day_max, position, progress })
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
                Err(LogError::Closed) => return self.save(),
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
            if self.unsaved.is_due() {
                self.save()?;
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

    fn save(&mut self) -> Result<()> {
        save(self.files.as_ref(), &self.snapshot, &self.engine, &self.budget, self.position)?;
        self.unsaved = Unsaved::default();
        self.log.passed(GROUP, self.position);
        Ok(())
    }
}

/// Writes the snapshot whole: a temporary file, fsynced, renamed, folder fsynced.
pub(crate) fn save(files: &dyn Files, snapshot: &Path, engine: &Engine, budget: &Budget, position: u64) -> Result<()> {
    let temporary = snapshot.with_extension("tmp");
    let folder = snapshot.parent().context("the snapshot lies in a folder")?;
    if files.len(&temporary).is_ok() {
        files.remove(&temporary)?;
    }
    let mut file = files.create(&temporary)?;
    let budget = serde_json::to_vec(budget)?;
    file.append(&position.to_le_bytes())?;
    file.append(&(budget.len() as u64).to_le_bytes())?;
    file.append(&budget)?;
    file.append(&engine.snapshot())?;
    file.sync()?;
    files.rename(&temporary, snapshot)?;
    Ok(files.sync_dir(folder)?)
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

fn restore(files: &dyn Files, path: &Path, config: &detect::Config) -> Result<Option<(Engine, Budget, u64)>> {
    let len = match files.len(path) {
        Ok(len) => len,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bytes = files.read(path, 0..len)?;
    let (position, budget, engine) = parts(&bytes).context("the snapshot is too short")?;
    let budget = serde_json::from_slice(budget).context("the snapshot's budget is damaged")?;
    let engine = Engine::restore(config, engine).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(Some((engine, budget, position)))
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

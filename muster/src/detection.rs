//! Runs the detection engine over the log: reads frames in order, appends the alerts, keeps snapshots with the position.
//!
//! Time passes at a barrier: where the log has several sequences, each is read up to its next tick, and waits there for the
//! others. What a person said or an order did takes effect at the next barrier then, since the sequences' order among each
//! other is nobody's; with one sequence at its place. So what is judged hangs on the log alone.
//!
//! A thread of its own, because judging is all CPU. What it appends may be appended again after a crash (it goes on from
//! its last snapshot): the log drops an alert whose id came before, so that readers see each alert once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use arrow::array::Array;
use detect::Engine;
use lake::files::Whole;
use lake::log::{Frame, Group, Log, LogError, Payload, Positions};
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
/// No position: several follow.
const SEVERAL: u64 = u64::MAX;
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
    saving: Option<(Positions, JoinHandle<Result<()>>)>,
    engine: Engine,
    budget: Budget,
    alerts_day_max: u32,
    position: Positions,
    /// Of each sequence that waits at a tick, its time and place.
    held: Vec<Option<(i64, u64)>>,
    /// Control frames since the last barrier, with their sequence.
    waiting: Vec<(usize, Value)>,
    progress: Progress,
}

/// How far the log is judged; readable from other threads.
pub(crate) type Progress = Arc<Mutex<Positions>>;

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
            None => (Engine::new(config), Budget::default(), log.firsts()),
            Some(Err(error)) => {
                tracing::error!("the detectors' snapshot cannot be used, they learn anew from the log: {error:#}");
                (Engine::new(config), Budget::default(), log.firsts())
            }
        };
        // Frames that the log no longer has are in the lake; learning from there is `muster learn`'s.
        let position = retained(&log, position)?;
        log.passed(GROUP, &position);
        let progress = Arc::new(Mutex::new(position.clone()));
        let (unsaved, saving) = (Unsaved::default(), None);
        let (held, waiting) = (vec![None; log.sequences()], Vec::new());
        Ok(Detection {
            log,
            snapshot,
            unsaved,
            saving,
            engine,
            budget,
            alerts_day_max,
            position,
            held,
            waiting,
            progress,
        })
    }

    /// One past the last frame judged; readable from other threads.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Judges until the log closes; then writes a last snapshot.
    pub(crate) fn run(mut self, runtime: &tokio::runtime::Handle) -> Result<()> {
        loop {
            match runtime.block_on(self.log.wait(&self.awaited())) {
                Ok(()) => {}
                Err(LogError::Closed) => return self.save_last(runtime),
                Err(error) => return Err(error).context("the detectors cannot read the log"),
            }
            let mut alerts = Vec::new();
            for sequence in 0..self.log.sequences() {
                self.advance(sequence, &mut alerts)?;
            }
            if !alerts.is_empty() {
                alerts.iter_mut().for_each(|alert| self.budget.weigh(alert, self.alerts_day_max));
                match self.write(&alerts, runtime) {
                    Ok(()) => {}
                    Err(LogError::Closed) => return Ok(()), // judged again from the last snapshot
                    Err(error) => return Err(error).context("the detectors cannot write their alerts"),
                }
            }
            self.progress.lock().unwrap_or_else(PoisonError::into_inner).pass_all(&self.position);
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

    /// What to wait for: a sequence that is held needs nothing more.
    fn awaited(&self) -> Positions {
        let held = |(sequence, held): (usize, &Option<_>)| {
            if held.is_some() { u64::MAX } else { self.position.get(sequence) }
        };
        self.held.iter().enumerate().map(held).collect()
    }

    /// Judges what a sequence has, up to the tick where it has to wait.
    fn advance(&mut self, sequence: usize, alerts: &mut Vec<AlertRow>) -> Result<()> {
        if self.held[sequence].is_some() {
            return Ok(());
        }
        let (from, bytes_max) = (self.position.get(sequence), READ_BYTES_MAX / self.log.sequences());
        let frames = self.log.read(sequence, from, bytes_max);
        let place = || format!("the detectors cannot read the log {} from {from}", self.log.name(sequence));
        for frame in frames.with_context(place)? {
            self.judge(&frame, alerts)?;
            if self.held[sequence].is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Lets time pass wherever all sequences have come to it.
    fn barrier(&mut self, alerts: &mut Vec<AlertRow>) {
        // `None` is less than every time: while one sequence is not held, there is no barrier.
        while let Some(Some((time, _))) = self.held.iter().copied().min() {
            for sequence in 0..self.held.len() {
                if self.held[sequence].is_some_and(|(held, _)| held == time) {
                    self.held[sequence] = None;
                    let (engine, waiting) = (&mut self.engine, &mut self.waiting);
                    waiting
                        .extract_if(.., |(of, _)| *of == sequence)
                        .for_each(|(_, control)| _ = engine.control(&control));
                }
            }
            self.engine.tick(time, alerts);
            self.unsaved.ticks += 1;
        }
    }

    /// What detection obeys besides events.
    fn control(&mut self, sequence: usize, control: Value) {
        if self.held.len() > 1 {
            self.waiting.push((sequence, control));
            return;
        }
        // A control frame that is not about detection is somebody else's.
        self.engine.control(&control);
    }

    fn judge(&mut self, frame: &Frame, alerts: &mut Vec<AlertRow>) -> Result<()> {
        self.position.pass(frame.sequence, frame.offset + 1);
        self.unsaved.frames += usize::from(!matches!(frame.payload, Payload::Tick(_)));
        match &frame.payload {
            Payload::Events(events) => {
                self.engine.observe(events, alerts)?;
                self.unsaved.events += events.num_rows();
            }
            Payload::Tick(time) => {
                self.held[frame.sequence] = Some((*time, frame.offset));
                self.barrier(alerts);
            }
            // It is in every sequence.
            Payload::Control(control) if frame.sequence == 0 => self.control(0, control.clone()),
            Payload::Orders(orders) => {
                let orders = Orders::new(orders)?;
                let controls = (0..orders.order_id.len()).filter_map(|row| control_of(&orders.row(row)));
                controls.for_each(|control| self.control(frame.sequence, control));
            }
            Payload::Control(_)
            | Payload::Quarantine(_)
            | Payload::Ledger(_)
            | Payload::Alerts(_)
            | Payload::Inventory(_)
            | Payload::Verdicts(_) => {}
        }
        Ok(())
    }

    /// Begins to write a snapshot. Judging goes on meanwhile: alerts never wait for the place where the lake is.
    fn save(&mut self, runtime: &tokio::runtime::Handle) -> Result<()> {
        let Some((position, bytes)) = self.state()? else { return Ok(()) };
        let place = self.snapshot.clone();
        let writing = runtime.spawn(async move { Ok(place.write(bytes).await?) });
        self.saving = Some((position, writing));
        self.unsaved = Unsaved::default();
        Ok(())
    }

    /// Tells the log of a snapshot that is written. One that could not be is made again later; the log keeps what it needs.
    fn saved(&mut self, runtime: &tokio::runtime::Handle) {
        let Some((position, writing)) = self.saving.take_if(|(_, writing)| writing.is_finished()) else { return };
        match runtime.block_on(writing).map_err(anyhow::Error::from).and_then(|written| written) {
            Ok(()) => self.log.passed(GROUP, &position),
            Err(error) => {
                tracing::error!("the detectors' snapshot cannot be written, and is tried again: {error:#}");
                self.unsaved.frames += 1;
            }
        }
    }

    /// A snapshot and where to go on from it; none while a control frame waits for its barrier, which it would lack.
    fn state(&self) -> Result<Option<(Positions, Vec<u8>)>> {
        if !self.waiting.is_empty() {
            return Ok(None);
        }
        // A tick that is waited at is read again.
        let next = |(sequence, held): (usize, &Option<(i64, u64)>)| {
            held.map_or_else(|| self.position.get(sequence), |(_, offset)| offset)
        };
        let position: Positions = self.held.iter().enumerate().map(next).collect();
        let bytes = snapshot(&self.engine, &self.budget, &position)?;
        Ok(Some((position, bytes)))
    }

    fn save_last(&mut self, runtime: &tokio::runtime::Handle) -> Result<()> {
        if let Some((_, writing)) = self.saving.take() {
            // The one that follows says the same and more.
            let _ = runtime.block_on(writing);
        }
        let Some((position, bytes)) = self.state()? else { return Ok(()) };
        runtime.block_on(self.snapshot.write(bytes)).context("the detectors' snapshot cannot be written")?;
        self.log.passed(GROUP, &position);
        Ok(())
    }
}

/// The bytes of a snapshot.
pub(crate) fn snapshot(engine: &Engine, budget: &Budget, position: &Positions) -> Result<Vec<u8>> {
    let budget = serde_json::to_vec(budget)?;
    let mut bytes = place(position);
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

fn restore(bytes: &[u8], config: &detect::Config) -> Result<(Engine, Budget, Positions)> {
    let (position, budget, engine) = parts(bytes).context("the snapshot is too short")?;
    let budget = serde_json::from_slice(budget).context("the snapshot's budget is damaged")?;
    let engine = Engine::restore(config, engine).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok((engine, budget, position))
}

/// How a snapshot begins: with the position, or where there are several with [`SEVERAL`], their number and all of them.
fn place(position: &Positions) -> Vec<u8> {
    let all: Vec<u64> = position.iter().map(|(_, next)| next).collect();
    let head = if all.len() == 1 { vec![] } else { vec![SEVERAL, all.len() as u64] };
    head.into_iter().chain(all).flat_map(u64::to_le_bytes).collect()
}

/// Position, budget and engine of a snapshot.
pub(crate) fn parts(snapshot: &[u8]) -> Option<(Positions, &[u8], &[u8])> {
    let mut rest = snapshot;
    let mut number = || {
        let (number, after) = rest.split_first_chunk::<NUMBER_BYTES>()?;
        rest = after;
        Some(u64::from_le_bytes(*number))
    };
    let first = number()?;
    let position = if first == SEVERAL {
        let count = number()?;
        (0..count).map(|_| number()).collect::<Option<Positions>>()?
    } else {
        [first].into_iter().collect()
    };
    let length = usize::try_from(number()?).ok()?;
    let (budget, engine) = rest.split_at_checked(length)?;
    Some((position, budget, engine))
}

/// Where to go on: at `position`, or where the log begins. What Kafka deleted before it was judged is nowhere made up for.
fn retained(log: &Log, position: Positions) -> Result<Positions> {
    if position.iter().count() != log.sequences() {
        bail!("the detectors' snapshot is of another log; `muster learn` makes one from the lake");
    }
    let mut next = log.firsts();
    for (sequence, needed) in position.iter() {
        let (name, first) = (log.name(sequence), next.get(sequence));
        if needed < first && matches!(log, Log::Kafka(_)) {
            bail!(
                "the detectors need the log {name} from offset {needed} on, but Kafka has deleted it up to {first}: its \
                 retention is shorter than they stood still; `muster learn` makes a snapshot from the lake"
            );
        }
        next.pass(sequence, needed);
    }
    Ok(next)
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

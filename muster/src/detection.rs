//! Runs the detection engine over the log: reads frames in order, appends the alerts, keeps snapshots with the position.
//!
//! Time passes at a barrier: where the log has several sequences, each is read up to its next tick, and waits there for the
//! others. What a person said or an order did takes effect behind the next tick that all have come to, since the
//! sequences' order among each other is nobody's; with one sequence at its place. So what is judged hangs on the log alone.
//!
//! Where several processes divide the sequences, each judges its own, and they hand over at every tick what the tenants
//! share ([`exchange`]). When the division changes, all begin anew from the last cut ([`memory`]): what is judged twice
//! comes to the same.
//!
//! A thread of its own, because judging is all CPU. What it appends may be appended again (after a crash, or by whoever
//! takes a sequence over): the log drops an alert whose id came before, so that readers see each alert once.

pub(crate) mod exchange;
pub(crate) mod memory;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::Array;
use detect::{Engine, Shards};
use lake::log::{Frame, Group, Log, LogError, Payload, Positions, Share, Turn};
use respond::budget::{Budget, Weighed};
use schemas::order::Orders;
use schemas::{AlertRow, OrderRow};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use exchange::{Exchange, Part};
use memory::{Files, Memory, Remembered, retained};

/// Where below the data folder, or beside the tables in a bucket, the detectors' memory is.
pub(crate) const FOLDER: &str = "detect";
/// Name of the reader group in the log.
pub(crate) const GROUP: &str = "detect";
const READ_BYTES_MAX: usize = 8 << 20;
/// So long until alerts that found no room are appended again.
const RETRY: Duration = Duration::from_millis(200);
/// How often a process looks whether the first cut is there.
const LOOK: Duration = Duration::from_millis(500);
/// So long a tick may take to come from the other processes before that is told.
const PATIENCE: Duration = Duration::from_secs(30);
/// To judge them again takes as long as to write the memory of some hundred thousand agents.
const SNAPSHOT_EVENTS_MAX: usize = 1_000_000;
/// The same where the log, which keeps them until then, has half of what it may.
const SNAPSHOT_EVENTS_FULL_MAX: usize = 100_000;
/// A tick is a second: so long until a snapshot when frames came, and when none did.
const SNAPSHOT_TICKS_MAX: usize = 60;
const SNAPSHOT_IDLE_TICKS_MAX: usize = 3_600;
/// Between two cuts when frames came, and when none did. All processes must cut at the same ticks: time alone decides.
const CUT_MICROS: i64 = 60_000_000;
const CUT_IDLE_MICROS: i64 = 3_600_000_000;

/// How far the sequences of this process are judged; readable from other threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    turn: Turn,
    next: Positions,
}

impl Progress {
    /// Frames that are still to be judged, in the sequences that are this process's; 1 until that is known.
    pub(crate) fn behind(&self, ends: &Positions) -> u64 {
        if self.turn.number == 0 {
            // Nobody has said yet which are.
            return 1;
        }
        self.turn.sequences().map(|sequence| ends.get(sequence).saturating_sub(self.next.get(sequence))).sum()
    }

    pub(crate) fn next(&self) -> &Positions {
        &self.next
    }
}

pub(crate) type Shown = Arc<Mutex<Progress>>;

/// The detection role.
pub(crate) struct Detection {
    log: Arc<Log>,
    /// None where the log is one process's alone.
    exchange: Option<Arc<Log>>,
    memory: Memory,
    share: Share,
    config: detect::Config,
    alerts_day_max: u32,
    /// What the first turn begins with, where that is known before it runs.
    begun: Option<(Turn, Remembered)>,
    shown: Shown,
}

/// What was judged since the last snapshot. Until the next one the log keeps all of it.
#[derive(Default)]
struct Unsaved {
    events: usize,
    /// Frames that are no ticks.
    frames: usize,
    ticks: usize,
}

impl Unsaved {
    fn is_due(&self, log: &Log) -> bool {
        self.events >= SNAPSHOT_EVENTS_MAX
            || (self.events >= SNAPSHOT_EVENTS_FULL_MAX && log.is_half_full())
            || (self.frames > 0 && self.ticks >= SNAPSHOT_TICKS_MAX)
            || self.ticks >= SNAPSHOT_IDLE_TICKS_MAX
    }
}

/// Why judging ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Closed,
    Turn,
    /// A part of another process never came: it is to begin anew, from a newer cut.
    Hole,
}

impl Detection {
    /// Restores the last snapshot; without one, or where it makes no sense, starts at the oldest frame there is. Fails where it
    /// cannot be read: to learn anew because a bucket is out of reach would forget what is there.
    pub(crate) async fn open(
        log: Arc<Log>,
        exchange: Option<Arc<Log>>,
        share: Share,
        memory: Memory,
        config: &detect::Config,
        alerts_day_max: u32,
    ) -> Result<Self> {
        let (turn, shown) = (share.now(), Shown::default());
        let config = config.clone();
        let mut detection = Detection { log, exchange, memory, share, config, alerts_day_max, begun: None, shown };
        if !turn.is_empty() {
            detection.begun = detection.remembered(&turn).await?.map(|remembered| (turn, remembered));
        }
        if let Some((turn, remembered)) = &detection.begun {
            let next = retained(&detection.log, &remembered.position, turn)?;
            detection.log.passed(GROUP, &next);
            detection.show(turn, &next);
        }
        Ok(detection)
    }

    /// How far the log is judged.
    pub(crate) fn progress(&self) -> Shown {
        self.shown.clone()
    }

    fn show(&self, turn: &Turn, next: &Positions) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = Progress { turn: turn.clone(), next: next.clone() };
    }

    /// Judges until the log closes; then writes a last snapshot.
    pub(crate) fn run(mut self, runtime: &Handle) -> Result<()> {
        loop {
            let (turn, remembered) = match self.begun.take() {
                Some(begun) => begun,
                None => {
                    let turn = self.share.now();
                    self.show(&turn, &Positions::default());
                    let remembered = match turn.is_empty() {
                        true => None,
                        // Others would have the same trouble with it.
                        false => runtime.block_on(self.remembered(&turn)).unwrap_or_else(|error| {
                            tracing::error!("the detectors cannot begin, and try again: {error:#}");
                            None
                        }),
                    };
                    let Some(remembered) = remembered else {
                        match runtime.block_on(self.other_turn(&turn)) {
                            Ended::Closed => return Ok(()),
                            Ended::Turn | Ended::Hole => continue,
                        }
                    };
                    (turn, remembered)
                }
            };
            let begun = Judging::begin(&mut self, turn.clone(), remembered, runtime);
            match begun.and_then(|judging| judging.run(runtime)) {
                Ok(Ended::Closed) => return Ok(()),
                Ok(Ended::Turn) => {}
                Ok(Ended::Hole) => _ = runtime.block_on(self.other_turn(&turn)),
                Err(error) if matches!(log_error(&error), Some(LogError::Closed)) => return Ok(()),
                Err(error) if log_error(&error).is_some_and(LogError::retry_helps) => {
                    tracing::warn!("the detectors cannot begin, and try again: {error:#}");
                    runtime.block_on(self.other_turn(&turn));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What a turn begins with. The first cut is made by whoever has sequence 0, out of nothing; the others wait for it.
    async fn remembered(&self, turn: &Turn) -> Result<Option<Remembered>> {
        if let Some(remembered) = self.memory.load(&self.config, turn).await? {
            return Ok(Some(remembered));
        }
        let (engine, budget, position) = (Engine::new(&self.config), Budget::default(), self.log.firsts());
        let exchange = self.exchange.as_ref().map_or(0, |exchange| exchange.end(0));
        if self.exchange.is_some() {
            if !turn.has(0) {
                return Ok(None);
            }
            let all = 0..self.log.sequences();
            self.memory.write(self.memory.files(&engine, &budget, &position, (0, exchange), all)?).await?;
        }
        Ok(Some(Remembered { engine, budget, position, time: 0, exchange }))
    }

    /// Resolves with another turn, when the log closes, and after a while.
    async fn other_turn(&mut self, turn: &Turn) -> Ended {
        let never: Positions = (0..self.log.sequences()).map(|_| u64::MAX).collect();
        tokio::select! {
            _ = self.log.wait(&never) => Ended::Closed,
            () = self.share.other_than(turn) => Ended::Turn,
            () = tokio::time::sleep(LOOK) => Ended::Turn,
        }
    }
}

/// Alerts of one sequence that were weighed since its last tick, against a copy of what was left then.
#[derive(Default)]
struct Spending {
    left: Option<Budget>,
    weighed: Vec<Weighed>,
}

/// A tick at which a sequence waits.
struct Held {
    offset: u64,
    part: Part,
    sent: bool,
}

/// One sequence of this process's.
#[derive(Default)]
struct Sequence {
    held: Option<Held>,
    /// Its last tick that all obeyed.
    last: i64,
    /// Since its last tick.
    controls: Vec<Value>,
    spending: Spending,
    active: bool,
}

/// The role for the time of one turn.
struct Judging<'a> {
    role: &'a mut Detection,
    turn: Turn,
    engine: Engine,
    budget: Budget,
    position: Positions,
    /// The last tick.
    time: i64,
    /// Each of the log; what is another's stays empty.
    sequences: Vec<Sequence>,
    /// With which the sequences that are others' come.
    exchange: Option<Exchange>,
    /// Not yet in the log.
    alerts: Vec<AlertRow>,
    /// Alerts that stand in the log behind the place where the turn began: the filter may have forgotten them.
    raised: HashSet<String>,
    /// Control frames of ticks to which not all sequences had come.
    told: Vec<String>,
    /// Older cuts are being deleted.
    pruning: Option<JoinHandle<()>>,
    unsaved: Unsaved,
    /// The tick of the last cut, and whether any sequence had frames since.
    cut: i64,
    active: bool,
    /// A snapshot on its way, and the position in it.
    saving: Option<(Positions, JoinHandle<Result<()>>)>,
}

impl<'a> Judging<'a> {
    fn begin(role: &'a mut Detection, turn: Turn, remembered: Remembered, runtime: &Handle) -> Result<Self> {
        let Remembered { engine, budget, position, time, exchange: from } = remembered;
        let position = retained(&role.log, &position, &turn)?;
        role.log.passed(GROUP, &position);
        role.show(&turn, &position);
        let count = role.log.sequences();
        let rules = || {
            let version = env!("CARGO_PKG_VERSION");
            let budget = role.alerts_day_max.to_le_bytes();
            schemas::id::digest([engine.rules_digest().as_bytes(), version.as_bytes(), &budget])
        };
        let theirs = (0..count).filter(|sequence| !turn.has(*sequence));
        if let Some(log) = &role.exchange {
            runtime.block_on(exchange::reach(log, from, PATIENCE))?;
        }
        let exchange = role.exchange.clone().map(|log| Exchange::new(log, rules(), from, theirs));
        let sequences = std::iter::repeat_with(|| Sequence { last: time, ..Sequence::default() }).take(count).collect();
        let raised = if exchange.is_some() { raised(&role.log, &turn, &position)? } else { HashSet::new() };
        Ok(Judging {
            role,
            turn,
            engine,
            budget,
            position,
            time,
            sequences,
            exchange,
            alerts: Vec::new(),
            raised,
            told: Vec::new(),
            pruning: None,
            unsaved: Unsaved::default(),
            cut: time,
            active: false,
            saving: None,
        })
    }

    fn run(mut self, runtime: &Handle) -> Result<Ended> {
        loop {
            match self.step(runtime) {
                Ok(None) => {}
                Ok(Some(Ended::Closed)) => return self.save_last(runtime).map(|()| Ended::Closed),
                Ok(Some(ended)) => return Ok(ended),
                // Judged again from the last snapshot.
                Err(error) if log_error(&error).is_some_and(|error| matches!(error, LogError::Closed)) => {
                    return Ok(Ended::Closed);
                }
                // What was judged until then is kept, and where it ended.
                Err(error) if log_error(&error).is_some_and(LogError::retry_helps) => {
                    tracing::warn!("the detectors wait for the log: {error:#}");
                    std::thread::sleep(RETRY);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// First what the last step left to be sent: it may have failed there.
    fn step(&mut self, runtime: &Handle) -> Result<Option<Ended>> {
        self.write(runtime).context("the detectors cannot write their alerts")?;
        self.hand_over(runtime).context("the detectors cannot hand over to each other")?;
        while let Some(passed) = self.barrier(runtime)? {
            if passed == Passed::Hole {
                return Ok(Some(Ended::Hole));
            }
        }
        self.role.show(&self.turn, &self.position);
        self.saved(runtime, false);
        if self.exchange.is_none() && self.unsaved.is_due(&self.role.log) && self.saving.is_none() {
            self.save(runtime)?;
        }
        if let Some(ended) = runtime.block_on(self.wait())? {
            return Ok(Some(ended));
        }
        for sequence in self.turn.clone().sequences() {
            self.advance(sequence)?;
        }
        Ok(None)
    }

    /// Resolves when there is something to do, and with what ends the turn.
    async fn wait(&mut self) -> Result<Option<Ended>> {
        // A sequence that is held, or another's, needs nothing more.
        let awaited = |(number, sequence): (usize, &Sequence)| {
            let waits = self.turn.has(number) && sequence.held.is_none();
            if waits { self.position.get(number) } else { u64::MAX }
        };
        let awaited: Positions = self.sequences.iter().enumerate().map(awaited).collect();
        let is_held = self.is_held();
        let others = async {
            match &self.exchange {
                Some(exchange) if is_held => exchange.more().await,
                _ => std::future::pending().await,
            }
        };
        let Detection { log, share, .. } = &mut *self.role;
        let come = tokio::select! {
            come = log.wait(&awaited) => come.context("the detectors cannot read the log"),
            come = others => come.context("the detectors cannot read what others hand over"),
            () = share.other_than(&self.turn) => return Ok(Some(Ended::Turn)),
            () = tokio::time::sleep(PATIENCE), if is_held => {
                let missing = self.exchange.as_ref().map(Exchange::missing).unwrap_or_default();
                tracing::warn!(sequences = ?missing, "the detectors wait for what other processes hand over");
                Ok(())
            }
        };
        match come {
            Ok(()) => Ok(None),
            Err(error) if matches!(error.downcast_ref(), Some(LogError::Closed)) => Ok(Some(Ended::Closed)),
            Err(error) => Err(error),
        }
    }

    /// Whether every sequence of this process's waits at a tick.
    fn is_held(&self) -> bool {
        self.turn.sequences().all(|sequence| self.sequences[sequence].held.is_some())
    }

    /// Appends alerts; where there is no room they wait for it, and judging with them.
    fn write(&mut self, runtime: &Handle) -> Result<(), LogError> {
        self.alerts.retain(|alert| !self.raised.contains(&alert.alert_id));
        if !self.alerts.is_empty() {
            let group = Group { alerts: Some(schemas::alert::batch(&self.alerts)), ..Group::default() };
            runtime.block_on(self.role.log.append(group))?;
            self.alerts.clear();
        }
        Ok(())
    }

    /// Judges what a sequence has, up to the tick where it has to wait.
    fn advance(&mut self, sequence: usize) -> Result<()> {
        if self.sequences[sequence].held.is_some() {
            return Ok(());
        }
        let log = &self.role.log;
        let (from, bytes_max) = (self.position.get(sequence), READ_BYTES_MAX / log.sequences());
        let frames = log.read(sequence, from, bytes_max);
        let place = || format!("the detectors cannot read the log {} from {from}", log.name(sequence));
        for frame in frames.with_context(place)? {
            let mut alerts = Vec::new();
            self.judge(&frame, &mut alerts)?;
            alerts.iter_mut().for_each(|alert| self.weigh(sequence, alert));
            self.alerts.append(&mut alerts);
            if self.sequences[sequence].held.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn weigh(&mut self, sequence: usize, alert: &mut AlertRow) {
        let alerts_day_max = self.role.alerts_day_max;
        if self.exchange.is_none() {
            self.budget.weigh(alert, alerts_day_max);
            return;
        }
        let Spending { left, weighed } = &mut self.sequences[sequence].spending;
        let left = left.get_or_insert_with(|| self.budget.clone());
        weighed.extend(left.weigh(alert, alerts_day_max));
    }

    fn judge(&mut self, frame: &Frame, alerts: &mut Vec<AlertRow>) -> Result<()> {
        let sequence = frame.sequence;
        self.position.pass(sequence, frame.offset + 1);
        let is_tick = matches!(frame.payload, Payload::Tick(_));
        self.unsaved.frames += usize::from(!is_tick);
        self.sequences[sequence].active |= !is_tick;
        match &frame.payload {
            Payload::Events(events) => {
                self.engine.observe(events, alerts)?;
                self.unsaved.events += events.num_rows();
            }
            Payload::Tick(time) => self.tick(sequence, *time, frame.offset, alerts),
            // It is in every sequence.
            Payload::Control(control) if sequence == 0 => self.control(0, control.clone()),
            Payload::Orders(orders) => {
                let orders = Orders::new(orders)?;
                let controls = (0..orders.order_id.len()).filter_map(|row| control_of(&orders.row(row)));
                controls.for_each(|control| self.control(sequence, control));
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

    /// What detection obeys besides events.
    fn control(&mut self, sequence: usize, control: Value) {
        if self.exchange.is_some() {
            self.sequences[sequence].controls.push(control);
            return;
        }
        // A control frame that is not about detection is somebody else's.
        self.engine.control(&control);
    }

    /// Time does not go back, whoever wrote it.
    fn tick(&mut self, sequence: usize, time: i64, offset: u64, alerts: &mut Vec<AlertRow>) {
        let time = time.max(self.time + 1);
        if self.exchange.is_none() {
            self.time = time;
            self.engine.tick(time, alerts);
            self.unsaved.ticks += 1;
            return;
        }
        let count = self.sequences.len();
        let Sequence { held, last, controls, spending, active } = &mut self.sequences[sequence];
        let part = Part {
            sequence,
            time,
            previous: *last,
            active: std::mem::take(active),
            controls: std::mem::take(controls).iter().map(Value::to_string).collect(),
            // Alerts of this frame there are none: a tick stands alone.
            weighed: std::mem::take(spending).weighed,
            handed: self.engine.hand_over(Shards::of_sequence(sequence, count), time),
        };
        *held = Some(Held { offset, part, sent: false });
    }

    /// Sends what this process's sequences contribute to the ticks that they have come to.
    fn hand_over(&mut self, runtime: &Handle) -> Result<(), LogError> {
        let Some(exchange) = &self.exchange else { return Ok(()) };
        let held = || self.sequences.iter().filter_map(|sequence| sequence.held.as_ref()).filter(|held| !held.sent);
        runtime.block_on(exchange.send(held().map(|held| &held.part)))?;
        self.sequences.iter_mut().filter_map(|sequence| sequence.held.as_mut()).for_each(|held| held.sent = true);
        Ok(())
    }

    /// Lets time pass where all sequences have come to a tick, to the earliest; none where it did not.
    fn barrier(&mut self, runtime: &Handle) -> Result<Option<Passed>> {
        let held = self.is_held();
        let Some(exchange) = &mut self.exchange else { return Ok(None) };
        if !held || !exchange.read(self.time)? {
            return Ok(None);
        }
        let (count, alerts_day_max) = (self.sequences.len(), self.role.alerts_day_max);
        let tick = |sequence: usize| match &self.sequences[sequence].held {
            Some(held) => Some((held.part.time, held.part.previous)),
            None => exchange.next_of(sequence).map(|part| (part.time, part.previous)),
        };
        let Some(ticks) = (0..count).map(tick).collect::<Option<Vec<(i64, i64)>>>() else { return Ok(None) };
        let missed = |(sequence, (_, previous)): &(usize, &(i64, i64))| *previous != self.sequences[*sequence].last;
        if let Some((sequence, (time, _))) = ticks.iter().enumerate().find(missed) {
            tracing::error!(
                sequence,
                time,
                "a part of another process is missing: the detectors begin anew from the last cut"
            );
            return Ok(Some(Passed::Hole));
        }
        let ticks: Vec<i64> = ticks.into_iter().map(|(time, _)| time).collect();
        let time = ticks.iter().copied().min().context("a log has sequences")?;
        let (mut mine, mut handed) = (Shards::default(), Vec::new());
        for sequence in (0..count).filter(|sequence| ticks[*sequence] == time) {
            let own = self.sequences[sequence].held.take().map(|held| held.part);
            if own.is_some() {
                mine = mine.or(Shards::of_sequence(sequence, count));
            }
            let is_own = own.is_some();
            let part = own.or_else(|| exchange.take(sequence)).context("its tick is known")?;
            self.sequences[sequence].last = time;
            self.budget.settle(&part.weighed, alerts_day_max);
            self.active |= part.active;
            self.told.extend(part.controls);
            handed.extend((!is_own).then_some(part.handed));
        }
        let passed = self.engine.tick_with(mine, time, &handed);
        passed.map_err(|error| anyhow::anyhow!("what was handed over at the tick {time} cannot be used: {error}"))?;
        self.time = time;
        self.unsaved.ticks += 1;
        // Elsewhere a sequence is judged beyond this tick already.
        if ticks.iter().all(|tick| *tick == time) {
            for control in self.told.drain(..) {
                self.engine.control(&serde_json::from_str(&control)?);
            }
            self.cut(runtime)?;
        }
        Ok(Some(Passed::Tick))
    }

    /// Writes what a cut needs of this process, where one is due: all processes come to the same.
    fn cut(&mut self, runtime: &Handle) -> Result<()> {
        let is_due = self.time / CUT_MICROS > self.cut / CUT_MICROS
            && (self.active || self.time.saturating_sub(self.cut) >= CUT_IDLE_MICROS);
        if !is_due {
            return Ok(());
        }
        (self.cut, self.active) = (self.time, false);
        // One that this process passed over would never be whole.
        self.saved(runtime, true);
        self.save(runtime)
    }

    fn files(&self, time: i64, budget: &Budget, position: &Positions) -> Result<Files> {
        let exchange = self.exchange.as_ref().map_or(0, Exchange::position);
        self.role.memory.files(&self.engine, budget, position, (time, exchange), self.turn.sequences())
    }

    /// Begins to write a snapshot. Judging goes on meanwhile: alerts never wait for the place where the lake is.
    fn save(&mut self, runtime: &Handle) -> Result<()> {
        let files = self.files(self.time, &self.budget, &self.position)?;
        let memory = self.role.memory.clone();
        let writing = runtime.spawn(async move { memory.write(files).await });
        // Reading cuts back takes its time, and nobody waits for it.
        if self.turn.has(0) && self.pruning.as_ref().is_none_or(JoinHandle::is_finished) {
            let (memory, config) = (self.role.memory.clone(), self.role.config.clone());
            self.pruning = Some(runtime.spawn(async move {
                if let Err(error) = memory.prune(&config).await {
                    tracing::warn!("older cuts of the detectors' memory cannot be deleted, and stay: {error:#}");
                }
            }));
        }
        self.saving = Some((self.position.clone(), writing));
        self.unsaved = Unsaved::default();
        Ok(())
    }

    /// Tells the log of a snapshot that is written. The log keeps what one needs that could not be, and a later one says the same.
    fn saved(&mut self, runtime: &Handle, waits: bool) {
        let written = self.saving.take_if(|(_, writing)| waits || writing.is_finished());
        let Some((position, writing)) = written else { return };
        match runtime.block_on(writing).map_err(anyhow::Error::from).and_then(|written| written) {
            Ok(()) => self.role.log.passed(GROUP, &position),
            Err(error) => {
                tracing::error!("the detectors' snapshot cannot be written, and is tried again: {error:#}");
                self.unsaved.frames += 1;
            }
        }
    }

    /// The state as it is, for whoever comes next; others who judge go on from the last cut.
    fn save_last(mut self, runtime: &Handle) -> Result<()> {
        if let Some((_, writing)) = self.saving.take() {
            // The one that follows says the same and more.
            let _ = runtime.block_on(writing);
        }
        let waiting = |sequence: &Sequence| {
            let part = sequence.held.as_ref().is_some_and(|held| !held.part.controls.is_empty());
            part || !sequence.controls.is_empty()
        };
        let mine = (0..self.sequences.len()).all(|sequence| self.turn.has(sequence));
        if !mine || !self.told.is_empty() || self.sequences.iter().any(waiting) {
            return Ok(());
        }
        let mut position = Positions::default();
        for (number, Sequence { held, spending, .. }) in self.sequences.iter().enumerate() {
            // A tick that is waited at is read again.
            position.pass(number, held.as_ref().map_or_else(|| self.position.get(number), |held| held.offset));
            let weighed = held.as_ref().map_or(&spending.weighed, |held| &held.part.weighed);
            self.budget.settle(weighed, self.role.alerts_day_max);
        }
        let files = self.files(self.time + 1, &self.budget, &position)?;
        runtime.block_on(self.role.memory.write(files)).context("the detectors' memory cannot be written")?;
        self.role.log.passed(GROUP, &position);
        Ok(())
    }
}

/// What a barrier came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    Tick,
    Hole,
}

/// The log's own error, wherever it is told.
fn log_error(error: &anyhow::Error) -> Option<&LogError> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// Alerts in these sequences from `position` on: whoever judged there before has raised them.
fn raised(log: &Log, turn: &Turn, position: &Positions) -> Result<HashSet<String>> {
    let mut raised = HashSet::new();
    for sequence in turn.sequences() {
        let (mut next, end) = (position.get(sequence), log.end(sequence));
        while next < end {
            for frame in log.read(sequence, next, READ_BYTES_MAX)? {
                next = frame.offset + 1;
                if let Payload::Alerts(batch) = &frame.payload {
                    let ids = schemas::alert::Alerts::new(batch)?.alert_id;
                    raised.extend(ids.iter().flatten().map(str::to_owned));
                }
            }
        }
    }
    Ok(raised)
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

#[cfg(test)]
mod division;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

#[cfg(test)]
mod orders {
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

//! What the detectors remember outside the process.
//!
//! With the embedded log it is one file: position, what is left of the alert budgets, engine. Where several processes may
//! divide the log it is *cuts*: the state of all sequences at one tick, each sequence's in a file `TOPIC/TICK/SEQUENCE` that
//! its owner writes, and what all share in that of sequence 0. A cut counts when all its files are there, and all
//! processes go on from the newest that counts; it is the same whoever wrote which file. The newest two that can be read are
//! kept, and deleted is what is older, once there are six.
//!
//! A file is positions, the length of what is left of the budgets, that as JSON, and the engine's own bytes; numbers take
//! 8 bytes, lowest first. In a cut the positions are that of the sequence and that of the [exchange](super::exchange).

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use detect::{Engine, Shards};
use lake::files::Wholes;
use lake::log::{Log, Positions, Turn};
use respond::budget::Budget;

/// The one file of the embedded log.
const SNAPSHOT: &str = "engine.snapshot";
const NUMBER_BYTES: usize = 8;
/// No position: several follow.
const SEVERAL: u64 = u64::MAX;
/// From so many on older ones are deleted, all but [`CUTS_KEPT`]: that one can be read takes reading it.
const CUTS_MAX: usize = 6;
const CUTS_KEPT: usize = 2;

/// Where it is.
#[derive(Clone)]
pub(crate) struct Memory {
    files: Wholes,
    cuts: Option<Cuts>,
}

#[derive(Clone)]
pub(super) struct Cuts {
    pub(super) topic: String,
    pub(super) sequences: usize,
}

/// What a process goes on from.
pub(crate) struct Remembered {
    pub(crate) engine: Engine,
    pub(crate) budget: Budget,
    pub(crate) position: Positions,
    /// The tick that a cut is of.
    pub(crate) time: i64,
    /// From where on the exchange has all hand-overs of later ticks.
    pub(crate) exchange: u64,
}

/// Files to be written: name and content.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

impl Memory {
    /// In `files`, as the log needs it.
    pub(crate) fn new(files: Wholes, log: &Log) -> Memory {
        let topic = |name: String| name.rsplit_once('/').map(|(topic, _)| topic.to_owned()).unwrap_or_default();
        let cuts = match log {
            Log::Embedded(_) => None,
            Log::Kafka(_) => Some(Cuts { topic: topic(log.name(0)), sequences: log.sequences() }),
        };
        Memory { files, cuts }
    }

    #[cfg(test)]
    pub(super) fn of_cuts(files: Wholes, cuts: Cuts) -> Memory {
        Memory { files, cuts: Some(cuts) }
    }

    /// What the turn's sequences go on from; none where nothing was ever written. One that makes no sense is told and passed over.
    pub(crate) async fn load(&self, config: &detect::Config, turn: &Turn) -> Result<Option<Remembered>> {
        let unreadable = "the detectors' memory cannot be read";
        let Some(cuts) = &self.cuts else {
            let Some(bytes) = self.files.file(SNAPSHOT).read().await.context(unreadable)? else { return Ok(None) };
            return Ok(told(restore(&bytes, config)));
        };
        for time in self.complete(cuts).await.context(unreadable)? {
            let mut files = BTreeMap::new();
            for sequence in [0].into_iter().chain(turn.sequences()) {
                let file = self.files.file(&cuts.name(time, sequence)).read().await.context(unreadable)?;
                files.insert(sequence, file.with_context(|| format!("{} is gone", cuts.name(time, sequence)))?);
            }
            if let Some(remembered) = told(cuts.restore(&files, time, turn, config)) {
                return Ok(Some(remembered));
            }
        }
        Ok(None)
    }

    /// The files of a snapshot of these sequences. `time` is that of a cut, and `exchange` where its later hand-overs begin.
    pub(crate) fn files(
        &self,
        engine: &Engine,
        budget: &Budget,
        position: &Positions,
        (time, exchange): (i64, u64),
        mine: impl Iterator<Item = usize>,
    ) -> Result<Files> {
        let Some(cuts) = &self.cuts else {
            return Ok(vec![(SNAPSHOT.to_owned(), snapshot(&engine.snapshot(), budget, position)?)]);
        };
        let file = |sequence| {
            let engine = engine.snapshot_of(Shards::of_sequence(sequence, cuts.sequences), sequence == 0);
            let position = [position.get(sequence), exchange].into_iter().collect();
            Ok((cuts.name(time, sequence), snapshot(&engine, budget, &position)?))
        };
        mine.map(file).collect()
    }

    /// Durable when it returns.
    pub(crate) async fn write(&self, files: Files) -> Result<()> {
        for (name, bytes) in files {
            self.files.file(&name).write(bytes).await.with_context(|| format!("{name} cannot be written"))?;
        }
        Ok(())
    }

    /// Deletes cuts that nobody goes on from any more, and those before them that nobody completed.
    pub(crate) async fn prune(&self, config: &detect::Config) -> Result<()> {
        let Some(cuts) = &self.cuts else { return Ok(()) };
        let complete = self.complete(cuts).await?;
        if complete.len() < CUTS_MAX {
            return Ok(());
        }
        let config = Arc::new(config.clone());
        let mut readable = complete.len();
        for (at, time) in complete.iter().enumerate() {
            if self.reads(cuts, *time, &config).await? {
                readable = at;
                break;
            }
            tracing::warn!(tick = time, "a cut of the detectors' memory cannot be read, and older ones are kept");
        }
        let Some(oldest) = complete.get(readable + CUTS_KEPT - 1) else { return Ok(()) };
        for name in self.files.names().await? {
            if cuts.place(&name).is_some_and(|(time, _)| time < *oldest) {
                self.files.delete(&name).await?;
            }
        }
        Ok(())
    }

    /// Whether every process could go on from the cut. One file after the other: all at once may be more than fits.
    async fn reads(&self, cuts: &Cuts, time: i64, config: &Arc<detect::Config>) -> Result<bool> {
        for sequence in 0..cuts.sequences {
            let Some(bytes) = self.files.file(&cuts.name(time, sequence)).read().await? else { return Ok(false) };
            let config = config.clone();
            if !tokio::task::spawn_blocking(move || restore(&bytes, &config).is_ok()).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether `found` of some file's content.
    pub(crate) async fn any(&self, found: impl Fn(&[u8]) -> bool) -> Result<bool> {
        for name in self.files.names().await? {
            if self.files.file(&name).read().await?.is_some_and(|bytes| found(&bytes)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The ticks of the cuts that are there, the newest first.
    async fn complete(&self, cuts: &Cuts) -> Result<Vec<i64>> {
        let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
        for (time, _) in self.files.names().await?.iter().filter_map(|name| cuts.place(name)) {
            *counts.entry(time).or_default() += 1;
        }
        Ok(counts.into_iter().rev().filter(|(_, count)| *count == cuts.sequences).map(|(time, _)| time).collect())
    }
}

fn told(restored: Result<Remembered>) -> Option<Remembered> {
    let error = match restored {
        Ok(remembered) => return Some(remembered),
        Err(error) => error,
    };
    tracing::error!("the detectors' memory cannot be used, they learn anew from the log: {error:#}");
    None
}

impl Cuts {
    fn name(&self, time: i64, sequence: usize) -> String {
        format!("{}/{time:020}/{sequence}", self.topic)
    }

    fn place(&self, name: &str) -> Option<(i64, usize)> {
        let (time, sequence) = name.strip_prefix(&self.topic)?.strip_prefix('/')?.split_once('/')?;
        let place = (time.parse().ok()?, sequence.parse().ok()?);
        (place.1 < self.sequences).then_some(place)
    }

    fn restore(
        &self,
        files: &BTreeMap<usize, Bytes>,
        time: i64,
        turn: &Turn,
        config: &detect::Config,
    ) -> Result<Remembered> {
        let mut whole: Option<Remembered> = None;
        let mut position = Positions::default();
        // The first is sequence 0, with what all share.
        for (sequence, bytes) in files {
            let part = restore(bytes, config)?;
            if turn.has(*sequence) {
                position.pass(*sequence, part.position.get(0));
            }
            match &mut whole {
                None => whole = Some(Remembered { time, exchange: part.position.get(1), ..part }),
                Some(whole) => whole.engine.take_over(Shards::of_sequence(*sequence, self.sequences), part.engine),
            }
        }
        let mut whole = whole.context("the cut has no files")?;
        if !turn.has(0) {
            // Only what all share is wanted of it.
            whole.engine.take_over(Shards::of_sequence(0, self.sequences), Engine::new(config));
        }
        Ok(Remembered { position, ..whole })
    }
}

fn snapshot(engine: &[u8], budget: &Budget, position: &Positions) -> Result<Vec<u8>> {
    let budget = serde_json::to_vec(budget)?;
    let mut bytes = place(position);
    bytes.extend((budget.len() as u64).to_le_bytes());
    bytes.extend(budget);
    bytes.extend(engine);
    Ok(bytes)
}

fn restore(bytes: &[u8], config: &detect::Config) -> Result<Remembered> {
    let (position, budget, engine) = parts(bytes).context("it is too short")?;
    let budget = serde_json::from_slice(budget).context("the budget in it is damaged")?;
    let engine = Engine::restore(config, engine).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(Remembered { engine, budget, position, time: 0, exchange: 0 })
}

/// How a file begins: with the position, or where there are several with [`SEVERAL`], their number and all of them.
fn place(position: &Positions) -> Vec<u8> {
    let all: Vec<u64> = position.iter().map(|(_, next)| next).collect();
    let head = if all.len() == 1 { vec![] } else { vec![SEVERAL, all.len() as u64] };
    head.into_iter().chain(all).flat_map(u64::to_le_bytes).collect()
}

/// Position, budget and engine of a file.
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
pub(super) fn retained(log: &Log, position: &Positions, turn: &Turn) -> Result<Positions> {
    let mut next = Positions::default();
    for sequence in turn.sequences() {
        let (name, first, needed) = (log.name(sequence), log.first(sequence), position.get(sequence));
        if needed < first && matches!(log, Log::Kafka(_)) {
            bail!(
                "the detectors need the log {name} from offset {needed} on, but Kafka has deleted it up to {first}: its \
                 retention is shorter than they stood still; `muster learn` makes a snapshot from the lake"
            );
        }
        next.pass(sequence, needed.max(first));
    }
    Ok(next)
}

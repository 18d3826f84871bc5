//! What the processes that divide the log say to each other at a tick: a topic of its own beside the log, `TOPIC-ticks`.
//!
//! ```text
//! a sequence read up to its tick ─▶ Part ─▶ pieces, in control frames ─▶ every other process, once it waits at that tick
//! ```
//! A part hangs on the log and the cut alone, so whoever sends one, however often, sends the same; the first counts. Parts
//! of another configuration or version are passed over, and told. Read is only what is waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use data_encoding::BASE64;
use lake::log::{Group, Log, LogError, Payload, Positions};
use respond::budget::Weighed;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Bytes of a part in one piece, and of all pieces in one frame, about; a message takes a multiple of it.
const PIECE_BYTES: usize = 128 << 10;
const FRAME_BYTES: usize = 256 << 10;
/// What a message of the topic holds at least.
pub(crate) const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// A part at most; what waits in a sequence for a tick has limits of its own that are far below.
const PART_BYTES_MAX: usize = 1 << 30;
const READ_BYTES_MAX: usize = 4 << 20;

/// What one sequence contributes to a tick.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) sequence: usize,
    pub(super) time: i64,
    /// The sequence's tick before: a part that is missing shows.
    pub(super) previous: i64,
    /// Frames that are no ticks came since the tick before.
    pub(super) active: bool,
    /// What detection obeys besides events, each as JSON.
    pub(super) controls: Vec<String>,
    pub(super) weighed: Vec<Weighed>,
    /// What the engine hands over.
    pub(super) handed: Vec<u8>,
}

/// One end of the topic.
pub(super) struct Exchange {
    log: Arc<Log>,
    /// Stands for configuration and version.
    rules: String,
    /// Tells this sender's pieces from another's.
    sender: u64,
    next: u64,
    /// Parts that wait, of each sequence that is another's, with the offset where each begins.
    theirs: BTreeMap<usize, BTreeMap<i64, (u64, Part)>>,
    gathering: BTreeMap<(usize, u64), Gathering>,
    warned: bool,
}

/// A part of which not all pieces have come.
struct Gathering {
    offset: u64,
    time: i64,
    pieces: usize,
    bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Piece {
    sequence: usize,
    time: i64,
    rules: String,
    sender: u64,
    number: usize,
    last: bool,
    data: String,
}

/// Waits until the topic is here as far as the process was that wrote a cut.
pub(super) async fn reach(log: &Log, from: u64, patience: Duration) -> Result<()> {
    if log.end(0) >= from {
        return Ok(());
    }
    let before: Positions = [from - 1].into_iter().collect();
    match tokio::time::timeout(patience, log.wait(&before)).await {
        Ok(reached) => Ok(reached?),
        Err(_) => bail!(
            "{} ends at {}, before {from}, after {} s of waiting: it is not the topic that the detectors met on",
            log.name(0),
            log.end(0),
            patience.as_secs()
        ),
    }
}

impl Exchange {
    /// Reads from `next` on what comes of the sequences that are `theirs`.
    pub(super) fn new(log: Arc<Log>, rules: String, next: u64, theirs: impl Iterator<Item = usize>) -> Exchange {
        let theirs = theirs.map(|sequence| (sequence, BTreeMap::new())).collect();
        let (sender, gathering) = (fastrand::u64(..), BTreeMap::new());
        Exchange { log, rules, sender, next, theirs, gathering, warned: false }
    }

    /// Sends parts; they are durable when it returns.
    pub(super) async fn send(&self, parts: impl Iterator<Item = &Part>) -> Result<(), LogError> {
        let (mut frame, mut bytes) = (Vec::new(), 0);
        for part in parts {
            let whole = postcard::to_allocvec(part).map_err(|error| LogError::Fatal(error.to_string()))?;
            let last = whole.len().div_ceil(PIECE_BYTES).max(1) - 1;
            for (number, piece) in whole.chunks(PIECE_BYTES).enumerate() {
                let Part { sequence, time, .. } = *part;
                let (rules, data) = (self.rules.clone(), BASE64.encode(piece));
                bytes += data.len();
                frame.push(Piece { sequence, time, rules, sender: self.sender, number, last: number == last, data });
                if bytes >= FRAME_BYTES {
                    self.append(&std::mem::take(&mut frame)).await?;
                    bytes = 0;
                }
            }
        }
        if frame.is_empty() { Ok(()) } else { self.append(&frame).await }
    }

    async fn append(&self, pieces: &[Piece]) -> Result<(), LogError> {
        let group = || Group { control: Some(json!({"pieces": pieces})), ..Group::default() };
        self.log.append(group()).await.map(drop)
    }

    /// Reads on until every sequence that is another's has a part later than `after`; says whether that is so. Earlier ones
    /// are of ticks that are over.
    pub(super) fn read(&mut self, after: i64) -> Result<bool> {
        for parts in self.theirs.values_mut() {
            parts.retain(|time, _| *time > after);
        }
        // Whoever sent half of one has died.
        self.gathering.retain(|_, one| one.time > after);
        while self.theirs.values().any(BTreeMap::is_empty) {
            let frames = self.log.read(0, self.next, READ_BYTES_MAX);
            let frames = frames.with_context(|| format!("{} cannot be read from {}", self.log.name(0), self.next))?;
            if frames.is_empty() {
                return Ok(false);
            }
            for frame in frames {
                self.next = frame.offset + 1;
                if let Payload::Control(Value::Object(frame_pieces)) = &frame.payload {
                    let pieces = frame_pieces.get("pieces").cloned().unwrap_or_default();
                    let pieces: Vec<Piece> = serde_json::from_value(pieces)
                        .with_context(|| format!("{} holds what is no piece at {}", self.log.name(0), frame.offset))?;
                    for piece in pieces {
                        self.take_in(piece, frame.offset, after)?;
                    }
                }
            }
        }
        Ok(true)
    }

    fn take_in(&mut self, piece: Piece, offset: u64, after: i64) -> Result<()> {
        let Piece { sequence, time, rules, sender, number, last, data } = piece;
        if time <= after || !self.theirs.contains_key(&sequence) {
            return Ok(());
        }
        if rules != self.rules {
            if !std::mem::replace(&mut self.warned, true) {
                tracing::error!(
                    sequence,
                    "a process of another configuration or version judges this sequence: they wait for each other"
                );
            }
            return Ok(());
        }
        let key = (sequence, sender);
        if number == 0 {
            self.gathering.insert(key, Gathering { offset, time, pieces: 0, bytes: Vec::new() });
        }
        // The beginning of one may be before where reading began.
        let Some(gathering) = self.gathering.get_mut(&key).filter(|one| one.time == time && one.pieces == number)
        else {
            return Ok(());
        };
        gathering.pieces += 1;
        gathering.bytes.extend(BASE64.decode(data.as_bytes()).context("a piece of a part is damaged")?);
        anyhow::ensure!(gathering.bytes.len() <= PART_BYTES_MAX, "a part of more than {PART_BYTES_MAX} bytes");
        if let Some(Gathering { offset, bytes, .. }) = last.then(|| self.gathering.remove(&key)).flatten() {
            let part: Part = postcard::from_bytes(&bytes).context("a part is damaged")?;
            if let Some(parts) = self.theirs.get_mut(&sequence) {
                parts.entry(time).or_insert((offset, part));
            }
        }
        Ok(())
    }

    /// The next part of another's sequence.
    pub(super) fn next_of(&self, sequence: usize) -> Option<&Part> {
        self.theirs.get(&sequence)?.first_key_value().map(|(_, (_, part))| part)
    }

    /// Takes that part out.
    pub(super) fn take(&mut self, sequence: usize) -> Option<Part> {
        self.theirs.get_mut(&sequence)?.pop_first().map(|(_, (_, part))| part)
    }

    /// Sequences of which nothing has come.
    pub(super) fn missing(&self) -> Vec<usize> {
        self.theirs.iter().filter(|(_, parts)| parts.is_empty()).map(|(sequence, _)| *sequence).collect()
    }

    /// Whoever reads from here on has all parts that are not yet taken.
    pub(super) fn position(&self) -> u64 {
        if self.theirs.is_empty() {
            // Nothing is read; what this process sends of later ticks comes behind the end.
            return self.log.end(0);
        }
        let waiting = self.theirs.values().flat_map(BTreeMap::values).map(|(offset, _)| *offset);
        waiting.chain(self.gathering.values().map(|one| one.offset)).chain([self.next]).min().unwrap_or(self.next)
    }

    /// Resolves when more can be read.
    pub(super) async fn more(&self) -> Result<(), LogError> {
        let next: Positions = [self.next].into_iter().collect();
        self.log.wait(&next).await
    }
}

//! The log: ordered, durable, typed frames. `append` returns when the group is durable; readers see it at once after.
//!
//! There are two. The embedded one ([`Embedded`]) is one sequence of frames in files of this machine. Apache Kafka
//! ([`KafkaLog`]) is as many sequences as the topic has partitions. Readers know only sequences: each has offsets of its own, in
//! order and without a row that is there twice; one agent's rows are in one sequence.

mod cache;
mod columns;
mod commit;
mod config;
mod duplicates;
mod embedded;
mod error;
mod frame;
mod group;
mod kafka;
mod positions;
mod recovery;
mod reserve;
mod segment;
mod share;
mod shared;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use serde_json::Value;

use crate::clock::Clock;
use crate::files::Files;

pub use config::LogConfig;
pub use embedded::Embedded;
pub use error::LogError;
pub use group::Group;
pub use kafka::{Compression, KafkaLog, KafkaLogConfig};
pub use positions::Positions;
pub use share::{Divider, Share, Turn};

use reserve::Reserve;

/// Rows of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    pub sequence: usize,
    pub offset: u64,
    /// The first of them.
    pub index: u32,
    pub count: u32,
}

/// What became of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Appended {
    /// Where the event rows are.
    pub events: Vec<Rows>,
    /// Where the quarantine rows are.
    pub quarantine: Vec<Rows>,
    /// Rows of the group's events that were dropped as duplicates (ascending, 0-based). Kafka does not tell: there they are
    /// found by the readers.
    pub duplicates: Vec<u32>,
    /// Rows that were kept under a new `event_id`, with the flag `id_conflict`, because their id came before with other bytes.
    pub conflicts: Vec<u32>,
    /// In the embedded log one past the last offset of the group: all frames below are durable.
    pub end: u64,
}

/// What a frame holds. Batches have their log columns filled.
#[derive(Clone, Debug)]
pub enum Payload {
    Events(RecordBatch),
    Quarantine(RecordBatch),
    Ledger(RecordBatch),
    Alerts(RecordBatch),
    Orders(RecordBatch),
    Inventory(RecordBatch),
    Verdicts(RecordBatch),
    Control(Value),
    Tick(i64),
}

/// One frame as readers see it.
#[derive(Clone, Debug)]
pub struct Frame {
    pub sequence: usize,
    /// In Kafka the message's, which all of its frames have; readers are handed them together.
    pub offset: u64,
    /// When the frame was written, in microseconds since the Unix epoch: for measuring, never for deciding.
    pub written_at: i64,
    pub payload: Payload,
}

/// What opening the log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Frames retained.
    pub frames: u64,
    /// Bytes of a torn tail that were cut off: part of a write that was never acknowledged.
    pub truncated_bytes: u64,
    /// Why they were cut off.
    pub reason: Option<String>,
}

/// Where frames are appended and read.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there are two in a process, each behind an `Arc`")]
pub enum Log {
    Embedded(Embedded),
    Kafka(KafkaLog),
}

impl Log {
    /// Opens the embedded log in `folder`, creating it where there is none. `groups` are the readers that must pass a frame
    /// before it is released; until a group first says [`passed`](Self::passed), it holds everything.
    pub fn open(
        files: Arc<dyn Files>,
        folder: PathBuf,
        config: &LogConfig,
        clock: Clock,
        groups: &[&'static str],
    ) -> Result<(Arc<Log>, Recovery), LogError> {
        let (log, recovery) = Embedded::open(files, folder, config, clock, groups)?;
        Ok((Arc::new(Log::Embedded(log)), recovery))
    }

    /// Opens the log in Kafka, making the topic if there is none. Blocks on the brokers.
    pub fn connect(
        kafka: &KafkaLogConfig,
        config: &LogConfig,
        clock: Clock,
        groups: &[&'static str],
    ) -> Result<Arc<Log>, LogError> {
        Ok(Arc::new(Log::Kafka(KafkaLog::open(kafka, config, clock, groups)?)))
    }

    /// Appends a group; durable when it returns. A caller that stops waiting does not take the group back.
    pub async fn append(&self, group: Group) -> Result<Appended, LogError> {
        match self {
            Log::Embedded(log) => log.append(group).await,
            Log::Kafka(log) => log.append(group).await,
        }
    }

    /// How many sequences there are; they are numbered from 0.
    pub fn sequences(&self) -> usize {
        match self {
            Log::Embedded(_) => 1,
            Log::Kafka(log) => log.sequences(),
        }
    }

    /// What the sequence is called where a position in it is kept: topic and partition.
    pub fn name(&self, sequence: usize) -> String {
        match self {
            Log::Embedded(_) => format!("main/{sequence}"),
            Log::Kafka(log) => format!("{}/{sequence}", log.topic()),
        }
    }

    /// The sequence of a row that has this `log_partition`.
    pub fn sequence_of(&self, log_partition: i32) -> usize {
        log_partition.unsigned_abs() as usize % self.sequences()
    }

    /// One past the last durable offset.
    pub fn end(&self, sequence: usize) -> u64 {
        match self {
            Log::Embedded(log) => log.end(),
            Log::Kafka(log) => log.end(sequence),
        }
    }

    /// The first retained offset.
    pub fn first(&self, sequence: usize) -> u64 {
        match self {
            Log::Embedded(log) => log.first(),
            Log::Kafka(log) => log.first(sequence),
        }
    }

    pub fn ends(&self) -> Positions {
        (0..self.sequences()).map(|sequence| self.end(sequence)).collect()
    }

    pub fn firsts(&self) -> Positions {
        (0..self.sequences()).map(|sequence| self.first(sequence)).collect()
    }

    /// Resolves once some sequence has frames beyond `positions`.
    pub async fn wait(&self, positions: &Positions) -> Result<(), LogError> {
        match self {
            Log::Embedded(log) => log.wait(positions.get(0)).await.map(drop),
            Log::Kafka(log) => log.wait(positions).await,
        }
    }

    /// Frames of a sequence from `from` on, in order: at least one if `from < end`, then as many as `bytes_max` allows, seldom
    /// all of them at once. Works on a closed log too. Blocks where the frames are no longer in memory.
    pub fn read(&self, sequence: usize, from: u64, bytes_max: usize) -> Result<Vec<Arc<Frame>>, LogError> {
        match self {
            Log::Embedded(log) => log.read(from, bytes_max),
            Log::Kafka(log) => log.read(sequence, from, bytes_max),
        }
    }

    /// The same for all sequences that go beyond `positions`, one after the other.
    pub fn read_all(&self, positions: &Positions, bytes_max: usize) -> Result<Vec<Arc<Frame>>, LogError> {
        let all: Vec<usize> = (0..self.sequences()).collect();
        self.read_of(&all, positions, bytes_max)
    }

    /// The same for whoever reads much, and once: where that is from the disk, in the memory of `room`, and without leaving
    /// it in the system's.
    pub fn read_through(
        &self,
        positions: &Positions,
        bytes_max: usize,
        room: &mut Buffer,
    ) -> Result<Vec<Arc<Frame>>, LogError> {
        match self {
            Log::Embedded(log) => log.read_through(positions.get(0), bytes_max, room),
            Log::Kafka(_) => self.read_all(positions, bytes_max),
        }
    }

    /// The same as [`read_all`](Self::read_all) for these sequences.
    pub fn read_of(
        &self,
        sequences: &[usize],
        positions: &Positions,
        bytes_max: usize,
    ) -> Result<Vec<Arc<Frame>>, LogError> {
        let mut frames = Vec::new();
        for &sequence in sequences {
            frames.extend(self.read(sequence, positions.get(sequence), bytes_max / sequences.len())?);
        }
        Ok(frames)
    }

    /// Whether other processes may be at it too. The embedded log is one process's alone.
    pub fn is_shared(&self) -> bool {
        matches!(self, Log::Kafka(_))
    }

    /// This process's share of a role: with Kafka the members of the role's group divide the sequences, none are this
    /// process's at first. The embedded log is one process's alone.
    pub fn join(&self, role: &str) -> Result<Share, LogError> {
        match self {
            Log::Embedded(_) => Ok(Share::whole(1)),
            Log::Kafka(log) => log.join(role),
        }
    }

    /// Takes a role that one process alone may have, until the log closes; fails where another process has it. The embedded
    /// log is one process's alone. Blocks on the brokers, for some seconds where whoever had it died.
    pub fn claim(&self, role: &str) -> Result<(), LogError> {
        match self {
            Log::Embedded(_) => Ok(()),
            Log::Kafka(log) => log.claim(role),
        }
    }

    /// Whether the log was opened with the group.
    pub fn has_group(&self, group: &str) -> bool {
        match self {
            Log::Embedded(log) => log.has_group(group),
            Log::Kafka(log) => log.has_group(group),
        }
    }

    /// Whether a segment begins after `from` and not after `to`: only then does it let anything go that a group passes
    /// `to` rather than `from`. What Kafka lets go nobody here decides.
    pub fn segment_begins(&self, from: &Positions, to: &Positions) -> bool {
        match self {
            Log::Embedded(log) => log.segment_begins(from.get(0), to.get(0)),
            Log::Kafka(_) => false,
        }
    }

    /// `group` durably needs nothing below `next` any more. Segments are released with a later append.
    ///
    /// # Panics
    /// If the log was not opened with the group: it would hold segments for ever, or for nobody.
    pub fn passed(&self, group: &str, next: &Positions) {
        match self {
            Log::Embedded(log) => log.passed(group, next.get(0)),
            Log::Kafka(log) => log.passed(group, next),
        }
    }

    /// Nobody but the readers may keep frames below `below`: their segments go as soon as every group has passed them, and
    /// the duplicate filter no longer knows their ids after the next start. Takes effect with the appends that follow.
    /// Kafka keeps its messages for as long as the topic says.
    pub fn let_go(&self, below: &Positions) {
        if let Log::Embedded(log) = self {
            log.let_go(below.get(0));
        }
    }

    /// Keeps so much of the disk free, in a file, for writing the tables when nothing else finds room. Kafka has no part in it.
    pub fn keep_reserve(&self, path: PathBuf, bytes: u64) {
        if let Log::Embedded(log) = self {
            log.keep_reserve(path, bytes);
        }
    }

    /// Gives the reserve free, because the tables find no room. Appends are refused until it is restored. Blocks on the disk.
    pub fn spend_reserve(&self) {
        self.reserve().into_iter().for_each(Reserve::spend);
    }

    /// Takes the reserve back if there is room for it again. Blocks on the disk.
    pub fn restore_reserve(&self) {
        self.reserve().into_iter().for_each(Reserve::restore);
    }

    /// Whether the segments have half of `log_bytes_max`. Kafka has no limit that is known here.
    pub fn is_half_full(&self) -> bool {
        match self {
            Log::Embedded(log) => log.is_half_full(),
            Log::Kafka(_) => false,
        }
    }

    /// Whether appends are refused because the reserve is used.
    pub fn reserve_is_spent(&self) -> bool {
        self.reserve().is_some_and(Reserve::is_spent)
    }

    fn reserve(&self) -> Option<&Reserve> {
        match self {
            Log::Embedded(log) => log.reserve(),
            Log::Kafka(_) => None,
        }
    }

    /// Writes what is queued and stops; every later append fails with [`LogError::Closed`]. Blocks until it is done.
    pub fn close(&self) {
        match self {
            Log::Embedded(log) => log.close(),
            Log::Kafka(log) => log.close(),
        }
    }
}

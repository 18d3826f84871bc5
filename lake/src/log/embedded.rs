//! The embedded log: one sequence of frames, in segment files.
//!
//! ```text
//! append(Group) ─▶ bounded queue ─▶ writer thread: duplicate filter ─▶ one frame a kind ─▶ one write, one fsync
//!                                          └─ ids seen                └─▶ cache of newest frames ─▶ readers
//! ```
//! A group is written whole or not at all: its frames are adjacent and the last one says so; recovery cuts a torn tail
//! back to the last whole group. Appends that wait together become one group. The duplicate filter runs where the order
//! is decided, so that every reader sees one stream (`docs/decisions/`). A failing fsync is fatal: [`LogError::Fatal`],
//! and every later call fails. A full disk is not: the file is cut back and the append fails alone.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use arrow::buffer::Buffer;
use tokio::sync::oneshot;

use super::commit::{Encoding, Windows};
use super::duplicates::Window;
use super::recovery::{self, Recovered};
use super::reserve::Reserve;
use super::shared::{Found, Shared};
use super::writer::{Pending, Writer};
use super::{Appended, Frame, Group, LogConfig, LogError, Recovery, group, segment};
use crate::clock::Clock;
use crate::files::Files;

#[derive(Debug)]
pub struct Embedded {
    files: Arc<dyn Files>,
    config: LogConfig,
    shared: Arc<Shared>,
    /// `None` once the log is closed: dropping the sender ends the writer.
    queue: Mutex<Option<SyncSender<Pending>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    /// What [`Log::open`](super::Log::open) opens.
    pub fn open(
        files: Arc<dyn Files>,
        folder: PathBuf,
        config: &LogConfig,
        clock: Clock,
        groups: &[&'static str],
    ) -> Result<(Embedded, Recovery), LogError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(LogError::Config(problems.join("; ")));
        }
        let events = Window::new(config.duplicates_window);
        let mut windows = Windows { events, alerts: Window::new(config.duplicates_window) };
        let Recovered { segments, file, report } = recovery::recover(&*files, &folder, &mut windows)?;
        if let Some(reason) = &report.reason {
            tracing::warn!(bytes = report.truncated_bytes, reason, "cut a torn tail off the log");
        }
        let shared = Arc::new(Shared::new(segments, config, groups));
        let writer = Writer {
            files: files.clone(),
            folder,
            config: config.clone(),
            clock,
            shared: shared.clone(),
            file,
            windows,
            encoding: Encoding::new(),
            // Recovery has synced the folder.
            removal_unsynced: false,
        };
        let (sender, receiver) = mpsc::sync_channel(config.queue_groups_max);
        let thread = std::thread::Builder::new().name("log-writer".to_owned());
        let thread = thread.spawn(move || writer.run(&receiver));
        let thread = thread.map_err(|error| LogError::Fatal(format!("the writer's thread cannot start: {error}")))?;
        let (queue, writer) = (Mutex::new(Some(sender)), Mutex::new(Some(thread)));
        Ok((Embedded { files, config: config.clone(), shared, queue, writer }, report))
    }

    /// Appends a group; durable when it returns. A caller that stops waiting does not take the group back.
    pub async fn append(&self, group: Group) -> Result<Appended, LogError> {
        if let Some(reason) = self.shared.stopped() {
            return Err(reason);
        }
        let group = group::prepare(group, &self.config)?;
        let bytes = group.bytes;
        let (answer, answered) = oneshot::channel();
        let queued = self.shared.queued_bytes.fetch_add(bytes, Ordering::SeqCst);
        let sent = if queued.saturating_add(bytes) > self.config.queue_bytes_max {
            Err(LogError::Overloaded(format!("{queued} of queue_bytes_max {} bytes wait", self.config.queue_bytes_max)))
        } else {
            self.send(Pending { group, answer })
        };
        if let Err(error) = sent {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
            return Err(error);
        }
        answered.await.unwrap_or_else(|_| Err(self.shared.stopped().unwrap_or(LogError::Closed)))
    }

    fn send(&self, pending: Pending) -> Result<(), LogError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = queue.as_ref().ok_or(LogError::Closed)?;
        sender.try_send(pending).map_err(|error| match error {
            TrySendError::Full(_) => LogError::Overloaded(format!("{} appends wait", self.config.queue_groups_max)),
            TrySendError::Disconnected(_) => self.shared.stopped().unwrap_or(LogError::Closed),
        })
    }

    /// One past the last durable offset.
    pub fn end(&self) -> u64 {
        self.shared.end()
    }

    /// The first retained offset.
    pub fn first(&self) -> u64 {
        self.shared.first()
    }

    /// Resolves with [`end`](Self::end) once that is greater than `beyond`.
    pub async fn wait(&self, beyond: u64) -> Result<u64, LogError> {
        let mut status = self.shared.subscribe();
        let status = status.wait_for(|status| status.end > beyond || status.stopped.is_some()).await;
        let status = status.map_err(|_| LogError::Closed)?;
        match &status.stopped {
            Some(reason) if status.end <= beyond => Err(reason.clone()),
            _ => Ok(status.end),
        }
    }

    /// Frames from `from` on, in order: at least one if `from < end`, then as many as `bytes_max` allows, seldom all of
    /// them at once. Works on a closed log too. Blocks on the disk where the frames are no longer in memory.
    pub fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<Arc<Frame>>, LogError> {
        match self.find(from, bytes_max)? {
            Found::Memory(frames) => Ok(frames),
            Found::Disk(place) => segment::read(&*self.files, &place, from, bytes_max),
        }
    }

    /// The same for whoever reads much, and once. The frames of the call before must be gone for `room` to be used again.
    pub fn read_through(&self, from: u64, bytes_max: usize, room: &mut Buffer) -> Result<Vec<Arc<Frame>>, LogError> {
        match self.find(from, bytes_max)? {
            Found::Memory(frames) => Ok(frames),
            Found::Disk(place) => segment::read_through(&*self.files, &place, from, bytes_max, room),
        }
    }

    fn find(&self, from: u64, bytes_max: usize) -> Result<Found, LogError> {
        match self.shared.stopped() {
            Some(reason @ LogError::Fatal(_)) => Err(reason),
            _ => self.shared.find(from, bytes_max),
        }
    }

    /// Whether the log was opened with the group.
    pub fn has_group(&self, group: &str) -> bool {
        self.shared.has_group(group)
    }

    /// Whether a segment begins after `from` and not after `to`: only then does it let anything go that a group passes
    /// `to` rather than `from`.
    pub fn segment_begins(&self, from: u64, to: u64) -> bool {
        self.shared.segment_begins(from, to)
    }

    /// `group` durably needs nothing below `next` any more. Segments are released with a later append.
    ///
    /// # Panics
    /// If the log was not opened with the group: it would hold segments for ever, or for nobody.
    pub fn passed(&self, group: &str, next: u64) {
        self.shared.passed(group, next);
    }

    /// Nobody but the readers may keep frames below `below`: their segments go as soon as every group has passed them, and
    /// the duplicate filter no longer knows their ids after the next start. Takes effect with the appends that follow.
    pub fn let_go(&self, below: u64) {
        self.shared.let_go(below);
    }

    /// Keeps so much of the disk free, in a file, for writing the tables when nothing else finds room.
    pub fn keep_reserve(&self, path: PathBuf, bytes: u64) {
        if bytes > 0 {
            self.shared.keep_reserve(Reserve::open(self.files.clone(), path, bytes));
        }
    }

    pub(super) fn is_half_full(&self) -> bool {
        self.shared.bytes() > self.config.log_bytes_max / 2
    }

    pub(super) fn reserve(&self) -> Option<&Reserve> {
        self.shared.reserve()
    }

    /// Writes what is queued and stops; every later append fails with [`LogError::Closed`]. Blocks until it is done.
    pub fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A panic of the writer is in the log's status already.
            let _ = writer.join();
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

//! The single writer: takes what waits, makes one commit of it, writes and fsyncs it once, then publishes and answers.
//!
//! A failed write is cut back and only its appends fail; a failed fsync ends the writer, since what the file holds is then
//! unknown. The writer also releases segments, so that nobody else changes files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use arrow::buffer::Buffer;
use tokio::sync::oneshot;

use super::commit::{self, Encoding, Windows};
use super::group::Prepared;
use super::reserve::Reserve;
use super::segment;
use super::shared::Shared;
use super::{Appended, LogConfig, LogError};
use crate::clock::Clock;
use crate::files::{File, Files};

/// An append that waits for the writer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) group: Prepared,
    pub(super) answer: oneshot::Sender<Result<Appended, LogError>>,
}

pub(super) struct Writer {
    pub(super) files: Arc<dyn Files>,
    pub(super) folder: PathBuf,
    pub(super) config: LogConfig,
    pub(super) clock: Clock,
    pub(super) shared: Arc<Shared>,
    pub(super) file: Box<dyn File>,
    pub(super) windows: Windows,
    pub(super) encoding: Encoding,
    /// A removal that is not synced yet: a second one must wait, or a cut could leave a hole between segments.
    pub(super) removal_unsynced: bool,
}

/// Tells readers and callers that the writer is gone, also when it panicked.
struct Farewell(Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        self.0.stop(if panicked { LogError::Fatal("the writer panicked".to_owned()) } else { LogError::Closed });
    }
}

impl Writer {
    pub(super) fn run(mut self, queue: &Receiver<Pending>) {
        let _farewell = Farewell(self.shared.clone());
        let mut carried = None;
        loop {
            let waiting = self.gather(queue, &mut carried);
            if waiting.is_empty() {
                return;
            }
            let bytes: usize = waiting.iter().map(|pending| pending.group.bytes).sum();
            let (groups, answers): (Vec<_>, Vec<_>) = waiting.into_iter().map(|p| (p.group, p.answer)).unzip();
            let result = self.commit(groups);
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
            let fatal = match &result {
                Err(error @ LogError::Fatal(_)) => Some(error.clone()),
                _ => None,
            };
            // Before the answers: who hears of a fatal error finds the log stopped.
            if let Some(error) = &fatal {
                tracing::error!(%error, "the log stops");
                self.shared.stop(error.clone());
            }
            answer(answers, result);
            if fatal.is_some() {
                return;
            }
        }
    }

    /// What waits, up to the limits of one commit; empty once the queue is closed and drained.
    fn gather(&self, queue: &Receiver<Pending>, carried: &mut Option<Pending>) -> Vec<Pending> {
        let Some(first) = carried.take().or_else(|| queue.recv().ok()) else { return Vec::new() };
        if self.config.linger_ms > 0 {
            std::thread::sleep(Duration::from_millis(self.config.linger_ms));
        }
        let (mut rows, mut bytes) = (first.group.rows, first.group.bytes);
        let mut waiting = vec![first];
        // Each group makes at most seven frames, and a frame's place in its commit has 16 bits.
        while waiting.len() < 8192 {
            let Ok(next) = queue.try_recv() else { break };
            (rows, bytes) = (rows + next.group.rows, bytes + next.group.bytes);
            if rows > self.config.group_rows_max || bytes > self.config.group_bytes_max {
                *carried = Some(next);
                break;
            }
            waiting.push(next);
        }
        waiting
    }

    fn commit(&mut self, groups: Vec<Prepared>) -> Result<Vec<Appended>, LogError> {
        let offset = self.shared.end();
        let made = commit::make(groups, offset, self.clock.now_micros(), &mut self.windows, &mut self.encoding);
        let written = made.and_then(|mut commit| {
            if !commit.frames.is_empty() {
                let parts = self.encoding.take();
                let bytes = self.write(&parts)?;
                self.shared.publish(std::mem::take(&mut commit.frames), bytes, commit.ids);
            }
            Ok(commit.appended)
        });
        match written {
            Ok(_) => self.windows.settle(),
            Err(_) => self.windows.undo(),
        }
        written
    }

    /// Makes the commit's bytes durable at the end of the active segment, a new one where it would grow too large. Tells how
    /// many they are.
    fn write(&mut self, parts: &[Buffer]) -> Result<u64, LogError> {
        let parts: Vec<&[u8]> = parts.iter().map(Buffer::as_slice).collect();
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        if let Err(error) = self.release(bytes) {
            // Releasing comes again with the next commit; what it leaves behind only takes room.
            tracing::warn!(%error, "a segment could not be released");
        }
        while let Some(path) = self.shared.forgettable() {
            self.files.forget(&path, 0..u64::MAX);
        }
        if self.shared.reserve().is_some_and(Reserve::is_spent) {
            return Err(LogError::Full("the disk is full; its reserve is used to write the tables".to_owned()));
        }
        let total = self.shared.bytes();
        if total + bytes > self.config.log_bytes_max {
            return Err(LogError::Full(format!("{total} bytes of log_bytes_max {}", self.config.log_bytes_max)));
        }
        let (_, start, frames) = self.shared.active();
        if frames > 0 && (start + bytes > self.config.segment_bytes_max || self.shared.active_is_let_go()) {
            self.roll()?;
        }
        let (path, start, _) = self.shared.active();
        if let Err(error) = self.file.append_parts(&parts) {
            let cut = self.file.truncate(start).and_then(|()| self.file.sync());
            cut.map_err(|error| LogError::sync(&path, &error))?;
            let error = LogError::io(&path, error);
            if let (LogError::Full(_), Some(reserve)) = (&error, self.shared.reserve()) {
                // The tables may lie where there is room: then only this tells them to be written at once.
                reserve.spend();
            }
            return Err(error);
        }
        self.file.sync().map_err(|error| LogError::sync(&path, &error))?;
        // Readers that keep up have it from the cache of frames. Its pages serve the next commit: new ones cost the kernel
        // several times as much as what is copied into them.
        self.file.forget(start..start + bytes);
        Ok(bytes)
    }

    /// Begins a new segment. One that could not be begun must be gone before the old one grows: it would overlap.
    fn roll(&mut self) -> Result<(), LogError> {
        let end = self.shared.end();
        match segment::create(&*self.files, &self.folder, end) {
            Ok((segment, file)) => {
                self.file = file;
                self.shared.begin(segment);
                Ok(())
            }
            Err(error @ LogError::Fatal(_)) => Err(error),
            Err(error) => {
                let path = segment::path(&self.folder, end);
                let removed = match self.files.remove(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    removed => removed,
                };
                let removed = removed.and_then(|()| self.files.sync_dir(&self.folder));
                removed.map_err(|error| LogError::sync(&path, &error))?;
                Err(error)
            }
        }
    }

    /// Removes the segments that nobody needs any more, oldest first.
    fn release(&mut self, wanted: u64) -> Result<(), LogError> {
        loop {
            if self.removal_unsynced {
                self.files.sync_dir(&self.folder).map_err(|error| LogError::io(&self.folder, error))?;
                self.removal_unsynced = false;
            }
            let Some(path) = self.shared.releasable(&self.config, wanted) else { return Ok(()) };
            self.files.remove(&path).map_err(|error| LogError::io(&path, error))?;
            self.removal_unsynced = true;
            self.shared.released();
        }
    }
}

fn answer(answers: Vec<oneshot::Sender<Result<Appended, LogError>>>, result: Result<Vec<Appended>, LogError>) {
    // A caller that stopped waiting does not hear; its group is in the log all the same.
    match result {
        Ok(appended) => {
            for (answer, appended) in answers.into_iter().zip(appended) {
                let _ = answer.send(Ok(appended));
            }
        }
        Err(error) => {
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

//! What writer and readers share: which segments there are, the newest frames, how far each group is, how far the log goes.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use super::cache::Cache;
use super::reserve::Reserve;
use super::segment::{Place, Segment};
use super::{Frame, LogConfig, LogError};

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    status: watch::Sender<Status>,
    /// Bytes of the groups that wait for the writer or are being written.
    pub(super) queued_bytes: AtomicUsize,
    /// Frames below this are kept for nobody but the readers.
    let_go: AtomicU64,
    reserve: OnceLock<Reserve>,
}

#[derive(Debug)]
struct State {
    /// Oldest first; the last one is written to. Never empty.
    segments: VecDeque<Segment>,
    cache: Cache,
    passed: Vec<(&'static str, u64)>,
}

#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) end: u64,
    /// Why nothing more will come.
    pub(super) stopped: Option<LogError>,
}

/// Where frames from an offset on are.
pub(super) enum Found {
    Memory(Vec<Arc<Frame>>),
    Disk(Place),
}

impl State {
    fn active(&self) -> &Segment {
        self.segments.back().expect("there is always a segment to write to")
    }
}

impl Shared {
    pub(super) fn new(segments: Vec<Segment>, config: &LogConfig, groups: &[&'static str]) -> Self {
        let passed = groups.iter().map(|group| (*group, 0)).collect();
        let state = State { segments: segments.into(), cache: Cache::new(config.cache_bytes_max), passed };
        let status = watch::Sender::new(Status { end: state.active().end, stopped: None });
        Shared {
            state: Mutex::new(state),
            status,
            queued_bytes: AtomicUsize::new(0),
            let_go: AtomicU64::new(0),
            reserve: OnceLock::new(),
        }
    }

    /// A panic while this is held ends the writer (see `Farewell`); readers may still see what is durable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn end(&self) -> u64 {
        self.status.borrow().end
    }

    pub(super) fn first(&self) -> u64 {
        self.lock().segments[0].first
    }

    pub(super) fn stopped(&self) -> Option<LogError> {
        self.status.borrow().stopped.clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The first reason stays.
    pub(super) fn stop(&self, reason: LogError) {
        self.status.send_modify(|status| {
            status.stopped.get_or_insert(reason);
        });
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Path, length and number of frames of the segment that is written to.
    pub(super) fn active(&self) -> (PathBuf, u64, u64) {
        let state = self.lock();
        let active = state.active();
        (active.path.clone(), active.bytes, active.end - active.first)
    }

    pub(super) fn begin(&self, segment: Segment) {
        self.lock().segments.push_back(segment);
    }

    /// Shows a durable commit to readers.
    pub(super) fn publish(&self, frames: Vec<Arc<Frame>>, bytes: u64, ids: u64) {
        let end = {
            let mut state = self.lock();
            let active = state.segments.back_mut().expect("there is always a segment to write to");
            active.grow(frames.len() as u64, bytes, ids);
            let end = active.end;
            frames.into_iter().for_each(|frame| state.cache.push(frame));
            end
        };
        self.status.send_modify(|status| status.end = end);
    }

    pub(super) fn find(&self, from: u64, bytes_max: usize) -> Result<Found, LogError> {
        let state = self.lock();
        let first = state.segments[0].first;
        if from < first {
            return Err(LogError::Gone { first });
        }
        if from >= state.active().end {
            return Ok(Found::Memory(Vec::new()));
        }
        if let Some(frames) = state.cache.read(from, bytes_max) {
            return Ok(Found::Memory(frames));
        }
        let next = state.segments.partition_point(|segment| segment.end <= from);
        Ok(Found::Disk(state.segments[next].place(from)))
    }

    pub(super) fn has_group(&self, group: &str) -> bool {
        self.lock().passed.iter().any(|(name, _)| *name == group)
    }

    pub(super) fn segment_begins(&self, from: u64, to: u64) -> bool {
        self.lock().segments.iter().any(|segment| from < segment.first && segment.first <= to)
    }

    pub(super) fn passed(&self, group: &str, next: u64) {
        let mut state = self.lock();
        let known = state.passed.iter_mut().find(|(name, _)| *name == group);
        let Some((_, passed)) = known else { panic!("the log was opened without the group {group}") };
        *passed = next.max(*passed);
    }

    /// The first one stays.
    pub(super) fn keep_reserve(&self, reserve: Reserve) {
        let _ = self.reserve.set(reserve);
    }

    pub(super) fn reserve(&self) -> Option<&Reserve> {
        self.reserve.get()
    }

    pub(super) fn let_go(&self, below: u64) {
        self.let_go.fetch_max(below, Ordering::SeqCst);
    }

    /// Whether the segment that is written to holds frames that were let go.
    pub(super) fn active_is_let_go(&self) -> bool {
        let state = self.lock();
        let active = state.active();
        active.first < active.end.min(self.let_go.load(Ordering::SeqCst))
    }

    /// The oldest segment, if every group passed it and the window of the duplicate filter lies behind it; where `wanted`
    /// bytes more would be beyond `log_bytes_max`, on a full disk and for what was let go, the window gives way.
    pub(super) fn releasable(&self, config: &LogConfig, wanted: u64) -> Option<PathBuf> {
        let state = self.lock();
        if state.segments.len() < 2 {
            return None;
        }
        let oldest = &state.segments[0];
        let passed = state.passed.iter().all(|(_, passed)| *passed >= oldest.end);
        let behind: u64 = state.segments.iter().skip(1).map(|segment| segment.ids).sum();
        let bytes: u64 = state.segments.iter().map(|segment| segment.bytes).sum();
        let full = self.reserve().is_some_and(Reserve::is_spent);
        let let_go = full || oldest.end <= self.let_go.load(Ordering::SeqCst);
        let unneeded = let_go || behind >= config.duplicates_window as u64 || bytes + wanted > config.log_bytes_max;
        (passed && unneeded).then(|| oldest.path.clone())
    }

    /// A segment that is full and that every group has passed, once: what is retained of it is for the duplicate filter's
    /// next start.
    pub(super) fn forgettable(&self) -> Option<PathBuf> {
        let mut state = self.lock();
        let passed = state.passed.iter().map(|(_, passed)| *passed).min()?;
        let full = state.segments.len() - 1;
        let segment = state.segments.iter_mut().take(full).find(|s| !s.forgotten && s.end <= passed)?;
        segment.forgotten = true;
        Some(segment.path.clone())
    }

    pub(super) fn released(&self) {
        self.lock().segments.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_segment_is_forgotten_once_when_all_have_passed_it() {
        let segment = |first| {
            let mut segment = Segment::new(PathBuf::from(format!("{first}")), first, 0, Vec::new());
            segment.grow(10, 1, 10);
            segment
        };
        let shared = Shared::new(vec![segment(0), segment(10)], &LogConfig::default(), &["lake", "detect"]);
        shared.passed("lake", 20);
        shared.passed("detect", 9);
        assert_eq!(shared.forgettable(), None);
        shared.passed("detect", 20);
        assert_eq!(shared.forgettable(), Some(PathBuf::from("0")));
        // The other is still written to.
        assert_eq!(shared.forgettable(), None);
    }
}

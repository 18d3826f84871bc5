//! One partition as its readers see it: without duplicates, the newest messages in memory, older ones fetched again.
//!
//! One follower a process reads every partition once, from where it ended when the log was opened, and judges each message
//! when it comes; what it found is kept, so that a message that is fetched again is not judged again. What lies before the
//! follower's beginning is judged when a reader first asks for it, by a filter of its own that was read back far enough.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::{Frame, LogError};
use super::KafkaLogConfig;
use super::fetch::{Fetched, Fetcher};
use super::filter::{self, Filter, Keys, MESSAGES_MAX, Verdict};
use super::message;

/// Rows that verdicts name at most: beyond it the oldest verdicts are forgotten and found anew when they are asked for.
const VERDICT_ROWS_MAX: usize = 1 << 20;
/// Stretches before the follower's beginning that are known at once, and clients that stand ready for them.
const STRETCHES_MAX: usize = 8;
const FETCHERS_MAX: usize = 3;
/// The first step back; each is four times the one before.
const STEP_MESSAGES: u64 = 64;

pub(super) struct Partition {
    config: Arc<KafkaLogConfig>,
    number: usize,
    rows_max: u64,
    patience: Duration,
    state: Mutex<State>,
    moved: Condvar,
    /// One past the last message that the follower has judged.
    followed: AtomicU64,
    history: Mutex<History>,
}

struct State {
    first: u64,
    /// One past the last message that was acknowledged here; the follower may not have it yet.
    acknowledged: u64,
    followed: u64,
    /// The newest messages.
    newest: VecDeque<(u64, Vec<Arc<Frame>>, usize)>,
    bytes: usize,
    bytes_max: usize,
    judged: Judged,
    passed: Vec<(&'static str, u64)>,
    /// Why nothing more will come.
    stopped: Option<LogError>,
}

/// What was found about the messages from `start` on.
#[derive(Default)]
struct Judged {
    start: u64,
    verdicts: BTreeMap<u64, Verdict>,
    rows: usize,
}

impl Judged {
    fn note(&mut self, offset: u64, verdict: Verdict) {
        if verdict.is_empty() {
            return;
        }
        self.rows += verdict.rows();
        self.verdicts.insert(offset, verdict);
        while self.rows > VERDICT_ROWS_MAX {
            let Some((offset, verdict)) = self.verdicts.pop_first() else { return };
            self.rows -= verdict.rows();
            self.start = offset + 1;
        }
    }

    fn forget(&mut self, below: u64) {
        let kept = self.verdicts.split_off(&below);
        let gone = std::mem::replace(&mut self.verdicts, kept);
        self.rows -= gone.values().map(Verdict::rows).sum::<usize>();
        if !gone.is_empty() {
            self.start = self.start.max(below);
        }
    }
}

#[derive(Default)]
struct History {
    stretches: Vec<Stretch>,
    fetchers: Vec<Fetcher>,
}

/// Messages from `judged.start` to `next`, judged one after the other.
struct Stretch {
    judged: Judged,
    next: u64,
    filter: Filter,
}

/// How a partition is opened.
pub(super) struct Opening {
    pub(super) config: Arc<KafkaLogConfig>,
    pub(super) number: usize,
    pub(super) rows_max: u64,
    pub(super) cache_bytes_max: usize,
    pub(super) first: u64,
    pub(super) end: u64,
}

impl Partition {
    pub(super) fn open(opening: Opening, groups: &[&'static str]) -> Partition {
        let Opening { config, number, rows_max, cache_bytes_max, first, end } = opening;
        let state = State {
            first,
            acknowledged: end,
            followed: end,
            newest: VecDeque::new(),
            bytes: 0,
            bytes_max: cache_bytes_max,
            judged: Judged { start: end, ..Judged::default() },
            passed: groups.iter().map(|group| (*group, 0)).collect(),
            stopped: None,
        };
        let patience = Duration::from_millis(config.client.timeout_ms);
        let (state, followed, history) = (Mutex::new(state), AtomicU64::new(end), Mutex::default());
        Partition { config, number, rows_max, patience, state, moved: Condvar::new(), followed, history }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn first(&self) -> u64 {
        self.lock().first
    }

    pub(super) fn set_first(&self, first: u64) {
        self.lock().first = first;
    }

    pub(super) fn end(&self) -> u64 {
        let state = self.lock();
        state.followed.max(state.acknowledged)
    }

    pub(super) fn followed(&self) -> u64 {
        self.followed.load(Ordering::Acquire)
    }

    pub(super) fn acknowledged(&self, end: u64) {
        let mut state = self.lock();
        state.acknowledged = state.acknowledged.max(end);
    }

    pub(super) fn passed(&self, group: &str, next: u64) {
        let mut state = self.lock();
        let known = state.passed.iter_mut().find(|(name, _)| *name == group);
        let Some((_, passed)) = known else { panic!("the log was opened without the group {group}") };
        *passed = next.max(*passed);
        let all = state.passed.iter().map(|(_, passed)| *passed).min().unwrap_or(0);
        state.judged.forget(all);
    }

    pub(super) fn stop(&self, reason: &LogError) {
        self.lock().stopped.get_or_insert_with(|| reason.clone());
        self.moved.notify_all();
    }

    /// Shows the readers the next message; the follower calls it in the order of the partition.
    pub(super) fn follow(&self, offset: u64, value: &[u8], filter: &mut Filter) -> Result<(), LogError> {
        let frames = self.decode(offset, value)?;
        let verdict = filter.judge(&Keys::of(&frames)?);
        let frames = filter::apply(frames, &verdict)?;
        // The rows share the message's bytes.
        let bytes = value.len();
        let mut state = self.lock();
        state.judged.note(offset, verdict);
        state.newest.push_back((offset, frames, bytes));
        state.bytes += bytes;
        while state.bytes > state.bytes_max {
            let Some((_, _, bytes)) = state.newest.pop_front() else { break };
            state.bytes -= bytes;
        }
        state.followed = offset + 1;
        self.followed.store(offset + 1, Ordering::Release);
        drop(state);
        self.moved.notify_all();
        Ok(())
    }

    fn decode(&self, offset: u64, value: &[u8]) -> Result<Vec<Frame>, LogError> {
        message::read(self.number, offset, value).map_err(|reason| {
            let place = format!("{}/{} offset {offset}", self.config.topic, self.number);
            LogError::Fatal(format!("{place} is no message of Muster's log: {reason}"))
        })
    }

    /// Messages from `from` on, each whole: at least one if `from` is below the end.
    pub(super) fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<Arc<Frame>>, LogError> {
        let began = Instant::now();
        let mut state = self.lock();
        loop {
            if let Some(reason @ LogError::Fatal(_)) = &state.stopped {
                return Err(reason.clone());
            }
            if from < state.first {
                return Err(LogError::Gone { first: state.first });
            }
            if from >= state.followed.max(state.acknowledged) {
                return Ok(Vec::new());
            }
            if let Some(frames) = state.newest(from, bytes_max) {
                return Ok(frames);
            }
            if from < state.followed {
                drop(state);
                return self.older(from, bytes_max);
            }
            // Acknowledged, and on its way to the follower.
            let waited = began.elapsed();
            if let Some(reason) = state.stopped.clone() {
                return Err(reason);
            }
            if waited >= self.patience {
                let place = format!("{}/{}", self.config.topic, self.number);
                let reason = format!("no message at offset {from} within {} ms", self.patience.as_millis());
                return Err(LogError::Kafka { place, reason });
            }
            let woken = self.moved.wait_timeout(state, self.patience - waited);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Fetches messages that are no longer in memory.
    fn older(&self, from: u64, bytes_max: usize) -> Result<Vec<Arc<Frame>>, LogError> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let (known_from, followed) = {
            let state = self.lock();
            (state.judged.start, state.followed)
        };
        let History { stretches, fetchers } = &mut *history;
        let ready = fetchers.iter().position(|fetcher| fetcher.next == from);
        let mut fetcher = match ready {
            Some(at) => fetchers.remove(at),
            None => Fetcher::new(&self.config)?,
        };
        let mut stretch = if from < known_from { Some(self.stretch(stretches, from, &mut fetcher)?) } else { None };
        if ready.is_none() || fetcher.next != from {
            fetcher.aim(self.number, from)?;
        }
        let (mut out, mut at, mut taken) = (Vec::new(), from, 0);
        while at < followed && taken < bytes_max.max(1) {
            let Fetched::Message { offset, value } = fetcher.fetch()? else {
                return Err(LogError::Gone { first: self.first().max(at + 1) });
            };
            (at, taken) = (offset + 1, taken + value.len());
            let frames = self.decode(offset, &value)?;
            let verdict = match &mut stretch {
                Some(stretch) if offset < known_from => stretch.verdict(offset, &frames)?,
                _ => self.lock().judged.verdicts.get(&offset).cloned().unwrap_or_default(),
            };
            out.extend(filter::apply(frames, &verdict)?);
        }
        fetchers.push(fetcher);
        if fetchers.len() > FETCHERS_MAX {
            fetchers.remove(0);
        }
        Ok(out)
    }

    /// The stretch that holds `from` or ends there.
    fn stretch<'a>(
        &self,
        stretches: &'a mut Vec<Stretch>,
        from: u64,
        fetcher: &mut Fetcher,
    ) -> Result<&'a mut Stretch, LogError> {
        let there = stretches.iter().position(|stretch| (stretch.judged.start..=stretch.next).contains(&from));
        let at = match there {
            Some(at) => at,
            None => {
                if stretches.len() == STRETCHES_MAX {
                    stretches.remove(0);
                }
                let judged = Judged { start: from, ..Judged::default() };
                stretches.push(Stretch { judged, next: from, filter: self.filter(from, fetcher)? });
                stretches.len() - 1
            }
        };
        Ok(&mut stretches[at])
    }

    /// The filter of a reader that begins at `from`: what lies before it is read as far back as the filter reaches.
    pub(super) fn filter(&self, from: u64, fetcher: &mut Fetcher) -> Result<Filter, LogError> {
        let mut filter = Filter::new(self.rows_max);
        if self.rows_max == 0 {
            return Ok(filter);
        }
        let least = self.first().max(from.saturating_sub(MESSAGES_MAX));
        let (mut start, mut step, mut rows) = (from, STEP_MESSAGES, 0);
        let mut steps: Vec<Vec<Keys>> = Vec::new();
        while start > least && rows <= self.rows_max {
            let lower = least.max(start.saturating_sub(step));
            let found = self.keys(lower, start, fetcher)?;
            rows += found.iter().map(|keys| keys.events.len() as u64).sum::<u64>();
            steps.push(found);
            (start, step) = (lower, step * 4);
        }
        steps.iter().rev().flatten().for_each(|keys| drop(filter.judge(keys)));
        Ok(filter)
    }

    /// What the filter compares, of the messages from `from` to `to`.
    fn keys(&self, from: u64, to: u64, fetcher: &mut Fetcher) -> Result<Vec<Keys>, LogError> {
        fetcher.aim(self.number, from)?;
        let mut found = Vec::new();
        while fetcher.next < to {
            match fetcher.fetch()? {
                Fetched::Message { offset, value } if offset < to => {
                    found.push(Keys::of(&self.decode(offset, &value)?)?);
                }
                Fetched::Message { .. } => break,
                // Deleted in between: it is out of every reader's reach.
                Fetched::Gone => return Ok(Vec::new()),
            }
        }
        found.retain(|keys| !keys.is_empty());
        Ok(found)
    }
}

impl State {
    /// Messages in memory from `from` on, at least one; `None` where it is not among them.
    fn newest(&self, from: u64, bytes_max: usize) -> Option<Vec<Arc<Frame>>> {
        if self.newest.front()?.0 > from {
            return None;
        }
        let skip = self.newest.partition_point(|(offset, ..)| *offset < from);
        let (mut frames, mut taken) = (Vec::new(), 0);
        for (_, message, bytes) in self.newest.range(skip..) {
            taken += bytes;
            if taken > bytes_max && !frames.is_empty() {
                break;
            }
            frames.extend(message.iter().cloned());
        }
        (!frames.is_empty()).then_some(frames)
    }
}

impl Stretch {
    fn verdict(&mut self, offset: u64, frames: &[Frame]) -> Result<Verdict, LogError> {
        if offset < self.next {
            return Ok(self.judged.verdicts.get(&offset).cloned().unwrap_or_default());
        }
        let verdict = self.filter.judge(&Keys::of(frames)?);
        self.judged.note(offset, verdict.clone());
        self.next = offset + 1;
        Ok(verdict)
    }
}

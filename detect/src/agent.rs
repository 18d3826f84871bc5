//! One agent's memory: its habits, its open sessions, the alerts about it. At most 8 KB, usually under 3.
//!
//! Which actions it ever did is a list of its own, not a guess of the table: "never did" is a claim of fact. An agent
//! with more than [`ACTIONS_MAX`] different actions is too broad for that claim and the list says so.

use serde::{Deserialize, Serialize};

use crate::ahead::{ask, ask_end};
use crate::detectors::States;
use crate::habits::{Call, Habits, Recent};
use crate::impact::HARM;
use crate::row::Row;
use crate::session::{Buffers, CALLS_MAX, Odd, Session};

const SLOTS_MAX: u32 = 256;
pub(crate) const ACTIONS_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 64;
const SESSIONS_MAX: usize = 4;
const RAISED_MAX: usize = 8;
const HELD_MAX: usize = 4;
/// Calls of all its open sessions, and of all that are held back.
const OPEN_CALLS_MAX: usize = CALLS_MAX;
const HELD_CALLS_MAX: usize = CALLS_MAX;
/// How many ordinary sessions a dismissed alert counts for.
const DISMISSED_WEIGHT: u32 = 3;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Agent {
    /// Its fingerprint.
    pub(crate) key: u64,
    pub(crate) tenant: u64,
    /// The name that its records last gave, cut; empty until one does. Many records of an agent give its id alone.
    pub(crate) name: String,
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// Sessions learned.
    pub(crate) sessions: u32,
    pub(crate) cohort: u64,
    pub(crate) cohort_is_owner: bool,
    pub(crate) habits: Habits,
    pub(crate) actions: Vec<Done>,
    pub(crate) actions_forgotten: bool,
    pub(crate) open: Vec<Session>,
    pub(crate) raised: Vec<Raised>,
    /// Sessions that may not become habits yet.
    pub(crate) held: Vec<Held>,
    /// What each detector remembers of it; a snapshot keeps it apart.
    #[serde(skip)]
    pub(crate) states: States,
    /// The sweep in whose list it is, of those whose sessions will be left alone.
    #[serde(skip)]
    pub(crate) due: Option<i64>,
}

/// A session, or part of one, with odd calls: learned when it turns out to be the agent's own way, else dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) job: u64,
    pub(crate) lead: Recent,
    pub(crate) calls: Vec<Call>,
    pub(crate) odd: Odd,
    /// For whom it was odd ([`Agent::stands_for`]).
    pub(crate) who: u64,
    pub(crate) since: i64,
    /// Somebody said that it was ordinary.
    pub(crate) cleared: bool,
}

/// An action that the agent did, in so many sessions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) action: u64,
    pub(crate) sessions: u32,
}

/// An alert about the agent: against repeats, and to learn from its dismissal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Raised {
    pub(crate) alert_id: u128,
    pub(crate) detector: u32,
    pub(crate) time: i64,
    pub(crate) recent: Recent,
    pub(crate) call: Call,
}

impl Agent {
    pub(crate) fn new(key: u64, tenant: u64, time: i64) -> Self {
        Agent {
            key,
            tenant,
            name: String::new(),
            first: time,
            last: time,
            sessions: 0,
            cohort: 0,
            cohort_is_owner: false,
            habits: Habits::new(SLOTS_MAX),
            actions: Vec::new(),
            actions_forgotten: false,
            open: Vec::new(),
            raised: Vec::new(),
            held: Vec::new(),
            states: States::default(),
            due: None,
        }
    }

    /// Whose way of working an odd call would be: the job's, else the owner's (who may roll out something new to all their
    /// agents at once), else the agent's own.
    pub(crate) fn stands_for(&self, job: u64) -> u64 {
        match (job, self.cohort_is_owner) {
            (0, true) => self.cohort,
            (0, false) => self.key,
            (job, _) => job,
        }
    }

    /// Holds a session back; the oldest give way unlearned.
    pub(crate) fn hold(&mut self, mut held: Held) {
        held.calls.shrink_to_fit();
        self.held.push(held);
        while self.held.len() > HELD_MAX
            || self.held.iter().map(|held| held.calls.len()).sum::<usize>() > HELD_CALLS_MAX
        {
            self.held.remove(0);
        }
        self.held.shrink_to_fit();
    }

    /// Remembers the name that a record gives.
    #[inline]
    pub(crate) fn call_it(&mut self, name: &str) {
        if self.name != name {
            self.name.clear();
            self.name.extend(name.chars().take(NAME_CHARS_MAX));
        }
    }

    #[inline]
    pub(crate) fn did(&self, action: u64) -> bool {
        self.actions.iter().any(|done| done.action == action)
    }

    /// The open session of `key`, newest last; a pause or a fifth session ends one, which is handed to `ended`.
    pub(crate) fn session(
        &mut self,
        key: u64,
        job: u64,
        time: i64,
        idle: i64,
        buffers: &mut Buffers,
        mut ended: impl FnMut(&mut Self, &mut Buffers, Session),
    ) {
        if let Some(at) = self.open.iter().position(|session| session.key == key) {
            if time - self.open[at].last <= idle {
                return self.open[at..].rotate_left(1);
            }
            let session = self.open.remove(at);
            ended(self, buffers, session);
        } else if self.open.len() == SESSIONS_MAX {
            let oldest = self.open.remove(0);
            ended(self, buffers, oldest);
        }
        self.open.reserve_exact(1);
        self.open.push(Session::new(key, job, time, buffers));
    }

    /// The open session that is to be learned in part: the newest once it is full, the longest where all together are.
    #[inline]
    pub(crate) fn full(&self) -> Option<usize> {
        let calls = |session: &Session| session.calls.len();
        let newest = self.open.len().checked_sub(1)?;
        if calls(&self.open[newest]) == CALLS_MAX {
            return Some(newest);
        }
        let all_are = newest > 0 && self.open.iter().map(calls).sum::<usize>() > OPEN_CALLS_MAX;
        all_are.then(|| (0..=newest).max_by_key(|at| calls(&self.open[*at])).unwrap_or(newest))
    }

    /// Learns calls of a session. The result has a bit set for each call that was the agent's first of its action.
    pub(crate) fn learn(&mut self, lead: Recent, calls: &[Call], buffers: &mut Buffers) -> u64 {
        self.sessions = self.sessions.saturating_add(1);
        self.habits.learn(lead, calls, &mut buffers.keys);
        let mut firsts = 0;
        for (i, call) in calls.iter().enumerate() {
            if calls[..i].iter().all(|before| before.action != call.action) && self.note_done(call.action, 1) {
                firsts |= 1 << i;
            }
        }
        firsts
    }

    /// Whether the action is the agent's first of its kind.
    fn note_done(&mut self, action: u64, sessions: u32) -> bool {
        if let Some(done) = self.actions.iter_mut().find(|done| done.action == action) {
            done.sessions = done.sessions.saturating_add(sessions);
            return false;
        }
        if self.actions.len() == ACTIONS_MAX {
            self.actions_forgotten = true;
            let rarest = (0..ACTIONS_MAX).min_by_key(|&i| self.actions[i].sessions).expect("the list is full");
            self.actions.remove(rarest);
        }
        if self.actions.len() == self.actions.capacity() {
            self.actions.reserve_exact(4);
        }
        self.actions.push(Done { action, sessions });
        true
    }

    /// Whether `detector` raised an alert about `action` within `window` of `time`, before or after: logs may be late.
    pub(crate) fn raised_lately(&self, detector: u32, action: u64, time: i64, window: i64) -> bool {
        let same = |raised: &&Raised| raised.detector == detector && raised.call.action == action;
        self.raised.iter().filter(same).any(|raised| (time - raised.time).abs() < window)
    }

    pub(crate) fn note_raised(&mut self, raised: Raised) {
        if self.raised.len() == RAISED_MAX {
            self.raised.remove(0);
        }
        self.raised.reserve_exact(1);
        self.raised.push(raised);
    }

    /// Somebody says that the alert was about ordinary work: it becomes a habit. False if there is no such alert.
    pub(crate) fn dismiss(&mut self, alert_id: u128) -> bool {
        let Some(raised) = self.raised.iter().find(|raised| raised.alert_id == alert_id).cloned() else {
            return false;
        };
        self.habits.teach(raised.recent, raised.call, DISMISSED_WEIGHT);
        self.note_done(raised.call.action, DISMISSED_WEIGHT);
        self.raised.retain(|other| other.alert_id != alert_id);
        let call = raised.call.key();
        self.held.iter_mut().filter(|held| held.odd.contains(&call)).for_each(|held| held.cleared = true);
        true
    }

    /// Somebody says that the alert was right: what is held back is never learned. False if there is no such alert.
    pub(crate) fn confirm(&mut self, alert_id: u128) -> bool {
        if !self.raised.iter().any(|raised| raised.alert_id == alert_id) {
            return false;
        }
        self.held.clear();
        for session in &mut self.open {
            session.calls.clear();
        }
        true
    }

    /// Whether it can be used without a panic, after reading back.
    pub(crate) fn is_sound(&self) -> bool {
        let sound = |session: &Session| session.calls.len() < CALLS_MAX;
        self.habits.table.is_sound()
            && self.open.iter().all(sound)
            && self.held.iter().all(|h| h.calls.len() <= CALLS_MAX)
    }

    /// The open session that a call belongs to.
    #[inline]
    fn place(&self, key: u64, time: i64, idle: i64) -> Option<&Session> {
        self.open.iter().rfind(|session| session.key == key).filter(|session| time - session.last <= idle)
    }

    /// Asks for what a call reads of that to which the agent points: its sessions and actions.
    #[inline]
    pub(crate) fn ask_near(&self) {
        ask(self.name.as_str());
        ask(self.actions.as_slice());
        ask(self.open.as_slice());
        self.states.ask_near();
    }

    /// Then for that to which these point: the session's end, and the habits where the call may be odd or a session ends.
    #[inline]
    pub(crate) fn ask_far(&self, row: &Row, idle: i64) {
        match self.place(row.session, row.time, idle) {
            Some(session) => ask_end(&session.calls),
            None => return self.ask_ended(),
        }
        if row.impact >= HARM {
            self.habits.table.ask();
        }
    }

    /// The same where sessions are known to end.
    #[inline]
    pub(crate) fn ask_ended(&self) {
        self.open.iter().for_each(|session| ask(session.calls.as_slice()));
        self.habits.table.ask();
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.name.capacity()
            + self.habits.table.bytes()
            + self.actions.capacity() * size_of::<Done>()
            + self.raised.capacity() * size_of::<Raised>()
            + self.open.capacity() * size_of::<Session>()
            + self.open.iter().map(Session::bytes).sum::<usize>()
            + self.held.capacity() * size_of::<Held>()
            + self.held.iter().map(|held| held.calls.capacity() * size_of::<Call>()).sum::<usize>()
            + self.states.bytes()
    }
}

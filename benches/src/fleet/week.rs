//! A week of work: planned as small entries, ordered by time, then written as vendors' records a window at a time.
//!
//! Only the plan is in memory as a whole (about 50 bytes a record); records exist a batch at a time.

use std::collections::VecDeque;

use fastrand::Rng;

use super::cast::Member;
use super::jobs::{Door, Step, When};
use super::{Batch, Caller, Fleet, TENANTS};
use crate::records::{Token, Uuid, envoy, kong, okta, short_id};
use crate::workload::Source;

const DAY: i64 = 86_400_000_000;
const HOUR: i64 = 3_600_000_000;
const MINUTE: i64 = 60_000_000;
/// One session in so many has a rarer action: often enough that a job's agents know it within days.
const RARE_STEP: u32 = 8;
/// One session in so many runs on another machine, or acts for another colleague.
pub(super) const RARELY: u32 = 25;
/// A batch spans at most this much of the simulated week, so that sources stay in step, and this many records.
const WINDOW: i64 = 2 * HOUR;
const WINDOW_RECORDS_MAX: usize = 2_000;
/// Agents' runtimes were upgraded so long before now.
const UPGRADED_FOR: i64 = 3 * DAY;
/// Sources in the order in which a window's batches are sent: tokens are granted before they are used.
const SOURCES: [Source; 3] = [Source::Okta, Source::Envoy, Source::Kong];

struct Planned {
    time: i64,
    what: What,
}

enum What {
    Login { person: usize, fails: bool },
    Grant { session: usize },
    Call { session: usize, step: &'static Step, id: u32 },
}

struct Session {
    member: usize,
    user: Option<usize>,
    token: Option<Token>,
    moved: bool,
}

pub(super) struct Week<'a> {
    fleet: &'a Fleet,
    rng: Rng,
    sessions: Vec<Session>,
    planned: VecDeque<Planned>,
    ready: VecDeque<Batch>,
}

impl<'a> Week<'a> {
    pub(super) fn new(fleet: &'a Fleet) -> Week<'a> {
        let rng = Rng::with_seed(fleet.seed ^ 0x7765_656b);
        let mut week = Week { fleet, rng, sessions: Vec::new(), planned: VecDeque::new(), ready: VecDeque::new() };
        let first_day = (fleet.now_micros - 7 * DAY).div_euclid(DAY);
        for day in first_day..=fleet.now_micros.div_euclid(DAY) {
            for person in 0..fleet.persons.len() {
                week.plan_login(day, person);
            }
            for member in 0..fleet.members.len() {
                week.plan_day(day, member);
            }
        }
        let span = fleet.now_micros - 7 * DAY..fleet.now_micros;
        week.planned.retain(|planned| span.contains(&planned.time));
        week.planned.make_contiguous().sort_by_key(|planned| planned.time);
        week
    }

    fn plan_login(&mut self, day: i64, person: usize) {
        if !works(When::Weekdays, day) || self.rng.u8(..10) == 0 {
            return;
        }
        let time = day * DAY + 8 * HOUR + self.rng.i64(..90 * MINUTE);
        if self.rng.u8(..40) == 0 {
            self.planned.push_back(Planned { time: time - MINUTE / 2, what: What::Login { person, fails: true } });
        }
        self.planned.push_back(Planned { time, what: What::Login { person, fails: false } });
    }

    fn plan_day(&mut self, day: i64, member: usize) {
        let job = self.fleet.members[member].job;
        if !works(job.when, day) {
            return;
        }
        let wanted = f64::from(job.sessions_a_day) * self.fleet.volume * (0.7 + 0.6 * self.rng.f64());
        for _ in 0..(wanted + self.rng.f64()) as u32 {
            let (from, until) = match job.when {
                When::Always => (0, 24 * HOUR),
                When::Weekdays => (9 * HOUR, 17 * HOUR),
                When::Daily => (7 * HOUR, 21 * HOUR),
                When::Nightly(hour) => (hour * HOUR, hour * HOUR + HOUR / 2),
            };
            let time = day * DAY + self.rng.i64(from..until);
            self.plan_session(time, member);
        }
    }

    fn plan_session(&mut self, mut time: i64, index: usize) {
        let member = &self.fleet.members[index];
        let user = self.user_of(member);
        let token = match (&member.kept_token, member.job.door) {
            (_, Door::Key) => None,
            (Some(kept), _) => Some(kept.clone()),
            (None, _) => Some(member.token(&mut self.rng, time / 1_000_000)),
        };
        let session = self.sessions.len();
        let moved = self.rng.u32(..RARELY) == 0;
        let granted = token.is_some() && member.kept_token.is_none();
        self.sessions.push(Session { member: index, user, token, moved });
        if granted {
            self.planned.push_back(Planned { time, what: What::Grant { session } });
        }
        let rare = match member.job.rarely {
            [] => None,
            rarely => (self.rng.u32(..RARE_STEP) == 0).then(|| &rarely[self.rng.usize(..rarely.len())]),
        };
        // A session is about a few neighbouring things: what it reads, it then works on.
        let subject = member.ids_from + self.rng.u32(..400);
        for step in member.job.steps.iter().chain(rare) {
            for _ in 0..self.rng.u32(step.times.0..=step.times.1) {
                time += self.rng.i64(300_000..6_000_000);
                let id = subject + self.rng.u32(..4);
                self.planned.push_back(Planned { time, what: What::Call { session, step, id } });
            }
        }
    }

    fn user_of(&mut self, member: &Member) -> Option<usize> {
        if member.users.is_empty() {
            return None;
        }
        if self.rng.u32(..RARELY * 2) == 0 {
            let colleague = self.rng.usize(..self.fleet.persons.len());
            if self.fleet.persons[colleague].tenant == member.tenant {
                return Some(colleague);
            }
        }
        Some(member.users[self.rng.usize(..member.users.len())])
    }

    fn write_window(&mut self) {
        let Some(first) = self.planned.front() else { return };
        let end = first.time + WINDOW;
        let mut window = Window::new();
        for _ in 0..WINDOW_RECORDS_MAX {
            let Some(planned) = self.planned.pop_front_if(|planned| planned.time < end) else { break };
            let Planned { time, what } = planned;
            match what {
                What::Login { person, fails } => self.write_login(time, person, fails, &mut window),
                What::Grant { session } => self.write_grant(time, session, &mut window),
                What::Call { session, step, id } => self.write_call(time, session, step, id, &mut window),
            }
        }
        self.ready.extend(window.0.into_iter().filter(|batch| batch.records > 0));
    }

    fn write_login(&mut self, time: i64, person: usize, fails: bool, window: &mut Window) {
        let person = &self.fleet.persons[person];
        let session = short_id(&mut self.rng, "102", 25);
        let reason = fails.then_some("INVALID_CREDENTIALS");
        let body = window.body(Source::Okta, person.tenant);
        okta::login(time, Uuid::random(&mut self.rng), &person.user, &session, reason, body);
    }

    fn write_grant(&mut self, time: i64, session: usize, window: &mut Window) {
        let session = &self.sessions[session];
        let member = &self.fleet.members[session.member];
        let user = session.user.map(|user| &self.fleet.persons[user].user);
        let token = session.token.as_ref().expect("a grant is of a token");
        let body = window.body(Source::Okta, member.tenant);
        okta::token_grant(time, Uuid::random(&mut self.rng), &member.agent, user, token, body);
    }

    fn write_call(&mut self, time: i64, session: usize, step: &Step, id: u32, window: &mut Window) {
        let Week { fleet, rng, .. } = self;
        let session = &self.sessions[session];
        let member = &fleet.members[session.member];
        let mut agent = member.agent.clone();
        if session.moved {
            agent.address = member.other_address;
        }
        if time > fleet.now_micros - UPGRADED_FOR {
            agent.user_agent = member.upgraded.to_owned();
        }
        let user = session.user.map(|user| &fleet.persons[user].user);
        let caller = Caller { agent: &agent, user, token: session.token.as_ref() };
        let path = step.path.replace("{id}", &id.to_string());
        let call = caller.call(rng, time, (step.method, step.service, &path), None);
        match member.job.door {
            Door::Key => kong::http_log(&call, window.body(Source::Kong, member.tenant)),
            _ => envoy::access(&call, window.body(Source::Envoy, member.tenant)),
        }
    }
}

/// The batches of one window, one a source and tenant.
struct Window(Vec<Batch>);

impl Window {
    fn new() -> Window {
        let of_source =
            |source| TENANTS.into_iter().map(move |tenant| Batch { tenant, source, records: 0, body: Vec::new() });
        Window(SOURCES.into_iter().flat_map(of_source).collect())
    }

    /// Where the next record of this source and tenant is to be written.
    fn body(&mut self, source: Source, tenant: usize) -> &mut Vec<u8> {
        let place = SOURCES.iter().position(|s| *s == source).expect("a source of the fleet");
        let batch = &mut self.0[place * TENANTS.len() + tenant];
        batch.records += 1;
        &mut batch.body
    }
}

impl Iterator for Week<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.ready.is_empty() {
            self.write_window();
        }
        self.ready.pop_front()
    }
}

fn works(when: When, day: i64) -> bool {
    // Day 0 of the epoch was a Thursday.
    let weekday = (day + 3).rem_euclid(7);
    when != When::Weekdays || weekday < 5
}

//! The fleet at its ordinary work: who there is, when they work, and the rows of their sessions.

use fastrand::Rng;
use schemas::table::Hop;
use schemas::{EventRow, id};

use crate::jobs::{Job, Step};

const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const DAY: i64 = 1_440 * MINUTE;
pub(crate) const DAYS: i64 = 7;
/// 2026-03-02, a Monday.
pub(crate) const START: i64 = 1_772_409_600 * SECOND;
/// When sleepers worked, before the start.
const LONG_AGO: i64 = 60 * DAY;
pub(crate) const TENANT: &str = "acme";
const OWNERS: usize = 300;
/// Sessions a day: of the idlest agents, and of the busiest.
const SESSIONS_A_DAY: (f64, f64) = (1.0, 60.0);
const UNIFORM: f64 = 4.0;
/// Ways of doing its job that one agent has, and how often it finds another.
const WAYS: usize = 3;
const STRAYS: f64 = 0.002;
/// Customers of one agent, and how often it meets a new one.
const CUSTOMERS: usize = 24;
const NEW_CUSTOMERS: f64 = 0.02;
/// Share of a day's sessions in each hour of an agent's own day.
const HOURS: [u8; 24] = [1, 1, 1, 1, 1, 1, 2, 4, 7, 9, 9, 8, 6, 7, 8, 8, 7, 5, 3, 3, 2, 2, 2, 2];

struct Agent {
    job: usize,
    ways: [usize; WAYS],
    sessions_a_day: f64,
    /// Hours that its day is ahead of UTC.
    zone: usize,
    sessions: u32,
    met: u32,
}

pub(crate) struct Fleet {
    jobs: Vec<Job>,
    agents: Vec<Agent>,
    pub(crate) rng: Rng,
    rows: u64,
}

impl Fleet {
    pub(crate) fn new(jobs: Vec<Job>, agents: usize, seed: u64, uniform: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let agent = |_| {
            let job = rng.usize(..jobs.len());
            let ways = [(); WAYS].map(|()| rng.usize(..jobs[job].runs.len()));
            // Pareto: few agents do most of the work.
            let skewed = (SESSIONS_A_DAY.0 / (1.0 - rng.f64()).powf(0.7)).min(SESSIONS_A_DAY.1);
            let sessions_a_day = if uniform { UNIFORM } else { skewed };
            Agent { job, ways, sessions_a_day, zone: rng.usize(..24), sessions: 0, met: 0 }
        };
        let agents = (0..agents).map(agent).collect();
        Fleet { jobs, agents, rng, rows: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.agents.len()
    }

    pub(crate) fn id(&self, agent: usize) -> String {
        format!("agent-{agent:06}")
    }

    /// So many agents that work often enough to have a history by the sixth day.
    pub(crate) fn regulars(&mut self, count: usize) -> Vec<usize> {
        let mut regular: Vec<usize> =
            (0..self.agents.len()).filter(|i| self.agents[*i].sessions_a_day >= 4.0).collect();
        self.rng.shuffle(&mut regular);
        regular.truncate(count);
        regular
    }

    /// What the agent did long ago; from now on it rests.
    pub(crate) fn falls_asleep(&mut self, agent: usize) -> Vec<EventRow> {
        self.agents[agent].sessions_a_day = 0.0;
        let session = |i: i64| {
            let steps = self.steps(agent);
            self.session(agent, START - LONG_AGO + i * DAY / 4, &steps)
        };
        (0..40).flat_map(session).collect()
    }

    /// The sessions that start in this time.
    pub(crate) fn sessions(&mut self, from: i64, to: i64) -> Vec<Vec<EventRow>> {
        let hour = ((from - START) / (60 * MINUTE)) as usize;
        let sum: f64 = HOURS.iter().map(|share| f64::from(*share)).sum();
        let mut sessions = Vec::new();
        for agent in 0..self.agents.len() {
            let Agent { sessions_a_day, zone, .. } = self.agents[agent];
            let an_hour = sessions_a_day * f64::from(HOURS[(hour + zone) % 24]) / sum;
            if self.rng.f64() < an_hour * (to - from) as f64 / (60 * MINUTE) as f64 {
                let at = from + self.rng.i64(0..to - from);
                let steps = self.steps(agent);
                sessions.push(self.session(agent, at, &steps));
            }
        }
        sessions
    }

    /// What the agent does in an ordinary session.
    pub(crate) fn steps(&mut self, agent: usize) -> Vec<Step> {
        let job = &self.jobs[self.agents[agent].job];
        let way = match self.rng.f64() < STRAYS {
            true => self.rng.usize(..job.runs.len()),
            false => self.agents[agent].ways[self.rng.usize(..WAYS)],
        };
        job.runs[way].clone()
    }

    pub(crate) fn session(&mut self, agent: usize, start: i64, steps: &[Step]) -> Vec<EventRow> {
        self.agents[agent].sessions += 1;
        let customer = self.customer(agent);
        let mut at = start;
        let mut rows = Vec::with_capacity(steps.len());
        for step in steps {
            at += self.rng.i64(SECOND / 2..8 * SECOND);
            rows.push(self.row(agent, start, at, step, customer));
        }
        rows
    }

    /// Regular customers come again, and now and then there is a new one.
    fn customer(&mut self, agent: usize) -> u32 {
        let (new, regular) = (self.rng.f64() < NEW_CUSTOMERS, self.rng.f64());
        let agent = &mut self.agents[agent];
        agent.met += u32::from(new);
        if new { CUSTOMERS as u32 + agent.met } else { (CUSTOMERS as f64 * regular * regular) as u32 }
    }

    fn row(&mut self, agent: usize, start: i64, at: i64, step: &Step, customer: u32) -> EventRow {
        self.rows += 1;
        let (client, job) = (self.id(agent), &self.jobs[self.agents[agent].job]);
        let session = self.agents[agent].sessions;
        let effect = step.effect;
        let scope = |effect| format!("{}.{}", job.suite, if effect == "read" { "read" } else { "write" });
        let hop = |kind: &str, id: String| Hop { kind: kind.to_owned(), id, issuer: None };
        // What is read is a customer's; what is changed is what the trace changed.
        let resource = match effect {
            "read" => step.resource.as_ref().map(|_| format!("customer-{}-{customer}", agent % OWNERS)),
            _ => step.resource.clone(),
        };
        EventRow {
            event_id: id::digest([client.as_bytes(), &self.rows.to_le_bytes()]),
            time: at,
            received_at: at + 1_000,
            event_day: id::day(at),
            tenant: TENANT.to_owned(),
            org_id: Some("org-acme".to_owned()),
            source: "fleet".to_owned(),
            door: "http".to_owned(),
            log_partition: id::partition(TENANT, Some(&client), None, 64),
            log_offset: self.rows as i64,
            actor_kind: "agent".to_owned(),
            agent_owner: Some(format!("team-{}-{}", job.suite, agent % OWNERS)),
            user_id: Some(format!("user-{}", agent / 3)),
            delegation: vec![hop("user", format!("user-{}", agent / 3)), hop("agent", client.clone())],
            delegation_depth: Some(2),
            attribution: "both".to_owned(),
            credential_kind: Some("access_token".to_owned()),
            credential_id: Some(format!("key-{agent}")),
            token_id: Some(format!("token-{agent}-{session}")),
            session_id: Some(format!("session-{agent}-{session}")),
            scopes: vec![scope("read"), scope("write")],
            scopes_used: vec![scope(effect)],
            token_issued_at: Some(start - MINUTE),
            token_expires_at: Some(start + 60 * MINUTE),
            purpose: Some(job.name.clone()),
            action: step.action.clone(),
            effect: effect.to_owned(),
            service: Some(job.suite.clone()),
            resource_id: resource,
            resource_tenant: Some("org-acme".to_owned()),
            outcome: "success".to_owned(),
            user_agent: Some(format!("agent-runtime/{}", agent % 5)),
            src_ip: Some(format!("10.{}.{}.{}", agent >> 16, agent >> 8 & 0xff, agent & 0xff)),
            src_country: Some("DE".to_owned()),
            agent_id: Some(client),
            raw: "{}".to_owned(),
            ..EventRow::default()
        }
    }
}

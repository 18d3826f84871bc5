//! Rows, streams and a fleet: made by arithmetic, the same in every run.

use detect::{Config, Engine};
use schemas::{AlertRow, EventRow, event, id};

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;
/// A Monday.
pub(crate) const START: i64 = 1_772_409_600 * SECOND;

/// A call: action, effect, resource.
pub(crate) type Call<'a> = (&'a str, &'a str, Option<&'a str>);

pub(crate) fn row(agent: &str, time: i64, (action, effect, resource): Call) -> EventRow {
    let event_id = id::digest([agent.as_bytes(), &time.to_le_bytes(), action.as_bytes()]);
    EventRow {
        event_id,
        time,
        received_at: time + SECOND,
        event_day: id::day(time),
        tenant: "acme".into(),
        log_partition: id::partition("acme", Some(agent), None, 64),
        source: "envoy".into(),
        door: "http".into(),
        actor_kind: "agent".into(),
        agent_id: Some(agent.into()),
        attribution: "agent_only".into(),
        action: action.into(),
        effect: effect.into(),
        resource_id: resource.map(str::to_owned),
        outcome: "success".into(),
        raw: "{}".into(),
        ..EventRow::default()
    }
}

/// Rows, ticks and control frames in the order of the log.
#[derive(Clone)]
pub(crate) enum Step {
    Row(Box<EventRow>),
    Tick(i64),
    Control(serde_json::Value),
}

/// Feeds steps, with the rows between ticks cut into batches of at most `rows_max`.
pub(crate) fn feed(engine: &mut Engine, steps: &[Step], rows_max: usize) -> Vec<AlertRow> {
    let mut alerts = Vec::new();
    let mut waiting: Vec<&EventRow> = Vec::new();
    for step in steps {
        match step {
            Step::Row(row) => waiting.push(row),
            Step::Tick(_) | Step::Control(_) => observe(engine, &mut waiting, &mut alerts),
        }
        if waiting.len() >= rows_max {
            observe(engine, &mut waiting, &mut alerts);
        }
        match step {
            Step::Tick(time) => engine.tick(*time, &mut alerts),
            Step::Control(control) => assert!(engine.control(control), "{control}"),
            Step::Row(_) => {}
        }
    }
    observe(engine, &mut waiting, &mut alerts);
    alerts
}

fn observe(engine: &mut Engine, rows: &mut Vec<&EventRow>, alerts: &mut Vec<AlertRow>) {
    if !rows.is_empty() {
        engine.observe(&event::batch(rows.drain(..)), alerts).expect("rows of events");
    }
}

/// Rows in order of time, with a tick every `tick` of it.
pub(crate) fn steps(mut rows: Vec<EventRow>, tick: i64) -> Vec<Step> {
    rows.sort_by(|a, b| (a.time, &a.agent_id).cmp(&(b.time, &b.agent_id)));
    let (mut steps, mut next) = (Vec::new(), rows.first().map_or(0, |row| row.time) + tick);
    for row in rows {
        while row.time >= next {
            steps.push(Step::Tick(next));
            next += tick;
        }
        steps.push(Step::Row(Box::new(row)));
    }
    steps
}

pub(crate) fn engine() -> Engine {
    Engine::new(&Config::default())
}

/// A small generator of even numbers (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % sides
    }
}

const ROLES: &[&[(&str, &str, &str)]] = &[
    &[("GET /invoices", "read", ""), ("GET /invoices/{n}", "read", ""), ("POST /reminders", "write", "mail")],
    &[("GET /orders/{n}", "read", ""), ("PATCH /orders/{n}", "write", ""), ("POST /shipments", "write", "depot/{s}")],
    &[
        ("tickets.list", "read", ""),
        ("tickets.get", "read", ""),
        ("tickets.reply", "write", "mail"),
        ("kb.search", "read", "kb"),
    ],
    &[
        ("GET /customers/{n}", "read", ""),
        ("POST /notes", "write", ""),
        ("GET /customers/export", "export", "bucket/crm"),
    ],
    &[("secrets.read", "read", "vault/db"), ("jobs.run", "execute", "job/{s}"), ("logs.write", "write", "logs")],
    &[("users.list", "read", ""), ("users.create", "admin", "directory"), ("roles.grant", "admin", "role/{s}")],
    &[("GET /reports", "read", ""), ("POST /reports/{n}/run", "execute", ""), ("GET /dashboards/{n}", "read", "")],
    &[("files.list", "read", "drive"), ("files.read", "read", "drive"), ("files.delete", "delete", "drive/{s}")],
];

/// `agents` agents with owners and roles over `days` days. A session is its role's calls with skips, repeats and, now and
/// then, another order or a call that its role makes rarely.
pub(crate) fn fleet(agents: u64, days: i64, seed: u64) -> Vec<EventRow> {
    let mut rows = Vec::new();
    for agent in 0..agents {
        let mut dice = Dice(seed << 32 | agent);
        let role = ROLES[(agent % ROLES.len() as u64) as usize];
        let name = format!("agent-{agent}");
        let per_day = 3 + dice.roll(8) as i64;
        for day in 0..days {
            for session in 0..per_day {
                let jitter = dice.roll(40) as i64 * MINUTE;
                let mut time = START + day * DAY + session * (DAY / per_day) + jitter + agent as i64 * SECOND;
                for call in session_of(role, &mut dice) {
                    time += 1 + dice.roll(20_000) as i64 * 1_000;
                    rows.push(fleet_row(&name, agent, time, call, &mut dice));
                }
            }
        }
    }
    rows
}

fn session_of(
    role: &[(&'static str, &'static str, &'static str)],
    dice: &mut Dice,
) -> Vec<(&'static str, &'static str, &'static str)> {
    let mut calls = Vec::new();
    for call in role {
        // The first call is nearly always there, later ones less often; any may be repeated.
        if dice.roll(100) < 93 - 9 * calls.len().min(3) as u64 {
            (0..1 + dice.roll(20) / 16).for_each(|_| calls.push(*call));
        }
    }
    if calls.len() > 1 && dice.roll(12) == 0 {
        calls.swap(0, 1);
    }
    if dice.roll(150) == 0 {
        calls.push(("POST /feedback", "write", "survey"));
    }
    if dice.roll(60) == 0 {
        calls.push(("GET /health", "read", ""));
    }
    calls
}

fn fleet_row(
    name: &str,
    agent: u64,
    time: i64,
    (action, effect, resource): (&str, &str, &str),
    dice: &mut Dice,
) -> EventRow {
    let action = action.replace("{n}", &(1000 + dice.roll(100_000)).to_string());
    let resource = resource.replace("{s}", ["north", "south", "east"][dice.roll(3) as usize]);
    let mut row = row(name, time, (&action, effect, (!resource.is_empty()).then_some(resource.as_str())));
    row.agent_owner = Some(format!("team-{}", agent % 16));
    row.service = Some("api.acme.example".into());
    if dice.roll(50) == 0 {
        row.outcome = "failure".into();
    }
    row
}

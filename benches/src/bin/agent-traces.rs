//! Scores labelled traces of agents with the engine that runs live: `agent-traces FILE.ndjson[.gz]` (`-`: standard input).
//!
//! A line of input is one tool call; each becomes a row of `events`, in the order of the file, and each call of phase `live`
//! gives a line `{"run","step","score","why"}`: the bits of the combination, and its terms. How a call becomes a row:
//!
//! | in the file | in the event |
//! | --- | --- |
//! | `client_id`, `cohort`, `job` | `agent_id`, `agent_owner`, `purpose` |
//! | `action`, `resource[]` | `action`, `resource_id` (joined by commas) |
//! | `write`, `tier` | `effect`: export at 1.0, delete at 0.8, write below; read where nothing is written |
//! | `in_intent` | flag `in_intent` |
//! | `run` | `session_id`; runs lie an hour apart, since the file's times say nothing of pauses |
//! | `learn: false` | a control frame after the run: what was done in this session is not learned |
//!
//! The engine's settings are its defaults but for what a stream of short runs needs: no days of history are asked for, and
//! an odd session that nobody judged is learned at the next tick, unless others did the same odd thing.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};

use anyhow::{Context, Result, bail};
use detect::detectors::DETECTORS;
use detect::{Config, Engine, Scored};
use schemas::{EventRow, event, id};
use serde::Deserialize;
use serde_json::{Value, json};

const SECOND: i64 = 1_000_000;
/// Between runs.
const PAUSE: i64 = 240 * SECOND;
/// 2026-03-02.
const START: i64 = 1_772_409_600 * SECOND;
/// Ticks at the end of a run: one ends the session, one joins what it taught, one releases what it held back.
const TICKS: i64 = 3;
const LINE_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct Call {
    phase: String,
    run: String,
    step: Value,
    tenant: String,
    client_id: String,
    cohort: String,
    job: String,
    sub: Option<String>,
    action: String,
    write: bool,
    tier: f64,
    resource: Vec<String>,
    #[serde(default)]
    in_intent: bool,
    outcome: String,
    #[serde(default = "yes")]
    learn: bool,
}

fn yes() -> bool {
    true
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: agent-traces FILE.ndjson[.gz] (`-` for standard input)")?;
    let input: Box<dyn Read> = match path.as_str() {
        "-" => Box::new(std::io::stdin()),
        path => Box::new(std::fs::File::open(path).with_context(|| format!("cannot open {path}"))?),
    };
    let input: Box<dyn Read> =
        if path.ends_with(".gz") { Box::new(flate2::read::MultiGzDecoder::new(input)) } else { input };
    let mut out = BufWriter::new(std::io::stdout());
    let mut traces = Traces::new();
    let mut lines = BufReader::new(input);
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        if lines.by_ref().take(LINE_BYTES_MAX as u64).read_line(&mut line)? == 0 {
            break;
        }
        if line.len() == LINE_BYTES_MAX {
            bail!("line {number} is longer than {LINE_BYTES_MAX} bytes");
        }
        if !line.trim().is_empty() {
            let call: Call = serde_json::from_str(&line).with_context(|| format!("line {number}"))?;
            traces.call(&call, &mut out)?;
        }
    }
    out.flush()?;
    Ok(())
}

struct Run {
    id: String,
    agent: String,
    tenant: String,
    learn: bool,
}

struct Traces {
    engine: Engine,
    combination: usize,
    /// The run under way.
    run: Option<Run>,
    calls: i64,
    runs: i64,
}

impl Traces {
    fn new() -> Traces {
        let config = Config {
            history_sessions_min: 0,
            history_days_min: 0,
            cohort_agents_min: 0,
            quarantine_hours: 0,
            session_idle_mins: 1,
            ..Config::default()
        };
        let combination = DETECTORS.iter().position(|d| d.name == "combination").expect("the detector is built in");
        Traces { engine: Engine::new(&config), combination, run: None, calls: 0, runs: 0 }
    }

    fn call(&mut self, call: &Call, out: &mut impl Write) -> Result<()> {
        if self.run.as_ref().is_none_or(|run| run.id != call.run) {
            self.end();
            let (id, agent, tenant) = (call.run.clone(), call.client_id.clone(), call.tenant.clone());
            self.run = Some(Run { id, agent, tenant, learn: call.learn });
        }
        self.calls += 1;
        let (mut alerts, mut scored) = (Vec::new(), Vec::new());
        self.engine.observe_scored(&event::batch([&self.row(call)]), &mut alerts, &mut scored)?;
        if call.phase == "live" {
            for Scored { evidence, bits, .. } in scored {
                let term = |bits: f64| (evidence.weight * bits * 10.0).round() / 10.0;
                let why = json!({
                    "action": term(evidence.action_bits), "order": term(evidence.order_bits),
                    "resource": term(evidence.resource_bits), "others": evidence.elsewhere,
                });
                let score = (bits[self.combination] * 1000.0).round() / 1000.0;
                serde_json::to_writer(
                    &mut *out,
                    &json!({"run": call.run, "step": call.step, "score": score, "why": why}),
                )?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    /// A run is over: an hour passes, its session ends, and what was held back is learned.
    fn end(&mut self) {
        let Some(Run { id, agent, tenant, learn }) = self.run.take() else { return };
        if !learn {
            self.engine.control(&json!({"tenant": tenant, "drop_session": id, "agent": agent}));
        }
        self.runs += 1;
        for minute in 0..TICKS {
            self.engine.tick(self.now() + minute * 65 * SECOND, &mut Vec::new());
        }
    }

    fn now(&self) -> i64 {
        START + self.runs * PAUSE + self.calls * SECOND / 1_000
    }

    fn row(&self, call: &Call) -> EventRow {
        let time = self.now();
        let effect = match (call.write, call.tier) {
            (false, _) => "read",
            (true, tier) if tier >= 1.0 => "export",
            (true, tier) if tier >= 0.8 => "delete",
            _ => "write",
        };
        EventRow {
            event_id: id::digest([call.run.as_bytes(), call.step.to_string().as_bytes()]),
            time,
            received_at: time,
            event_day: id::day(time),
            tenant: call.tenant.clone(),
            source: "traces".to_owned(),
            door: "file".to_owned(),
            log_partition: id::partition(&call.tenant, Some(&call.client_id), None, 64),
            actor_kind: "agent".to_owned(),
            agent_id: Some(call.client_id.clone()),
            agent_owner: Some(call.cohort.clone()),
            user_id: call.sub.clone(),
            attribution: "both".to_owned(),
            session_id: Some(call.run.clone()),
            purpose: Some(call.job.clone()),
            action: call.action.clone(),
            effect: effect.to_owned(),
            resource_id: (!call.resource.is_empty()).then(|| call.resource.join(",")),
            outcome: if call.outcome == "success" { "success" } else { "failure" }.to_owned(),
            flags: call.in_intent.then(|| "in_intent".to_owned()).into_iter().collect(),
            raw: "{}".to_owned(),
            ..EventRow::default()
        }
    }
}

//! How fast an evaluator of Sigma rules is on the events that Muster's detectors judge, one thread each, in one run:
//! `rsigma-scale RULES EVENTS.jsonl`, a folder of rules and events as `gen.py` of the shared workload makes them.
//!
//! They do not do the same work: a rule asks what an event says, a detector what is unusual for its agent. Both start from
//! what they have in memory, parsed JSON and record batches. Processor time; of each the fastest of [`ROUNDS`] rounds.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use benches::measure::thread_time;
use detect::detectors::DETECTORS;
use detect::{Config, Engine};
use rsigma_eval::{Engine as Sigma, JsonEvent};
use rsigma_parser::parse_sigma_directory;
use schemas::{EventRow, event, id};
use serde_json::Value;

const ROUNDS: i64 = 5;
const BATCH_ROWS: usize = 4_096;
const DAY_MICROS: i64 = 86_400_000_000;
const START: i64 = 1_772_409_600_000_000;
const STEP_MICROS: i64 = 7_000;

fn main() -> Result<()> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [rules, events] = paths.as_slice() else { anyhow::bail!("usage: rsigma-scale RULES EVENTS.jsonl") };
    if !rules.is_dir() || !events.is_file() {
        println!("skipped: no rules in {} or no events in {}", rules.display(), events.display());
        return Ok(());
    }
    let text = std::fs::read_to_string(events)?;
    let events = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>().context("not JSON lines")?;

    let collection = parse_sigma_directory(rules)?;
    let mut sigma = Sigma::new();
    sigma.add_collection(&collection)?;
    let all: Vec<JsonEvent> = events.iter().map(JsonEvent::borrow).collect();
    let (mut matches, mut fastest) = (0, Duration::MAX);
    for _ in 0..ROUNDS {
        let start = thread_time();
        matches = all.iter().map(|event| sigma.evaluate(event).len()).sum();
        fastest = fastest.min(thread_time() - start);
    }
    tell(&format!("rsigma-eval 0.23, {} rules, {matches} matches", collection.rules.len()), all.len(), fastest);

    let mut engine = Engine::new(&Config::default());
    let (mut alerts, mut fastest) = (Vec::new(), Duration::MAX);
    for round in 0..ROUNDS {
        let rows: Vec<EventRow> =
            (0..).zip(&events).map(|(i, event)| row(event, round * DAY_MICROS + i * STEP_MICROS)).collect();
        let batches: Vec<_> = rows.chunks(BATCH_ROWS).map(event::batch).collect();
        alerts.clear();
        let start = thread_time();
        for (i, batch) in batches.iter().enumerate() {
            engine.observe(batch, &mut alerts)?;
            let last = ((i + 1) * BATCH_ROWS).min(rows.len()) - 1;
            engine.tick(rows[last].time, &mut alerts);
        }
        fastest = fastest.min(thread_time() - start);
    }
    let what = format!("Muster, {} detectors, {} agents, {} alerts", DETECTORS.len(), engine.agents(), alerts.len());
    tell(&what, events.len(), fastest);
    Ok(())
}

fn tell(what: &str, events: usize, took: Duration) {
    println!("{what}: {:.0} events a second a core", events as f64 / took.as_secs_f64());
}

/// The event as a row; the same on another day has another id.
fn row(event: &Value, after: i64) -> EventRow {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let (tenant, agent, action, time) = (text("tenant"), text("agent_id"), text("action"), START + after);
    let effect = match action.rsplit('.').next() {
        Some("read" | "list" | "search") => "read",
        Some("delete") => "delete",
        Some("export" | "send" | "share") => "export",
        _ => "write",
    };
    let outcome = if event["status"] == 200 { "success" } else { "failure" };
    EventRow {
        event_id: id::hex(id::digest_bytes([
            event["event_id"].as_str().unwrap_or_default().as_bytes(),
            &time.to_le_bytes(),
        ])),
        time,
        received_at: time,
        event_day: id::day(time),
        log_partition: id::partition(&tenant, Some(&agent), None, 64),
        tenant,
        source: "envoy".into(),
        door: "http".into(),
        actor_kind: "agent".into(),
        agent_id: Some(agent),
        user_id: Some(text("user")),
        session_id: Some(text("session")),
        attribution: "agent_only".into(),
        action,
        effect: effect.into(),
        resource_id: Some(text("resource")),
        outcome: outcome.into(),
        src_ip: Some(text("src_ip")),
        user_agent: Some(text("ua")),
        raw: "{}".into(),
        ..EventRow::default()
    }
}

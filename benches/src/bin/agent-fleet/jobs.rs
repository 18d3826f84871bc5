//! Jobs: what real agents did when nobody attacked them, from traces (AgentDojo and tau-bench).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// Runs of one job that are kept.
const RUNS_MAX: usize = 16;
const CALLS_MAX: usize = 32;

/// One thing to do, and the ways in which it was done.
pub(crate) struct Job {
    pub(crate) name: String,
    /// The department whose agents do it.
    pub(crate) suite: String,
    pub(crate) runs: Vec<Vec<Step>>,
}

#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) action: String,
    pub(crate) effect: &'static str,
    pub(crate) resource: Option<String>,
}

pub(crate) fn read(folder: &Path) -> Result<Vec<Job>> {
    let mut jobs: BTreeMap<(String, String), BTreeMap<String, Vec<Step>>> = BTreeMap::new();
    for event in lines(&folder.join("dev_events.ndjson.gz"))? {
        let event = event?;
        if event["phase"] == "prior" {
            let key = (word(&event, "cohort"), word(&event, "job"));
            jobs.entry(key).or_default().entry(word(&event, "run")).or_default().push(step(&event));
        }
    }
    for call in lines(&folder.join("tau_calls.jsonl.gz"))? {
        let call = call?;
        let key = (word(&call, "suite"), format!("{}/{}", word(&call, "suite"), word(&call, "user_task")));
        jobs.entry(key).or_default().entry(word(&call, "run")).or_default().push(tau_step(&call));
    }
    let job = |((suite, name), runs): (_, BTreeMap<String, Vec<Step>>)| {
        let runs = runs.into_values().filter(|run| run.len() <= CALLS_MAX).take(RUNS_MAX).collect();
        Job { name, suite, runs }
    };
    Ok(jobs.into_iter().map(job).filter(|job| !job.runs.is_empty()).collect())
}

fn lines(path: &Path) -> Result<impl Iterator<Item = Result<Value>>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let lines = BufReader::new(flate2::read::MultiGzDecoder::new(file)).lines();
    Ok(lines.map(|line| Ok(serde_json::from_str(&line?)?)))
}

fn word(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn step(event: &Value) -> Step {
    let effect = match (event["write"].as_bool(), event["tier"].as_f64().unwrap_or_default()) {
        (Some(true), tier) if tier >= 1.0 => "export",
        (Some(true), tier) if tier >= 0.8 => "delete",
        (Some(true), _) => "write",
        _ => "read",
    };
    let ids: Vec<&str> = event["resource"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    Step { action: word(event, "action"), effect, resource: (!ids.is_empty()).then(|| ids.join(",")) }
}

fn tau_step(call: &Value) -> Step {
    let name = word(call, "fn");
    let reads = ["get", "find", "list", "search", "calculate", "think"].iter().any(|verb| name.starts_with(verb));
    let effect = match &name {
        _ if reads => "read",
        name if name.starts_with("cancel") => "delete",
        _ => "write",
    };
    let named = |id: &str| call["args"][id].as_str().map(str::to_owned);
    let resource = ["order_id", "reservation_id", "user_id"].into_iter().find_map(named);
    Step { action: format!("{}.{name}", word(call, "suite")), effect, resource }
}

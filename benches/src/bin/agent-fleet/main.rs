//! A week of a made-up fleet, with attacks in it, through the engine that runs live: what is found, and what is raised for
//! nothing. `agent-fleet FOLDER [--agents N] [--seed N] [--uniform]`; FOLDER holds labelled traces of real agents, whose benign runs are
//! the jobs ([`jobs`]).
//!
//! Agents work at one job each, in a few of the ways in which real models did it, and now and then in another; few do most of the
//! work, days have a rhythm, each agent has addresses, tokens and customers of its own ([`fleet`]). On the last two days the
//! attacks happen, each to a few agents ([`attacks`]). An alert about an agent that nobody attacked (or before it was) is false.
//! The engine's settings are its defaults; times are processor time of one thread. Everything follows from the seed.
//! `--uniform`: all agents work alike.

#![allow(clippy::print_stdout, reason = "a report is what the program is for")]

mod attacks;
mod fleet;
mod jobs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use benches::measure::thread_time;
use detect::{Config, Engine};
use schemas::{AlertRow, EventRow, event};

use attacks::{ATTACKS, Attack};
use fleet::{DAY, DAYS, Fleet, MINUTE, START};

const TICK_MINUTES: i64 = 5;
const BATCH_ROWS: usize = 8_192;
/// Agents that each attack is tried on, at most: a tenth of the fleet in all.
const VICTIMS_MAX: usize = 40;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().context("usage: agent-fleet FOLDER [--agents N] [--seed N] [--uniform]")?;
    let (mut agents, mut seed, mut uniform) = (100_000, 1, false);
    while let Some(name) = args.next() {
        if name == "--uniform" {
            uniform = true;
            continue;
        }
        let value: u64 = args.next().with_context(|| format!("{name} needs a number"))?.parse()?;
        match name.as_str() {
            "--agents" => agents = value as usize,
            "--seed" => seed = value,
            other => bail!("unknown option {other}"),
        }
    }
    let jobs = jobs::read(folder.as_ref())?;
    println!("{agents} agents at {} jobs, {DAYS} days, seed {seed}", jobs.len());
    let mut week = Week::new(Fleet::new(jobs, agents, seed, uniform));
    week.run()?;
    week.report();
    Ok(())
}

/// An attack on one agent, as it was carried out.
struct Case {
    attack: usize,
    since: i64,
    /// Detectors that spoke up about the agent since.
    found: HashSet<String>,
}

struct Week {
    fleet: Fleet,
    engine: Engine,
    /// The attacks, by agent.
    cases: BTreeMap<String, Case>,
    false_alerts: BTreeMap<(String, i64), u64>,
    examples: HashMap<String, String>,
    events: u64,
    judging: Duration,
}

impl Week {
    fn new(fleet: Fleet) -> Self {
        let engine = Engine::new(&Config { agents_max: fleet.len().max(1_000) * 2, ..Config::default() });
        let (cases, false_alerts, examples) = Default::default();
        Week { fleet, engine, cases, false_alerts, examples, events: 0, judging: Duration::ZERO }
    }

    fn run(&mut self) -> Result<()> {
        let steps = DAYS * DAY / (TICK_MINUTES * MINUTE);
        let mut planned: BTreeMap<i64, Vec<EventRow>> = BTreeMap::new();
        let plan = self.plan();
        let sleepers = plan.iter().filter(|(attack, ..)| ATTACKS[*attack].sleepers);
        let mut asleep: Vec<EventRow> = sleepers.flat_map(|(_, agent, _)| self.fleet.falls_asleep(*agent)).collect();
        asleep.sort_by(|a, b| (a.time, &a.event_id).cmp(&(b.time, &b.event_id)));
        for rows in asleep.chunks(BATCH_ROWS) {
            self.judge(rows, rows[rows.len() - 1].time + DAY)?;
        }
        for step in 0..steps {
            let (from, to) = (START + step * TICK_MINUTES * MINUTE, START + (step + 1) * TICK_MINUTES * MINUTE);
            for session in self.fleet.sessions(from, to) {
                session.into_iter().for_each(|row| planned.entry(row.time / MINUTE).or_default().push(row));
            }
            for (attack, victim, _) in plan.iter().filter(|(_, _, at)| (from..to).contains(at)) {
                self.attack(*attack, *victim, from, &mut planned);
            }
            let mut rows = Vec::new();
            while let Some(minute) = planned.first_entry().filter(|minute| *minute.key() < to / MINUTE) {
                rows.extend(minute.remove());
            }
            rows.sort_by(|a, b| (a.time, &a.event_id).cmp(&(b.time, &b.event_id)));
            self.judge(&rows, to)?;
        }
        Ok(())
    }

    /// Which attack on which agent when, spread over the last two days.
    fn plan(&mut self) -> Vec<(usize, usize, i64)> {
        let each = (self.fleet.len() / 10 / ATTACKS.len()).clamp(1, VICTIMS_MAX);
        let mut victims = self.fleet.regulars(each * ATTACKS.len()).into_iter();
        let mut plan = Vec::new();
        for (attack, about) in ATTACKS.iter().enumerate() {
            let first = START + (DAYS - 2) * DAY + DAY / 4;
            for (i, victim) in victims.by_ref().take(each).enumerate() {
                let apart = if about.at_once { MINUTE } else { DAY / each as i64 };
                plan.push((attack, victim, first + i as i64 * apart));
            }
        }
        plan
    }

    fn attack(&mut self, attack: usize, victim: usize, at: i64, planned: &mut BTreeMap<i64, Vec<EventRow>>) {
        let Attack { script, control, .. } = &ATTACKS[attack];
        if let Some(control) = control {
            self.engine.control(&control(&self.fleet.id(victim), at));
        }
        let rows = script(&mut self.fleet, victim, at);
        rows.into_iter().for_each(|row| planned.entry(row.time / MINUTE).or_default().push(row));
        self.cases.insert(self.fleet.id(victim), Case { attack, since: at, found: HashSet::new() });
    }

    fn judge(&mut self, rows: &[EventRow], until: i64) -> Result<()> {
        let mut alerts = Vec::new();
        self.events += rows.len() as u64;
        for rows in rows.chunks(BATCH_ROWS) {
            let batch = event::batch(rows);
            let start = thread_time();
            self.engine.observe(&batch, &mut alerts)?;
            self.judging += thread_time() - start;
        }
        let start = thread_time();
        self.engine.tick(until, &mut alerts);
        self.judging += thread_time() - start;
        alerts.iter().for_each(|alert| self.note(alert));
        Ok(())
    }

    fn note(&mut self, alert: &AlertRow) {
        let agent = alert.agent_id.as_deref().unwrap_or_default();
        match self.cases.get_mut(agent).filter(|case| alert.time >= case.since) {
            Some(case) => drop(case.found.insert(alert.detector.clone())),
            None => {
                *self.false_alerts.entry((alert.detector.clone(), (alert.time - START) / DAY)).or_default() += 1;
                self.examples.entry(alert.detector.clone()).or_insert_with(|| alert.explanation.clone());
            }
        }
    }

    fn report(&self) {
        println!("{:<24} {:<9} {:>7} {:>9} {:>9}  by", "attack", "kind", "agents", "its own", "any");
        for (number, attack) in ATTACKS.iter().enumerate() {
            let cases: Vec<&Case> = self.cases.values().filter(|case| case.attack == number).collect();
            let share =
                |found: &dyn Fn(&&&Case) -> bool| cases.iter().filter(found).count() as f64 / cases.len().max(1) as f64;
            let own = share(&|case| attack.detectors.iter().any(|name| case.found.contains(*name)));
            let own = if attack.at_once && own > 0.0 { 1.0 } else { own };
            let any = share(&|case| !case.found.is_empty());
            let mut by: BTreeMap<&str, usize> = BTreeMap::new();
            cases.iter().flat_map(|case| &case.found).for_each(|name| *by.entry(name).or_default() += 1);
            println!("{:<24} {:<9} {:>7} {own:>9.3} {any:>9.3}  {by:?}", attack.name, attack.kind, cases.len());
        }
        let days = (self.fleet.len() as i64 * DAYS) as f64;
        let all: u64 = self.false_alerts.values().sum();
        println!("false alerts: {all} in {days} agent-days, one in {:.0}", days / all.max(1) as f64);
        for ((detector, day), count) in &self.false_alerts {
            println!("  {detector:<20} day {day}: {count}");
        }
        for (detector, text) in &self.examples {
            println!("  for example {detector}: {text}");
        }
        self.cost();
    }

    fn cost(&self) {
        let (bytes, largest) = self.engine.agent_bytes();
        let agents = self.engine.agents().max(1);
        let start = thread_time();
        let snapshot = self.engine.snapshot();
        let saved = thread_time() - start;
        let start = thread_time();
        let config = Config { agents_max: self.fleet.len().max(1_000) * 2, ..Config::default() };
        let restored = Engine::restore(&config, &snapshot).is_ok();
        println!(
            "{} events, {:.0} a second judged with ticks; {agents} agents of {} bytes (the largest {largest}); snapshot {} bytes in {:.2} s, \
             restored ({restored}) in {:.2} s",
            self.events,
            self.events as f64 / self.judging.as_secs_f64(),
            bytes / agents,
            snapshot.len(),
            saved.as_secs_f64(),
            (thread_time() - start).as_secs_f64()
        );
    }
}

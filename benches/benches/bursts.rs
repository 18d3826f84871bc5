//! Bursts in a simulated fleet: how many are noticed, how soon, and how many false alerts that costs.
//!
//! 3,000 agents over seven days in one tenant, through the engine as it runs live: minutes of calls whose mean has a daily
//! rhythm (a quarter by night) and, every five minutes, another Gamma factor, so that many agents are bursty by nature.
//! From the fourth day on every fifth agent makes 5, 10 or 20 times its mean (of at least half a call) on top, for
//! ten minutes. Noticed is what raises an alert of `rate` within 12 minutes; an alert of an agent that is not within 30
//! minutes of its burst is false. Days before the fourth do not count: agents have no history.
//!
//! `cargo bench --bench bursts [-- BITS...]`, with the thresholds to start at instead of the configured one.

use std::io::Write;

use detect::{Config, Engine};
use schemas::{AlertRow, EventRow, event, id};

const AGENTS: u64 = 3_000;
const MINUTES: i64 = 7 * 1_440;
const FIRST_BURST: i64 = 3 * 1_440;
const MINUTE_MICROS: i64 = 60_000_000;
/// A Monday.
const START: i64 = 1_772_409_600_000_000;
const TIMES: [u64; 3] = [5, 10, 20];

fn main() -> std::io::Result<()> {
    let asked: Vec<f64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let asked = if asked.is_empty() { vec![Config::default().rate_bits] } else { asked };
    let mut out = std::io::stdout();
    for rate_bits in asked {
        let config = Config { rate_bits, agents_max: 1 << 16, ..Config::default() };
        let mut fleet: Vec<Agent> = (0..AGENTS).map(Agent::new).collect();
        let began = std::time::Instant::now();
        let (alerts, events) = simulate(&config, &mut fleet);
        let rate = events as f64 / began.elapsed().as_secs_f64();
        writeln!(out, "from {rate_bits} bits: {events} events, {rate:.0} a second with their making")?;
        print(&mut out, &fleet, &alerts)?;
    }
    Ok(())
}

struct Agent {
    dice: Dice,
    row: EventRow,
    mean: f64,
    shape: f64,
    factor: f64,
    /// Minute and strength.
    burst: Option<(i64, u64)>,
}

impl Agent {
    fn new(number: u64) -> Self {
        let mut dice = Dice(7 << 32 | number);
        let mean = (0.4f64.ln() + dice.normal()).exp();
        let shape = 0.2 + 1.8 * dice.share();
        let from = FIRST_BURST + (dice.next() % (MINUTES - 20 - FIRST_BURST) as u64) as i64;
        let burst = number.is_multiple_of(5).then(|| (from, TIMES[(dice.next() % 3) as usize]));
        let name = format!("agent-{number}");
        let row = EventRow {
            tenant: "acme".into(),
            log_partition: id::partition("acme", Some(&name), None, 64),
            source: "envoy".into(),
            door: "http".into(),
            actor_kind: "agent".into(),
            agent_id: Some(name),
            attribution: "agent_only".into(),
            action: "GET /invoices".into(),
            effect: "read".into(),
            outcome: "success".into(),
            raw: "{}".into(),
            ..EventRow::default()
        };
        Agent { dice, row, mean, shape, factor: 1.0, burst }
    }

    fn calls(&mut self, minute: i64) -> u32 {
        if minute % 5 == 0 {
            self.factor = self.dice.gamma(self.shape) / self.shape;
        }
        let turn = (minute % 1_440) as f64 / 1_440.0 * std::f64::consts::TAU;
        let hour = 0.25 + 0.75 * (turn - 1.5).sin().clamp(0.0, 1.0);
        let calls = self.dice.poisson(self.mean * hour * self.factor);
        match self.burst {
            Some((from, times)) if (from..from + 10).contains(&minute) => {
                calls + self.dice.poisson(times as f64 * self.mean.max(0.5))
            }
            _ => calls,
        }
    }
}

/// The alerts of `rate`, with the number of their agent and their minute, and how many events there were.
fn simulate(config: &Config, fleet: &mut [Agent]) -> (Vec<(usize, i64)>, u64) {
    let mut engine = Engine::new(config).with_threads(2);
    let (mut found, mut events) = (Vec::new(), 0);
    for minute in 0..MINUTES {
        let (mut rows, mut alerts) = (Vec::new(), Vec::new());
        for agent in fleet.iter_mut() {
            let calls = i64::from(agent.calls(minute));
            for call in 0..calls {
                events += 1;
                let time = START + minute * MINUTE_MICROS + MINUTE_MICROS * call / calls;
                let event_id = format!("{events:032x}");
                rows.push(EventRow {
                    event_id,
                    time,
                    received_at: time,
                    event_day: id::day(time),
                    ..agent.row.clone()
                });
            }
        }
        if !rows.is_empty() {
            engine.observe(&event::batch(&rows), &mut alerts).expect("rows of events");
        }
        engine.tick(START + (minute + 1) * MINUTE_MICROS, &mut alerts);
        found.extend(alerts.iter().filter(|alert| alert.detector == "rate").map(place));
    }
    (found, events)
}

fn place(alert: &AlertRow) -> (usize, i64) {
    let number = alert.agent_id.as_deref().and_then(|id| id.strip_prefix("agent-")).and_then(|n| n.parse().ok());
    (number.expect("an agent of the fleet"), (alert.time - START) / MINUTE_MICROS)
}

fn print(out: &mut impl Write, fleet: &[Agent], alerts: &[(usize, i64)]) -> std::io::Result<()> {
    let after = |(agent, minute): &(usize, i64)| fleet[*agent].burst.map(|(from, _)| minute - from);
    let false_alerts = alerts.iter().filter(|a| !after(a).is_some_and(|after| (0..30).contains(&after))).count();
    let days = fleet.len() as f64 * ((MINUTES - FIRST_BURST) / 1_440) as f64;
    writeln!(out, "  {:.5} false alerts an agent-day ({false_alerts} in {days})", false_alerts as f64 / days)?;
    let mut several = 0;
    for times in TIMES {
        let bursts: Vec<usize> = (0..fleet.len()).filter(|a| fleet[*a].burst.is_some_and(|b| b.1 == times)).collect();
        let mut delays = Vec::new();
        for agent in &bursts {
            let mut of_burst =
                alerts.iter().filter(|a| a.0 == *agent).filter_map(after).filter(|d| (0..30).contains(d));
            delays.extend(of_burst.next().filter(|delay| *delay < 12).map(|delay| delay + 1));
            several += of_burst.count();
        }
        delays.sort_unstable();
        let share = |n: usize| n as f64 / bursts.len() as f64;
        let (noticed, soon) = (share(delays.len()), share(delays.iter().filter(|delay| **delay <= 5).count()));
        let median = delays.get(delays.len() / 2).copied().unwrap_or_default();
        writeln!(
            out,
            "  x{times}: {noticed:.3} of {} noticed, {soon:.3} within 5 minutes, half within {median}",
            bursts.len()
        )?;
    }
    writeln!(out, "  {several} alerts repeat a burst")
}

/// SplitMix64, and the distributions that agents are made of.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Above 0 and below 1.
    fn share(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.share().ln()).sqrt() * (std::f64::consts::TAU * self.share()).cos()
    }

    /// Marsaglia and Tsang (2000).
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let u = self.share();
            return self.gamma(shape + 1.0) * u.powf(1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        loop {
            let x = self.normal();
            let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
            if v > 0.0 && self.share().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Arrivals in a time of `mean`, each an exponential wait after the one before.
    fn poisson(&mut self, mean: f64) -> u32 {
        let (mut waited, mut arrivals) = (-self.share().ln(), 0);
        while waited < mean {
            waited -= self.share().ln();
            arrivals += 1;
        }
        arrivals
    }
}

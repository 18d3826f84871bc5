//! How many events a second one core judges: `cargo run --release -p detect --example observe_speed -- [AGENTS] [EVENTS]`.
//!
//! Batches are prepared first; the figure is `observe` and the ticks between, nothing else. Agents are drawn uniformly,
//! the worst case for caches: real fleets are skewed.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use detect::{Config, Engine};
use schemas::{EventRow, event, id};

const BATCH_ROWS: usize = 4_096;
const START: i64 = 1_772_409_600_000_000;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let agents = numbers.next().unwrap_or(10_000);
    let events = numbers.next().unwrap_or(2_000_000);
    let batches: Vec<_> = (0..events / BATCH_ROWS as u64)
        .map(|batch| {
            let rows: Vec<EventRow> =
                (0..BATCH_ROWS as u64).map(|i| row(batch * BATCH_ROWS as u64 + i, agents, events)).collect();
            event::batch(&rows)
        })
        .collect();

    let (mut engine, mut alerts) = (Engine::new(&Config::default()), Vec::new());
    let mut observing = std::time::Duration::ZERO;
    let begin = Instant::now();
    for (i, batch) in batches.iter().enumerate() {
        let before = Instant::now();
        engine.observe(batch, &mut alerts).expect("rows of events");
        observing += before.elapsed();
        if i % 64 == 63 {
            engine.tick(START + i as i64, &mut alerts);
        }
    }
    let all = begin.elapsed();
    let rows = (batches.len() * BATCH_ROWS) as f64;
    let (bytes, largest) = engine.agent_bytes();
    println!("{agents} agents, {rows} events, {} alerts", alerts.len());
    println!(
        "observe {:.0} events/s, with ticks {:.0} events/s",
        rows / observing.as_secs_f64(),
        rows / all.as_secs_f64()
    );
    println!("{} bytes an agent, largest {largest}", bytes / engine.agents());
    let before = Instant::now();
    let snapshot = engine.snapshot();
    let wrote = before.elapsed();
    let before = Instant::now();
    Engine::restore(&Config::default(), &snapshot).expect("its own snapshot");
    println!("snapshot {} bytes in {wrote:?}, restored in {:?}", snapshot.len(), before.elapsed());
}

/// Event `n`: a week in all, five roles of four calls, one call in 500 out of role.
fn row(n: u64, agents: u64, events: u64) -> EventRow {
    let dice = mix(n);
    let agent = dice % agents;
    let role = if mix(dice) % 500 == 0 { dice % 5 } else { agent % 5 };
    let call = mix(dice ^ 7) % 4;
    let time = START + (n as f64 / events as f64 * 7.0 * 86_400e6) as i64;
    EventRow {
        event_id: id::hex(u128::from(dice) << 64 | u128::from(n)),
        time,
        received_at: time,
        event_day: id::day(time),
        tenant: "acme".into(),
        source: "envoy".into(),
        door: "http".into(),
        actor_kind: "agent".into(),
        agent_id: Some(format!("agent-{agent:06}")),
        agent_owner: Some(format!("team-{}", agent % 50)),
        attribution: "both".into(),
        user_id: Some(format!("user-{}", dice % 1000)),
        action: format!(
            "{} /v1/things{role}{call}/{}",
            ["GET", "GET", "POST", "DELETE"][call as usize],
            dice % 100_000
        ),
        effect: ["read", "read", "write", "delete"][call as usize].into(),
        service: Some(format!("service-{role}.acme.example")),
        resource_type: Some("thing".into()),
        resource_id: Some(format!("/v1/things{role}{call}/{}", dice % 100_000)),
        outcome: "success".into(),
        raw: "{}".into(),
        ..EventRow::default()
    }
}

fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

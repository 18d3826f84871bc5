//! What becomes of a server that is offered twice what it takes, for a minute: it refuses the rest and says when to come again, keeps
//! what it acknowledged, needs no more memory the longer it lasts, and is as fast as before once its tables have caught up.
//!
//! What it takes is found first, with as many records as it answers. Then requests go out on schedule whatever becomes of those before,
//! and none is repeated. In the end the process is restarted, and SQL must count what was acknowledged, each once.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use benches::workload::{Generator, Spec};
use reqwest::header::RETRY_AFTER;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::load;
use crate::react::now_micros;
use crate::server::{Door, Server};
use crate::times::Times;

/// Sent as fast as they are answered, to find what the server takes.
const FIRST_EVENTS: u32 = 600_000;
const TIMES: f64 = 2.0;
const OVERLOAD: Duration = Duration::from_secs(60);
/// Many more than the server serves at the same time (`server.requests_max`).
const UNDER_WAY_MAX: usize = 4_096;
/// Load that is none, before and after.
const USUAL_EVENTS: u32 = 5_000;
const USUAL_SECS: u32 = 10;
/// A sender that was refused comes again after this long (`Retry-After`).
const REST: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(1);

pub(crate) async fn run(program: &Path, folder: &Path) -> Result<()> {
    let server = Server::start(program, folder, "")?;
    let began = Instant::now();
    load::send(&server, FIRST_EVENTS, 1, now_micros()).await?;
    let taken = f64::from(FIRST_EVENTS) / began.elapsed().as_secs_f64();
    server.passed(server.log_end().await?).await?;
    let before = Times::new(load::send(&server, USUAL_EVENTS, USUAL_SECS, now_micros()).await?)?;

    println!("overload: it takes {taken:.0} events a second, is offered {:.0} for {OVERLOAD:?}", TIMES * taken);
    let offered = offer(&server, TIMES * taken).await?;
    let over = Instant::now();
    tokio::time::sleep(REST).await;
    let soon = Times::new(load::send(&server, USUAL_EVENTS, USUAL_SECS, now_micros()).await?)?;
    server.passed(server.log_end().await?).await?;
    let caught_up = over.elapsed().as_secs_f64();
    let after = Times::new(load::send(&server, USUAL_EVENTS, USUAL_SECS, now_micros()).await?)?;
    offered.print();
    println!("tables and detectors have caught up            {caught_up:.0} s after it");
    println!("memory then, MiB                               {}", server.memory_bytes()? >> 20);
    before.print("answered under usual load, before");
    soon.print(&format!("{REST:?} after"));
    after.print("when they have caught up");

    server.end()?;
    let server = Server::start(program, folder, "")?;
    let usual = 3 * u64::from(USUAL_EVENTS * USUAL_SECS) + u64::from(FIRST_EVENTS);
    let (acknowledged, stored) = (usual + offered.events(offered.acknowledged), server.count().await?);
    println!("acknowledged {acknowledged}, stored after a restart {stored}\n");
    let unknown = offered.events(offered.unanswered);
    ensure!(stored >= acknowledged && stored <= acknowledged + unknown, "{stored} are stored");
    Ok(())
}

/// What became of requests, and the server's memory meanwhile.
#[derive(Default)]
struct Offered {
    acknowledged: u64,
    /// Refused with `Retry-After`, and without.
    refused: u64,
    refused_outright: u64,
    /// The connection broke, as it does where a server answers before it has read the request.
    unanswered: u64,
    /// Not sent: so many others were under way.
    held: u64,
    took: Duration,
    memory_bytes: Vec<u64>,
}

impl Offered {
    fn events(&self, requests: u64) -> u64 {
        requests * u64::from(load::BATCH)
    }

    fn count(&mut self, answer: Answer) {
        match answer {
            Answer::Acknowledged => self.acknowledged += 1,
            Answer::Refused { says_when: true } => self.refused += 1,
            Answer::Refused { says_when: false } => self.refused_outright += 1,
            Answer::None => self.unanswered += 1,
        }
    }

    fn print(&self) {
        let secs = self.took.as_secs_f64();
        let tell = |what: &str, requests: u64| {
            let events = self.events(requests);
            println!("{what:46} {events:>9} events, {:.0} a second", events as f64 / secs);
        };
        tell("acknowledged", self.acknowledged);
        tell("refused, told when to come again", self.refused);
        tell("refused without that", self.refused_outright);
        tell("the connection broke", self.unanswered);
        tell("not sent, since too many others waited", self.held);
        let mib = |bytes: u64| bytes >> 20;
        let each: Vec<String> = self.memory_bytes.iter().step_by(10).map(|bytes| mib(*bytes).to_string()).collect();
        let most = self.memory_bytes.iter().max().copied().map_or(0, mib);
        println!("memory every 10 s, MiB                         {}; the most {most}", each.join(", "));
    }
}

enum Answer {
    Acknowledged,
    Refused { says_when: bool },
    None,
}

async fn offer(server: &Server, rate: f64) -> Result<Offered> {
    let requests = (rate * OVERLOAD.as_secs_f64()) as u64 / u64::from(load::BATCH);
    let (now, span_secs) = (now_micros(), OVERLOAD.as_secs() as u32);
    let events = requests * u64::from(load::BATCH);
    let mut generator =
        Generator::new(Spec { events, span_secs, start_micros: now, seed: now as u64, ..Spec::default() });
    let (door, began) = (server.door("envoy"), Instant::now());
    let (mut offered, mut under_way, mut look) = (Offered::default(), JoinSet::new(), began);
    for request in 0..requests {
        tokio::time::sleep_until(began + OVERLOAD.mul_f64(request as f64 / requests as f64)).await;
        while let Some(answer) = under_way.try_join_next() {
            offered.count(answer?);
        }
        if look <= Instant::now() {
            offered.memory_bytes.push(server.memory_bytes()?);
            look += LOOK;
        }
        if under_way.len() >= UNDER_WAY_MAX {
            offered.held += 1;
            continue;
        }
        let mut body = Vec::new();
        (0..load::BATCH).for_each(|_| _ = generator.write_record(&mut body));
        under_way.spawn(post(door.clone(), body));
    }
    offered.took = began.elapsed();
    while let Some(answer) = under_way.join_next().await {
        offered.count(answer?);
    }
    Ok(offered)
}

async fn post(door: Door, body: Vec<u8>) -> Answer {
    let request = door.http.post(&door.url).bearer_auth(&door.token).body(body);
    let Ok(response) = request.send().await else { return Answer::None };
    if response.status() == 200 {
        return Answer::Acknowledged;
    }
    Answer::Refused { says_when: response.headers().contains_key(RETRY_AFTER) }
}

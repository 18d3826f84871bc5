//! Envoy records at a steady rate, as a gateway would send them: a request every few milliseconds.

use std::time::Duration;

use anyhow::{Result, ensure};
use benches::workload::{Generator, Spec};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::server::{Door, Server};

/// Records of one request.
pub(crate) const BATCH: u32 = 100;
/// Requests under way at once; more that are due wait, and their wait counts.
const UNDER_WAY_MAX: usize = 64;

/// Sends `rate` records a second for `secs`; gives how long each request took from when it was due.
pub(crate) async fn send(server: &Server, rate: u32, secs: u32, now_micros: i64) -> Result<Vec<Duration>> {
    let requests = rate * secs / BATCH;
    let events = u64::from(requests * BATCH);
    // Records of another call are others.
    let seed = now_micros as u64;
    let mut generator =
        Generator::new(Spec { events, span_secs: secs, start_micros: now_micros, seed, ..Spec::default() });
    let door = server.door("envoy");
    let (began, mut under_way, mut times) = (Instant::now(), JoinSet::new(), Vec::new());
    for request in 0..requests {
        let mut body = Vec::new();
        (0..BATCH).for_each(|_| _ = generator.write_record(&mut body));
        let due = began + Duration::from_secs_f64(f64::from(request * BATCH) / f64::from(rate));
        tokio::time::sleep_until(due).await;
        while under_way.len() >= UNDER_WAY_MAX {
            times.extend(under_way.join_next().await.transpose()?.transpose()?);
        }
        // The timer counts milliseconds: what it is late is not the server's.
        let due = if under_way.len() + 1 < UNDER_WAY_MAX { Instant::now() } else { due };
        under_way.spawn(post(door.clone(), body, due));
    }
    while let Some(done) = under_way.join_next().await {
        times.push(done??);
    }
    Ok(times)
}

/// How long the answer took from `due` on.
pub(crate) async fn post(door: Door, body: Vec<u8>, due: Instant) -> Result<Duration> {
    let response = door.http.post(&door.url).bearer_auth(&door.token).body(body).send().await?;
    ensure!(response.status() == 200, "the server answered {}", response.status());
    response.bytes().await?;
    Ok(due.elapsed())
}

//! The sender: batches of records over a few connections, each waiting for its answer before the next.
//!
//! One thread writes them and a short queue holds what waits, so memory stays bounded. A full server is asked again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::records::Records;
use crate::server::Door;

const QUEUE_BATCHES: usize = 8;
const RETRY: Duration = Duration::from_millis(100);

/// Sends every record; returns the bytes sent, once all are acknowledged.
pub(crate) async fn all(door: &Door, mut records: Records, batch: u64, connections: u32) -> Result<u64> {
    let (queue, waiting) = mpsc::channel(QUEUE_BATCHES);
    let waiting = Arc::new(Mutex::new(waiting));
    let writing = std::thread::spawn(move || -> Result<()> {
        loop {
            let body = records.body(batch)?;
            if body.is_empty() || queue.blocking_send(body).is_err() {
                return Ok(());
            }
        }
    });
    let mut senders = JoinSet::new();
    for _ in 0..connections {
        let (waiting, door) = (waiting.clone(), door.clone());
        senders.spawn(async move {
            let mut sent = 0;
            loop {
                let Some(body) = waiting.lock().await.recv().await else { return Ok(sent) };
                sent += body.len() as u64;
                post(&door, body.into()).await?;
            }
        });
    }
    drop(waiting);
    let mut sent = 0;
    while let Some(done) = senders.join_next().await {
        let bytes: Result<u64> = done?;
        sent += bytes?;
    }
    writing.join().map_err(|_| anyhow!("whoever writes the records panicked"))??;
    Ok(sent)
}

async fn post(door: &Door, body: Bytes) -> Result<()> {
    loop {
        let response = door.http.post(&door.url).bearer_auth(&door.token).body(body.clone()).send().await?;
        match response.status().as_u16() {
            200 => {
                response.bytes().await?;
                return Ok(());
            }
            429 | 503 => tokio::time::sleep(RETRY).await,
            status => anyhow::bail!("the server answered {status}: {}", response.text().await?),
        }
    }
}

//! The responder as a task: follows the main log's alerts, and pumps calls, expiry, the mirror and the positions.
//!
//! Three loops, so that an order never waits behind a slow receiver, and neither orders nor expiry wait behind the main log. A log that is full or overloaded for a
//! moment is waited for; any other failure of a log ends the task with its error.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lake::log::{Frame, LogError, Payload, Positions};
use schemas::alert::Alerts;
use schemas::{Holder, Principal, Verb};
use tokio::task::JoinSet;

use crate::error::Error;
use crate::journal::{KEEP_FRAMES, READ_BYTES_MAX};
use crate::responder::Responder;

const PAUSE: Duration = Duration::from_secs(1);
const FLUSH: Duration = Duration::from_secs(5);

impl Responder {
    /// Runs until `shutdown` resolves, then remembers its position. A call that is cut off is repeated at the next start.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let mut tasks = JoinSet::new();
        let (follower, pumper) = (self.clone(), self.clone());
        tasks.spawn(async move { follower.follow().await });
        tasks.spawn(async move { pumper.pump().await });
        for drill in self.config.drills.iter().filter(|drill| drill.every_hours > 0) {
            let (responder, drill) = (self.clone(), drill.clone());
            tasks.spawn(async move { responder.rehearse(&drill).await });
        }
        // The mirror is not a task that can be cut off: a group on its way to the main log would be sent again.
        let mut shutdown = pin!(shutdown);
        let mut flushed_at = self.clock.now_micros();
        loop {
            let mirrored: Positions = [self.mirrored().await].into_iter().collect();
            let behind = self.control.wait(&mirrored);
            tokio::select! {
                () = &mut shutdown => break,
                Some(ended) = tasks.join_next() => return ended.map_err(|error| Error::Task(error.to_string()))?,
                moved = behind => drop(moved?),
                () = tokio::time::sleep(FLUSH) => {}
            }
            let flush = self.clock.now_micros() - flushed_at >= FLUSH.as_micros() as i64;
            match self.keep_house(flush).await {
                Ok(()) if flush => flushed_at = self.clock.now_micros(),
                Ok(()) => {}
                Err(error) => self.wait_out(error).await?,
            }
        }
        tasks.shutdown().await;
        self.mirror().await?;
        self.flush().await
    }

    /// What may wait behind the main log: the mirror and the positions.
    async fn keep_house(&self, flush: bool) -> Result<(), Error> {
        self.mirror().await?;
        if flush {
            self.keep(KEEP_FRAMES).await?;
            self.flush_news().await?;
        }
        Ok(())
    }

    async fn follow(&self) -> Result<(), Error> {
        loop {
            let next = self.alerts_passed();
            self.main.wait(&next).await?;
            let frames = match self.main.read_all(&next, READ_BYTES_MAX) {
                Ok(frames) => frames,
                Err(LogError::Gone { .. }) => {
                    // Their alerts are in the lake but start no orders.
                    let first = self.main.firsts();
                    tracing::error!(from = %next, to = %first, "the log let go of frames before their alerts were handled");
                    self.followed().passed.pass_all(&first);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // Frames that share an offset are passed together.
            for message in frames.chunk_by(|a, b| (a.sequence, a.offset) == (b.sequence, b.offset)) {
                for frame in message {
                    self.handle_frame(frame).await?;
                }
                let (sequence, next) = (message[0].sequence, message[0].offset + 1);
                let news = |frame: &Arc<Frame>| matches!(frame.payload, Payload::Alerts(_) | Payload::Orders(_));
                let mut followed = self.followed();
                if message.iter().any(news) {
                    followed.news.pass(sequence, next);
                }
                followed.passed.pass(sequence, next);
            }
        }
    }

    async fn handle_frame(&self, frame: &Frame) -> Result<(), Error> {
        let batch = match &frame.payload {
            Payload::Alerts(batch) => batch,
            Payload::Events(batch) => {
                // Seen again it shows the same: an order that took its step ignores it.
                while let Some(error) = self.see_events(batch).await.err() {
                    self.wait_out(error).await?;
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        let alerts = Alerts::new(batch)?;
        for row in 0..batch.num_rows() {
            let alert = alerts.row(row);
            while let Some(error) = self.handle_alert(&alert).await.err() {
                self.wait_out(error).await?;
            }
        }
        Ok(())
    }

    async fn pump(&self) -> Result<(), Error> {
        let (mut calls, mut verifications) = (FuturesUnordered::new(), FuturesUnordered::new());
        loop {
            let now = self.clock.now_micros();
            calls.extend(self.claim_due(now).into_iter().map(|claim| self.attempt(claim)));
            let due = self.claim_verifications(now).into_iter();
            verifications.extend(due.map(|stream| self.push_verification(stream)));
            tokio::select! {
                Some(made) = calls.next() => if let Err(error) = made { self.wait_out(error).await? },
                Some(made) = verifications.next() => if let Err(error) = made { self.wait_out(error).await? },
                () = self.woken.notified() => {}
                () = tokio::time::sleep(self.until_due(now)) => {}
            }
            if let Err(error) = self.tick(self.clock.now_micros()).await {
                self.wait_out(error).await?;
            }
        }
    }

    /// Drills at their intervals, from the first interval on. One that fails is told in the log.
    async fn rehearse(&self, drill: &crate::config::Drill) -> Result<(), Error> {
        let by = Principal {
            name: "muster".into(),
            tenant: drill.tenant.clone(),
            holder: Holder::Machine,
            verbs: vec![Verb::Order],
        };
        loop {
            tokio::time::sleep(Duration::from_secs(drill.every_hours.saturating_mul(3600))).await;
            match self.drill(&by, &drill.name).await {
                Ok(report) if report.stopped && report.released => {
                    tracing::info!(drill = drill.name, last_allowed_ms = report.last_allowed_ms, "drill");
                }
                Ok(report) => tracing::error!(?report, "the drill's canary was not stopped and let go again"),
                Err(error) if error.retry_later() => self.wait_out(error).await?,
                Err(error) => tracing::error!(drill = drill.name, %error, "the drill failed"),
            }
        }
    }

    fn until_due(&self, now: i64) -> Duration {
        let micros = self.next_due().map_or(i64::MAX, |at| at.saturating_sub(now));
        // Not at once: a due call may be waiting for its place at a switch.
        Duration::from_micros(micros.max(10_000) as u64).min(PAUSE)
    }

    async fn wait_out(&self, error: Error) -> Result<(), Error> {
        if !error.retry_later() {
            return Err(error);
        }
        tracing::error!(%error, "orders wait for the log");
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

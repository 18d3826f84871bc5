//! Inventory: what providers hold that no log can show. Polled, and kept as snapshots in the table `inventory`.
//!
//! - [`provider`] is a provider as declared (`schemas/inventory/*.toml`, or in configuration), [`plan`] what that means;
//! - [`calls`] asks; [`run`] goes through lists and pages; [`value`] finds values in answers;
//! - [`sigv4`] and [`xml`] are what AWS needs besides.
//!
//! A run is complete or it is nothing: its items are stored when the last one is there, in groups of the log of which the
//! last holds the `run` row. Readers count only items whose run says `complete`, so a crash between two groups, a failing
//! page or a stolen token never make a client look deleted.

mod calls;
mod config;
mod error;
pub mod plan;
pub mod provider;
mod run;
mod sigv4;
mod value;
mod xml;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lake::clock::Clock;
use lake::log::{Group, Log};
use schemas::RowBuilder;
use schemas::inventory::{TABLE, col};
use serde::{Deserialize, Serialize};

pub use config::{Config, OAuth, Poll};
pub use error::PollError;
use plan::Plan;
use run::{Found, Stamp};

/// The polls, and the log that they write to.
pub struct Inventory {
    config: Config,
    log: Arc<Log>,
    clock: Clock,
    /// One run at a time: its items are in memory.
    running: tokio::sync::Mutex<()>,
}

/// What a run found, or why it failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub poll: String,
    pub provider: String,
    pub tenant: String,
    pub snapshot_id: String,
    pub items: usize,
    /// Items of each kind.
    pub kinds: BTreeMap<String, usize>,
    pub requests: u64,
    /// Secrets masked in the items.
    pub masked: u64,
    /// Why the run failed; none where it is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Inventory {
    pub fn new(config: Config, log: Arc<Log>, clock: Clock) -> Inventory {
        Inventory { config, log, clock, running: tokio::sync::Mutex::default() }
    }

    /// Runs one poll; its snapshot is durable when this returns. A failed run is noted in the table and stores nothing else.
    pub async fn run(&self, poll: &Poll) -> Result<Snapshot, PollError> {
        let _running = self.running.lock().await;
        let seen_at = self.clock.now_micros();
        let stamp = Stamp::new(poll, seen_at);
        let done = match self.find(poll, &stamp).await {
            Ok(found) => self.store(poll, &stamp, found).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &done {
            tracing::error!(poll = poll.name, %error, "the inventory poll failed and changes nothing");
            let (outcome, reason) = ("failed", Some(error.to_string()));
            let noted = self.append(None, Some((&stamp, outcome, None, reason))).await;
            if let Err(error) = noted {
                tracing::error!(poll = poll.name, %error, "the failed poll cannot be noted");
            }
        }
        done
    }

    async fn find(&self, poll: &Poll, stamp: &Stamp) -> Result<Found, PollError> {
        let wrong = |problem: String| PollError::Configuration { poll: poll.name.clone(), problem };
        let provider = poll.declaration().map_err(wrong)?;
        let plan = Plan::new(&provider, &poll.only).map_err(|problems| wrong(problems.join("; ")))?;
        let secs_max = self.config.run_secs;
        let run = run::run(poll, &plan, stamp, &self.config, &self.clock);
        let timeout = tokio::time::timeout(Duration::from_secs(secs_max), run);
        timeout.await.map_err(|_| PollError::Timeout { secs_max })?
    }

    async fn store(&self, poll: &Poll, stamp: &Stamp, found: Found) -> Result<Snapshot, PollError> {
        let Found { batches, items, kinds, masked, requests } = found;
        for batch in batches {
            self.append(Some(batch), None).await?;
        }
        self.append(None, Some((stamp, "complete", Some(items as i64), None))).await?;
        let (poll, provider, tenant) = (poll.name.clone(), poll.provider.clone(), stamp.tenant.clone());
        tracing::info!(poll, items, requests, "the inventory poll is complete");
        let snapshot_id = stamp.snapshot_id.clone();
        Ok(Snapshot { poll, provider, tenant, snapshot_id, items, kinds, requests, masked, error: None })
    }

    /// Runs the polls of this name one after the other, or all; each tells how it ended.
    pub async fn run_named(&self, name: Option<&str>) -> Result<Vec<Snapshot>, PollError> {
        let polls: Vec<&Poll> =
            self.config.polls.iter().filter(|poll| name.is_none_or(|name| poll.name == name)).collect();
        if let (Some(name), true) = (name, polls.is_empty()) {
            return Err(PollError::Unknown(name.to_owned()));
        }
        let mut done = Vec::with_capacity(polls.len());
        for poll in polls {
            done.push(self.run(poll).await.unwrap_or_else(|error| Snapshot {
                poll: poll.name.clone(),
                provider: poll.provider.clone(),
                tenant: poll.tenant().to_owned(),
                error: Some(error.to_string()),
                ..Snapshot::default()
            }));
        }
        Ok(done)
    }

    async fn append(
        &self,
        batch: Option<arrow::array::RecordBatch>,
        run: Option<(&Stamp, &str, Option<i64>, Option<String>)>,
    ) -> Result<(), PollError> {
        let last = run.map(|(stamp, outcome, items, reason)| {
            let mut rows = RowBuilder::new(&TABLE);
            stamp.begin(&mut rows, "run", &stamp.snapshot_id, None);
            rows.str(col::outcome, outcome);
            items.into_iter().for_each(|items| rows.i64(col::items, items));
            reason.iter().for_each(|reason| rows.str(col::reason, reason));
            rows.end_row();
            rows.finish()
        });
        let group = Group { inventory: batch.or(last), ..Group::default() };
        self.log.append(group).await?;
        Ok(())
    }

    /// Runs each poll at its interval, for as long as this is awaited. A failed one is tried again sooner.
    pub async fn serve(self: Arc<Self>) {
        let mut polls = tokio::task::JoinSet::new();
        for number in 0..self.config.polls.len() {
            let inventory = self.clone();
            polls.spawn(async move {
                let poll = &inventory.config.polls[number];
                loop {
                    let interval = poll.interval_secs();
                    let pause = match inventory.run(poll).await {
                        Ok(_) => interval,
                        Err(_) => interval.min(inventory.config.failed_retry_secs),
                    };
                    tokio::time::sleep(Duration::from_secs(pause)).await;
                }
            });
        }
        while polls.join_next().await.is_some() {}
    }
}

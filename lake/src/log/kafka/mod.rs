//! Apache Kafka as the log: a topic whose partitions are the log's sequences.
//!
//! ```text
//! append(Group) ─▶ cut by partition ─▶ idempotent producer, acks=all ─▶ topic ─▶ follower: duplicate filter ─▶ cache ─▶ readers
//! ```
//! An append answers when all its messages are acknowledged; until then some may be there and others not, so a sender that
//! repeats is what makes it whole, and the duplicate filter what keeps it once. Each message counts its own rows in the ledger,
//! so the ledger is exact whatever part of a group there is. Kafka keeps messages for as long as the topic says, whether
//! they were read or not.

mod config;
mod cut;
mod fetch;
mod filter;
mod follow;
mod member;
mod message;
mod only;
mod partition;
#[cfg(test)]
mod tests;
mod topic;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use tokio::sync::watch;

use super::group::{self, Checked};
use super::{Appended, Frame, Group, LogConfig, LogError, Positions, Rows, Share as RoleShare};
use crate::clock::Clock;
use crate::kafka::Telling;

pub use config::{Compression, KafkaLogConfig};

use cut::Share;
use message::Writing;
use partition::{Opening, Partition};

/// Each process needs so many of them at once.
const WRITINGS_KEPT_MAX: usize = 8;
/// A batch is cut when it has more than this part of a message: a message has batches of several tables.
const PARTS: usize = 4;

/// The log in Kafka.
pub struct KafkaLog {
    appending: Arc<Appending>,
    shared: Arc<Shared>,
    follower: Mutex<Option<JoinHandle<()>>>,
    /// They end when the log closes, and leave their groups.
    members: Mutex<Vec<JoinHandle<()>>>,
    groups: Vec<&'static str>,
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaLog").field("topic", &self.shared.config.topic).finish_non_exhaustive()
    }
}

/// What the follower, appends and readers share.
struct Shared {
    config: Arc<KafkaLogConfig>,
    partitions: Vec<Partition>,
    status: watch::Sender<Status>,
}

#[derive(Clone, Debug, Default)]
struct Status {
    /// The follower ends when it has all that was acknowledged.
    closing: bool,
    /// Why nothing more will come.
    stopped: Option<LogError>,
}

impl Shared {
    /// Nothing more is appended here, or nothing more will come.
    fn is_ending(&self) -> bool {
        let status = self.status.borrow();
        status.closing || status.stopped.is_some()
    }

    /// The first reason stays.
    fn stop(&self, reason: &LogError) {
        self.status.send_modify(|status| {
            status.stopped.get_or_insert_with(|| reason.clone());
        });
        self.partitions.iter().for_each(|partition| partition.stop(reason));
    }
}

/// What an append needs, beyond the life of whoever waits for it.
struct Appending {
    shared: Arc<Shared>,
    limits: LogConfig,
    clock: Clock,
    producer: FutureProducer<Telling>,
    writings: Mutex<Vec<Writing>>,
    queued_bytes: AtomicUsize,
    queued_groups: AtomicUsize,
}

/// A message to be sent.
struct Outgoing {
    share: Share,
    value: Vec<u8>,
}

impl KafkaLog {
    pub(super) fn open(
        kafka: &KafkaLogConfig,
        config: &LogConfig,
        clock: Clock,
        groups: &[&'static str],
    ) -> Result<KafkaLog, LogError> {
        let mut problems = config.problems();
        problems.extend(kafka.problems());
        if !problems.is_empty() {
            return Err(LogError::Config(problems.join("; ")));
        }
        let kafka = Arc::new(kafka.clone());
        let consumer = fetch::follower(&kafka)?;
        let bounds = topic::open(&kafka, &consumer)?;
        let count = bounds.len();
        let rows_max = config.duplicates_window.div_ceil(count) as u64;
        let partition = |(number, (first, end)): (usize, (u64, u64))| {
            let (config, cache_bytes_max) = (kafka.clone(), config.cache_bytes_max / count);
            Partition::open(Opening { config, number, rows_max, cache_bytes_max, first, end }, groups)
        };
        let partitions = bounds.into_iter().enumerate().map(partition).collect();
        let shared = Arc::new(Shared { config: kafka, partitions, status: watch::Sender::default() });
        let follower = follow::start(shared.clone(), consumer)?;
        let appending = Appending {
            producer: producer(&shared.config, config)?,
            shared: shared.clone(),
            limits: config.clone(),
            clock,
            writings: Mutex::default(),
            queued_bytes: AtomicUsize::new(0),
            queued_groups: AtomicUsize::new(0),
        };
        let (appending, follower) = (Arc::new(appending), Mutex::new(Some(follower)));
        Ok(KafkaLog { appending, shared, follower, members: Mutex::default(), groups: groups.to_vec() })
    }

    pub(super) async fn append(&self, group: Group) -> Result<Appended, LogError> {
        if self.shared.is_ending() {
            return Err(self.shared.status.borrow().stopped.clone().unwrap_or(LogError::Closed));
        }
        let checked = group::check(group, &self.appending.limits)?;
        let (bytes, appending) = (checked.bytes, self.appending.clone());
        let queued = appending.queued_bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let groups = appending.queued_groups.fetch_add(1, Ordering::SeqCst) + 1;
        let LogConfig { queue_bytes_max, queue_groups_max, .. } = appending.limits;
        let refused = queued > queue_bytes_max || groups > queue_groups_max;
        // A task of its own: a caller that stops waiting does not cut the group in half.
        let task = tokio::spawn(async move {
            let done = if refused {
                Err(LogError::Overloaded(format!("{groups} appends of {queued} bytes wait for Kafka")))
            } else {
                appending.append(checked).await
            };
            appending.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
            appending.queued_groups.fetch_sub(1, Ordering::SeqCst);
            done
        });
        task.await.unwrap_or_else(|panic| Err(LogError::Fatal(format!("an append panicked: {panic}"))))
    }

    pub(super) fn sequences(&self) -> usize {
        self.shared.partitions.len()
    }

    pub(super) fn topic(&self) -> &str {
        &self.shared.config.topic
    }

    pub(super) fn end(&self, sequence: usize) -> u64 {
        self.shared.partitions[sequence].end()
    }

    pub(super) fn first(&self, sequence: usize) -> u64 {
        self.shared.partitions[sequence].first()
    }

    pub(super) async fn wait(&self, positions: &Positions) -> Result<(), LogError> {
        let mut status = self.shared.status.subscribe();
        let beyond = || {
            let mut partitions = self.shared.partitions.iter().enumerate();
            partitions.any(|(sequence, partition)| partition.followed() > positions.get(sequence))
        };
        let status = status.wait_for(|status| status.stopped.is_some() || beyond()).await;
        let status = status.map_err(|_| LogError::Closed)?;
        match &status.stopped {
            Some(reason) if !beyond() => Err(reason.clone()),
            _ => Ok(()),
        }
    }

    pub(super) fn read(&self, sequence: usize, from: u64, bytes_max: usize) -> Result<Vec<Arc<Frame>>, LogError> {
        self.shared.partitions[sequence].read(from, bytes_max)
    }

    pub(super) fn join(&self, role: &str) -> Result<RoleShare, LogError> {
        let (share, member) = member::join(&self.shared, role)?;
        self.members.lock().unwrap_or_else(PoisonError::into_inner).push(member);
        Ok(share)
    }

    pub(super) fn claim(&self, role: &str) -> Result<(), LogError> {
        let member = only::claim(&self.shared, role, self.appending.clock.now_micros())?;
        self.members.lock().unwrap_or_else(PoisonError::into_inner).push(member);
        Ok(())
    }

    pub(super) fn has_group(&self, group: &str) -> bool {
        self.groups.contains(&group)
    }

    pub(super) fn passed(&self, group: &str, next: &Positions) {
        for (sequence, partition) in self.shared.partitions.iter().enumerate() {
            partition.passed(group, next.get(sequence));
        }
    }

    pub(super) fn close(&self) {
        let follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(follower) = follower else { return };
        self.shared.status.send_modify(|status| status.closing = true);
        // What is not acknowledged when the time is over nobody was told to be there.
        let patience = Duration::from_millis(self.shared.config.append_ms);
        if let Err(error) = self.appending.producer.flush(patience) {
            tracing::warn!(%error, "the log is closed before all was sent");
        }
        // A panic of the follower is in the log's status already; that of a member leaves the share as it was.
        let members = std::mem::take(&mut *self.members.lock().unwrap_or_else(PoisonError::into_inner));
        std::iter::once(follower).chain(members).for_each(|thread| drop(thread.join()));
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn producer(kafka: &KafkaLogConfig, config: &LogConfig) -> Result<FutureProducer<Telling>, LogError> {
    let mut client = kafka.client.client();
    let kilobytes = (config.queue_bytes_max >> 9).clamp(1 << 10, 2 << 20);
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", kafka.compression.name())
        .set("linger.ms", config.linger_ms.to_string())
        .set("message.timeout.ms", kafka.append_ms.to_string())
        .set("message.max.bytes", kafka.message_bytes_max.to_string())
        .set("queue.buffering.max.kbytes", kilobytes.to_string());
    client.create_with_context(Telling).map_err(|error| fetch::failed(&kafka.topic, None, &error))
}

impl Appending {
    async fn append(self: &Arc<Self>, checked: Checked) -> Result<Appended, LogError> {
        let cutting = self.clone();
        let cut = tokio::task::spawn_blocking(move || cutting.cut(checked.group)).await;
        let messages = cut.map_err(|panic| LogError::Fatal(format!("cutting a group panicked: {panic}")))??;
        let (late, early) = messages.into_iter().partition(|message| message.share.late);
        let mut appended = Appended::default();
        self.send(early, &mut appended).await?;
        self.send(late, &mut appended).await?;
        Ok(appended)
    }

    /// The group as messages. All CPU.
    fn cut(&self, group: Group) -> Result<Vec<Outgoing>, LogError> {
        let bytes_max = self.shared.config.message_bytes_max;
        let shares = cut::cut(group, self.shared.partitions.len(), bytes_max / PARTS);
        let kept = self.writings.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut writing = kept.unwrap_or_else(Writing::new);
        let mut messages = Vec::new();
        for mut share in shares.map_err(|error| LogError::Fatal(error.to_string()))? {
            let value = writing.write(&mut share, self.clock.now_micros())?;
            if value.len() > bytes_max {
                let rows = (share.events + share.quarantined) as usize;
                let rows_max = self.limits.group_rows_max;
                return Err(LogError::TooLarge { rows, bytes: value.len(), rows_max, bytes_max });
            }
            messages.push(Outgoing { share, value });
        }
        let mut writings = self.writings.lock().unwrap_or_else(PoisonError::into_inner);
        if writings.len() < WRITINGS_KEPT_MAX {
            writings.push(writing);
        }
        Ok(messages)
    }

    /// Sends messages and waits until all are acknowledged.
    async fn send(&self, messages: Vec<Outgoing>, appended: &mut Appended) -> Result<(), LogError> {
        let mut failure = None;
        let mut sent: Vec<(Share, DeliveryFuture)> = Vec::with_capacity(messages.len());
        for Outgoing { share, value } in messages {
            let record = FutureRecord::<(), Vec<u8>>::to(&self.shared.config.topic);
            let record = record.partition(share.partition as i32).payload(&value);
            match self.producer.send_result(record) {
                Ok(delivery) => sent.push((share, delivery)),
                Err((error, _)) => {
                    failure = Some(self.failed(share.partition, &error));
                    break;
                }
            }
        }
        for (share, delivery) in sent {
            match delivery.await {
                Ok(Ok(delivered)) => self.delivered(&share, delivered.offset.unsigned_abs(), appended),
                Ok(Err((error, _))) => failure = Some(self.failed(share.partition, &error)),
                Err(_) => failure = Some(LogError::Closed),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn delivered(&self, share: &Share, offset: u64, appended: &mut Appended) {
        let sequence = share.partition;
        self.shared.partitions[sequence].acknowledged(offset + 1);
        let rows = |count| Some(Rows { sequence, offset, index: 0, count }).filter(|rows| rows.count > 0);
        appended.events.extend(rows(share.events));
        appended.quarantine.extend(rows(share.quarantined));
    }

    /// What an error of the producer means.
    fn failed(&self, partition: usize, error: &KafkaError) -> LogError {
        if let Some((_, reason)) = self.producer.client().fatal_error() {
            let fatal = LogError::Fatal(format!("kafka {}/{partition}: {reason}", self.shared.config.topic));
            self.shared.stop(&fatal);
            return fatal;
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => {
                LogError::Overloaded("the queue of Kafka's producer is full".to_owned())
            }
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => LogError::Config(format!(
                "the topic {} takes no message of `message_bytes_max`: its max.message.bytes is too small",
                self.shared.config.topic
            )),
            _ => fetch::failed(&self.shared.config.topic, Some(partition), error),
        }
    }
}

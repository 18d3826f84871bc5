//! Kafka as a door: raw vendor records from topics of Apache Kafka, each message one request's body.
//!
//! ```text
//! poll ─▶ split ─▶ batch ─▶ normalize ─▶ one group: events, quarantine, ledger, cursor ─▶ log ─▶ commit to Kafka
//! ```
//! **Neither lost nor doubled**: where a door goes on is written with the rows ([`cursor`]), and that is where it goes on after
//! a crash, whatever Kafka's own group says; the group's position is written behind, for others to see and for a partition
//! that comes from another member. A record without an id of its vendor's has topic, partition, offset and number as its identity,
//! so what another member took as well is a duplicate.
//!
//! **Bounded**: one batch is in hand, the client holds so many bytes more. While the log has no room nothing is polled.
//! A door is a thread, since the client blocks; it ends with the process, or when the log cannot be written any more. Brokers
//! that are away are told (`status`) and waited for.

mod batch;
mod config;
mod consumer;
mod cursor;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lake::clock::Clock;
use lake::files::{Files, Wholes};
use lake::log::{Group, Log, LogError};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use serde::Serialize;
use tokio::runtime::Handle;

pub(crate) use config::problems;
pub use config::{KafkaDoorConfig, Start};
pub use cursor::GROUP;

use crate::context::{Carrier, Context, Limits, Normalized};
use crate::normalize::normalize_joined;
use crate::split::split;
use crate::worker::{Ingest, IngestError, PARTITIONS};
use batch::Batch;
use consumer::Assigned;
use cursor::{Cursor, Floor, Places};

const DOOR: &str = "kafka";
/// A batch that has waited so long is written.
const POLL: Duration = Duration::from_millis(20);
const LINGER_MICROS: i64 = 100_000;
/// So long until a group that found no room in the log is appended again.
const RETRY: Duration = Duration::from_millis(200);
/// How often the cursor is stored, and told to Kafka.
const SAVE_MICROS: i64 = 5_000_000;

#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    Ingest(#[from] IngestError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("how far the door has read: {0}")]
    Cursor(String),
}

/// How a door stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DoorStatus {
    pub name: String,
    pub topic: String,
    pub source: String,
    pub tenant: String,
    /// Of each partition that is read here, the offset of the next message.
    pub next: BTreeMap<i32, i64>,
    /// Messages that the topic let go before they were read.
    pub lost: i64,
    /// What it waits for; none once a batch was taken.
    pub error: Option<String>,
}

/// One topic, read in order.
pub struct Door {
    consumer: BaseConsumer<Assigned>,
    taking: Taking,
}

/// What a door knows beside the connection.
struct Taking {
    config: KafkaDoorConfig,
    ingest: Arc<Ingest>,
    log: Arc<Log>,
    runtime: Handle,
    cursor: Cursor,
    batch: Batch,
    /// When the batch got its first record.
    since: i64,
    /// Which assignment of partitions the batch is of.
    assignment: u64,
    saved_at: i64,
    status: Arc<Mutex<DoorStatus>>,
}

/// All doors of a configuration, connected to nothing yet. `folder` is where they keep how far they are.
pub async fn open(
    doors: &[KafkaDoorConfig],
    ingest: &Arc<Ingest>,
    log: &Arc<Log>,
    files: &Arc<dyn Files>,
    folder: PathBuf,
    clock: &Clock,
) -> Result<Vec<Door>, DoorError> {
    let floor = Arc::new(Floor::default());
    let kept = Wholes::in_folder(files.clone(), folder, clock.clone());
    let mut opened = Vec::with_capacity(doors.len());
    for config in doors {
        ingest.mapping(&config.source, &[])?;
        let file = kept.file(&format!("{}.json", config.name));
        let cursor =
            Cursor::open(&config.name, &config.topic, file, log.clone(), floor.clone(), clock.now_micros()).await?;
        let consumer = consumer::consumer(config, cursor.member())?;
        let KafkaDoorConfig { name, topic, source, tenant, .. } = config.clone();
        let status = Arc::new(Mutex::new(DoorStatus { name, topic, source, tenant, ..DoorStatus::default() }));
        let taking = Taking {
            config: config.clone(),
            ingest: ingest.clone(),
            log: log.clone(),
            runtime: Handle::current(),
            cursor,
            batch: Batch::default(),
            since: 0,
            assignment: 0,
            saved_at: clock.now_micros(),
            status,
        };
        opened.push(Door { consumer, taking });
    }
    Ok(opened)
}

impl Door {
    pub fn status(&self) -> Arc<Mutex<DoorStatus>> {
        self.taking.status.clone()
    }

    /// Reads until `stopped` says so. Blocks: for a thread of its own.
    pub fn run(self, stopped: impl Fn() -> bool) -> Result<(), DoorError> {
        let Door { consumer, mut taking } = self;
        consumer::begin(&consumer, &taking.config.topic, &taking.cursor.places)?;
        while !stopped() {
            let message = consumer.poll(POLL);
            taking.look_at_assignment(&consumer);
            let idle = message.is_none();
            match message {
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    taking.take(&consumer, partition, offset, message.payload().unwrap_or_default(), &stopped)?;
                }
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error.into()),
                Some(Err(error)) => taking.wait_for(consumer::explained(&consumer, &error)),
                None => {}
            }
            let now = taking.ingest.now_micros();
            if idle || now - taking.since >= LINGER_MICROS {
                taking.flush(&consumer, &stopped)?;
            }
            if now - taking.saved_at >= SAVE_MICROS {
                taking.save(&consumer)?;
            }
        }
        // What is in hand was not taken: it is read again.
        taking.save(&consumer)
    }
}

impl Taking {
    fn tell(&self, change: impl FnOnce(&mut DoorStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn wait_for(&self, error: String) {
        tracing::warn!(door = self.config.name, error, "the Kafka door waits");
        self.tell(|status| status.error = Some(error));
    }

    /// Partitions that came or went: the batch is of the ones before, and is read again by whoever has them now.
    fn look_at_assignment(&mut self, consumer: &BaseConsumer<Assigned>) {
        let assignment = consumer::assignment(consumer);
        if assignment == self.assignment {
            return;
        }
        self.assignment = assignment;
        self.batch = Batch::default();
        let (next, lost) = consumer::positions(consumer, &self.config.topic, &self.cursor.places);
        if lost > 0 {
            tracing::error!(door = self.config.name, lost, "messages were gone from the topic before they were read");
        }
        tracing::info!(door = self.config.name, partitions = next.len(), "the Kafka door has its partitions");
        self.tell(|status| {
            status.next = next;
            status.lost += lost;
        });
    }

    fn take(
        &mut self,
        consumer: &BaseConsumer<Assigned>,
        partition: i32,
        offset: i64,
        payload: &[u8],
        stopped: &impl Fn() -> bool,
    ) -> Result<(), DoorError> {
        let mapping = self.ingest.mapping(&self.config.source, &[])?;
        let bytes_max = self.ingest.limits().record_bytes_max;
        // A message may have been taken in part: its first records are in the log.
        let taken = self.cursor.places.get(&partition).filter(|place| place.0 == offset).map_or(0, |place| place.1);
        let records = split(payload, mapping.array_keys()).records;
        for (number, span) in records.iter().enumerate().skip(taken as usize) {
            let record = &payload[span.start..span.end];
            if !self.batch.fits(record.len().min(bytes_max)) && !self.flush(consumer, stopped)? {
                return Ok(());
            }
            self.begin();
            self.batch.push(record, (partition, offset, number as u32), bytes_max);
        }
        self.begin();
        self.batch.pass(partition, offset);
        Ok(())
    }

    fn begin(&mut self) {
        if self.batch.is_empty() {
            self.since = self.ingest.now_micros();
        }
    }

    /// Writes what is in hand; durable when it returns. `false` where it was told to stop before.
    fn flush(&mut self, consumer: &BaseConsumer<Assigned>, stopped: &impl Fn() -> bool) -> Result<bool, DoorError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(true);
        }
        let written = self.append(&batch, 0..batch.len(), stopped)?;
        if written {
            consumer::know(consumer, &self.cursor.places);
            let next: Vec<(i32, i64)> =
                self.cursor.places.iter().map(|(partition, place)| (*partition, place.0)).collect();
            self.tell(|status| {
                status.error = None;
                next.iter().for_each(|(partition, next)| {
                    status.next.entry(*partition).and_modify(|known| *known = *next);
                });
            });
        }
        Ok(written)
    }

    /// Appends some of the batch's records as one group, or, where that is too large, as several.
    fn append(
        &mut self,
        batch: &Batch,
        records: std::ops::Range<usize>,
        stopped: &impl Fn() -> bool,
    ) -> Result<bool, DoorError> {
        let limits = self.ingest.limits().clone();
        let next = batch.next(records.end);
        match self.append_group(self.normalize(batch, records.clone(), &limits)?, &next, stopped) {
            Err(DoorError::Log(LogError::TooLarge { .. })) => {}
            done => return done,
        }
        if records.len() > 1 {
            let middle = records.start + records.len() / 2;
            return Ok(self.append(batch, records.start..middle, stopped)?
                && self.append(batch, middle..records.end, stopped)?);
        }
        // A single record with more in it than a group may hold: bad data never stops good data.
        let none = Limits { record_events_max: 0, ..limits };
        self.append_group(self.normalize(batch, records, &none)?, &next, stopped)
    }

    fn normalize(
        &self,
        batch: &Batch,
        records: std::ops::Range<usize>,
        limits: &Limits,
    ) -> Result<Normalized, DoorError> {
        let mapping = self.ingest.mapping(&self.config.source, &[])?;
        let (piece, places) = batch.piece(records);
        let carrier = Carrier::Messages { topic: self.config.topic.clone(), places };
        let context = Context {
            tenant: &self.config.tenant,
            instance: &self.config.instance,
            door: DOOR,
            live: self.config.may_act,
            received_at: self.ingest.now_micros(),
            carrier: &carrier,
            partitions: PARTITIONS,
            secret_key: self.ingest.secret_key(),
        };
        Ok(normalize_joined(&mapping, &piece, 0, None, &context, limits, self.ingest.joins()))
    }

    /// Waits for room in the log as long as there is none.
    fn append_group(
        &mut self,
        normalized: Normalized,
        next: &Places,
        stopped: &impl Fn() -> bool,
    ) -> Result<bool, DoorError> {
        let Normalized { events, quarantine, ledger, .. } = normalized;
        let received = ledger.received > 0;
        loop {
            let group = Group {
                events: events.clone(),
                quarantine: quarantine.clone(),
                ledger: received.then(|| ledger.clone()),
                control: Some(self.cursor.control(next)),
                ..Group::default()
            };
            match self.runtime.block_on(self.log.append(group)) {
                Ok(_) => {
                    self.cursor.places.extend(next);
                    return Ok(true);
                }
                Err(LogError::Closed) if stopped() => return Ok(false),
                Err(error) if error.retry_helps() => {
                    self.wait_for(error.to_string());
                    if stopped() {
                        return Ok(false);
                    }
                    std::thread::sleep(RETRY);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn save(&mut self, consumer: &BaseConsumer<Assigned>) -> Result<(), DoorError> {
        self.saved_at = self.ingest.now_micros();
        let waits = self.status.lock().unwrap_or_else(PoisonError::into_inner).error.is_some();
        if waits && consumer::answers(consumer, &self.config.topic) {
            self.tell(|status| status.error = None);
        }
        consumer::commit(consumer, &self.config.topic, &self.cursor.places);
        match self.runtime.block_on(self.cursor.save()) {
            // The log holds what the file lacks.
            Err(error) => {
                tracing::warn!(door = self.config.name, %error, "the Kafka door's cursor could not be stored");
                Ok(())
            }
            done => done,
        }
    }
}

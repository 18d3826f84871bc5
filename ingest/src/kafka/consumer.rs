//! The connection of a door to the brokers: which partitions it has, and where in them it begins.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lake::kafka::Telling;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::config::{KafkaDoorConfig, Start};
use super::cursor::Places;

/// The client fetches ahead at most so much, and asks for at most so much at a time.
const AHEAD_KILOBYTES: &str = "16384";
const FETCH_BYTES: &str = "8388608";
/// While the log has no room nothing is polled; the group waits for us so long.
const PAUSE_MILLIS_MAX: &str = "600000";
const FAILURE_CHARS_MAX: usize = 300;
const ASK: Duration = Duration::from_secs(5);

/// What the client asks of the door when partitions come.
pub(super) struct Assigned {
    start: Start,
    /// How far the door is.
    places: Mutex<Places>,
    /// Counts the changes.
    assignment: AtomicU64,
    /// What was said of the last connection that failed: errors themselves do not say why.
    failure: Mutex<String>,
}

impl ClientContext for Assigned {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            let said = message.chars().take(FAILURE_CHARS_MAX).collect();
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = said;
        }
        Telling.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Telling.error(error, reason);
    }
}

impl ConsumerContext for Assigned {
    /// A partition goes on where the door is, whatever the group says.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let done = if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.begin(consumer, partitions).and_then(|()| consumer.assign(partitions))
        } else {
            consumer.unassign()
        };
        if let Err(error) = done {
            tracing::error!(%error, "partitions of Kafka cannot be taken or given back");
        }
        self.assignment.fetch_add(1, Ordering::SeqCst);
    }
}

impl Assigned {
    fn begin(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) -> KafkaResult<()> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut unknown = TopicPartitionList::new();
        let all: Vec<(String, i32)> =
            partitions.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
        for (topic, partition) in &all {
            match places.get(partition) {
                Some(place) => partitions.set_partition_offset(topic, *partition, Offset::Offset(place.0))?,
                None => drop(unknown.add_partition(topic, *partition)),
            }
        }
        if self.start == Start::Latest && unknown.count() > 0 {
            for one in consumer.committed_offsets(unknown, ASK)?.elements() {
                if one.offset() == Offset::Invalid {
                    partitions.set_partition_offset(one.topic(), one.partition(), Offset::End)?;
                }
            }
        }
        Ok(())
    }
}

/// A client of the door's own; reaches nobody yet.
pub(super) fn consumer(config: &KafkaDoorConfig, member: &str) -> Result<BaseConsumer<Assigned>, KafkaError> {
    let mut client = config.client.client();
    for (key, value) in [
        ("group.id", config.group_id.as_str()),
        ("group.instance.id", member),
        // The door's cursor counts; the group is told afterwards.
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        // Where no position is known, or where it is gone: nothing is passed over.
        ("auto.offset.reset", Start::Earliest.name()),
        ("allow.auto.create.topics", "false"),
        ("partition.assignment.strategy", "range"),
        ("queued.max.messages.kbytes", AHEAD_KILOBYTES),
        ("fetch.max.bytes", FETCH_BYTES),
        ("max.partition.fetch.bytes", FETCH_BYTES),
        ("max.poll.interval.ms", PAUSE_MILLIS_MAX),
    ] {
        client.set(key, value);
    }
    let (places, failure, assignment) = Default::default();
    let context = Assigned { start: config.start, places, assignment, failure };
    client.create_with_context(context)
}

/// Begins to read; `places` is how far the door is.
pub(super) fn begin(consumer: &BaseConsumer<Assigned>, topic: &str, places: &Places) -> Result<(), KafkaError> {
    know(consumer, places);
    consumer.subscribe(&[topic])
}

/// Takes note of how far the door is now.
pub(super) fn know(consumer: &BaseConsumer<Assigned>, places: &Places) {
    *consumer.context().places.lock().unwrap_or_else(PoisonError::into_inner) = places.clone();
}

/// The number of the assignment that messages are of now.
pub(super) fn assignment(consumer: &BaseConsumer<Assigned>) -> u64 {
    consumer.context().assignment.load(Ordering::SeqCst)
}

/// Of each partition at hand the next message, and how many messages are gone that were not read.
pub(super) fn positions(consumer: &BaseConsumer<Assigned>, topic: &str, places: &Places) -> (BTreeMap<i32, i64>, i64) {
    let (mut next, mut lost) = (BTreeMap::new(), 0);
    let assigned = consumer.assignment().unwrap_or_default();
    for partition in assigned.elements().iter().map(|one| one.partition()) {
        let known = places.get(&partition).map(|place| place.0);
        // Brokers that do not answer now are asked at the next assignment; reading does not wait for it.
        if let (Some(known), Ok((low, _))) = (known, consumer.fetch_watermarks(topic, partition, ASK)) {
            lost += (low - known).max(0);
        }
        next.insert(partition, known.unwrap_or(0));
    }
    (next, lost)
}

/// An error, and what was said of the connection.
pub(super) fn explained(consumer: &BaseConsumer<Assigned>, error: &KafkaError) -> String {
    let failure = consumer.context().failure.lock().unwrap_or_else(PoisonError::into_inner);
    if failure.is_empty() { error.to_string() } else { format!("{error}: {failure}") }
}

/// Whether the brokers let us read again, though there may be nothing to read.
pub(super) fn answers(consumer: &BaseConsumer<Assigned>, topic: &str) -> bool {
    let assigned = consumer.assignment().unwrap_or_default();
    let elements = assigned.elements();
    elements.first().is_some_and(|one| consumer.fetch_watermarks(topic, one.partition(), ASK).is_ok())
}

/// Tells the group how far the door is, of the partitions that it has.
pub(super) fn commit(consumer: &BaseConsumer<Assigned>, topic: &str, places: &Places) {
    let mut offsets = TopicPartitionList::new();
    for partition in consumer.assignment().unwrap_or_default().elements().iter().map(|one| one.partition()) {
        if let Some(place) = places.get(&partition) {
            // It fails for an offset below zero alone.
            let _ = offsets.add_partition_offset(topic, partition, Offset::Offset(place.0));
        }
    }
    if offsets.count() > 0
        && let Err(error) = consumer.commit(&offsets, CommitMode::Async)
    {
        tracing::debug!(%error, "the position was not told to Kafka, and is told again");
    }
}

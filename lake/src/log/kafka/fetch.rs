//! Reading one partition's messages from a given offset on, in order.

use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::super::LogError;
use super::KafkaLogConfig;
use crate::kafka::Telling;

/// So much may lie ready in the follower's client, and in one that reads back, beyond what was asked for.
const FOLLOW_KILOBYTES: u32 = 16 << 10;
const BACK_KILOBYTES: u32 = 2 << 10;
const POLL: Duration = Duration::from_millis(100);

/// The follower's client.
pub(super) fn follower(config: &KafkaLogConfig) -> Result<BaseConsumer<Telling>, LogError> {
    consumer(config, FOLLOW_KILOBYTES)
}

/// What the readers' clients have in common.
fn consumer(config: &KafkaLogConfig, ahead_kilobytes: u32) -> Result<BaseConsumer<Telling>, LogError> {
    let mut client: ClientConfig = config.client.client();
    client
        .set("group.id", format!("{}-log", config.topic))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // What Kafka has deleted must not be skipped unseen.
        .set("auto.offset.reset", "error")
        .set("fetch.error.backoff.ms", "100")
        // Else a full queue stops the fetching for a second.
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.max.messages.kbytes", ahead_kilobytes.to_string())
        // A message that is larger comes all the same, alone.
        .set("fetch.message.max.bytes", (1 << 20).to_string())
        .set("receive.message.max.bytes", (256 << 20).to_string());
    client.create_with_context(Telling).map_err(|error| failed(&config.topic, None, &error))
}

/// An error of the client, with the place.
pub(super) fn failed(topic: &str, partition: Option<usize>, error: &KafkaError) -> LogError {
    let place = partition.map_or_else(|| topic.to_owned(), |partition| format!("{topic}/{partition}"));
    LogError::Kafka { place, reason: error.to_string() }
}

/// Assigns partitions, each with the offset to begin at.
pub(super) fn assign(
    consumer: &BaseConsumer<Telling>,
    topic: &str,
    from: impl IntoIterator<Item = (usize, u64)>,
) -> Result<(), LogError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in from {
        let set = list.add_partition_offset(topic, partition as i32, Offset::Offset(offset as i64));
        set.map_err(|error| failed(topic, Some(partition), &error))?;
    }
    consumer.assign(&list).map_err(|error| failed(topic, None, &error))
}

/// Whether the offset that was asked for is no longer there.
pub(super) fn is_gone(error: &KafkaError) -> bool {
    let codes = [RDKafkaErrorCode::AutoOffsetReset, RDKafkaErrorCode::OffsetOutOfRange];
    error.rdkafka_error_code().is_some_and(|code| codes.contains(&code))
}

/// A partition under way.
pub(super) struct Fetcher {
    consumer: BaseConsumer<Telling>,
    topic: String,
    partition: usize,
    pub(super) next: u64,
    patience: Duration,
}

/// What a fetch came to.
pub(super) enum Fetched {
    Message {
        offset: u64,
        value: Vec<u8>,
    },
    /// Kafka has deleted what was asked for.
    Gone,
}

impl Fetcher {
    pub(super) fn new(config: &KafkaLogConfig) -> Result<Fetcher, LogError> {
        let patience = Duration::from_millis(config.client.timeout_ms);
        Ok(Fetcher {
            consumer: consumer(config, BACK_KILOBYTES)?,
            topic: config.topic.clone(),
            partition: 0,
            next: 0,
            patience,
        })
    }

    /// Goes on at `from` of a partition, wherever it was before.
    pub(super) fn aim(&mut self, partition: usize, from: u64) -> Result<(), LogError> {
        (self.partition, self.next) = (partition, from);
        assign(&self.consumer, &self.topic, [(partition, from)])
    }

    /// The next message; there must be one.
    pub(super) fn fetch(&mut self) -> Result<Fetched, LogError> {
        let began = Instant::now();
        while began.elapsed() < self.patience {
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let offset = message.offset().unsigned_abs();
                    if message.partition().unsigned_abs() as usize != self.partition || offset < self.next {
                        // It was on its way when the aim changed.
                        continue;
                    }
                    self.next = offset + 1;
                    return Ok(Fetched::Message { offset, value: message.payload().unwrap_or_default().to_vec() });
                }
                Some(Err(error)) if is_gone(&error) => return Ok(Fetched::Gone),
                // The client tries again by itself; what does not pass ends in the time-out.
                Some(Err(error)) => tracing::warn!(%error, topic = self.topic, partition = self.partition, "kafka"),
            }
        }
        let place = format!("{}/{}", self.topic, self.partition);
        let reason = format!("no message at offset {} within {} ms", self.next, self.patience.as_millis());
        Err(LogError::Kafka { place, reason })
    }
}

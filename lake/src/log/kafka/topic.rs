//! The topic: found, or made, and how far its partitions go.

use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::super::LogError;
use super::KafkaLogConfig;
use super::fetch::failed;
use crate::kafka::Telling;

/// What a batch of one message has beside it.
const BATCH_BYTES: usize = 1 << 10;
const LOOK: Duration = Duration::from_millis(100);
/// A row's `log_partition` has so many values.
const PARTITIONS_MAX: usize = 64;

/// First offset and end of each partition.
pub(super) fn open(config: &KafkaLogConfig, consumer: &BaseConsumer<Telling>) -> Result<Vec<(u64, u64)>, LogError> {
    let began = Instant::now();
    let patience = Duration::from_millis(config.client.timeout_ms);
    let mut count = partitions(config, consumer, patience)?;
    if count == 0 {
        make(config, patience)?;
        while count == 0 && began.elapsed() < patience {
            std::thread::sleep(LOOK);
            count = partitions(config, consumer, patience)?;
        }
    }
    if !(1..=PARTITIONS_MAX).contains(&count) {
        return Err(LogError::Config(format!(
            "the topic {} has {count} partitions; the log needs 1 to {PARTITIONS_MAX}",
            config.topic
        )));
    }
    if count != config.partitions {
        tracing::warn!(topic = config.topic, count, configured = config.partitions, "the topic keeps its partitions");
    }
    let bounds = (0..count).map(|partition| {
        let bounds = consumer.fetch_watermarks(&config.topic, partition as i32, patience);
        let (first, end) = bounds.map_err(|error| failed(&config.topic, Some(partition), &error))?;
        Ok((first.unsigned_abs(), end.unsigned_abs()))
    });
    bounds.collect()
}

/// How many partitions the topic has; 0 where there is none.
fn partitions(
    config: &KafkaLogConfig,
    consumer: &BaseConsumer<Telling>,
    patience: Duration,
) -> Result<usize, LogError> {
    let metadata = consumer.fetch_metadata(Some(&config.topic), patience);
    let metadata = metadata.map_err(|error| failed(&config.topic, None, &error))?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == config.topic);
    Ok(topic.filter(|topic| topic.error().is_none()).map_or(0, |topic| topic.partitions().len()))
}

fn make(config: &KafkaLogConfig, patience: Duration) -> Result<(), LogError> {
    let admin: AdminClient<Telling> =
        config.client.client().create_with_context(Telling).map_err(|error| failed(&config.topic, None, &error))?;
    let retention_ms = (config.retention_hours * 3_600_000).to_string();
    let bytes_max = (config.message_bytes_max + BATCH_BYTES).to_string();
    let topic = NewTopic::new(&config.topic, config.partitions as i32, TopicReplication::Fixed(config.replication))
        .set("cleanup.policy", "delete")
        .set("retention.ms", &retention_ms)
        .set("max.message.bytes", &bytes_max);
    let options = AdminOptions::new().operation_timeout(Some(patience)).request_timeout(Some(patience));
    let made = block_on(admin.create_topics([&topic], &options));
    for result in made.map_err(|error| failed(&config.topic, None, &error))? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(LogError::Config(format!("the topic {topic} is not there and cannot be made: {code}")));
            }
        }
    }
    Ok(())
}

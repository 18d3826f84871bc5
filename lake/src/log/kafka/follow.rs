//! The follower: the one thread of a process that reads every partition as it grows.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::super::LogError;
use super::fetch::Fetcher;
use super::filter::Filter;
use super::{Shared, fetch};
use crate::kafka::Telling;

const POLL: Duration = Duration::from_millis(50);
/// How often it is looked what Kafka has deleted.
const LOOK: Duration = Duration::from_secs(30);
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

/// Tells readers and callers that the follower is gone, also when it panicked.
struct Farewell(Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        let fatal = || LogError::Fatal("the follower panicked".to_owned());
        self.0.stop(&if panicked { fatal() } else { LogError::Closed });
    }
}

/// Begins to follow all partitions from where they end now. What the filters must know of is read first.
pub(super) fn start(shared: Arc<Shared>, consumer: BaseConsumer<Telling>) -> Result<JoinHandle<()>, LogError> {
    let mut filters = Vec::with_capacity(shared.partitions.len());
    let mut fetcher = Fetcher::new(&shared.config)?;
    for partition in &shared.partitions {
        filters.push(partition.filter(partition.followed(), &mut fetcher)?);
    }
    let from = shared.partitions.iter().map(|partition| partition.followed()).enumerate();
    fetch::assign(&consumer, &shared.config.topic, from)?;
    let thread = std::thread::Builder::new().name("log-follower".to_owned());
    let thread = thread.spawn(move || {
        let _farewell = Farewell(shared.clone());
        if let Err(error) = follow(&shared, &consumer, &mut filters) {
            tracing::error!(%error, "the log stops");
            shared.stop(&error);
        }
    });
    thread.map_err(|error| LogError::Fatal(format!("the follower's thread cannot start: {error}")))
}

fn follow(shared: &Shared, consumer: &BaseConsumer<Telling>, filters: &mut [Filter]) -> Result<(), LogError> {
    let mut looked = Instant::now();
    let mut closing_since = None;
    loop {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let (partition, offset) =
                    (message.partition().unsigned_abs() as usize, message.offset().unsigned_abs());
                let (Some(of), Some(filter)) = (shared.partitions.get(partition), filters.get_mut(partition)) else {
                    continue;
                };
                of.follow(offset, message.payload().unwrap_or_default(), filter)?;
                shared.status.send_modify(|_| {});
            }
            Some(Err(error)) if fetch::is_gone(&error) => {
                look(shared, consumer);
                return Err(LogError::Fatal(deleted(shared)));
            }
            // The client tries again by itself.
            Some(Err(error)) => tracing::warn!(%error, topic = shared.config.topic, "kafka"),
            None => {}
        }
        if looked.elapsed() >= LOOK {
            look(shared, consumer);
            looked = Instant::now();
        }
        if shared.status.borrow().closing {
            let since = closing_since.get_or_insert_with(Instant::now);
            let patience = Duration::from_millis(shared.config.client.timeout_ms);
            let done = shared.partitions.iter().all(|partition| partition.followed() >= partition.end());
            if done || since.elapsed() > patience {
                return Ok(());
            }
        }
    }
}

/// What Kafka has deleted before it was read.
fn deleted(shared: &Shared) -> String {
    let partitions = shared.partitions.iter().enumerate();
    let gaps = partitions.filter_map(|(number, partition)| {
        let (next, first) = (partition.followed(), partition.first());
        (next < first).then(|| format!("{}/{number}: offsets {next} to {}", shared.config.topic, first - 1))
    });
    let gaps: Vec<String> = gaps.collect();
    let place = if gaps.is_empty() { shared.config.topic.clone() } else { gaps.join(", ") };
    format!(
        "kafka has deleted what was not yet read ({place}): its retention is shorter than this process stood still; \
         start it again, the tables and the detectors then say what they lack"
    )
}

/// Takes note of what Kafka has deleted.
fn look(shared: &Shared, consumer: &BaseConsumer<Telling>) {
    for (number, partition) in shared.partitions.iter().enumerate() {
        match consumer.fetch_watermarks(&shared.config.topic, number as i32, LOOK_PATIENCE) {
            Ok((first, _)) => partition.set_first(first.unsigned_abs()),
            Err(error) => {
                tracing::warn!(%error, topic = shared.config.topic, partition = number, "kafka");
                return;
            }
        }
    }
}

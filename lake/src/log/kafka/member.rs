//! Which partitions are this process's: the members of a role's consumer group divide them among each other.
//!
//! Nothing is read through the group: the follower reads, and where a role goes on stands beside what it wrote. A member
//! that died is missed after [`SESSION_MILLIS`]; then its partitions are divided among those that are left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::super::LogError;
use super::super::share::{Divider, Share};
use super::{Shared, fetch};
use crate::kafka::Telling;

pub(super) const POLL: Duration = Duration::from_millis(100);
/// How long a member may be silent.
const SESSION_MILLIS: &str = "6000";
const HEARTBEAT_MILLIS: &str = "1500";

pub(super) struct Dividing {
    divider: Divider,
    /// Whether the group has said what is this member's, and not taken it back since.
    answered: AtomicBool,
}

impl Dividing {
    pub(super) fn new(divider: Divider) -> Dividing {
        Dividing { divider, answered: AtomicBool::new(false) }
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }
}

impl ClientContext for Dividing {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Telling.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Telling.error(error, reason);
    }
}

impl ConsumerContext for Dividing {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let taken = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let mine: BTreeSet<usize> =
            partitions.elements().iter().map(|one| one.partition().unsigned_abs() as usize).collect();
        // What is given back is first let go of here, and what is taken is taken last.
        if !taken {
            self.answered.store(false, Ordering::Release);
            self.divider.divide(|_| false);
        }
        let done = if taken {
            // The group says whose they are; its messages are of no use.
            let at_end = partitions.set_all_offsets(Offset::End);
            at_end.and_then(|()| consumer.assign(partitions)).and_then(|()| consumer.pause(partitions))
        } else {
            consumer.unassign()
        };
        if let Err(error) = done {
            tracing::error!(%error, "partitions of the log cannot be taken or given back");
        }
        if taken {
            self.divider.divide(|sequence| mine.contains(&sequence));
            self.answered.store(true, Ordering::Release);
        }
    }
}

/// The settings of a member.
pub(super) fn client(shared: &Shared, role: &str) -> ClientConfig {
    let mut client = shared.config.client.client();
    client
        .set("group.id", format!("{}-{role}", shared.config.topic))
        .set("session.timeout.ms", SESSION_MILLIS)
        .set("heartbeat.interval.ms", HEARTBEAT_MILLIS)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("allow.auto.create.topics", "false");
    client
}

/// Joins the group of a role. The member leaves when the log closes, or when nobody looks at its share any more.
pub(super) fn join(shared: &Arc<Shared>, role: &str) -> Result<(Share, JoinHandle<()>), LogError> {
    let topic = &shared.config.topic;
    let (divider, share) = Divider::new(shared.partitions.len());
    let consumer: BaseConsumer<Dividing> = client(shared, role)
        .create_with_context(Dividing::new(divider))
        .map_err(|error| fetch::failed(topic, None, &error))?;
    consumer.subscribe(&[topic]).map_err(|error| fetch::failed(topic, None, &error))?;
    let (shared, role) = (shared.clone(), role.to_owned());
    let thread = std::thread::Builder::new().name(format!("log-{role}"));
    let thread = thread.spawn(move || {
        while !shared.is_ending() && !consumer.context().divider.is_idle() {
            if let Some(Err(error)) = consumer.poll(POLL) {
                // The client tries again by itself.
                tracing::warn!(%error, role, "the group of the role");
            }
        }
    });
    let member = thread.map_err(|error| LogError::Fatal(format!("the thread of a member cannot start: {error}")))?;
    Ok((share, member))
}

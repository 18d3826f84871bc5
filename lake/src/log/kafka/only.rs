//! A role that one process alone may have: that of the member of the role's consumer group which has partition 0.
//!
//! Nothing is read through the group. The partitions are divided by the members' names, and a name begins with the
//! time at which its process began by its own clock, so partition 0 stays with the first; who comes later is refused. Where
//! clocks disagree the later one may be the first by name: then the role is its own, and the other's log stops, but never do both
//! have it. A member that died is missed after some seconds. Where one was silent for so long that another came, the first goes on, and the other's log stops.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::super::LogError;
use super::super::share::{Divider, Share};
use super::member::{self, Dividing, POLL};
use super::{Shared, fetch};

/// A member that died is missed after six seconds, and the others meet again.
const DEAD: Duration = Duration::from_secs(12);

struct Claim {
    consumer: BaseConsumer<Dividing>,
    share: Share,
    role: String,
}

/// Takes a role until the log closes. Blocks until the group has answered.
pub(super) fn claim(shared: &Arc<Shared>, role: &str, began_micros: i64) -> Result<JoinHandle<()>, LogError> {
    let topic = &shared.config.topic;
    let (divider, share) = Divider::new(shared.partitions.len());
    let mut client = member::client(shared, role);
    client.set("client.id", format!("muster-{began_micros:020}")).set("partition.assignment.strategy", "range");
    let consumer = client.create_with_context(Dividing::new(divider));
    let consumer: BaseConsumer<Dividing> = consumer.map_err(|error| fetch::failed(topic, None, &error))?;
    consumer.subscribe(&[topic]).map_err(|error| fetch::failed(topic, None, &error))?;
    let claim = Claim { consumer, share, role: role.to_owned() };
    claim.obtain(Duration::from_millis(shared.config.client.timeout_ms).max(DEAD))?;
    let shared = shared.clone();
    let thread = std::thread::Builder::new().name(format!("log-{role}"));
    let thread = thread.spawn(move || claim.keep(&shared));
    thread.map_err(|error| LogError::Fatal(format!("the thread of a member cannot start: {error}")))
}

impl Claim {
    fn poll(&self) {
        if let Some(Err(error)) = self.consumer.poll(POLL) {
            // The client tries again by itself.
            tracing::warn!(%error, role = self.role, "the group of the role");
        }
    }

    /// Waits until the role is this process's, or certainly another's.
    fn obtain(&self, patience: Duration) -> Result<(), LogError> {
        let began = Instant::now();
        let mut others_since: Option<Instant> = None;
        loop {
            self.poll();
            if self.share.now().has(0) {
                return Ok(());
            }
            if self.consumer.context().has_answered() {
                others_since.get_or_insert_with(Instant::now);
            }
            match others_since {
                Some(since) if since.elapsed() >= DEAD => return Err(self.taken()),
                None if began.elapsed() >= patience => {
                    let reason = format!("the group did not answer within {} ms", patience.as_millis());
                    return Err(LogError::Kafka { place: format!("group of the role {}", self.role), reason });
                }
                _ => {}
            }
        }
    }

    /// Is a member until the log ends, and ends the log where the role went to another.
    fn keep(self, shared: &Shared) {
        while !shared.is_ending() {
            self.poll();
            // Between two divisions it is nobody's.
            if self.consumer.context().has_answered() && !self.share.now().has(0) {
                return shared.stop(&LogError::Fatal(self.taken().to_string()));
            }
        }
    }

    fn taken(&self) -> LogError {
        LogError::Taken { role: self.role.clone() }
    }
}

//! How far a door has read, exactly.
//!
//! The group that holds a batch's rows also holds a control frame that says where the door goes on: both are durable or
//! neither is. Segments of the log go, so a small file says from time to time what all frames before an offset said;
//! a start reads the file, then the frames from there on, which the log holds until the file has passed them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lake::files::Whole;
use lake::log::{Log, LogError, Payload, Positions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::DoorError;

/// The group under which the log knows the doors.
pub const GROUP: &str = "doors";
const READ_BYTES_MAX: usize = 8 << 20;

/// The next record of a partition: its message's offset, and its number in the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place(pub(crate) i64, pub(crate) u32);

/// The next record of each partition.
pub(crate) type Places = BTreeMap<i32, Place>;

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    topic: String,
    /// The name of the member in its group: one that comes back under the same name has its partitions at once, where
    /// another waits until the brokers give up the one that was killed.
    member: String,
    /// Frames of the log below this one are in it.
    log: Positions,
    places: Places,
}

/// The least position of all doors: what is below, the log need not hold for them.
#[derive(Debug, Default)]
pub(super) struct Floor(Mutex<BTreeMap<String, Positions>>);

impl Floor {
    fn rise(&self, name: &str, position: &Positions, log: &Log) {
        let mut positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        positions.insert(name.to_owned(), position.clone());
        let least = |sequence| positions.values().map(|position| position.get(sequence)).min().unwrap_or(0);
        log.passed(GROUP, &(0..log.sequences()).map(least).collect());
    }
}

/// One door's cursor.
pub(super) struct Cursor {
    name: String,
    topic: String,
    file: Whole,
    log: Arc<Log>,
    floor: Arc<Floor>,
    stored: Stored,
    pub(super) places: Places,
}

impl Cursor {
    pub(super) async fn open(
        name: &str,
        topic: &str,
        file: Whole,
        log: Arc<Log>,
        floor: Arc<Floor>,
        now: i64,
    ) -> Result<Cursor, DoorError> {
        let mut stored = match file.read().await.map_err(|error| DoorError::Cursor(error.to_string()))? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| DoorError::Cursor(error.to_string()))?,
            None => Stored::default(),
        };
        if stored.topic != topic {
            stored.topic = topic.to_owned();
            stored.places.clear();
        }
        let new = stored.member.is_empty();
        if new {
            let parts = [name.as_bytes(), &now.to_le_bytes(), &std::process::id().to_le_bytes()];
            stored.member = format!("muster-{}", schemas::id::digest(parts));
        }
        let mut cursor = Cursor {
            name: name.to_owned(),
            topic: topic.to_owned(),
            file,
            places: stored.places.clone(),
            stored,
            floor,
            log,
        };
        cursor.follow()?;
        cursor.floor.rise(&cursor.name, &cursor.stored.log, &cursor.log);
        if new {
            cursor.save().await?;
        }
        Ok(cursor)
    }

    pub(super) fn member(&self) -> &str {
        &self.stored.member
    }

    /// Takes what the log's frames say beyond the file. Blocks on the disk.
    fn follow(&mut self) -> Result<(), LogError> {
        // It is in every sequence, behind the rows it goes with: one of them tells it all, and in order.
        let end = self.log.end(0);
        let mut next = self.stored.log.get(0).max(self.log.first(0));
        while next < end {
            for frame in self.log.read(0, next, READ_BYTES_MAX)? {
                next = frame.offset + 1;
                if let Payload::Control(control) = &frame.payload
                    && let Some(places) = self.read(control)
                {
                    self.places.extend(places);
                }
            }
        }
        Ok(())
    }

    /// The control frame that says where the door goes on.
    pub(super) fn control(&self, places: &Places) -> Value {
        json!({"door": "kafka", "name": self.name, "topic": self.topic, "places": places})
    }

    fn read(&self, control: &Value) -> Option<Places> {
        let mine = control["door"] == "kafka" && control["name"] == *self.name && control["topic"] == *self.topic;
        mine.then(|| Places::deserialize(&control["places"]).ok()).flatten()
    }

    /// Stores where the door is. To be called by the door alone, and while it appends nothing, so that all of its frames are
    /// below the log's end.
    pub(super) async fn save(&mut self) -> Result<(), DoorError> {
        let (topic, member) = (self.topic.clone(), self.stored.member.clone());
        let now = Stored { topic, member, log: self.log.ends(), places: self.places.clone() };
        let bytes = serde_json::to_vec(&now).map_err(|error| DoorError::Cursor(error.to_string()))?;
        self.file.write(bytes).await.map_err(|error| DoorError::Cursor(error.to_string()))?;
        self.floor.rise(&self.name, &now.log, &self.log);
        self.stored = now;
        Ok(())
    }
}

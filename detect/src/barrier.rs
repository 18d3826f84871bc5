//! Time passing, also for engines that divide the shards of one log among each other.
//!
//! ```text
//! each engine: its shards ─▶ hand over ─▶ every engine: all shards, in their order ─▶ tenants (each engine has them all)
//! ```
//! What waits in a shard is a function of that shard's rows and of the tenants as they were since its last tick. So
//! engines that hand over to each other at each tick have the same tenants, and together the alerts of one engine that has
//! all shards. Who takes part in a tick is the caller's to say, the same for all engines.
//!
//! A hand-over is postcard, of one version and one installation; others are refused.

use schemas::AlertRow;
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::detectors::Notes;
use crate::engine::SHARDS;
use crate::hash::Map;
use crate::snapshot::{RestoreError, detector_tags, key_check};
use crate::tenant::{Pending, Tenant};

const VERSION: u16 = 1;

/// Some of the engine's shards. A row belongs to the shard of its `log_partition`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shards(u64);

impl Shards {
    pub const ALL: Shards = Shards(u64::MAX);

    /// Those whose rows are in this sequence of a log that has so many.
    pub fn of_sequence(sequence: usize, sequences: usize) -> Shards {
        Shards((0..SHARDS).filter(|shard| shard % sequences == sequence).fold(0, |set, shard| set | 1 << shard))
    }

    pub fn or(self, others: Shards) -> Shards {
        Shards(self.0 | others.0)
    }

    pub(crate) fn has(self, shard: usize) -> bool {
        self.0 >> shard & 1 == 1
    }
}

/// What waited in some shards, by shard and tenant, both in order.
#[derive(Serialize, Deserialize)]
struct HandOver<P, N> {
    version: u16,
    key_check: u64,
    detectors: Vec<u32>,
    waiting: Vec<(usize, u64, P, N)>,
}

type Handed = (u64, Pending);

impl Engine {
    /// Time passes: sessions that were left alone end, what waited since the last tick joins what tenants share, thresholds
    /// move, and sessions that were held back are learned or dropped.
    /// No detector sees anything in time passing itself, so `_alerts` stays as it is.
    pub fn tick(&mut self, time_micros: i64, _alerts: &mut Vec<AlertRow>) {
        self.sweep(Shards::ALL, time_micros);
        self.pass(Shards::ALL, time_micros, &mut Vec::new());
    }

    /// Ends what this tick ends in `shards`, and says what waits in them, for the other engines' [`tick_with`](Self::tick_with).
    /// Until that of its own no row of these shards may be judged.
    pub fn hand_over(&mut self, shards: Shards, time_micros: i64) -> Vec<u8> {
        self.sweep(shards, time_micros);
        let mut waiting = Vec::new();
        for (number, shard) in self.shards.iter().enumerate().filter(|(number, _)| shards.has(*number)) {
            let from = waiting.len();
            let mine = shard.pending.iter().filter(|(_, pending)| !pending.is_empty());
            waiting.extend(mine.map(|(key, pending)| (number, *key, pending, &pending.notes)));
            waiting[from..].sort_unstable_by_key(|(_, key, ..)| *key);
        }
        let key_check = key_check(self.keyed);
        let hand_over = HandOver { version: VERSION, key_check, detectors: detector_tags(), waiting };
        postcard::to_allocvec(&hand_over).expect("what waits is plain data")
    }

    /// A tick of `shards`, which are this engine's, and of those that `others` handed over. Fails, and leaves all as it was, where
    /// one of them makes no sense here.
    pub fn tick_with(&mut self, shards: Shards, time_micros: i64, others: &[Vec<u8>]) -> Result<(), RestoreError> {
        let mut handed = Vec::new();
        for bytes in others {
            self.read(bytes, &mut handed)?;
        }
        if handed.iter().any(|(shard, _)| shards.has(*shard)) {
            return Err(RestoreError::Damaged("a shard was handed over that is this engine's".to_owned()));
        }
        // In the order of the shards, taken from the end.
        handed.sort_by_key(|(shard, (key, _))| std::cmp::Reverse((*shard, *key)));
        self.sweep(shards, time_micros);
        self.pass(shards, time_micros, &mut handed);
        Ok(())
    }

    fn read(&self, bytes: &[u8], handed: &mut Vec<(usize, Handed)>) -> Result<(), RestoreError> {
        let damaged = |reason: &str| RestoreError::Damaged(reason.to_owned());
        let (version, _) = postcard::take_from_bytes::<u16>(bytes).map_err(|_| damaged("a hand-over is too short"))?;
        if version != VERSION {
            return Err(RestoreError::Version(version));
        }
        let read: HandOver<Pending, Notes> =
            postcard::from_bytes(bytes).map_err(|error| RestoreError::Damaged(error.to_string()))?;
        if read.key_check != key_check(self.keyed) {
            return Err(RestoreError::OtherKey);
        }
        if read.detectors != detector_tags() {
            return Err(damaged("another version's detectors handed over"));
        }
        for (shard, key, mut pending, notes) in read.waiting {
            if shard >= SHARDS || !pending.is_sound(read.detectors.len()) {
                return Err(damaged("a hand-over's parts do not fit together"));
            }
            pending.notes = notes;
            handed.push((shard, (key, pending)));
        }
        Ok(())
    }

    fn sweep(&mut self, shards: Shards, time: i64) {
        for (number, shard) in self.shards.iter_mut().enumerate().filter(|(number, _)| shards.has(*number)) {
            shard.sweep(&self.config, time, number);
        }
    }

    /// Folds what waits in `mine` and what was `handed` over into the tenants, in the order of the shards.
    fn pass(&mut self, mine: Shards, time: i64, handed: &mut Vec<(usize, Handed)>) {
        let Engine { config, shards, tenants, .. } = self;
        let mut room = config.cohorts_max.saturating_sub(tenants.values().map(Tenant::groups).sum());
        let (mut changed, mut keys): (Vec<u64>, _) = Default::default();
        let mut fold = |tenants: &mut Map<Tenant>, key: u64, pending: &mut Pending| {
            let tenant = tenants.entry(key).or_insert_with(|| Tenant::new(&pending.tenant, config));
            room = room.saturating_sub(tenant.fold(config, pending, room, time, &mut keys));
            changed.push(key);
        };
        for (number, shard) in shards.iter_mut().enumerate() {
            if mine.has(number) {
                // The order decides who gets the last cohorts.
                let mut waiting: Vec<_> = shard.pending.iter_mut().filter(|(_, pending)| !pending.is_empty()).collect();
                waiting.sort_unstable_by_key(|(key, _)| **key);
                waiting.into_iter().for_each(|(key, pending)| fold(tenants, *key, pending));
            }
            while let Some((_, (key, mut pending))) = handed.pop_if(|(shard, _)| *shard == number) {
                fold(tenants, key, &mut pending);
            }
        }
        changed.sort_unstable();
        changed.dedup();
        for key in changed {
            if let Some(tenant) = tenants.get_mut(&key) {
                tenant.settle(config, time);
            }
        }
        let released = shards.iter_mut().enumerate().filter(|(number, _)| mine.has(*number));
        released.for_each(|(_, shard)| shard.release(config, tenants, time));
    }
}

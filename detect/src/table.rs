//! Counts by fingerprint in a fixed amount of memory: one agent's habits, or a cohort's.
//!
//! A slot is one `u64`: fingerprint 40 bits, a second count of 8 bits (distinct successors), count 16. The table doubles until its limit; then a
//! new key replaces the least counted of the 16 slots it may live in. When a count is full all are halved, so that old
//! habits fade; what was seen stays seen (at least 1). Among 256 keys two collide once in 30 million lookups.

use serde::{Deserialize, Serialize};

use crate::ahead::ask;

/// Slots that a key may live in.
const WINDOW: usize = 16;
const COUNT_MAX: u64 = 0xffff;
const DISTINCT_MAX: u64 = 0xff;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    slots: Vec<u64>,
    used: u32,
    slots_max: u32,
}

/// What a table knows of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cell {
    pub(crate) count: u32,
    pub(crate) distinct: u32,
}

impl Table {
    /// `slots_max` is a power of two.
    pub(crate) fn new(slots_max: u32) -> Self {
        assert!(slots_max.is_power_of_two() && slots_max >= WINDOW as u32, "a table has 2^n slots, at least 16");
        Table { slots: vec![0; WINDOW], used: 0, slots_max }
    }

    /// Whether a table that was read back can be used without a panic.
    pub(crate) fn is_sound(&self) -> bool {
        let slots = self.slots.len();
        slots.is_power_of_two() && slots >= WINDOW && slots <= self.slots_max as usize
    }

    #[inline]
    pub(crate) fn get(&self, key: u64) -> Cell {
        match self.find(key) {
            Ok(at) => cell(self.slots[at]),
            Err(_) => Cell::default(),
        }
    }

    /// Adds `by` to the count of `key` and says what was there before.
    pub(crate) fn add(&mut self, key: u64, by: u32) -> Cell {
        let at = self.slot_for(key);
        let before = cell(self.slots[at]);
        if u64::from(before.count) + u64::from(by) > COUNT_MAX {
            self.halve();
        }
        self.slots[at] += u64::from(by).min(COUNT_MAX - u64::from(cell(self.slots[at]).count));
        before
    }

    /// One more or one less in the second count of `key`, which was added before.
    pub(crate) fn move_distinct(&mut self, key: u64, up: bool) {
        let Ok(at) = self.find(key) else { return };
        match (u64::from(cell(self.slots[at]).distinct), up) {
            (distinct, true) if distinct < DISTINCT_MAX => self.slots[at] += 1 << 16,
            (distinct, false) if distinct > 0 => self.slots[at] -= 1 << 16,
            _ => {}
        }
    }

    /// Asks for all of it.
    #[inline]
    pub(crate) fn ask(&self) {
        ask(self.slots.as_slice());
    }

    /// Asks for where `key` is.
    #[inline]
    pub(crate) fn ask_at(&self, key: u64) {
        ask(&self.slots[key as usize & (self.slots.len() - 1)]);
    }

    /// More than the nearest cache holds beside other things.
    pub(crate) fn is_large(&self) -> bool {
        self.bytes() > 16 << 10
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u64>()
    }

    /// Where `key` is, or the first free slot where it may go.
    #[inline]
    fn find(&self, key: u64) -> Result<usize, Option<usize>> {
        let (tag, mask) = (tag(key), self.slots.len() - 1);
        // The window goes on at the start where it reaches the end.
        for at in (0..WINDOW).map(|step| (key as usize).wrapping_add(step) & mask) {
            match self.slots[at] {
                0 => return Err(Some(at)),
                slot if slot & TAG == tag => return Ok(at),
                _ => {}
            }
        }
        Err(None)
    }

    fn slot_for(&mut self, key: u64) -> usize {
        loop {
            match self.find(key) {
                Ok(at) => return at,
                Err(Some(at)) if self.has_room() => {
                    self.slots[at] = tag(key);
                    self.used += 1;
                    return at;
                }
                Err(_) if self.slots.len() < self.slots_max as usize => self.grow(),
                Err(_) => return self.replace_least(key),
            }
        }
    }

    /// Three quarters full is where searching starts to cost; the last size is filled as far as it goes.
    fn has_room(&self) -> bool {
        self.slots.len() == self.slots_max as usize || (self.used as usize + 1) * 4 <= self.slots.len() * 3
    }

    fn grow(&mut self) {
        let doubled = vec![0; self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, doubled);
        self.used = 0;
        for slot in old.into_iter().filter(|&slot| slot != 0) {
            let at = self.slot_for(home(slot));
            self.slots[at] = slot;
        }
    }

    fn replace_least(&mut self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let window = (0..WINDOW).map(|step| (key as usize).wrapping_add(step) & mask);
        let at = window.min_by_key(|&at| cell(self.slots[at]).count).expect("a window has slots");
        self.slots[at] = tag(key);
        at
    }

    fn halve(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| **slot != 0) {
            let half = (*slot & COUNT_MAX).div_ceil(2);
            *slot = (*slot & !COUNT_MAX) | half;
        }
    }
}

/// The fingerprint of a slot: the low 40 bits of a key, which also give its home, so that growing needs no keys.
const TAG: u64 = !0 << 24;

fn tag(key: u64) -> u64 {
    // A tag of 0 would look like a free slot.
    (key << 24).max(1 << 24)
}

fn home(slot: u64) -> u64 {
    slot >> 24
}

#[inline]
fn cell(slot: u64) -> Cell {
    Cell { count: (slot & COUNT_MAX) as u32, distinct: (slot >> 16 & DISTINCT_MAX) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{Keyed, Of};

    fn key(number: u64) -> u64 {
        Keyed::new([0; 2]).of(Of::Action, number, "")
    }

    #[test]
    fn counts_survive_growing() {
        let mut table = Table::new(256);
        for round in 0..3 {
            for number in 0..100 {
                assert_eq!(table.add(key(number), 1).count, round);
            }
        }
        assert_eq!(table.get(key(5)).count, 3);
        assert_eq!(table.get(key(500)), Cell::default());
        assert!(table.is_sound() && table.bytes() == 2048);
    }

    #[test]
    fn a_full_table_forgets_the_rare_and_keeps_the_usual() {
        let mut table = Table::new(256);
        for _ in 0..50 {
            table.add(key(0), 1);
        }
        for number in 1..10_000 {
            table.add(key(number), 1);
        }
        assert_eq!(table.get(key(0)).count, 50);
        assert_eq!(table.bytes(), 2048);
    }

    #[test]
    fn a_full_count_halves_all() {
        let mut table = Table::new(16);
        table.add(1, 1);
        table.add(2, 40_000);
        table.move_distinct(2, true);
        table.add(2, 40_000);
        assert_eq!((table.get(1).count, table.get(2).count, table.get(2).distinct), (1, 60_000, 1));
    }
}

//! The duplicate filter: which ids the log has seen lately, and with which bytes.
//!
//! The window is the last `max` ids by position in the log, not by time, so that a rebuild from the log gives the same
//! answers. Ids and bytes are kept as 128-bit keyed hashes (SipHash-1-3): about 110 bytes of memory an id, map and queue together
//! (262,144 ids: 29 MiB). What a commit admits is provisional until [`Window::settle`]; [`Window::undo`] takes it back.

use std::collections::{HashMap, VecDeque};

/// What the window says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    New,
    /// The same id with the same bytes is in the window.
    Repeated,
    /// The same id with other bytes is in the window.
    Conflicting,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    raw: u128,
    position: u64,
}

#[derive(Debug)]
pub(super) struct Window {
    max: u64,
    seen: HashMap<u128, Seen, ahash::RandomState>,
    /// Ids by position; the last one is at `next - 1`.
    order: VecDeque<u128>,
    next: u64,
    /// What each id admitted since the last settle replaced.
    replaced: Vec<Option<Seen>>,
}

impl Window {
    pub(super) fn new(max: usize) -> Self {
        let (seen, order) = (HashMap::default(), VecDeque::new());
        Window { max: max as u64, seen, order, next: 0, replaced: Vec::new() }
    }

    /// For how many positions an id is known.
    pub(super) fn max(&self) -> usize {
        self.max as usize
    }

    /// Judges a row; a new one takes the next position.
    pub(super) fn admit(&mut self, id: u128, raw: u128) -> Verdict {
        let known = self.seen.get(&id).copied();
        match known {
            // What has left the window is forgotten at the next settle; until then its position tells.
            Some(seen) if self.next - seen.position <= self.max => {
                return if seen.raw == raw { Verdict::Repeated } else { Verdict::Conflicting };
            }
            _ => {}
        }
        self.seen.insert(id, Seen { raw, position: self.next });
        self.order.push_back(id);
        self.replaced.push(known);
        self.next += 1;
        Verdict::New
    }

    /// What was admitted is in the log: forget what left the window.
    pub(super) fn settle(&mut self) {
        self.replaced.clear();
        while self.order.len() as u64 > self.max {
            let position = self.next - self.order.len() as u64;
            let Some(id) = self.order.pop_front() else { return };
            if self.seen.get(&id).is_some_and(|seen| seen.position == position) {
                self.seen.remove(&id);
            }
        }
    }

    /// What was admitted since the last settle is not in the log after all.
    pub(super) fn undo(&mut self) {
        while let Some(known) = self.replaced.pop() {
            let id = self.order.pop_back().expect("each admitted id is in the queue");
            self.next -= 1;
            match known {
                Some(seen) => self.seen.insert(id, seen),
                None => self.seen.remove(&id),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Conflicting, New, Repeated};
    use super::*;

    #[test]
    fn an_id_is_known_for_as_many_positions_as_the_window_has() {
        let mut window = Window::new(2);
        let verdicts = [(1, 7), (1, 7), (1, 8), (2, 7), (3, 7), (1, 7), (3, 7)].map(|(id, raw)| window.admit(id, raw));
        assert_eq!(verdicts, [New, Repeated, Conflicting, New, New, New, Repeated]);
    }

    #[test]
    fn what_is_undone_was_never_seen() {
        let mut window = Window::new(2);
        window.admit(1, 7);
        window.settle();
        (2..6).for_each(|id| assert_eq!(window.admit(id, 7), New));
        assert_eq!(window.admit(1, 8), New, "it left the window");
        window.undo();
        assert_eq!(window.admit(1, 7), Repeated);
        assert_eq!(window.admit(2, 7), New);
    }

    #[test]
    fn settling_often_or_seldom_gives_the_same_answers() {
        let mut random = fastrand::Rng::with_seed(4);
        let ids: Vec<(u128, u128)> = (0..4000).map(|_| (random.u128(0..60), random.u128(0..2))).collect();
        let (mut often, mut seldom) = (Window::new(40), Window::new(40));
        for (i, &(id, raw)) in ids.iter().enumerate() {
            assert_eq!(often.admit(id, raw), seldom.admit(id, raw));
            often.settle();
            if i % 700 == 0 {
                seldom.settle();
            }
        }
        assert!(often.seen.len() <= 40);
    }
}

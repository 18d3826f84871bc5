//! Records of several messages, gathered for one group of the log.

use crate::split::{Piece, Span};
use crate::worker::{PIECE_BYTES_MAX, PIECE_RECORDS_MAX};

use super::cursor::{Place, Places};

/// Where a record was: partition, offset of its message, number in the message.
pub(super) type RecordPlace = (i32, i64, u32);

#[derive(Debug, Default)]
pub(super) struct Batch {
    data: Vec<u8>,
    spans: Vec<Span>,
    places: Vec<RecordPlace>,
    /// The next record of each partition, once all of these are taken.
    next: Places,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is room for a record of so many bytes; an empty batch has it for any.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.spans.is_empty() || (self.spans.len() < PIECE_RECORDS_MAX && self.data.len() + bytes < PIECE_BYTES_MAX)
    }

    /// Takes a record; of one longer than `bytes_max` only so much that it is seen to be too long.
    pub(super) fn push(&mut self, record: &[u8], (partition, offset, number): RecordPlace, bytes_max: usize) {
        let start = self.data.len();
        self.data.extend_from_slice(&record[..record.len().min(bytes_max + 1)]);
        let end = self.data.len();
        self.data.push(b'\n');
        self.spans.push(Span { start, end, offset: start as u64, size: record.len() as u64 });
        self.places.push((partition, offset, number));
        self.next.insert(partition, Place(offset, number + 1));
    }

    /// All records of a message are in it.
    pub(super) fn pass(&mut self, partition: i32, offset: i64) {
        self.next.insert(partition, Place(offset + 1, 0));
    }

    pub(super) fn piece(&self, records: std::ops::Range<usize>) -> (Piece<'_>, Vec<RecordPlace>) {
        let piece = Piece { data: (&self.data[..]).into(), records: self.spans[records.clone()].to_vec() };
        (piece, self.places[records].to_vec())
    }

    /// The next record of each partition, once those before `end` are taken.
    pub(super) fn next(&self, end: usize) -> Places {
        if end == self.spans.len() {
            return self.next.clone();
        }
        self.places[..end].iter().map(|(partition, offset, number)| (*partition, Place(*offset, number + 1))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_says_where_to_go_on_after_each_of_its_records() {
        let mut batch = Batch::default();
        batch.pass(2, 8);
        assert!(!batch.is_empty(), "a message without a record is passed too");
        batch.push(b"a", (0, 5, 0), 1);
        batch.push(b"bcd", (0, 5, 1), 1);
        batch.pass(0, 5);
        batch.push(b"e", (1, 9, 0), 1);
        assert_eq!(batch.next(1), Places::from([(0, Place(5, 1))]));
        assert_eq!(batch.next(2), Places::from([(0, Place(5, 2))]));
        assert_eq!(batch.next(3), Places::from([(0, Place(6, 0)), (1, Place(9, 1)), (2, Place(9, 0))]));
        let (piece, places) = batch.piece(1..2);
        let span = piece.records[0];
        assert_eq!((&piece.data[span.start..span.end], span.size), (&b"bc"[..], 3), "cut, and its size told");
        assert_eq!(places, [(0, 5, 1)]);
    }
}

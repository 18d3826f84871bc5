//! One frame's bytes: a fixed header, a payload, one checksum over both.
//!
//! ```text
//! magic 3 | version 1 | kind 1 | flags 1 | place in its commit 2 | offset 8 | written_at 8 | payload bytes 4 | crc32c 4 | payload
//! ```
//! Little endian. The payload of a batch is an Arrow IPC record batch message; the schema is in the segment's header.
//! The place in its commit tells a torn commit from damage further up: see `recovery`.

use arrow::buffer::Buffer;
use schemas::{Table, alert, event, inventory, ledger, order, quarantine, verdict};

use super::Payload;

pub(super) const HEADER_BYTES: usize = 32;
/// Magic and version of a frame.
pub(super) const MAGIC: [u8; 4] = *b"MLF\x01";
const LAST: u8 = 1;

/// What a frame holds, as a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Events = 1,
    Quarantine = 2,
    Ledger = 3,
    Alerts = 4,
    Orders = 5,
    Control = 6,
    Tick = 7,
    Inventory = 8,
    Verdicts = 9,
}

impl Kind {
    /// The kinds that are batches.
    pub(super) const BATCHES: [Kind; 7] =
        [Kind::Events, Kind::Quarantine, Kind::Ledger, Kind::Alerts, Kind::Orders, Kind::Inventory, Kind::Verdicts];

    pub(super) fn of(byte: u8) -> Result<Kind, String> {
        let kind = [Kind::Control, Kind::Tick].into_iter().chain(Kind::BATCHES).find(|kind| *kind as u8 == byte);
        kind.ok_or_else(|| format!("frame kind {byte} is of a later version"))
    }

    pub(super) fn of_payload(payload: &Payload) -> Kind {
        match payload {
            Payload::Events(_) => Kind::Events,
            Payload::Quarantine(_) => Kind::Quarantine,
            Payload::Ledger(_) => Kind::Ledger,
            Payload::Alerts(_) => Kind::Alerts,
            Payload::Orders(_) => Kind::Orders,
            Payload::Inventory(_) => Kind::Inventory,
            Payload::Verdicts(_) => Kind::Verdicts,
            Payload::Control(_) => Kind::Control,
            Payload::Tick(_) => Kind::Tick,
        }
    }

    pub(super) fn table(self) -> Option<&'static Table> {
        match self {
            Kind::Events => Some(&event::TABLE),
            Kind::Quarantine => Some(&quarantine::TABLE),
            Kind::Ledger => Some(&ledger::TABLE),
            Kind::Alerts => Some(&alert::TABLE),
            Kind::Orders => Some(&order::TABLE),
            Kind::Inventory => Some(&inventory::TABLE),
            Kind::Verdicts => Some(&verdict::TABLE),
            Kind::Control | Kind::Tick => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// A byte, not a [`Kind`]: a later version may know more kinds, and their frames are whole none the less.
    pub(super) kind: u8,
    /// Whether this is the last frame of its commit.
    pub(super) last: bool,
    /// Which frame of its commit this is, from 0.
    pub(super) place: u16,
    pub(super) offset: u64,
    pub(super) written_at: i64,
}

impl Header {
    /// Offset of the first frame of the same commit.
    pub(super) fn commit(&self) -> u64 {
        self.offset.saturating_sub(u64::from(self.place))
    }
}

/// The header of a frame, before a payload of these parts.
pub(super) fn header(header: &Header, payload: &[Buffer]) -> [u8; HEADER_BYTES] {
    let length = payload.iter().map(|part| part.len()).sum::<usize>();
    let length = u32::try_from(length).expect("a group's bytes are limited to 1 GiB");
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&[header.kind, u8::from(header.last) * LAST]);
    bytes[6..8].copy_from_slice(&header.place.to_le_bytes());
    bytes[8..16].copy_from_slice(&header.offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&header.written_at.to_le_bytes());
    bytes[24..28].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&bytes[..28], payload.iter().map(Buffer::as_slice));
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The frame at the start of `bytes`: its header and its payload, or why there is none.
pub(super) fn parse(bytes: &[u8]) -> Result<(Header, &[u8]), &'static str> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err("a frame's header is incomplete");
    };
    if header[..4] != MAGIC {
        return Err("no frame begins here");
    }
    let length = u32::from_le_bytes(part(header, 24)) as usize;
    let payload = rest.get(..length).ok_or("a frame's payload is incomplete")?;
    if checksum(&header[..28], [payload]) != u32::from_le_bytes(part(header, 28)) {
        return Err("a frame's checksum differs");
    }
    let header = Header {
        kind: header[4],
        last: header[5] & LAST != 0,
        place: u16::from_le_bytes(part(header, 6)),
        offset: u64::from_le_bytes(part(header, 8)),
        written_at: i64::from_le_bytes(part(header, 16)),
    };
    Ok((header, payload))
}

fn part<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&header[at..at + N]);
    part
}

fn checksum<'a>(header: &[u8], payload: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    payload.into_iter().fold(crc32c::crc32c(header), crc32c::crc32c_append)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_and_any_changed_bit_shows() {
        let header = Header { kind: 7, last: true, place: 3, offset: 9, written_at: -5 };
        let mut bytes = super::header(&header, &[&b"pay"[..], b"", b"load"].map(Buffer::from)).to_vec();
        bytes.extend_from_slice(b"payload");
        assert_eq!(parse(&bytes), Ok((header, &b"payload"[..])));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        (0..bytes.len()).for_each(|cut| assert!(parse(&bytes[..cut]).is_err()));
    }
}

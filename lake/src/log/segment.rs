//! One file of the log: a header that says how to read it, then whole commits.
//!
//! ```text
//! magic 8 | version 4 | body bytes 4 | crc32c 4 | body: first offset 8, then for each table: kind 1, length 4, schema message
//! ```
//! The name is the first offset in 20 digits. A new segment is durable, its directory entry included, before it is used.
//! In memory a segment keeps where about every 256 KiB a commit begins, which is enough to find any frame with one read.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::buffer::Buffer;

use super::frame::{self, Header, Kind};
use super::{Frame, LogError, Payload, columns};
use crate::files::{File, Files};

const MAGIC: [u8; 8] = *b"MUSTRLOG";
const VERSION: u32 = 1;
const PREFIX_BYTES: usize = 20;
const BLOCK_BYTES: u64 = 256 << 10;

/// The schema message of each table by kind, as they were when the segment was begun.
pub(super) type Schemas = Vec<(u8, Vec<u8>)>;

/// What is known of a segment without reading it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) first: u64,
    /// One past the last offset.
    pub(super) end: u64,
    pub(super) bytes: u64,
    /// Events in it: what the duplicate filter's window is counted in.
    pub(super) ids: u64,
    /// The system was told that nobody reads it any more.
    pub(super) forgotten: bool,
    pub(super) schemas: Arc<Schemas>,
    /// First offset and first byte of each block.
    blocks: Vec<(u64, u64)>,
}

/// Where to read.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    end: u64,
    schemas: Arc<Schemas>,
    block: Range<u64>,
}

/// The schema messages of this version.
pub(super) fn current_schemas() -> Schemas {
    let message = |kind: Kind| kind.table().map(|table| (kind as u8, columns::schema_message(table)));
    Kind::BATCHES.into_iter().filter_map(message).collect()
}

pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.log"))
}

/// The first offset of the segment of this name; `None` where the name is not a segment's.
pub(super) fn first_of(name: &Path) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(".log")?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

pub(super) fn header(first: u64, schemas: &Schemas) -> Vec<u8> {
    let mut body = first.to_le_bytes().to_vec();
    for (kind, message) in schemas {
        body.push(*kind);
        body.extend_from_slice(&(message.len() as u32).to_le_bytes());
        body.extend_from_slice(message);
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// Why a segment's header cannot be read.
#[derive(Debug)]
pub(super) enum Flaw {
    /// Incomplete or damaged.
    Torn(&'static str),
    /// Whole, but not for this version.
    Version(u32),
}

/// First offset, schemas and length of the header at the start of `bytes`.
pub(super) fn parse_header(bytes: &[u8]) -> Result<(u64, Schemas, u64), Flaw> {
    let prefix = bytes.get(..PREFIX_BYTES).ok_or(Flaw::Torn("the segment's header is incomplete"))?;
    if prefix[..8] != MAGIC {
        return Err(Flaw::Torn("the segment's header is not one"));
    }
    let number = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
    if number(8) != VERSION {
        return Err(Flaw::Version(number(8)));
    }
    let end = PREFIX_BYTES + number(12) as usize;
    let body = bytes.get(PREFIX_BYTES..end).ok_or(Flaw::Torn("the segment's header is incomplete"))?;
    if crc32c::crc32c(body) != number(16) {
        return Err(Flaw::Torn("the checksum of the segment's header differs"));
    }
    let (first, schemas) = parse_body(body).ok_or(Flaw::Torn("the segment's header does not parse"))?;
    Ok((first, schemas, end as u64))
}

fn parse_body(body: &[u8]) -> Option<(u64, Schemas)> {
    let (first, mut rest) = body.split_first_chunk::<8>()?;
    let mut schemas = Schemas::new();
    while let Some((kind, after)) = rest.split_first() {
        let (length, after) = after.split_first_chunk::<4>()?;
        let (message, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        schemas.push((*kind, message.to_vec()));
        rest = after;
    }
    Some((u64::from_le_bytes(*first), schemas))
}

/// Begins a segment; durable when it returns. What an earlier failed attempt left under its name is replaced.
pub(super) fn create(files: &dyn Files, folder: &Path, first: u64) -> Result<(Segment, Box<dyn File>), LogError> {
    let path = path(folder, first);
    let failed = |error| LogError::io(&path, error);
    let mut file = match files.create(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            files.remove(&path).map_err(failed)?;
            files.create(&path).map_err(failed)?
        }
        created => created.map_err(failed)?,
    };
    let schemas = current_schemas();
    let header = header(first, &schemas);
    file.append(&header).map_err(failed)?;
    file.sync().map_err(|error| LogError::sync(&path, &error))?;
    files.sync_dir(folder).map_err(|error| LogError::sync(folder, &error))?;
    let segment = Segment::new(path, first, header.len() as u64, schemas);
    Ok((segment, file))
}

impl Segment {
    pub(super) fn new(path: PathBuf, first: u64, header_bytes: u64, schemas: Schemas) -> Self {
        let (schemas, blocks) = (Arc::new(schemas), Vec::new());
        Segment { path, first, end: first, bytes: header_bytes, ids: 0, forgotten: false, schemas, blocks }
    }

    /// Takes note of a whole commit at the end of the file.
    pub(super) fn grow(&mut self, frames: u64, bytes: u64, ids: u64) {
        if self.blocks.last().is_none_or(|&(_, at)| self.bytes - at >= BLOCK_BYTES) {
            self.blocks.push((self.end, self.bytes));
        }
        self.end += frames;
        self.bytes += bytes;
        self.ids += ids;
    }

    /// The block that holds `offset`, which must be in this segment.
    pub(super) fn place(&self, offset: u64) -> Place {
        let next = self.blocks.partition_point(|&(first, _)| first <= offset);
        let start = self.blocks[..next].last().map_or(self.bytes, |&(_, at)| at);
        let end = self.blocks.get(next).map_or(self.bytes, |&(_, at)| at);
        Place { path: self.path.clone(), end: self.end, schemas: self.schemas.clone(), block: start..end }
    }
}

/// Frames of a block from offset `from` on: at least one, then as many as `bytes_max` allows.
pub(super) fn read(files: &dyn Files, place: &Place, from: u64, bytes_max: usize) -> Result<Vec<Arc<Frame>>, LogError> {
    read_into(files, place, from, bytes_max, &mut Buffer::default())
}

/// The same for whoever reads much, and once: in the memory of `room`, as far as no frame of the call before is held any
/// more, and the system's copy goes.
pub(super) fn read_through(
    files: &dyn Files,
    place: &Place,
    from: u64,
    bytes_max: usize,
    room: &mut Buffer,
) -> Result<Vec<Arc<Frame>>, LogError> {
    let frames = read_into(files, place, from, bytes_max, room);
    files.forget(&place.path, place.block.clone());
    frames
}

fn read_into(
    files: &dyn Files,
    place: &Place,
    from: u64,
    bytes_max: usize,
    room: &mut Buffer,
) -> Result<Vec<Arc<Frame>>, LogError> {
    let Place { path, end, schemas, block } = place;
    let bytes = match files.read_into(path, block.clone(), std::mem::take(room).into_vec().unwrap_or_default()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(LogError::Gone { first: *end }),
        read => Buffer::from_vec(read.map_err(|error| LogError::io(path, error))?),
    };
    *room = bytes.clone();
    let (mut frames, mut at, mut taken) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let corrupt = |reason: String| LogError::corrupt(path, block.start + at as u64, reason);
        let (header, payload) = frame::parse(&bytes[at..]).map_err(|reason| corrupt(reason.to_owned()))?;
        let payload = at + frame::HEADER_BYTES..at + frame::HEADER_BYTES + payload.len();
        if header.offset >= from {
            taken += payload.len();
            if taken > bytes_max && !frames.is_empty() {
                break;
            }
            let payload = bytes.slice_with_length(payload.start, payload.len());
            frames.push(Arc::new(decode(&header, payload, schemas).map_err(corrupt)?));
        }
        at = payload.end;
    }
    Ok(frames)
}

/// The frame of a header and its payload.
pub(super) fn decode(header: &Header, payload: Buffer, schemas: &Schemas) -> Result<Frame, String> {
    let kind = Kind::of(header.kind)?;
    let batch = |make: fn(_) -> Payload| {
        let table = kind.table().ok_or("not a kind of batch")?;
        let schema = schemas.iter().find(|(byte, _)| *byte == header.kind);
        let (_, schema) = schema.ok_or_else(|| format!("the segment has no schema of table {}", table.name))?;
        let batch = columns::decode(schema, payload.clone(), table);
        batch.map(make).map_err(|error| format!("table {}: {error}", table.name))
    };
    let payload = match kind {
        Kind::Events => batch(Payload::Events)?,
        Kind::Quarantine => batch(Payload::Quarantine)?,
        Kind::Ledger => batch(Payload::Ledger)?,
        Kind::Alerts => batch(Payload::Alerts)?,
        Kind::Orders => batch(Payload::Orders)?,
        Kind::Inventory => batch(Payload::Inventory)?,
        Kind::Verdicts => batch(Payload::Verdicts)?,
        Kind::Control => Payload::Control(serde_json::from_slice(&payload).map_err(|error| error.to_string())?),
        Kind::Tick => {
            let tick = payload.as_slice().try_into().map_err(|_| "a tick is 8 bytes".to_owned())?;
            Payload::Tick(i64::from_le_bytes(tick))
        }
    };
    Ok(Frame { sequence: 0, offset: header.offset, written_at: header.written_at, payload })
}

//! What an earlier process left, made whole: a torn tail is cut back to the last whole commit, anything else that does not
//! read is an error that names segment and byte.
//!
//! Only the last commit can be torn, since each is fsynced before the next is written. So a frame that does not read is a
//! torn tail if it is in the last segment and nothing behind it belongs to a later commit. Damage to the very last commit
//! of a segment that was acknowledged cannot be told from a write that was cut.
//!
//! Every frame's checksum and place are checked, one segment in memory at a time. Decoded are only the newest events and
//! alerts, as many as the duplicate filter's windows hold, so segments are read from the newest to the oldest.

use std::ops::Range;
use std::path::Path;

use arrow::buffer::Buffer;

use super::commit::Windows;
use super::frame::{self, Header, Kind};
use super::group::{alert_keys, event_keys};
use super::segment::{self, Flaw, Segment};
use super::{LogError, Payload, Recovery, columns};
use crate::files::{File, Files};

/// The retained segments, the last of them open for appending and durable as it is.
pub(super) struct Recovered {
    pub(super) segments: Vec<Segment>,
    pub(super) file: Box<dyn File>,
    pub(super) report: Recovery,
}

/// Checks the whole log and fills the windows of the duplicate filter.
pub(super) fn recover(files: &dyn Files, folder: &Path, windows: &mut Windows) -> Result<Recovered, LogError> {
    files.create_dir_all(folder).map_err(|error| LogError::io(folder, error))?;
    let names = files.list(folder).map_err(|error| LogError::io(folder, error))?;
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    let mut report = Recovery::default();
    while drop_unused(files, folder, &firsts, &mut report)? {
        firsts.pop();
    }
    let (mut segments, mut room): (Vec<Segment>, Vec<u8>) = Default::default();
    let mut newest = Newest { events: Vec::new(), alerts: Vec::new(), max: windows.events.max() };
    for (i, &first) in firsts.iter().enumerate().rev() {
        let path = segment::path(folder, first);
        let bytes = read(files, &path, room)?;
        // The system's copy goes: the next segment's takes its place.
        files.forget(&path, 0..u64::MAX);
        let mut scan = Scan { path: &path, bytes, last: i + 1 == firsts.len(), with_ids: Vec::new() };
        let segment = scan.run(first, &mut newest, &mut report)?;
        room = scan.bytes.into_vec().unwrap_or_default();
        if let Some(after) = segments.last().filter(|after| after.first != segment.end) {
            return Err(LogError::corrupt(&after.path, 0, "offsets before it are missing"));
        }
        segments.push(segment);
    }
    segments.reverse();
    newest.fill(windows);
    report.frames = segments.iter().map(|segment| segment.end - segment.first).sum();
    let file = reopen(files, folder, &mut segments)?;
    Ok(Recovered { segments, file, report })
}

fn read(files: &dyn Files, path: &Path, room: Vec<u8>) -> Result<Buffer, LogError> {
    let length = files.len(path).map_err(|error| LogError::io(path, error))?;
    Ok(Buffer::from_vec(files.read_into(path, 0..length, room).map_err(|error| LogError::io(path, error))?))
}

/// Removes the last segment if no frame in it ever became whole: it was begun and never used.
fn drop_unused(files: &dyn Files, folder: &Path, firsts: &[u64], report: &mut Recovery) -> Result<bool, LogError> {
    let Some(&first) = firsts.last() else { return Ok(false) };
    let path = segment::path(folder, first);
    let bytes = read(files, &path, Vec::new())?;
    let begun = segment::parse_header(&bytes);
    if matches!(begun, Err(Flaw::Version(_))) || later_commit(&bytes, None) {
        return Ok(false);
    }
    if firsts.len() == 1 && (begun.is_ok() || first > 0) {
        return Ok(false);
    }
    let header_bytes = begun.map_or(0, |(_, _, bytes)| bytes);
    if bytes.len() as u64 > header_bytes {
        report.truncated_bytes += bytes.len() as u64 - header_bytes;
        report.reason = Some(format!("{}: it was begun and no frame in it is whole", path.display()));
    }
    files.remove(&path).map_err(|error| LogError::io(&path, error))?;
    Ok(true)
}

/// Whether there is a whole frame in `bytes` that does not belong to the commit that begins at offset `commit`.
fn later_commit(bytes: &[u8], commit: Option<u64>) -> bool {
    let mut begins = memchr::memmem::find_iter(bytes, &frame::MAGIC);
    begins.any(|at| frame::parse(&bytes[at..]).is_ok_and(|(header, _)| Some(header.commit()) != commit))
}

/// Cuts and syncs the last segment. What a killed process wrote and did not sync is read here, and so must be durable
/// before anybody acts on it. A segment with other columns than this version's is closed, a new one begun.
fn reopen(files: &dyn Files, folder: &Path, segments: &mut Vec<Segment>) -> Result<Box<dyn File>, LogError> {
    let mut next = 0;
    if let Some(last) = segments.last() {
        let failed = |error| LogError::io(&last.path, error);
        let mut file = files.open(&last.path).map_err(failed)?;
        if files.len(&last.path).map_err(failed)? > last.bytes {
            file.truncate(last.bytes).map_err(failed)?;
        }
        file.sync().map_err(|error| LogError::sync(&last.path, &error))?;
        files.sync_dir(folder).map_err(|error| LogError::sync(folder, &error))?;
        if *last.schemas == segment::current_schemas() {
            return Ok(file);
        }
        next = last.end;
    }
    // One without frames would have the name of the new one.
    segments.pop_if(|last| last.first == last.end);
    let (segment, file) = segment::create(files, folder, next)?;
    segments.push(segment);
    Ok(file)
}

/// The keys that the windows will hold, the newest first.
struct Newest {
    events: Vec<(u128, u128)>,
    alerts: Vec<u128>,
    max: usize,
}

impl Newest {
    /// Takes the keys of a frame that is older than all before.
    fn take(&mut self, payload: &Payload) -> Result<(), LogError> {
        match payload {
            Payload::Events(batch) => self.events.extend(event_keys(batch)?.into_iter().rev()),
            Payload::Alerts(batch) => self.alerts.extend(alert_keys(batch)?.into_iter().rev()),
            _ => {}
        }
        Ok(())
    }

    fn wants(&self, kind: Kind) -> bool {
        match kind {
            Kind::Events => self.events.len() < self.max,
            Kind::Alerts => self.alerts.len() < self.max,
            _ => false,
        }
    }

    fn fill(self, windows: &mut Windows) {
        for (id, raw) in self.events.into_iter().rev() {
            windows.events.admit(id, raw);
        }
        for id in self.alerts.into_iter().rev() {
            windows.alerts.admit(id, 0);
        }
        windows.settle();
    }
}

struct Scan<'a> {
    path: &'a Path,
    bytes: Buffer,
    last: bool,
    /// Frames of events and alerts in whole commits, and where their payloads are.
    with_ids: Vec<(Header, Kind, Range<usize>)>,
}

impl Scan<'_> {
    /// The segment's whole commits; the ids that are wanted of them go to `newest`.
    fn run(&mut self, first: u64, newest: &mut Newest, report: &mut Recovery) -> Result<Segment, LogError> {
        let (schemas, start) = match segment::parse_header(&self.bytes) {
            Ok((found, schemas, start)) if found == first => (schemas, start),
            Ok((found, ..)) => return Err(self.corrupt(0, format!("its header says it begins at offset {found}"))),
            Err(Flaw::Version(version)) => return Err(self.corrupt(8, format!("version {version} is a later one"))),
            Err(Flaw::Torn(reason)) => return Err(self.corrupt(0, reason)),
        };
        let mut segment = Segment::new(self.path.to_owned(), first, start, schemas);
        while (segment.bytes as usize) < self.bytes.len() {
            let Err((at, reason)) = self.commit(&mut segment)? else { continue };
            if !self.last || later_commit(&self.bytes[at..], Some(segment.end)) {
                return Err(self.corrupt(at as u64, reason));
            }
            report.truncated_bytes += self.bytes.len() as u64 - segment.bytes;
            report.reason = Some(format!("{} at byte {at}: {reason}", self.path.display()));
            break;
        }
        self.ids(&segment, newest)?;
        Ok(segment)
    }

    /// Adds the next commit to `segment`, or says where and why it is not whole.
    fn commit(&mut self, segment: &mut Segment) -> Result<Result<(), (usize, &'static str)>, LogError> {
        let start = segment.bytes as usize;
        let mut at = start;
        let mut frames = Vec::new();
        loop {
            let (header, payload) = match frame::parse(&self.bytes[at..]) {
                Ok(frame) => frame,
                Err(reason) => return Ok(Err((at, reason))),
            };
            if header.offset != segment.end + frames.len() as u64 || usize::from(header.place) != frames.len() {
                return Err(self.corrupt(at as u64, format!("offset {} is out of order", header.offset)));
            }
            let payload = at + frame::HEADER_BYTES..at + frame::HEADER_BYTES + payload.len();
            at = payload.end;
            frames.push((header, payload));
            if header.last {
                break;
            }
        }
        let mut ids = 0;
        let count = frames.len() as u64;
        for (header, payload) in frames {
            ids += self.note(header, payload)?;
        }
        segment.grow(count, (at - start) as u64, ids);
        Ok(Ok(()))
    }

    /// Keeps where a frame with ids is; how many events it has.
    fn note(&mut self, header: Header, payload: Range<usize>) -> Result<u64, LogError> {
        let at = payload.start as u64;
        let kind = Kind::of(header.kind).map_err(|reason| self.corrupt(at, reason))?;
        let rows = match kind {
            Kind::Events => columns::rows(&self.bytes[payload.clone()]),
            Kind::Alerts => Ok(0),
            _ => return Ok(0),
        };
        let rows = rows.map_err(|error| self.corrupt(at, error.to_string()))?;
        self.with_ids.push((header, kind, payload));
        Ok(rows)
    }

    /// Decodes frames from the last to the first, as long as their ids are wanted.
    fn ids(&self, segment: &Segment, newest: &mut Newest) -> Result<(), LogError> {
        for (header, kind, payload) in self.with_ids.iter().rev() {
            if !newest.wants(*kind) {
                continue;
            }
            let bytes = self.bytes.slice_with_length(payload.start, payload.len());
            let frame = segment::decode(header, bytes, &segment.schemas);
            newest.take(&frame.map_err(|reason| self.corrupt(payload.start as u64, reason))?.payload)?;
        }
        Ok(())
    }

    fn corrupt(&self, at: u64, reason: impl Into<String>) -> LogError {
        LogError::corrupt(self.path, at, reason)
    }
}

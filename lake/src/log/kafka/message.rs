//! One message's value: the bytes of a commit as a segment of the embedded log has them, behind a header that says how to
//! read them. So a message can be read without any other, by every later version.

use std::sync::Arc;

use arrow::buffer::Buffer;

use super::super::commit::{self, Encoding};
use super::super::frame::{self, Kind};
use super::super::segment::{self, Flaw, Schemas};
use super::super::{Frame, LogError};
use super::cut::Share;

/// Writes messages; kept from one to the next.
pub(super) struct Writing {
    encoding: Encoding,
    schemas: Schemas,
}

impl Writing {
    pub(super) fn new() -> Writing {
        Writing { encoding: Encoding::new(), schemas: segment::current_schemas() }
    }

    /// The value of a share's message.
    pub(super) fn write(&mut self, share: &mut Share, written_at: i64) -> Result<Vec<u8>, LogError> {
        let frames = commit::encode(std::mem::take(&mut share.batches), 0, written_at, &mut self.encoding);
        let frames = frames.map_err(|error| LogError::Fatal(error.to_string()))?;
        let kinds: Vec<u8> = frames.iter().map(|frame| Kind::of_payload(&frame.payload) as u8).collect();
        let used = self.schemas.iter().filter(|(kind, _)| kinds.contains(kind)).cloned().collect();
        let mut bytes = segment::header(0, &used);
        self.encoding.take().iter().for_each(|part| bytes.extend_from_slice(part));
        Ok(bytes)
    }
}

/// The frames of a message.
pub(super) fn read(sequence: usize, offset: u64, value: &[u8]) -> Result<Vec<Frame>, String> {
    let (_, schemas, begin) = segment::parse_header(value).map_err(|flaw| match flaw {
        Flaw::Version(version) => format!("version {version} is a later one"),
        Flaw::Torn(reason) => reason.to_owned(),
    })?;
    // Without the header, whose length is any: so what lies in the frames is aligned, and rows share these bytes.
    let bytes = Buffer::from_vec(value[begin as usize..].to_vec());
    let (mut frames, mut at) = (Vec::new(), 0);
    loop {
        let (header, payload) = frame::parse(&bytes[at..])?;
        let from = at + frame::HEADER_BYTES;
        let decoded = segment::decode(&header, bytes.slice_with_length(from, payload.len()), &schemas)?;
        let (_, payload_placed) = commit::placed(decoded.payload, offset).map_err(|error| error.to_string())?;
        at = from + payload.len();
        frames.push(Frame { sequence, offset, written_at: decoded.written_at, payload: payload_placed });
        if header.last {
            break;
        }
    }
    if at != bytes.len() {
        return Err("something lies behind its last frame".to_owned());
    }
    Ok(frames)
}

pub(super) fn shared(frames: Vec<Frame>) -> Vec<Arc<Frame>> {
    frames.into_iter().map(Arc::new).collect()
}

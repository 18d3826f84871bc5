//! The newest frames in memory, so that readers that keep up never touch the disk.
//!
//! Holds one unbroken run of frames that ends with the newest; the oldest go when their bytes pass the limit. A frame that
//! is larger than the limit is not kept at all.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Frame, Payload};

#[derive(Debug)]
pub(super) struct Cache {
    frames: VecDeque<(Arc<Frame>, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Cache { frames: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds the frame after the newest.
    pub(super) fn push(&mut self, frame: Arc<Frame>) {
        let bytes = memory(&frame);
        self.bytes += bytes;
        self.frames.push_back((frame, bytes));
        while self.bytes > self.bytes_max {
            let Some((_, bytes)) = self.frames.pop_front() else { return };
            self.bytes -= bytes;
        }
    }

    /// Frames from `from` on, at least one; `None` where `from` is not in memory.
    pub(super) fn read(&self, from: u64, bytes_max: usize) -> Option<Vec<Arc<Frame>>> {
        let oldest = self.frames.front()?.0.offset;
        let skip = usize::try_from(from.checked_sub(oldest)?).ok()?;
        let (mut frames, mut taken) = (Vec::new(), 0);
        for (frame, bytes) in self.frames.range(skip.min(self.frames.len())..) {
            taken += bytes;
            if taken > bytes_max && !frames.is_empty() {
                break;
            }
            frames.push(frame.clone());
        }
        Some(frames)
    }
}

/// What a frame takes in memory. A batch counts with all that its buffers reserve.
fn memory(frame: &Frame) -> usize {
    let payload = match &frame.payload {
        Payload::Events(batch)
        | Payload::Quarantine(batch)
        | Payload::Ledger(batch)
        | Payload::Alerts(batch)
        | Payload::Orders(batch)
        | Payload::Inventory(batch)
        | Payload::Verdicts(batch) => batch.get_array_memory_size(),
        Payload::Control(value) => value.to_string().len(),
        Payload::Tick(_) => 0,
    };
    size_of::<Frame>() + payload
}

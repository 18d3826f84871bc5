//! A request's body, read within what all bodies together may take.
//!
//! A body is held from its first byte until its records are durable, so the sum of those is what senders can make the process
//! hold: beyond `bodies_bytes_max` the newest is refused and may come again, whoever is there already goes on. Counted is what
//! decompression gives, as it comes.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use bytes::BytesMut;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room is counted in such units, since a semaphore counts in 32 bits.
const UNIT_BYTES: usize = 1 << 10;

/// What bodies may take.
#[derive(Clone)]
pub(crate) struct Room {
    units: Arc<Semaphore>,
    bytes_max: usize,
}

/// A body and its room, which is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is larger than body_bytes_max, {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("requests of more than bodies_bytes_max are being taken already; try again")]
    NoRoom,
    #[error("the body could not be read: {0}")]
    Broken(String),
}

impl Room {
    /// Room for `bodies_bytes_max` in all, of which one body may take `bytes_max`.
    pub(crate) fn new(bodies_bytes_max: usize, bytes_max: usize) -> Room {
        let units = bodies_bytes_max.div_ceil(UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Room { units: Arc::new(Semaphore::new(units)), bytes_max }
    }

    pub(crate) async fn read(&self, mut body: Body) -> Result<Held, BodyError> {
        let mut room: Option<OwnedSemaphorePermit> = None;
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        // What says its length is refused before it is read.
        let told = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let mut held = 0;
        self.grow(&mut room, told)?;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| BodyError::Broken(error.to_string()))?.into_data() else { continue };
            held += data.len();
            self.grow(&mut room, held)?;
            match (first.is_empty(), rest.is_empty()) {
                (true, _) => first = data,
                (false, true) => {
                    rest.reserve(first.len() + data.len());
                    rest.extend_from_slice(&first);
                    rest.extend_from_slice(&data);
                }
                (false, false) => rest.extend_from_slice(&data),
            }
        }
        Ok(Held { bytes: if rest.is_empty() { first } else { rest.freeze() }, _room: room })
    }

    /// Makes `room` one for so many bytes at least.
    fn grow(&self, room: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), BodyError> {
        if bytes > self.bytes_max {
            return Err(BodyError::TooLarge { bytes_max: self.bytes_max });
        }
        let has = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(UNIT_BYTES).saturating_sub(has);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).map_err(|_| BodyError::NoRoom)?;
        let more = self.units.clone().try_acquire_many_owned(more).map_err(|_| BodyError::NoRoom)?;
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body that comes in pieces, as over a network.
    fn pieces(of: &[usize]) -> Body {
        let pieces: Vec<_> = of.iter().map(|bytes| Ok::<_, std::io::Error>(Bytes::from(vec![b'a'; *bytes]))).collect();
        Body::from_stream(futures::stream::iter(pieces))
    }

    #[tokio::test]
    async fn a_body_is_whole_however_it_comes() {
        let room = Room::new(1 << 20, 1 << 20);
        for of in [&[][..], &[0], &[5], &[0, 5], &[1, 2, 3], &[1024, 1024, 1], &[700_000, 300_000]] {
            let held = room.read(pieces(of)).await.expect("there is room");
            assert_eq!(held.bytes.len(), of.iter().sum::<usize>(), "{of:?}");
        }
        assert_eq!(room.units.available_permits(), 1024, "all is given back");
    }

    #[tokio::test]
    async fn who_finds_no_room_is_refused_and_the_others_go_on() {
        let room = Room::new(10 << 10, 8 << 10);
        let held = room.read(pieces(&[3 << 10, 3 << 10])).await.expect("there is room");
        assert!(
            matches!(room.read(pieces(&[4 << 10, 1])).await, Err(BodyError::NoRoom)),
            "4 KiB are left, no byte more"
        );
        room.read(pieces(&[4 << 10])).await.expect("what was refused holds nothing any more");
        assert!(matches!(room.read(pieces(&[9 << 10])).await, Err(BodyError::TooLarge { .. })));
        let told = Body::from(vec![b'a'; 5 << 10]);
        assert!(matches!(room.read(told).await, Err(BodyError::NoRoom)));
        drop(held);
        room.read(pieces(&[8 << 10])).await.expect("the room is there again");
    }
}

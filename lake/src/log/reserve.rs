//! Room on the disk that is kept free for what makes room.
//!
//! A full disk refuses appends; but writing rows to the tables needs room too, and only then may segments go. So a file is
//! kept that holds nothing: where tables or log find no room it is removed, appends are refused until the tables are written
//! and segments have gone, then it is written again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::files::Files;

const BLOCK_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Reserve {
    files: Arc<dyn Files>,
    path: PathBuf,
    bytes: u64,
    spent: AtomicBool,
}

impl Reserve {
    /// Makes the file where it is not there in full; without room for it, it is spent.
    pub(super) fn open(files: Arc<dyn Files>, path: PathBuf, bytes: u64) -> Reserve {
        let whole = files.len(&path).is_ok_and(|length| length == bytes);
        let reserve = Reserve { files, path, bytes, spent: AtomicBool::new(!whole) };
        reserve.restore();
        reserve
    }

    pub(super) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::SeqCst)
    }

    /// Gives the room free. From now on appends are refused.
    pub(super) fn spend(&self) {
        if !self.spent.swap(true, Ordering::SeqCst) {
            tracing::warn!(
                bytes = self.bytes,
                "the disk is full: the reserve is used to write the tables, appends are refused"
            );
            if let Err(error) = self.remove() {
                tracing::error!(path = %self.path.display(), %error, "the reserve cannot be removed");
            }
        }
    }

    /// Takes the room back, if it is there again.
    pub(super) fn restore(&self) {
        if !self.is_spent() {
            return;
        }
        match self.write() {
            Ok(()) => self.spent.store(false, Ordering::SeqCst),
            Err(error) => {
                tracing::debug!(%error, "there is no room yet for the reserve");
                // A part of it would hold room that it does not stand for.
                let _ = self.remove();
            }
        }
    }

    fn remove(&self) -> io::Result<()> {
        match self.files.remove(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn write(&self) -> io::Result<()> {
        self.remove()?;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let mut file = self.files.create(&self.path)?;
        // Not zeros: a file system may keep those without room.
        let block: Vec<u8> = (0..BLOCK_BYTES).map(|at| (at % 251) as u8).collect();
        let mut left = self.bytes as usize;
        while left > 0 {
            file.append(&block[..left.min(BLOCK_BYTES)])?;
            left -= left.min(BLOCK_BYTES);
        }
        file.sync()?;
        self.files.sync_dir(folder)
    }
}

//! The file layer under log and lake: few operations, each with a stated durability.
//!
//! Nothing counts that was not fsynced: file bytes by [`File::sync`], directory entries (create, rename, remove) by
//! [`Files::sync_dir`] of the folder. [`disk`] is the real one; [`sim`] forgets, at a cut, everything that was not
//! synced, and can fail any call, so that crash tests can show a missing fsync.
//!
//! Left out on purpose: links, modes (the real one keeps all to its owner), memory maps, and writing anywhere but at the
//! end of a file.

pub mod disk;
pub mod s3;
pub mod sim;
pub mod store;
pub mod whole;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use disk::Disk;
pub use s3::{Bucket, S3Config};
pub use whole::{Whole, Wholes};

/// A file open for appending.
pub trait File: Send + Debug {
    /// Appends all of the parts, one behind the other; on error an unknown prefix of them may be there.
    fn append_parts(&mut self, parts: &[&[u8]]) -> io::Result<()>;
    /// The same of one part.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.append_parts(&[bytes])
    }
    /// Makes the file's bytes and length durable (not its directory entry).
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `len` bytes; durable after [`sync`](Self::sync).
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Nobody is going to read these synced bytes soon: the system need not keep them in memory. A hint.
    fn forget(&mut self, _: Range<u64>) {}
}

/// The operations on a file system that log and lake need. Paths are absolute or relative to the layer's root.
pub trait Files: Send + Sync + Debug {
    /// Creates a file; fails with `AlreadyExists` where there is one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Opens an existing file for appending.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;
    fn len(&self, path: &Path) -> io::Result<u64>;
    /// The bytes of `range`, all of them: a range past the end is `UnexpectedEof`.
    fn read(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.read_into(path, range, Vec::new())
    }
    /// The same in the memory of `room`, whatever it holds: new memory for much that is read can cost more than reading it.
    fn read_into(&self, path: &Path, range: Range<u64>, room: Vec<u8>) -> io::Result<Vec<u8>>;
    /// Names of the files (not folders) directly in `folder`, sorted; empty where the folder does not exist.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
    /// All files at any depth below `folder` with their lengths, sorted; each path is `folder` joined with the rest,
    /// so that it can be handed back to this layer. Empty where the folder does not exist.
    fn list_recursive(&self, folder: &Path) -> io::Result<Vec<(PathBuf, u64)>>;
    /// When the file's bytes last changed, in microseconds since the Unix epoch; none where the layer keeps no times.
    fn modified_micros(&self, _: &Path) -> io::Result<Option<i64>> {
        Ok(None)
    }
    /// The same as [`File::forget`]; up to `u64::MAX` is to the file's end.
    fn forget(&self, _: &Path, _: Range<u64>) {}
    /// Renames within one file system, replacing `to`. Survives a cut whole or not at all.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// The same where nothing is at `to`, else `AlreadyExists`: of several processes one wins.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a folder and the missing ones above it, durably; content where it exists already.
    fn create_dir_all(&self, folder: &Path) -> io::Result<()>;
    /// Makes the entries of `folder` durable.
    fn sync_dir(&self, folder: &Path) -> io::Result<()>;
}

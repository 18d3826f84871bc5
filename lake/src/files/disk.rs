//! The operating system's file system. What is created is for its owner alone, since raw records are in it: files 0600,
//! folders 0700 on unix; what was there before keeps its mode.

use std::fs;
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{File, Files};

/// As large as the largest page that systems have. A page that is half written stays: the next append would have to read it.
const PAGE_BYTES: u64 = 64 << 10;

/// Files below a root. The default has no root: paths are absolute, or relative to the working directory.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Relative paths are taken from `root`; absolute ones stay as they are.
    pub fn rooted(root: impl Into<PathBuf>) -> Self {
        Disk { root: root.into() }
    }

    fn list_into(&self, folder: &Path, found: &mut Vec<(PathBuf, u64)>) -> io::Result<()> {
        for entry in entries(&self.root.join(folder))? {
            let path = folder.join(entry.file_name());
            // Vacuum or compaction may remove a file between the listing and the look at it.
            let Some(kind) = missing_ok(entry.file_type())? else { continue };
            if kind.is_dir() {
                self.list_into(&path, found)?;
            } else if let Some(metadata) = missing_ok(entry.metadata())? {
                found.push((path, metadata.len()));
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct DiskFile(fs::File);

impl File for DiskFile {
    fn append_parts(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let mut parts: Vec<IoSlice> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = parts.as_mut_slice();
        // None of no bytes may be in front: writing it would look like a disk that takes nothing.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match self.0.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        // The length is part of what `sync_data` must keep: without it the bytes could not be read back.
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn forget(&mut self, range: Range<u64>) {
        let whole = |at: u64| at / PAGE_BYTES * PAGE_BYTES;
        forget(&self.0, whole(range.start)..whole(range.end));
    }
}

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.append(true).create_new(true).open(self.root.join(path))?;
        Ok(Box::new(DiskFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new().append(true).open(self.root.join(path))?;
        Ok(Box::new(DiskFile(file)))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(self.root.join(path))?.len())
    }

    fn modified_micros(&self, path: &Path) -> io::Result<Option<i64>> {
        let modified = fs::metadata(self.root.join(path))?.modified()?;
        Ok(modified.duration_since(UNIX_EPOCH).ok().map(|since| since.as_micros() as i64))
    }

    fn read_into(&self, path: &Path, range: Range<u64>, mut room: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(self.root.join(path))?;
        file.seek(SeekFrom::Start(range.start))?;
        let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
        room.clear();
        if room.capacity() < length {
            room = Vec::with_capacity(length);
        }
        file.take(length as u64).read_to_end(&mut room)?;
        if room.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(room)
    }

    fn forget(&self, path: &Path, range: Range<u64>) {
        if let Ok(file) = fs::File::open(self.root.join(path)) {
            forget(&file, range);
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in entries(&self.root.join(folder))? {
            if missing_ok(entry.file_type())?.is_some_and(|kind| !kind.is_dir()) {
                names.push(PathBuf::from(entry.file_name()));
            }
        }
        names.sort();
        Ok(names)
    }

    fn list_recursive(&self, folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut found = Vec::new();
        self.list_into(folder, &mut found)?;
        found.sort();
        Ok(found)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(self.root.join(from), self.root.join(to))?;
        // It is there, whatever becomes of its other name.
        let _ = fs::remove_file(self.root.join(from));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        let folder = self.root.join(folder);
        let missing: Vec<&Path> = folder.ancestors().take_while(|level| !level.exists()).collect();
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&folder)?;
        // The folder itself even where it was there: a process killed between making it and syncing may have left it.
        let made = if missing.is_empty() { vec![folder.as_path()] } else { missing };
        for parent in made.iter().rev().filter_map(|level| level.parent()) {
            sync_folder(parent)?;
        }
        Ok(())
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        sync_folder(&self.root.join(folder))
    }
}

#[cfg(target_os = "linux")]
fn forget(file: &fs::File, range: Range<u64>) {
    if let Some(length) = std::num::NonZeroU64::new(range.end.saturating_sub(range.start)) {
        // Up to the end is no length. Where the file system knows no such hint, nothing is lost.
        let length = Some(length).filter(|_| range.end < u64::MAX);
        let _ = rustix::fs::fadvise(file, range.start, length, rustix::fs::Advice::DontNeed);
    }
}

#[cfg(not(target_os = "linux"))]
fn forget(_: &fs::File, _: Range<u64>) {}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    fs::File::open(folder)?.sync_all()
}

/// The entries of `folder`; none where it does not exist.
fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match missing_ok(fs::read_dir(folder))? {
        Some(entries) => entries.collect(),
        None => Ok(Vec::new()),
    }
}

fn missing_ok<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_created_is_for_its_owner_alone() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let files = Disk::rooted(root.path());
        files.create_dir_all(Path::new("a/b")).expect("creates the folders");
        drop(files.create(Path::new("a/b/x")).expect("creates the file"));
        let mode = |path: &str| fs::metadata(root.path().join(path)).expect("is there").permissions().mode() & 0o777;
        assert_eq!(["a", "a/b", "a/b/x"].map(mode), [0o700, 0o700, 0o600]);
    }

    #[test]
    fn what_is_forgotten_is_still_there() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let files = Disk::rooted(root.path());
        let mut file = files.create(Path::new("x")).expect("creates the file");
        let mut written = Vec::new();
        for length in [1, 70_000, 200_000, 0, 65_536] {
            let start = written.len() as u64;
            written.extend((0..length).map(|at: u32| at as u8));
            file.append(&written[start as usize..]).expect("appends");
            file.sync().expect("syncs");
            file.forget(start..written.len() as u64);
        }
        files.forget(Path::new("x"), 0..u64::MAX);
        assert_eq!(files.read(Path::new("x"), 0..written.len() as u64).expect("reads"), written);
    }
}

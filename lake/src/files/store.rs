//! An object store over the file layer, for Delta tables on a disk.
//!
//! `object_store::local::LocalFileSystem` never calls fsync, so after a power cut a table's log may name a file whose bytes
//! are gone. Here a put is whole and durable when it returns: its folder is made durably, the bytes go to a temporary file
//! beside the target, which is fsynced and renamed into place, then the folder is fsynced. So a Delta commit counts only
//! when everything it names is durable.
//!
//! Put-if-absent looks and renames under a lock: one process owns the root, as it owns the log. Where several do
//! ([`FileStore::shared`]) it is a hard link, of which the file system lets one win, and temporary files have names of each
//! process's own. Listings leave them out; what a crash left of them is overwritten or lies unseen. Reads and writes run on the runtime's blocking
//! threads: an fsync on a worker thread would stall every request behind it. Where the file layer keeps no times, an object
//! says it was modified now, so that nothing that clears away by age takes it for old.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::Files;
use crate::clock::Clock;

const TEMPORARY: &str = ".tmp-";
/// A multipart upload is held in memory until it is complete.
const UPLOAD_BYTES_MAX: usize = 1 << 30;
/// Folders remembered as made; past this many they are forgotten and made again, which changes nothing.
const FOLDERS_MAX: usize = 10_000;

/// Objects are files below `root`; an object's location is its path from there.
#[derive(Clone)]
pub struct FileStore {
    inner: Arc<Inner>,
}

struct Inner {
    files: Arc<dyn Files>,
    root: PathBuf,
    clock: Clock,
    made: Mutex<HashSet<PathBuf>>,
    /// Held while a target is looked at and put in place.
    placing: Mutex<()>,
    temporaries: AtomicU64,
    /// Tells this process's temporary files from those of others; none where it is alone.
    mark: Option<u64>,
}

impl FileStore {
    pub fn new(files: Arc<dyn Files>, root: PathBuf, clock: Clock) -> Self {
        FileStore::marked(files, root, clock, None)
    }

    /// A root that other processes write too.
    pub fn shared(files: Arc<dyn Files>, root: PathBuf, clock: Clock) -> Self {
        FileStore::marked(files, root, clock, Some(fastrand::u64(..)))
    }

    fn marked(files: Arc<dyn Files>, root: PathBuf, clock: Clock, mark: Option<u64>) -> Self {
        let (made, placing, temporaries) = Default::default();
        FileStore { inner: Arc::new(Inner { files, root, clock, made, placing, temporaries, mark }) }
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|source| Error::JoinError { source })?
    }
}

impl Inner {
    fn path(&self, location: &Path) -> PathBuf {
        self.root.join(location.as_ref())
    }

    fn put(&self, location: &Path, payload: &PutPayload, absent: bool) -> Result<()> {
        let path = self.path(location);
        self.place(&path, payload, absent).map_err(|e| error(location, e))
    }

    fn place(&self, path: &FilePath, payload: &PutPayload, absent: bool) -> io::Result<()> {
        let folder = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.make_folder(folder)?;
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let mark = self.mark.map(|mark| format!("{mark:016x}-")).unwrap_or_default();
        let temporary = folder.join(format!("{TEMPORARY}{mark}{number}"));
        let placed = self.write(&temporary, payload).and_then(|()| {
            if absent && self.mark.is_some() {
                return self.files.rename_new(&temporary, path);
            }
            let _placing = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
            if absent && self.exists(path)? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            self.files.rename(&temporary, path)
        });
        if placed.is_err() {
            // Only a leftover, which listings leave out; the error that counts is the first one.
            let _ = self.files.remove(&temporary);
        }
        placed?;
        self.files.sync_dir(folder)
    }

    fn exists(&self, path: &FilePath) -> io::Result<bool> {
        match self.files.len(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn write(&self, path: &FilePath, payload: &PutPayload) -> io::Result<()> {
        let mut file = match self.files.create(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.files.remove(path)?;
                self.files.create(path)
            }
            file => file,
        }?;
        for bytes in payload {
            file.append(bytes)?;
        }
        file.sync()
    }

    fn make_folder(&self, folder: &FilePath) -> io::Result<()> {
        if self.made().contains(folder) {
            return Ok(());
        }
        self.files.create_dir_all(folder)?;
        let mut made = self.made();
        if made.len() >= FOLDERS_MAX {
            made.clear();
        }
        made.insert(folder.to_owned());
        Ok(())
    }

    fn made(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meta(&self, location: Path, size: u64) -> io::Result<ObjectMeta> {
        let modified = self.files.modified_micros(&self.path(&location))?;
        let modified = modified.unwrap_or_else(|| self.clock.now_micros());
        let last_modified = DateTime::from_timestamp_micros(modified).unwrap_or_default();
        Ok(ObjectMeta { location, last_modified, size, e_tag: None, version: None })
    }

    fn head(&self, location: &Path) -> Result<ObjectMeta> {
        let size = self.files.len(&self.path(location));
        size.and_then(|size| self.meta(location.clone(), size)).map_err(|e| error(location, e))
    }

    fn read(&self, location: &Path, range: Range<u64>) -> Result<Bytes> {
        self.files.read(&self.path(location), range).map(Bytes::from).map_err(|e| error(location, e))
    }

    fn get(&self, location: &Path, options: &GetOptions) -> Result<GetResult> {
        let meta = self.head(location)?;
        options.check_preconditions(&meta)?;
        let generic = |source| Error::Generic { store: "files", source };
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(|e| generic(Box::new(e)))?,
            None => 0..meta.size,
        };
        let bytes = if options.head { Bytes::new() } else { self.read(location, range.clone())? };
        let payload = GetResultPayload::Stream(stream::once(async move { Ok(bytes) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: Default::default() })
    }

    fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>> {
        let found = self.files.list_recursive(&self.path(prefix)).map_err(|e| error(prefix, e))?;
        let mut objects = Vec::with_capacity(found.len());
        for (path, size) in found {
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY));
            let Some(below) = path.strip_prefix(&self.root).ok().and_then(FilePath::to_str) else { continue };
            let location = Path::parse(below)?;
            match self.meta(location.clone(), size) {
                _ if hidden => {}
                Ok(meta) => objects.push(meta),
                // Removed since it was listed.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(error(&location, e)),
            }
        }
        Ok(objects)
    }

    fn list_with_delimiter(&self, prefix: &Path) -> Result<ListResult> {
        let mut result = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
        for object in self.list(prefix)? {
            let mut below = object.location.prefix_match(prefix).into_iter().flatten();
            match (below.next(), below.next()) {
                (Some(folder), Some(_)) => {
                    let folder = prefix.clone().join(folder);
                    if result.common_prefixes.last() != Some(&folder) {
                        result.common_prefixes.push(folder);
                    }
                }
                _ => {
                    drop(below);
                    result.objects.push(object);
                }
            }
        }
        Ok(result)
    }

    fn delete(&self, location: &Path) -> Result<()> {
        let path = self.path(location);
        let folder = path.parent().unwrap_or(&self.root);
        self.files.remove(&path).and_then(|()| self.files.sync_dir(folder)).map_err(|e| error(location, e))
    }
}

fn error(location: &Path, source: io::Error) -> Error {
    let path = location.to_string();
    match source.kind() {
        io::ErrorKind::NotFound => Error::NotFound { path, source: source.into() },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: source.into() },
        _ => Error::Generic { store: "files", source: Box::new(At { path, source }) },
    }
}

/// An error of the file layer with the object it is about; its kind stays to be asked for.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
struct At {
    path: String,
    source: io::Error,
}

#[async_trait]
impl ObjectStore for FileStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let absent = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented { operation: "update".into(), implementer: "FileStore".into() });
            }
        };
        let location = location.clone();
        self.blocking(move |inner| inner.put(&location, &payload, absent)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload { store: self.clone(), location: location.clone(), parts: Vec::new(), bytes: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let location = location.clone();
        self.blocking(move |inner| inner.get(&location, &options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (location, ranges) = (location.clone(), ranges.to_vec());
        self.blocking(move |inner| ranges.into_iter().map(|range| inner.read(&location, range)).collect()).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Path| {
            let store = store.clone();
            async move {
                let deleted = location.clone();
                store.blocking(move |inner| inner.delete(&deleted)).await?;
                Ok(location)
            }
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        let listed = async move {
            let found = store.blocking(move |inner| inner.list(&prefix)).await;
            found.map(|found| stream::iter(found.into_iter().map(Ok)))
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        self.blocking(move |inner| inner.list_with_delimiter(&prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to, absent) = (from.clone(), to.clone(), options.mode == CopyMode::Create);
        self.blocking(move |inner| {
            let size = inner.head(&from)?.size;
            inner.put(&to, &inner.read(&from, 0..size)?.into(), absent)
        })
        .await
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileStore({})", self.inner.root.display())
    }
}

impl fmt::Display for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Parts are gathered and put whole: a file is never seen half written.
#[derive(Debug)]
struct Upload {
    store: FileStore,
    location: Path,
    parts: Vec<Bytes>,
    bytes: usize,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        self.bytes += part.content_length();
        if self.bytes > UPLOAD_BYTES_MAX {
            let source = format!("{}: an upload holds at most {UPLOAD_BYTES_MAX} bytes", self.location).into();
            return Box::pin(async move { Err(Error::Generic { store: "files", source }) });
        }
        self.parts.extend(part);
        Box::pin(async { Ok(()) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload = std::mem::take(&mut self.parts).into_iter().collect();
        self.store.put_opts(&self.location, payload, PutOptions::default()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}

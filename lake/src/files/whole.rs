//! Small files that are replaced whole: after a crash each is as before or as after, never in between.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, Result};

use super::Files;
use super::s3::Bucket;
use super::store::FileStore;
use crate::clock::Clock;

/// A file of a folder or an object of a bucket.
#[derive(Clone)]
pub struct Whole {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

/// A place for such files.
#[derive(Clone)]
pub struct Wholes {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Wholes {
    pub fn in_folder(files: Arc<dyn Files>, folder: PathBuf, clock: Clock) -> Wholes {
        Wholes { store: Arc::new(FileStore::new(files, folder, clock)), prefix: Path::default() }
    }

    /// `prefix` is the path below the place of the lake.
    pub fn in_bucket(bucket: &Bucket, prefix: &str) -> Wholes {
        Wholes { store: bucket.store.clone(), prefix: Path::from(prefix) }
    }

    /// The file of a name, whose parts are set apart by `/`.
    pub fn file(&self, name: &str) -> Whole {
        let path = name.split('/').fold(self.prefix.clone(), |path, part| path.join(part));
        Whole::new(self.store.clone(), path)
    }

    /// The names of all files, in no order.
    pub async fn names(&self) -> Result<Vec<String>> {
        let all: Vec<_> = self.store.list(Some(&self.prefix)).try_collect().await?;
        let name = |path: &Path| {
            Some(path.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
        };
        Ok(all.iter().filter_map(|found| name(&found.location)).collect())
    }

    /// Deletes a file; none of the name is fine.
    pub async fn delete(&self, name: &str) -> Result<()> {
        match self.store.delete(&self.file(name).path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Whole {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, path: Path) -> Whole {
        Whole { store, path }
    }

    /// What it holds; none where it was never written.
    pub async fn read(&self) -> Result<Option<Bytes>> {
        match self.store.get(&self.path).await {
            Ok(found) => found.bytes().await.map(Some),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Durable when it returns.
    pub async fn write(&self, bytes: impl Into<Bytes>) -> Result<()> {
        self.store.put(&self.path, bytes.into().into()).await.map(|_| ())
    }
}

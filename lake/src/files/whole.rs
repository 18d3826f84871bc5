//! A small file that is replaced whole: after a crash it is as before or as after, never in between.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
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

impl Whole {
    pub fn in_folder(files: Arc<dyn Files>, folder: PathBuf, name: &str, clock: Clock) -> Whole {
        Whole { store: Arc::new(FileStore::new(files, folder, clock)), path: Path::from(name) }
    }

    /// `name` is the path below the place of the lake.
    pub fn in_bucket(bucket: &Bucket, name: &str) -> Whole {
        Whole::new(bucket.store.clone(), Path::from(name))
    }

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

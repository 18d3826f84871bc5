//! The mappings in force: taken anew when a file of the user's folder changes, while records come in.
//!
//! A change is seen by names, sizes and modification times, looked at when the caller says so: no thread, no watch of the
//! operating system (which misses network file systems). A mapping takes effect whole, for bodies that begin after it; a
//! broken file leaves the mapping before it in force and is told until it is right.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use crate::mapping::{MappingError, Sources, mapping_files};

/// The mappings in force, and what is wrong with files that are not.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    pub sources: Arc<Sources>,
    /// Of files whose last good version, where there was one, stays.
    pub broken: Vec<MappingError>,
    /// Times that something changed since start.
    pub changes: u64,
}

/// Holds them.
#[derive(Debug)]
pub(crate) struct Catalog {
    folder: Option<PathBuf>,
    in_force: RwLock<InForce>,
    seen: Mutex<Option<Seen>>,
}

/// Name, size and modification time of each file; none where the folder cannot be read.
type Seen = Option<Vec<(PathBuf, u64, Option<SystemTime>)>>;

impl Catalog {
    /// `sources` were loaded from `folder` just now.
    pub(crate) fn new(sources: Sources, folder: Option<PathBuf>) -> Catalog {
        let in_force = InForce { sources: Arc::new(sources), ..InForce::default() };
        Catalog { folder, in_force: RwLock::new(in_force), seen: Mutex::default() }
    }

    pub(crate) fn in_force(&self) -> InForce {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn sources(&self) -> Arc<Sources> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).sources.clone()
    }

    /// Looks at the folder; where something changed, takes what is right and gives what is now in force. Blocks on the
    /// disk.
    pub(crate) fn reload(&self) -> Option<InForce> {
        let folder = self.folder.as_deref()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // What is seen before it is read can only be older than what is read: then the next look reads again.
        let now = look(folder);
        if seen.as_ref() == Some(&now) {
            return None;
        }
        *seen = Some(now);
        let before = self.in_force();
        let (sources, broken) = Sources::load_good(Some(folder), &before.sources);
        if broken == before.broken && sources.same(&before.sources) {
            return None;
        }
        let after = InForce { sources: Arc::new(sources), broken, changes: before.changes + 1 };
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = after.clone();
        Some(after)
    }
}

fn look(folder: &Path) -> Seen {
    let paths = mapping_files(folder).ok()?;
    let look = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok();
        (path, metadata.as_ref().map_or(0, |m| m.len()), metadata.and_then(|m| m.modified().ok()))
    };
    Some(paths.into_iter().map(look).collect())
}

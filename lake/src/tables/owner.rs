//! Whose a lake in a bucket is.
//!
//! The tables say up to which offset of *the* log they hold every row; a second log that wrote into them would find its
//! first rows there already, and leave them out. A folder is held by a lock beside its log. A bucket can be reached from
//! anywhere: an object names its owner, put there by the first one on the condition that there is none. The same put,
//! repeated, shows that the service keeps the condition; without it two commits could both win.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{Error, ObjectStore, PutMode};

use super::LakeError;
use crate::files::Whole;

const OWNER: &str = "owner";
/// A put where nothing is, and the one that must be refused after it.
const PUTS_MAX: usize = 2;

/// Makes the lake `owner`'s, if it is nobody's.
pub(super) async fn claim(store: &Arc<dyn ObjectStore>, owner: &str) -> Result<(), LakeError> {
    let path = Path::from(OWNER);
    let file = Whole::new(store.clone(), path.clone());
    let theirs = |found: &[u8]| (found != owner.as_bytes()).then(|| String::from_utf8_lossy(found).into_owned());
    if let Some(found) = file.read().await.map_err(LakeError::Store)?.and_then(|found| theirs(&found)) {
        return Err(LakeError::Foreign { found });
    }
    for _ in 0..PUTS_MAX {
        match store.put_opts(&path, owner.to_owned().into(), PutMode::Create.into()).await {
            Ok(_) => {}
            Err(Error::AlreadyExists { .. }) => {
                // Somebody may have been faster.
                let found = file.read().await.map_err(LakeError::Store)?.unwrap_or_default();
                return theirs(&found).map_or(Ok(()), |found| Err(LakeError::Foreign { found }));
            }
            Err(error) => return Err(LakeError::Store(error)),
        }
    }
    let missing = "the object store overwrites although it was told `If-None-Match: *`: a Delta commit needs that";
    Err(LakeError::Root(missing.to_owned()))
}

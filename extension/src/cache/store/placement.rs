//! Moves a complete file to its name.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use tempfile::TempPath;

use crate::cache::directory::digest_of;
use crate::cache::error::CacheError;
use crate::ids::Digest;

/// Renames the file at `path` to `target`.
pub(super) fn rename(path: &Path, target: &Path) -> Result<(), CacheError> {
    fs::rename(path, target).map_err(|error| failed(target, error))
}

/// Gives an unnamed complete file the name `target`.
pub(super) fn persist(
    file: &File,
    path: TempPath,
    target: &Path,
    digest: &Digest,
    is_shared: bool,
) -> Result<(), CacheError> {
    let persisted = if is_shared {
        persist_once(file, path, target, digest)
    } else {
        path.persist(target).map_err(|error| error.error)
    };
    persisted.map_err(|error| failed(target, error))
}

/// Sets the modification time to now.
pub(super) fn touch(path: &Path) {
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Keeps an undamaged file that has the name already: another environment may have mapped the file, and a replacement
/// on NFS would invalidate the mapping.
fn persist_once(file: &File, path: TempPath, target: &Path, digest: &Digest) -> io::Result<()> {
    // The name must not become visible to another machine before the bytes.
    file.sync_all()?;
    match path.persist_noclobber(target) {
        Ok(()) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            if digest_of(target).is_ok_and(|existing| existing == *digest) {
                return Ok(());
            }
            error.path.persist(target).map_err(|error| error.error)
        }
        Err(error) => Err(error.error),
    }
}

fn failed(target: &Path, error: io::Error) -> CacheError {
    CacheError::new("cannot rename to", target, error)
}

//! File operations in the cache directory.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::error::CacheError;
use crate::ids::Digest;
use crate::sys;

/// Prefix of the names of temporary files. No model's name begins with a dot, so no journal or load marker has it.
pub(super) const TEMPORARY_PREFIX: &str = ".partial-";

/// Age from which an unmodified temporary file in a shared directory counts as abandoned. No download that still makes
/// progress takes a day.
pub(super) const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Access to a directory of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Only this user.
    Private,
    /// Every environment that shares the cache.
    Shared,
}

/// Creates a directory. A private directory must belong to this user: where other users can write to the parent, one of
/// them may have created the name first.
pub(super) fn create(path: &Path, access: Access) -> Result<(), CacheError> {
    let created = match access {
        Access::Shared => fs::create_dir_all(path),
        Access::Private => sys::make_private(path),
    };
    created.map_err(|source| CacheError::new("cannot create the cache directory", path, source))
}

/// Creates a directory, checks that it is writable, and removes the temporary files of interrupted processes.
pub(super) fn prepare(path: &Path, access: Access, is_shared: bool) -> Result<(), CacheError> {
    create(path, access)?;
    sys::check_writable(path).map_err(|error| CacheError::new("cannot write to", path, error))?;
    // `entries` hides the reason for which a directory cannot be read.
    fs::read_dir(path)
        .map_err(|error| CacheError::new("cannot read the cache directory", path, error))?;
    remove_temporary(path, TEMPORARY_PREFIX, is_shared);
    Ok(())
}

/// Removes the files and folders whose names begin with `prefix`. In a shared directory, only abandoned ones.
pub(super) fn remove_temporary(directory: &Path, prefix: &str, is_shared: bool) {
    let now = SystemTime::now();
    for path in entries(directory) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(prefix) && (!is_shared || is_abandoned(&path, now)) {
            // Folders are those of interrupted loads.
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
}

fn is_abandoned(path: &Path, now: SystemTime) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    let age = modified
        .ok()
        .and_then(|modified| now.duration_since(modified).ok());
    age.is_some_and(|age| age > ABANDONED_AFTER)
}

/// Returns the paths in a directory; none if the directory cannot be read.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Creates a temporary file.
pub(super) fn temporary_file(directory: &Path) -> Result<NamedTempFile, CacheError> {
    tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .tempfile_in(directory)
        .map_err(|source| CacheError::new("cannot create a file in", directory, source))
}

/// Replaces the content of `path`. A reader sees the old content or the new content, never a part of it.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .tempfile_in(path.parent().unwrap_or(path))?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Replaces the content of `path` with `value` as JSON. Serializing to a buffer first avoids a system call per token.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_atomically(path, &serde_json::to_vec(value)?)
}

/// Returns the SHA-256 of a file. Reads the whole file.
pub(super) fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::of(hash)),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Returns the number of bytes that a file occupies on disk.
pub(super) fn allocated_bytes(metadata: &Metadata) -> u64 {
    /// Unit of `st_blocks`, on every file system.
    const BLOCK: u64 = 512;
    metadata.blocks() * BLOCK
}

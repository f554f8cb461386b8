//! Directory of partial downloads.
//!
//! The name of the file that a download writes to is derived from location, identity and size. So the bytes of two
//! versions never meet in one file. Next to the file, a JSON record contains the [`RemoteFile`] for the next process.
//! The download of another version removes partial downloads from the same location.
//!
//! A download holds a lock on its file. An abandoned download may still write its last chunks, so the next one waits
//! for the lock. If the lock stays with another download, the next one downloads everything to an unnamed file: twice
//! the work, never a mixture. In a shared directory every download uses an unnamed file. Locks on network file systems
//! are slow or missing, and another environment may still write to its own download.

mod download;
mod progress;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) use download::DownloadPath;
pub use download::PartialDownload;

use super::remote_file::{RemoteFile, name_prefix};
use crate::cache::directory::{entries, temporary_file};
use crate::cache::error::CacheError;
use progress::TransferProgress;

/// Maximum number of attempts to lock a file. With [`LOCK_PAUSE`] one second, far longer than writing a few chunks.
const LOCK_ATTEMPTS: u32 = 100;
/// Pause between attempts to lock a file.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Download of an earlier process or attempt that can be resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumableDownload {
    /// The file at the source.
    pub remote: RemoteFile,
    /// Ranges that have not been downloaded, in order.
    pub missing: Vec<Range<u64>>,
}

/// Directory of partial downloads.
#[derive(Debug)]
pub(in crate::cache) struct PartialDirectory {
    path: PathBuf,
    is_shared: bool,
}

impl PartialDirectory {
    pub(super) fn new(path: PathBuf, is_shared: bool) -> Self {
        Self { path, is_shared }
    }

    /// Returns the path of the directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the paths of all files and folders of the directory.
    pub(in crate::cache) fn entries(&self) -> Vec<PathBuf> {
        entries(&self.path)
    }

    /// Returns `true` if the file at `path` is a partial download that no process works on.
    pub(in crate::cache) fn is_evictable(&self, path: &Path) -> bool {
        let is_download = path
            .extension()
            .is_some_and(|extension| extension == "part");
        is_download && !self.is_shared && !is_locked(path)
    }

    /// Implements [`Cache::resumable_download`](crate::cache::Cache::resumable_download).
    pub(in crate::cache) fn find(&self, location: &str) -> Option<ResumableDownload> {
        if self.is_shared {
            return None;
        }
        let records = self
            .entries()
            .into_iter()
            .filter(|path| is_record(path) && is_from(path, location));
        let (_, download) = records
            .filter_map(|record| self.read(&record))
            .max_by_key(|(downloaded, _)| *downloaded)?;
        Some(download)
    }

    /// Implements [`Cache::start_download`](crate::cache::Cache::start_download).
    pub(in crate::cache) fn open_download(
        &self,
        remote: RemoteFile,
        part_bytes: u64,
    ) -> Result<PartialDownload, CacheError> {
        if self.is_shared {
            return self.start_unnamed(remote, part_bytes);
        }
        let path = self.download_path(&remote);
        self.sweep_except(&remote.location, &path);
        match lock(&path)? {
            Some(file) => PartialDownload::open(remote, part_bytes, file, path),
            None => self.start_unnamed(remote, part_bytes),
        }
    }

    /// Removes the partial download of `remote`, unless it is locked.
    pub(in crate::cache) fn discard(&self, remote: &RemoteFile) {
        remove_unless_locked(&self.download_path(remote));
    }

    /// Removes all partial downloads from `location` that are not locked.
    pub(super) fn sweep(&self, location: &str) {
        self.sweep_except(location, Path::new(""));
    }

    fn sweep_except(&self, location: &str, except: &Path) {
        if self.is_shared {
            return;
        }
        for path in self.entries() {
            if is_from(&path, location) && path.file_stem() != except.file_stem() {
                remove_unless_locked(&path.with_extension("part"));
            }
        }
    }

    fn start_unnamed(
        &self,
        remote: RemoteFile,
        part_bytes: u64,
    ) -> Result<PartialDownload, CacheError> {
        let (file, path) = temporary_file(&self.path)?.into_parts();
        Ok(PartialDownload::unnamed(remote, part_bytes, file, path))
    }

    /// Reads a record; returns it with the number of bytes that have been downloaded.
    fn read(&self, record: &Path) -> Option<(u64, ResumableDownload)> {
        let remote: RemoteFile = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
        let file = File::open(self.download_path(&remote)).ok()?;
        let progress = TransferProgress::read(&file, remote.size).ok()??;
        let (downloaded, missing) = (progress.downloaded(), progress.missing());
        (downloaded > 0).then_some((downloaded, ResumableDownload { remote, missing }))
    }

    fn download_path(&self, remote: &RemoteFile) -> PathBuf {
        self.path.join(format!("{}.part", remote.download_name()))
    }
}

/// Opens or creates the file at `path` and locks it; `None` if another download keeps the lock.
fn lock(path: &Path) -> Result<Option<File>, CacheError> {
    for _ in 0..LOCK_ATTEMPTS {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        let file = opened.map_err(|error| CacheError::new("cannot open", path, error))?;
        match file.try_lock() {
            // The last holder of the lock may have renamed or removed the file.
            Ok(()) if is_at(&file, path) => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            // The file system does not support locks.
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
    Ok(None)
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(file), Ok(named)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    (file.dev(), file.ino()) == (named.dev(), named.ino())
}

fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_err())
}

/// Removes a partial download and its record, unless it is locked.
pub(super) fn remove_unless_locked(path: &Path) {
    if !is_locked(path) {
        let _ = fs::remove_file(path);
        let _ = fs::remove_file(path.with_extension("json"));
    }
}

fn is_record(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "json")
}

fn is_from(path: &Path, location: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(&name_prefix(location))
}

#[cfg(test)]
mod tests;

//! What has arrived of a file that is not whole yet.
//!
//! A fetch writes to a file whose name comes from the place, the identity and the size, so that the bytes of two
//! versions never meet in one. It comes in parts, several at a time; the file itself says how far each is known good
//! ([`progress`]), and what `write` has taken outlives the process (no fsync: not the machine). Beside it lies what a
//! later process must know to ask for the rest. A file that is whole moves to its own name; one that another version
//! makes useless is removed when that version begins.
//!
//! Whoever writes holds a lock on the file. A fetch that was given up may still be writing its last chunks, so the
//! next one waits a moment; if the lock stays with another, it takes a nameless file of its own and fetches
//! everything: twice the work, never a mixture. On a directory that several environments share it always does: locks
//! there are slow, or none, and what another has begun is not to be gone on with while that may still be writing.

mod progress;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;

use super::eviction::on_disk;
use super::{Cache, CacheError, CachedFile, entries, failed, keep_json, temporary};
use crate::ids::{Checksum, Digest, Identity};
use crate::sys;
use progress::Progress;

/// How long a lock is waited for: far longer than a few chunks take to write.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A file that is to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// Where it comes from.
    pub location: String,
    /// What the source says of this content.
    pub identity: Identity,
    /// Its length in bytes.
    pub size: u64,
    /// What the source declared to hold the bytes against; `None` where it declared nothing, or is not known to.
    pub checksum: Option<Checksum>,
}

/// What an earlier fetch has left of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumableDownload {
    /// The file.
    pub wanted: RemoteFile,
    /// The ranges of it that are not here, in order.
    pub missing: Vec<Range<u64>>,
}

/// A file that is not whole yet, in the hands of one fetch. Dropped, it stays for the next.
#[derive(Debug)]
pub struct PartialDownload {
    wanted: RemoteFile,
    file: File,
    progress: Progress,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Under the name at which the next fetch of the same looks.
    Named { path: PathBuf, record: PathBuf },
    /// Under a name that nobody knows; removed unless it becomes whole.
    Nameless(TempPath),
}

impl Cache {
    /// What an earlier fetch from `location` has left, if that is at least one byte.
    #[must_use]
    pub fn unfinished(&self, location: &str) -> Option<ResumableDownload> {
        if self.is_shared {
            return None;
        }
        let of_here = entries(&self.partials)
            .into_iter()
            .filter(|path| is_record(path) && is_of(path, location));
        let (_, most) = of_here
            .filter_map(|record| self.read_record(&record))
            .max_by_key(|(have, _)| *have)?;
        Some(most)
    }

    /// Takes the partial file of `wanted` in hand, with what is here of it; begins it if there is none, in parts of
    /// about `part` bytes. Partials of other versions from the same place go. Blocks while an earlier fetch lets go
    /// of it, a second at most.
    pub fn partial(&self, wanted: RemoteFile, part: u64) -> Result<PartialDownload, CacheError> {
        if self.is_shared {
            return self.nameless(wanted, part);
        }
        let path = self.partials.join(format!("{}.part", stem(&wanted)));
        let record = path.with_extension("json");
        self.sweep_partials(&wanted.location, &path);
        let Some(file) = lock(&path)? else {
            return self.nameless(wanted, part);
        };
        let progress = Progress::read(&file, wanted.size)
            .map_err(|error| failed("cannot read", &path, error))?;
        let progress = match progress {
            Some(progress) => progress.divided(part),
            None => {
                let emptied = file.set_len(0);
                emptied.map_err(|error| failed("cannot empty", &path, error))?;
                Progress::of_prefix(wanted.size, part, 0)
            }
        };
        let mut partial = PartialDownload {
            wanted,
            file,
            progress,
            place: Place::Named { path, record },
        };
        partial.write_record()?;
        Ok(partial)
    }

    /// Removes what an earlier fetch has left of `wanted`, unless one is at it.
    pub fn forget(&self, wanted: &RemoteFile) {
        remove_unless_locked(&self.partials.join(format!("{}.part", stem(wanted))));
    }

    /// Gives a partial file that has become whole its name; its bytes have this digest.
    pub fn complete(
        &self,
        partial: PartialDownload,
        digest: &Digest,
    ) -> Result<CachedFile, CacheError> {
        let kept = self.lease(digest);
        let cut = partial.file.set_len(partial.wanted.size);
        cut.map_err(|error| partial.failed("cannot end", error))?;
        match partial.place {
            Place::Named { path, record } => {
                let renamed = fs::rename(path, kept.path());
                renamed.map_err(|error| failed("cannot rename to", kept.path(), error))?;
                let _ = fs::remove_file(record);
                self.touch(kept.path());
            }
            Place::Nameless(path) => self.place(&partial.file, path, &kept, digest)?,
        }
        self.note_origin(&partial.wanted, digest);
        // What was still being written when this began.
        self.sweep_partials(&partial.wanted.location, Path::new(""));
        Ok(kept)
    }

    fn nameless(&self, wanted: RemoteFile, part: u64) -> Result<PartialDownload, CacheError> {
        let (file, path) = temporary(&self.partials)?.into_parts();
        let progress = Progress::of_prefix(wanted.size, part, 0);
        Ok(PartialDownload {
            wanted,
            file,
            progress,
            place: Place::Nameless(path),
        })
    }

    /// What it describes, and how many bytes of that are here.
    fn read_record(&self, record: &Path) -> Option<(u64, ResumableDownload)> {
        let wanted: RemoteFile = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
        let path = self.partials.join(format!("{}.part", stem(&wanted)));
        let progress = Progress::read(&File::open(path).ok()?, wanted.size).ok()??;
        let (have, missing) = (progress.have(), progress.missing());
        (have > 0).then_some((have, ResumableDownload { wanted, missing }))
    }

    pub(super) fn sweep_partials(&self, location: &str, except: &Path) {
        if self.is_shared {
            return;
        }
        for path in entries(&self.partials) {
            if is_of(&path, location) && path.file_stem() != except.file_stem() {
                remove_unless_locked(&path.with_extension("part"));
            }
        }
    }
}

impl CacheError {
    /// Whether it is for want of space.
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        is_storage_full(&self.source)
    }
}

/// Whether a write failed for want of space.
#[must_use]
pub fn is_storage_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl PartialDownload {
    /// What is to come.
    #[must_use]
    pub fn wanted(&self) -> &RemoteFile {
        &self.wanted
    }

    /// How many bytes are here.
    #[must_use]
    pub fn have(&self) -> u64 {
        self.progress.have()
    }

    /// What is not here of each part that is not whole, in order.
    #[must_use]
    pub fn missing(&self) -> Vec<Range<u64>> {
        self.progress.missing()
    }

    /// How many bytes the disk must still find for it.
    pub fn needs(&self) -> io::Result<u64> {
        let has = on_disk(&self.file.metadata()?);
        Ok(self.wanted.size.saturating_sub(has))
    }

    /// Takes the room on the disk, where the file system can do that, and makes the file ready for
    /// [`PartialDownload::write`].
    pub fn prepare(&mut self) -> io::Result<()> {
        sys::reserve_space(&self.file, self.wanted.size)?;
        self.progress.lay_out(&self.file)
    }

    /// Writes bytes that are missing and lie in one part, behind what is here of that part.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        self.progress.note(&self.file, offset, bytes.len() as u64)
    }

    /// Reads bytes that are here, as many from `offset` on as `buffer` takes and are known without a look at the next
    /// part; returns how many. None at the end of what is here.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let known = self.progress.known_to(offset) - offset;
        let most = usize::try_from(known).map_or(buffer.len(), |known| known.min(buffer.len()));
        self.file.read_exact_at(&mut buffer[..most], offset)?;
        Ok(most)
    }

    /// Whether the byte at `offset` is here.
    #[must_use]
    pub fn has(&self, offset: u64) -> bool {
        self.progress.known_to(offset) > offset
    }

    /// Removes it: what is here is of no use, or in the way.
    pub fn discard(self) {
        if let Place::Named { path, record } = &self.place {
            let _ = fs::remove_file(path);
            let _ = fs::remove_file(record);
        }
    }

    /// Lets a later process know what this is. A checksum that was declared once is not forgotten when the answer
    /// for a part does not repeat it.
    fn write_record(&mut self) -> Result<(), CacheError> {
        let Place::Named { record, .. } = &self.place else {
            return Ok(());
        };
        let before = fs::read(record).ok();
        let before: Option<RemoteFile> = before.and_then(|json| serde_json::from_slice(&json).ok());
        if let Some(before) = before.filter(|before| stem(before) == stem(&self.wanted)) {
            if self.wanted.checksum.is_none() {
                self.wanted.checksum.clone_from(&before.checksum);
            }
            if before == self.wanted {
                return Ok(());
            }
        }
        keep_json(record, &self.wanted).map_err(|error| self.failed("cannot describe", error))
    }

    fn failed(&self, action: &'static str, error: io::Error) -> CacheError {
        let path = match &self.place {
            Place::Named { path, .. } => path.as_path(),
            Place::Nameless(path) => path,
        };
        failed(action, path, error)
    }
}

/// The file at `path`, locked, made if there is none; `None` when the lock stays with another.
fn lock(path: &Path) -> Result<Option<File>, CacheError> {
    for _ in 0..LOCK_TRIES {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        let file = opened.map_err(|error| failed("cannot open", path, error))?;
        match file.try_lock() {
            // Its last owner may have renamed or removed it meanwhile.
            Ok(()) if is_at(&file, path) => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            // A file system without locks.
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

pub(super) fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_err())
}

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

fn is_of(path: &Path, location: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(&format!("{}-", digits([location])))
}

/// The name without its ending: of the place, and of this content from there.
fn stem(wanted: &RemoteFile) -> String {
    let Identity { etag, version_id } = &wanted.identity;
    let version_id = version_id.as_deref().unwrap_or_default();
    let content = digits([&etag.0, version_id, &wanted.size.to_string()]);
    format!("{}-{content}", digits([wanted.location.as_str()]))
}

pub(super) fn digits<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Digest::of(hash).as_str()[..16].to_owned()
}

#[cfg(test)]
mod tests;

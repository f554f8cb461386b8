//! What has arrived of a file that is not whole yet.
//!
//! A fetch appends to a file whose name comes from the place, the identity and the size, so that the bytes of two
//! versions never meet in one. The file's length is how far it is known good: bytes are only ever appended, in
//! order, and what `write` has taken outlives the process (no fsync: not the machine). Beside it lies what a later
//! process must know to ask for the rest. A file that is whole moves to its own name; one that another version makes
//! useless is removed when that version begins.
//!
//! Whoever appends holds a lock on the file. A fetch that was given up may still be writing its last chunks, so the
//! next one waits a moment; if the lock stays with another, as on a directory that several environments share, it
//! takes a nameless file of its own and fetches everything: twice the work, never a mixture.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;

use super::{Cache, CacheError, KeptFile, entries, failed, temporary};
use crate::ids::{Checksum, Digest, Identity};
use crate::sys;

/// How long a lock is waited for: far longer than a few chunks take to write.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A file that is to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Where it comes from.
    pub location: String,
    /// What the source says of this content.
    pub identity: Identity,
    /// Its length in bytes.
    pub size: u64,
    /// What the source declared to hold the bytes against; `None` where it declared nothing, or is not known to.
    pub checksum: Option<Checksum>,
}

/// The beginning of a file, which grows, in the hands of one fetch. Dropped, it stays for the next.
#[derive(Debug)]
pub struct Partial {
    wanted: Wanted,
    file: File,
    have: u64,
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
    /// What an earlier fetch from `location` has left, and how many bytes of it are here: at least one.
    #[must_use]
    pub fn unfinished(&self, location: &str) -> Option<(Wanted, u64)> {
        let of_here = entries(&self.partials)
            .into_iter()
            .filter(|path| is_record(path) && is_of(path, location));
        of_here
            .filter_map(|record| self.read_record(&record))
            .max_by_key(|(_, have)| *have)
    }

    /// Takes the partial file of `wanted` in hand, with what is here of it; begins it if there is none. Partials of
    /// other versions from the same place go. Blocks while an earlier fetch lets go of it, a second at most.
    pub fn partial(&self, wanted: Wanted) -> Result<Partial, CacheError> {
        let path = self.partials.join(format!("{}.part", stem(&wanted)));
        let record = path.with_extension("json");
        self.sweep_partials(&wanted.location, &path);
        let Some(file) = lock(&path)? else {
            return self.nameless(wanted);
        };
        let have = file
            .metadata()
            .map_err(|error| failed("cannot read", &path, error))?
            .len();
        let mut partial = Partial {
            wanted,
            file,
            have,
            place: Place::Named { path, record },
        };
        if have > partial.wanted.size {
            partial.restart()?;
        }
        partial.write_record(self)?;
        Ok(partial)
    }

    /// Removes what an earlier fetch has left of `wanted`, unless one is at it.
    pub fn forget(&self, wanted: &Wanted) {
        remove_unless_locked(&self.partials.join(format!("{}.part", stem(wanted))));
    }

    /// Gives a partial file that has become whole its name; its bytes have this digest.
    pub fn complete(&self, partial: Partial, digest: &Digest) -> Result<KeptFile, CacheError> {
        let kept = self.take_in_hand(digest);
        let renamed = match partial.place {
            Place::Named { path, record } => fs::rename(path, kept.path()).inspect(|()| {
                let _ = fs::remove_file(record);
            }),
            Place::Nameless(path) => path.persist(kept.path()).map_err(|error| error.error),
        };
        renamed.map_err(|error| failed("cannot rename to", kept.path(), error))?;
        Ok(kept)
    }

    /// Bytes that may still be written here; `None` where the file system does not say.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        sys::free_bytes(&self.partials)
    }

    fn nameless(&self, wanted: Wanted) -> Result<Partial, CacheError> {
        let (file, path) = temporary(&self.partials)?.into_parts();
        Ok(Partial {
            wanted,
            file,
            have: 0,
            place: Place::Nameless(path),
        })
    }

    fn read_record(&self, record: &Path) -> Option<(Wanted, u64)> {
        let wanted: Wanted = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
        let path = self.partials.join(format!("{}.part", stem(&wanted)));
        let have = fs::metadata(path).ok()?.len();
        (have > 0 && have <= wanted.size).then_some((wanted, have))
    }

    fn sweep_partials(&self, location: &str, except: &Path) {
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
    pub fn is_full(&self) -> bool {
        is_full(&self.source)
    }
}

/// Whether a write failed for want of space.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl Partial {
    /// What is to come.
    #[must_use]
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// How many bytes are here, from the first on.
    #[must_use]
    pub fn have(&self) -> u64 {
        self.have
    }

    /// Hands what is here, in order, to `each`, which may end it early by `false`; returns whether it went to the
    /// end. To be called once, before anything is appended.
    pub fn read_back(&mut self, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
        let mut buffer = vec![0; 256 * 1024];
        let mut left = self.have;
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            self.file.read_exact(&mut buffer[..most])?;
            left -= most as u64;
            if !each(&buffer[..most]) {
                break;
            }
        }
        self.file.seek(SeekFrom::Start(self.have))?;
        Ok(left == 0)
    }

    /// Appends the bytes that follow.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.have += bytes.len() as u64;
        Ok(())
    }

    /// Removes it: what is here is of no use, or in the way.
    pub fn discard(self) {
        if let Place::Named { path, record } = &self.place {
            let _ = fs::remove_file(path);
            let _ = fs::remove_file(record);
        }
    }

    fn restart(&mut self) -> Result<(), CacheError> {
        self.have = 0;
        let emptied = self.file.set_len(0);
        emptied.map_err(|error| self.failed("cannot empty", error))
    }

    /// Lets a later process know what this is. A checksum that was declared once is not forgotten when the answer
    /// for a part does not repeat it.
    fn write_record(&mut self, cache: &Cache) -> Result<(), CacheError> {
        let Place::Named { record, .. } = &self.place else {
            return Ok(());
        };
        let before = fs::read(record).ok();
        let before: Option<Wanted> = before.and_then(|json| serde_json::from_slice(&json).ok());
        if let Some(before) = before.filter(|before| stem(before) == stem(&self.wanted)) {
            if self.wanted.checksum.is_none() {
                self.wanted.checksum.clone_from(&before.checksum);
            }
            if before == self.wanted {
                return Ok(());
            }
        }
        let file = temporary(&cache.partials)?;
        serde_json::to_writer(&file, &self.wanted)
            .map_err(|error| self.failed("cannot describe", error.into()))?;
        let kept = file.persist(record).map_err(|error| error.error);
        kept.map_err(|error| self.failed("cannot describe", error))?;
        Ok(())
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

fn remove_unless_locked(path: &Path) {
    let in_use = File::open(path).is_ok_and(|file| file.try_lock().is_err());
    if !in_use {
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
fn stem(wanted: &Wanted) -> String {
    let Identity { etag, version_id } = &wanted.identity;
    let version_id = version_id.as_deref().unwrap_or_default();
    let content = digits([&etag.0, version_id, &wanted.size.to_string()]);
    format!("{}-{content}", digits([wanted.location.as_str()]))
}

fn digits<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Digest::of(hash).as_str()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ETag;

    fn wanted(etag: &str, size: u64) -> Wanted {
        Wanted {
            location: "s3://b/m.onnx".to_owned(),
            identity: Identity {
                etag: ETag(etag.to_owned()),
                version_id: None,
            },
            size,
            checksum: None,
        }
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        (directory, cache)
    }

    fn files(cache: &Cache) -> usize {
        entries(&cache.partials).len()
    }

    #[test]
    fn what_has_arrived_is_found_by_the_next_process_and_is_gone_once_whole() {
        let (directory, cache) = cache();
        let mut partial = cache.partial(wanted("1", 6)).unwrap();
        assert!(cache.unfinished("s3://b/m.onnx").is_none(), "no byte yet");
        partial.append(b"abc").unwrap();
        drop(partial);

        let cache = Cache::open(directory.path()).unwrap();
        assert!(cache.unfinished("s3://b/other.onnx").is_none());
        let (found, have) = cache.unfinished("s3://b/m.onnx").unwrap();
        assert_eq!((&found, have), (&wanted("1", 6), 3));
        let mut partial = cache.partial(found).unwrap();
        let mut bytes = Vec::new();
        let whole = partial.read_back(|block| {
            bytes.extend_from_slice(block);
            true
        });
        assert!(whole.unwrap());
        partial.append(b"def").unwrap();
        assert_eq!((bytes.as_slice(), partial.have()), (&b"abc"[..], 6));
        let digest = Digest::of(Sha256::new().chain_update(b"abcdef"));
        let kept = cache.complete(partial, &digest).unwrap();
        assert_eq!(fs::read(kept.path()).unwrap(), b"abcdef");
        assert_eq!(files(&cache), 0);
    }

    #[test]
    fn another_version_begins_at_nothing_and_removes_what_was_left_of_the_last() {
        let (_directory, cache) = cache();
        for other in [wanted("2", 6), wanted("1", 7)] {
            cache
                .partial(wanted("1", 6))
                .unwrap()
                .append(b"abc")
                .unwrap();
            let mut partial = cache.partial(other.clone()).unwrap();
            assert_eq!((partial.have(), files(&cache)), (0, 2));
            partial.append(b"x").unwrap();
            assert_eq!(cache.unfinished("s3://b/m.onnx").unwrap(), (other, 1));
        }
    }

    #[test]
    fn a_checksum_that_was_declared_once_is_kept() {
        let (_directory, cache) = cache();
        let checksum = Some(Checksum {
            algorithm: crate::ids::ChecksumAlgorithm::Crc32,
            value: "AAAAAA==".to_owned(),
        });
        let declared = Wanted {
            checksum: checksum.clone(),
            ..wanted("1", 6)
        };
        drop(cache.partial(declared).unwrap());
        assert_eq!(
            cache.partial(wanted("1", 6)).unwrap().wanted().checksum,
            checksum
        );
    }

    #[test]
    fn two_at_once_do_not_write_into_one_file() {
        let (_directory, cache) = cache();
        let mut first = cache.partial(wanted("1", 3)).unwrap();
        first.append(b"ab").unwrap();
        let mut second = cache.partial(wanted("1", 3)).unwrap();
        assert_eq!(second.have(), 0);
        second.append(b"abc").unwrap();
        first.append(b"c").unwrap();
        let digest = Digest::of(Sha256::new().chain_update(b"abc"));
        for partial in [first, second] {
            let kept = cache.complete(partial, &digest).unwrap();
            assert_eq!(fs::read(kept.path()).unwrap(), b"abc");
        }
        assert_eq!(files(&cache), 0);
        let mut given_up = cache.partial(wanted("2", 3)).unwrap();
        given_up.append(b"ab").unwrap();
        let in_use = files(&cache);
        drop(cache.partial(wanted("3", 3)).unwrap());
        assert_eq!(files(&cache), in_use + 2, "another's is not swept");
    }

    #[test]
    fn whoever_waited_for_a_file_that_became_whole_begins_another() {
        let (_directory, cache) = cache();
        let mut first = cache.partial(wanted("1", 3)).unwrap();
        first.append(b"abc").unwrap();
        let path = cache
            .partials
            .join(format!("{}.part", stem(first.wanted())));
        let opened = || {
            let fds = entries(Path::new("/proc/self/fd"));
            let of_it = |fd: &&PathBuf| fs::read_link(fd).is_ok_and(|file| file == path);
            fds.iter().filter(of_it).count()
        };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| cache.partial(wanted("1", 3)).unwrap());
            while opened() < 2 && !waiting.is_finished() {
                std::thread::yield_now();
            }
            let digest = Digest::of(Sha256::new().chain_update(b"abc"));
            let kept = cache.complete(first, &digest).unwrap();
            let mut second = waiting.join().unwrap();
            assert_eq!(second.have(), 0);
            second.append(b"x").unwrap();
            assert_eq!(fs::read(kept.path()).unwrap(), b"abc");
        });
    }

    #[test]
    fn reading_back_may_end_early_and_what_follows_still_comes_last() {
        let (_directory, cache) = cache();
        let mut partial = cache.partial(wanted("1", 1_000_001)).unwrap();
        partial.append(&vec![b'a'; 1_000_000]).unwrap();
        drop(partial);
        let mut partial = cache.partial(wanted("1", 1_000_001)).unwrap();
        assert!(!partial.read_back(|_| false).unwrap());
        partial.append(b"b").unwrap();
        let digest = Digest::of(Sha256::new());
        let bytes = fs::read(cache.complete(partial, &digest).unwrap().path()).unwrap();
        assert_eq!((bytes.len(), bytes.last()), (1_000_001, Some(&b'b')));
    }

    #[test]
    fn one_that_is_longer_than_the_file_begins_anew() {
        let (_directory, cache) = cache();
        cache
            .partial(wanted("1", 2))
            .unwrap()
            .append(b"abc")
            .unwrap();
        assert!(cache.unfinished("s3://b/m.onnx").is_none());
        assert_eq!(cache.partial(wanted("1", 2)).unwrap().have(), 0);
    }
}

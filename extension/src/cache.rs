//! Model files between starts: content-addressed, whole or absent.
//!
//! A file grows as a [`PartialDownload`], and gets its name, the SHA-256 of its bytes, when it is whole. No fsync: `/tmp`
//! does not outlive the machine, and a file is checked again before it is used after a start.
//! Beside the files, a [`Journal`] for each model says which identity of the source they came from and how their
//! loads went, so that a second start in the same execution environment asks one conditional question and fetches
//! nothing. Files of earlier versions stay as long as there is room for them, so that a version which returns is not
//! fetched again; [`Cache::free_space`] says which go.
//!
//! A directory that several environments share, such as one on EFS, is never cleaned up by one of them: no eviction, no
//! locks, and a file that is there already is left as it is, since another environment may have it mapped. Each fetches
//! for itself what is not there, and the first name stays.

mod adopted;
mod eviction;
mod journal;
mod layout;
mod load_markers;
mod origins;
mod partial;
mod place;
mod record;
mod rollout_position;
mod unpacked;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

pub use eviction::InsufficientSpace;
pub use journal::{History, Journal, ManifestMetadata, RejectedFile, RejectionCause};
pub use layout::CachedModel;
pub use load_markers::ShuttingDown;
pub use partial::{PartialDownload, RemoteFile, ResumableDownload, is_storage_full};
pub use record::{FileRecord, ModelRecord};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
pub use unpacked::DecompressedFile;

use crate::ids::{Digest, ModelName};
use crate::manifest::RolloutPosition;
use crate::sys;
use eviction::Limits;
use load_markers::LoadMarkers;

/// Prefix of the names of temporary files. No model's name begins with a dot, so no journal or load marker has it.
const PARTIAL_PREFIX: &str = ".partial-";

/// How a cache's directory may be used.
#[derive(Clone, Debug, Default)]
pub struct CacheSettings {
    /// How many bytes it may take; `None`: what the disk has.
    pub max_bytes: Option<u64>,
    /// Whether other environments use it as well; `None`: if it is on NFS.
    pub is_shared: Option<bool>,
    /// Where what concerns this environment alone is kept, when the directory is shared; `None`: there as well.
    pub private_directory: Option<PathBuf>,
}

/// A directory of model files.
#[derive(Clone, Debug)]
pub struct Cache {
    files: PathBuf,
    origins: PathBuf,
    journals: PathBuf,
    markers: Arc<LoadMarkers>,
    partials: PathBuf,
    rollout_position: PathBuf,
    drawn: Arc<OnceLock<RolloutPosition>>,
    in_hand: Arc<Mutex<Vec<Weak<PathBuf>>>>,
    is_shared: bool,
    is_restart: bool,
    limits: Limits,
}

/// A whole file, which stays at least as long as this or a clone of it lives.
#[derive(Clone, Debug)]
pub struct CachedFile(Arc<PathBuf>);

impl CachedFile {
    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Something went wrong with the cache's directory.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {source}{}", hint(.source))]
pub struct CacheError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl CacheError {
    /// The error in words that name no path: for callers from outside.
    #[must_use]
    pub fn public(&self) -> String {
        let Self { source, .. } = self;
        format!("the cache cannot be used: {source}{}", hint(source))
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            " (the function's ephemeral storage is too small for the model)"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            " (MODEL_CACHE_DIR must be a directory that this process can write, such as one in /tmp)"
        }
        _ => "",
    }
}

impl Cache {
    /// Opens the cache as [`Cache::open_with`] does, with no limits but those of the disk.
    pub fn open(directory: &Path) -> Result<Self, CacheError> {
        Self::open_with(directory, &CacheSettings::default())
    }

    /// Opens the cache, makes its directories, and sweeps what an interrupted fetch left. One that is not shared must be
    /// this user's own: where it lies, others may be able to make one of its name before.
    pub fn open_with(directory: &Path, settings: &CacheSettings) -> Result<Self, CacheError> {
        let is_shared = settings.is_shared.unwrap_or_else(|| {
            // The part of the path that is there says where the directory will be.
            let there = directory.ancestors().find(|path| path.exists());
            there.is_some_and(sys::is_on_nfs) && !directory.is_symlink()
        });
        make(directory, is_shared)?;
        let own = settings.private_directory.as_deref().filter(|_| is_shared);
        if let Some(own) = own {
            make(own, false)?;
        }
        let own = own.unwrap_or(directory);
        let loading = own.join("loading");
        make(&loading, false)?;
        let cache = Self {
            files: directory.join("files"),
            origins: directory.join("origins"),
            journals: own.join("journals"),
            markers: Arc::new(LoadMarkers::open(&loading)),
            partials: directory.join("partials"),
            rollout_position: own.join("rollout-position"),
            drawn: Arc::default(),
            in_hand: Arc::default(),
            is_shared,
            is_restart: false,
            limits: Limits::new(settings.max_bytes, sys::disk(directory)),
        };
        for path in [
            &cache.files,
            &cache.origins,
            &cache.journals,
            &loading,
            &cache.partials,
        ] {
            make(path, is_shared && path.starts_with(directory))?;
            sys::check_writable(path).map_err(|error| failed("cannot write to", path, error))?;
            cache.sweep_temporary(path)?;
        }
        cache.sweep_undotted();
        let is_restart = cache.markers.is_left_behind() || cache.has_journal_or_partial();
        Ok(Self {
            is_restart,
            ..cache
        })
    }

    /// Returns whether a process before this one has used the cache in the same execution environment: it has left a
    /// journal, a load marker, or a part of a file.
    #[must_use]
    pub fn is_restart(&self) -> bool {
        self.is_restart
    }

    fn has_journal_or_partial(&self) -> bool {
        let has_any = |directory: &Path| !entries(directory).is_empty();
        // In a shared directory, partial files may be those of other environments.
        has_any(&self.journals) || !self.is_shared && has_any(&self.partials)
    }

    /// The file whose bytes have this digest, which is checked. One that is missing, damaged or cannot be read counts as
    /// absent; one that is damaged is removed. Reads the whole file.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<CachedFile> {
        let kept = self.lease(digest);
        match digest_of(kept.path()) {
            Ok(found) if found == *digest => {
                self.touch(kept.path());
                Some(kept)
            }
            Ok(_) if !self.is_shared => {
                let _ = fs::remove_file(kept.path());
                None
            }
            // What cannot be read now, as at a limit of open files, may be whole.
            Ok(_) | Err(_) => None,
        }
    }

    /// The files that a journal names, and that may still be loaded.
    fn named(&self) -> Vec<PathBuf> {
        let entries = self.journal_entries();
        let digests = entries.iter().flat_map(journal::Kept::needed);
        digests.map(|digest| self.path(&digest)).collect()
    }

    /// The files that a journal knows to be of no use.
    fn refused(&self) -> Vec<PathBuf> {
        let entries = self.journal_entries();
        let digests = entries.iter().flat_map(journal::Kept::refused);
        digests.map(|digest| self.path(&digest)).collect()
    }

    fn journal_entries(&self) -> Vec<journal::Kept> {
        let read = |path: PathBuf| serde_json::from_slice(&fs::read(path).ok()?).ok();
        entries(&self.journals)
            .into_iter()
            .filter_map(read)
            .collect()
    }

    /// A version whose files are all here, laid out to be loaded; see [`Cache::find`].
    #[must_use]
    pub fn find_model(&self, record: &ModelRecord) -> Option<CachedModel> {
        let files = record.files().map(|file| self.find(&file.digest));
        let files = files.collect::<Option<Vec<_>>>()?;
        self.lay_out(record, files, None).ok()
    }

    fn lease(&self, digest: &Digest) -> CachedFile {
        let path = Arc::new(self.path(digest));
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        in_hand.push(Arc::downgrade(&path));
        CachedFile(path)
    }

    fn in_hand(&self) -> Vec<Arc<PathBuf>> {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        in_hand.retain(|file| file.strong_count() > 0);
        in_hand.iter().filter_map(Weak::upgrade).collect()
    }

    /// Removes a file unless somebody has it in hand; whoever takes it in hand meanwhile waits, and finds it gone.
    fn remove_unless_in_hand(&self, path: &Path) -> bool {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        in_hand.retain(|file| file.strong_count() > 0);
        let mut held = in_hand.iter().filter_map(Weak::upgrade);
        !held.any(|file| *file == path) && fs::remove_file(path).is_ok()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.files.join(format!("{digest}.onnx"))
    }

    fn journal_path(&self, model: &ModelName) -> PathBuf {
        self.journals.join(format!("{model}.json"))
    }
}

fn make(path: &Path, is_shared: bool) -> Result<(), CacheError> {
    let made = if is_shared {
        fs::create_dir_all(path)
    } else {
        sys::make_private(path)
    };
    made.map_err(|source| failed("cannot make the cache directory", path, source))
}

/// The paths in a directory; none when it cannot be read.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn temporary(directory: &Path) -> Result<NamedTempFile, CacheError> {
    tempfile::Builder::new()
        .prefix(PARTIAL_PREFIX)
        .tempfile_in(directory)
        .map_err(|source| failed("cannot make a file in", directory, source))
}

/// Writes what is to be known later to `path`: the old or the new, never a half.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(PARTIAL_PREFIX)
        .tempfile_in(path.parent().unwrap_or(path))?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// The same as JSON. In one piece, since a serializer that writes to a file makes a system call of every token.
fn keep_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    keep(path, &serde_json::to_vec(value)?)
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> CacheError {
    CacheError {
        action,
        path: path.to_owned(),
        source,
    }
}

fn digest_of(path: &Path) -> io::Result<Digest> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ETag, FilePath, Identity};
    use crate::tensor::Signature;

    /// A whole file that no journal names yet.
    fn kept(cache: &Cache, bytes: &[u8]) -> (CachedFile, Digest) {
        let digest = Digest::of(Sha256::new().chain_update(bytes));
        let file = cache.lease(&digest);
        fs::write(file.path(), bytes).unwrap();
        (file, digest)
    }

    fn keep(cache: &Cache, model: &ModelName, bytes: &[u8]) -> (PathBuf, ModelRecord) {
        let (file, digest) = kept(cache, bytes);
        let identity = Identity {
            etag: ETag("\"1\"".to_owned()),
            version_id: None,
        };
        let file_record = FileRecord {
            path: FilePath::parse("m.onnx").unwrap(),
            identity,
            size: bytes.len() as u64,
            digest,
        };
        let record = ModelRecord::new(file_record, Vec::new(), None);
        let mut journal = cache.journal(model, "s3://b/k");
        journal.update(|history| {
            history.set_candidate(record.clone(), None);
            history.accept(&record, Signature::default());
        });
        (file.path().to_owned(), record)
    }

    #[test]
    fn a_file_is_found_again_until_a_byte_of_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let model = ModelName::parse("m").unwrap();
        let (path, record) = keep(&cache, &model, b"model bytes");
        let again = Cache::open(directory.path()).unwrap();
        assert_eq!(again.find_model(&record).unwrap().path(), path);
        fs::write(&path, b"model bytez").unwrap();
        assert!(again.find_model(&record).is_none());
        assert!(!path.exists(), "a damaged file does not stay");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_absent_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let digest = Digest::of(Sha256::new().chain_update(b"bytes"));
        // A link that leads back to itself cannot be opened by anybody.
        let path = cache.path(&digest);
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert!(cache.find(&digest).is_none());
        assert!(path.is_symlink());
    }

    #[test]
    fn an_interrupted_write_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let (_, interrupted) = temporary(&cache.journals).unwrap().keep().unwrap();
        let undotted = cache.partials.join("partial-a1B2c3");
        fs::write(&undotted, b"half").unwrap();
        Cache::open(directory.path()).unwrap();
        assert!(!interrupted.exists() && !undotted.exists());
    }

    #[test]
    fn every_name_of_a_model_keeps_its_journal_and_its_load_marker() {
        for name in [
            "partial-wine",
            "partial-",
            "partial-a1B2c3",
            "origins",
            "files",
            "journals",
            "loading",
            "partials",
            "rollout-position",
            "a.json",
            "-",
            "_",
            "CON",
        ] {
            let directory = tempfile::tempdir().unwrap();
            let cache = Cache::open(directory.path()).unwrap();
            let model = ModelName::parse(name).unwrap();
            let (_, record) = keep(&cache, &model, b"model bytes");
            cache
                .journal(&model, "s3://b/k")
                .begin_load(&record.digest())
                .unwrap();
            let again = Cache::open(directory.path()).unwrap();
            let markers = directory.path().join("loading");
            assert_eq!(entries(&markers).len(), 1, "{name}");
            let journal = again.journal(&model, "s3://b/k");
            assert_eq!(journal.history().last_active(), Some(&record), "{name}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_the_cache_is_not_followed_unless_it_is_shared() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let error = Cache::open(&link).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        assert!(entries(&target).is_empty(), "nothing was made there");
        let cache = folder.path().join("cache");
        fs::create_dir(&cache).unwrap();
        std::os::unix::fs::symlink(&target, cache.join("files")).unwrap();
        assert!(Cache::open(&cache).is_err(), "nor inside of it");
        let shared = CacheSettings {
            is_shared: Some(true),
            ..CacheSettings::default()
        };
        Cache::open_with(&link, &shared).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Cache::open(file.path()).unwrap_err().to_string();
        assert!(
            error.contains(&file.path().display().to_string()),
            "{error}"
        );
    }
}

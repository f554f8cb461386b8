//! Model files between starts: content-addressed, whole or absent.
//!
//! A file grows as a [`Partial`], and gets its name, the SHA-256 of its bytes, when it is whole. No fsync: `/tmp`
//! does not outlive the machine, and a file is checked again before it is used after a start.
//! Beside the files, a [`Journal`] for each model says which identity of the source they came from and how their
//! loads went, so that a second start in the same execution environment asks one conditional question and fetches
//! nothing. A file that no journal names is swept away, unless somebody has it in hand: one model's sweep must not
//! take what another is about to load.

mod journal;
mod partial;
mod unpacked;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub use journal::{Journal, Record};
pub use partial::{Partial, Unfinished, Wanted, is_full};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
pub use unpacked::Unpacked;

use crate::ids::{Digest, ModelName};

const PARTIAL_PREFIX: &str = "partial-";

/// A directory of model files.
#[derive(Clone, Debug)]
pub struct Cache {
    files: PathBuf,
    journals: PathBuf,
    loading: PathBuf,
    partials: PathBuf,
    in_hand: Arc<Mutex<Vec<Weak<PathBuf>>>>,
}

/// A whole file, which stays at least as long as this or a clone of it lives.
#[derive(Clone, Debug)]
pub struct KeptFile(Arc<PathBuf>);

impl KeptFile {
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
    /// Opens the cache, makes its directories, and sweeps what an interrupted fetch left.
    pub fn open(directory: &Path) -> Result<Self, CacheError> {
        let cache = Self {
            files: directory.join("files"),
            journals: directory.join("journals"),
            loading: directory.join("loading"),
            partials: directory.join("partials"),
            in_hand: Arc::default(),
        };
        for path in [
            &cache.files,
            &cache.journals,
            &cache.loading,
            &cache.partials,
        ] {
            fs::create_dir_all(path)
                .map_err(|source| failed("cannot make the cache directory", path, source))?;
            let entries = fs::read_dir(path)
                .map_err(|source| failed("cannot read the cache directory", path, source))?;
            for entry in entries.flatten() {
                if entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with(PARTIAL_PREFIX)
                {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        Ok(cache)
    }

    /// The file of a version, its bytes checked against its digest. One that is missing or damaged counts as absent.
    /// Reads the whole file.
    #[must_use]
    pub fn find(&self, record: &Record) -> Option<KeptFile> {
        let kept = self.take_in_hand(&record.digest);
        let whole = digest_of(kept.path()).is_ok_and(|digest| digest == record.digest);
        if !whole {
            let _ = fs::remove_file(kept.path());
        }
        whole.then_some(kept)
    }

    /// Removes every file that no model's journal names and nobody has in hand, so that old versions do not fill
    /// the disk.
    pub fn sweep(&self) {
        // In this order: a file that is let go of after the second step is in its journal by the third, and one that
        // is named after the first is not looked at.
        let files = entries(&self.files);
        let in_hand = self.in_hand();
        let named: Vec<PathBuf> = entries(&self.journals)
            .iter()
            .filter_map(|path| {
                serde_json::from_slice::<journal::Entries>(&fs::read(path).ok()?).ok()
            })
            .flat_map(|entries| {
                entries
                    .digests()
                    .map(|digest| self.path(digest))
                    .collect::<Vec<_>>()
            })
            .collect();
        for path in files {
            let held = in_hand.iter().any(|file| **file == path);
            if !held && !named.contains(&path) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn take_in_hand(&self, digest: &Digest) -> KeptFile {
        let path = Arc::new(self.path(digest));
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        in_hand.push(Arc::downgrade(&path));
        KeptFile(path)
    }

    fn in_hand(&self) -> Vec<Arc<PathBuf>> {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        in_hand.retain(|file| file.strong_count() > 0);
        in_hand.iter().filter_map(Weak::upgrade).collect()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.files.join(format!("{digest}.onnx"))
    }

    fn journal_path(&self, model: &ModelName) -> PathBuf {
        self.journals.join(format!("{model}.json"))
    }
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
    use crate::ids::{ETag, Identity};

    /// A whole file that no journal names yet.
    fn kept(cache: &Cache, bytes: &[u8]) -> (KeptFile, Digest) {
        let digest = Digest::of(Sha256::new().chain_update(bytes));
        let file = cache.take_in_hand(&digest);
        fs::write(file.path(), bytes).unwrap();
        (file, digest)
    }

    fn keep(cache: &Cache, model: &ModelName, bytes: &[u8]) -> (PathBuf, Record) {
        let (file, digest) = kept(cache, bytes);
        let identity = Identity {
            etag: ETag("\"1\"".to_owned()),
            version_id: None,
        };
        let record = Record {
            identity,
            size: bytes.len() as u64,
            digest,
        };
        let mut journal = cache.journal(model, "s3://b/k");
        journal.fetched(record.clone());
        journal.loaded(&record);
        (file.path().to_owned(), record)
    }

    #[test]
    fn a_file_is_found_again_until_a_byte_of_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let model = ModelName::parse("m").unwrap();
        let (path, record) = keep(&cache, &model, b"model bytes");
        let again = Cache::open(directory.path()).unwrap();
        assert_eq!(again.find(&record).unwrap().path(), path);
        fs::write(&path, b"model bytez").unwrap();
        assert!(again.find(&record).is_none());
        assert!(!path.exists(), "a damaged file does not stay");
    }

    #[test]
    fn an_interrupted_write_and_an_old_version_leave_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let (_, interrupted) = temporary(&cache.journals).unwrap().keep().unwrap();
        let model = ModelName::parse("m").unwrap();
        let (old, _) = keep(&cache, &model, b"version 1");
        let (new, _) = keep(&cache, &model, b"version 2");
        Cache::open(directory.path()).unwrap().sweep();
        assert!(!interrupted.exists() && !old.exists() && new.exists());
    }

    #[test]
    fn a_sweep_leaves_what_another_model_is_about_to_load() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let (file, _) = kept(&cache, b"on its way");
        let path = file.path().to_owned();
        keep(&cache, &ModelName::parse("other").unwrap(), b"loaded");
        cache.clone().sweep();
        assert!(path.exists());
        drop(file);
        cache.sweep();
        assert!(!path.exists(), "nobody wants it any more");
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

//! Local cache of model files, used by all models of an execution environment.
//!
//! [`Cache`] is the public interface. Its parts:
//!
//! | part | responsibility |
//! |---|---|
//! | `FileStore` | content-addressed files, partial downloads, and the origins of files at their sources |
//! | `Eviction` | removes files for space |
//! | [`Journal`] | per model: versions seen, rejections, load markers; a restart in the same environment reads it |
//!
//! A file is named by the SHA-256 of its bytes and gets the name only when it is complete. The cache never calls fsync:
//! `/tmp` does not outlive the machine, and a restart verifies each file before use. Files of earlier versions stay
//! while space allows, so that a rollback needs no download.
//!
//! After a restart in the same environment, the journal reduces the start to one conditional request and no download.
//!
//! # Shared directories
//! Several environments can share a directory, for example on EFS. Then the cache evicts nothing and takes no locks.
//! An existing file is never replaced, because another environment may have mapped it. Each environment downloads what
//! is missing, and the first complete file keeps the name.

mod directory;
mod error;
mod eviction;
mod journal;
mod journal_directory;
mod load_markers;
mod record;
mod rollout_position;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{CacheError, is_storage_full};
pub use eviction::InsufficientSpace;
pub use journal::{History, Journal, ManifestMetadata, RejectedFile, RejectionCause};
pub use load_markers::ShuttingDown;
pub use record::{FileRecord, ModelRecord};
pub use store::{
    CachedFile, CachedModel, DecompressedFile, PartialDownload, RemoteFile, ResumableDownload,
};

use crate::ids::{Digest, ModelName};
use crate::manifest::RolloutPosition;
use crate::onnx::Description;
use crate::sys;
use directory::Access;
use eviction::{Eviction, SpaceLimits};
use journal_directory::JournalDirectory;
use rollout_position::RolloutPositionFile;
use store::FileStore;

/// Settings of a cache directory.
#[derive(Clone, Debug, Default)]
pub struct CacheSettings {
    /// Maximum size in bytes; `None`: the free space of the disk.
    pub max_bytes: Option<u64>,
    /// `true` if other environments use the directory too; `None`: `true` on NFS.
    pub is_shared: Option<bool>,
    /// Directory for the state of this environment when the cache directory is shared; `None`: the cache directory.
    pub private_directory: Option<PathBuf>,
}

/// Cache of model files in a directory. Clones share the state.
#[derive(Clone, Debug)]
pub struct Cache {
    store: Arc<FileStore>,
    journals: Arc<JournalDirectory>,
    eviction: Eviction,
    rollout_position: Arc<RolloutPositionFile>,
    is_restart: bool,
}

impl Cache {
    /// Opens a cache with [default settings](CacheSettings).
    pub fn open(directory: &Path) -> Result<Self, CacheError> {
        Self::open_with(directory, &CacheSettings::default())
    }

    /// Opens a cache: creates its directories, and removes the temporary files of interrupted downloads. A directory
    /// that is not shared must belong to this user.
    pub fn open_with(directory: &Path, settings: &CacheSettings) -> Result<Self, CacheError> {
        let is_shared = settings.is_shared.unwrap_or_else(|| is_on_nfs(directory));
        let access = if is_shared {
            Access::Shared
        } else {
            Access::Private
        };
        directory::create(directory, access)?;
        let private = settings.private_directory.as_deref().filter(|_| is_shared);
        if let Some(private) = private {
            directory::create(private, Access::Private)?;
        }
        let private = private.unwrap_or(directory);
        let journals = Arc::new(JournalDirectory::open(private, directory, is_shared)?);
        let store = Arc::new(FileStore::open(directory, is_shared)?);
        let limits = SpaceLimits::new(settings.max_bytes, sys::disk(directory));
        let rollout_position = RolloutPositionFile::new(private, journals.path());
        let is_restart = journals.is_restart() || store.has_own_partials();
        Ok(Self {
            eviction: Eviction::new(Arc::clone(&store), Arc::clone(&journals), limits),
            store,
            journals,
            rollout_position: Arc::new(rollout_position),
            is_restart,
        })
    }

    /// Returns `true` if an earlier process of the same execution environment has used the cache. Its traces are a
    /// journal, a load marker, or a partial download.
    #[must_use]
    pub fn is_restart(&self) -> bool {
        self.is_restart
    }

    /// Returns `true` if the process before this one has used the cache, and ended without [`Self::close_loads`], as
    /// after SIGKILL.
    #[must_use]
    pub fn is_after_kill(&self) -> bool {
        self.journals.is_after_kill()
    }

    /// Returns the size of all files in bytes; `None` if other environments use the directory too.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.store.bytes()
    }

    /// Returns the file with this digest, after verifying its bytes. A missing, damaged or unreadable file is `None`; a
    /// damaged file is removed. Reads the whole file.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<CachedFile> {
        self.store.find(digest)
    }

    /// Returns the file that was downloaded from `remote` earlier, with its digest. Verifies as [`Self::find`] does.
    #[must_use]
    pub fn find_remote(&self, remote: &RemoteFile) -> Option<(CachedFile, Digest)> {
        self.store.find_remote(remote)
    }

    /// Returns a version, ready to load, if all its files are in the cache. Verifies as [`Self::find`] does.
    #[must_use]
    pub fn find_model(&self, record: &ModelRecord) -> Option<CachedModel> {
        let files = record.files().map(|file| self.find(&file.digest));
        let files = files.collect::<Option<Vec<_>>>()?;
        self.lay_out(record, files, None).ok()
    }

    /// Arranges the files of a version for ONNX Runtime. `files` must have the order of [`ModelRecord::files`].
    /// `description` goes with the model, so that the model file is parsed only once.
    pub fn lay_out(
        &self,
        record: &ModelRecord,
        files: Vec<CachedFile>,
        description: Option<Description>,
    ) -> Result<CachedModel, CacheError> {
        self.store.lay_out(record, files, description)
    }

    /// Adds the file at `path` as a link, without a copy, if its bytes have this digest. Reads the whole file. Returns
    /// `None` also in a shared directory, where other environments may not see `path`.
    #[must_use]
    pub fn adopt(&self, path: &Path, digest: &Digest) -> Option<CachedFile> {
        self.store.adopt(path, digest)
    }

    /// Returns the partial download from `location` that has the most bytes, if there is one.
    #[must_use]
    pub fn resumable_download(&self, location: &str) -> Option<ResumableDownload> {
        self.store.partials().find(location)
    }

    /// Opens the partial download of `remote`, or starts one in parts of about `part_bytes`. Removes partial downloads
    /// of other versions from the same location. Blocks for at most one second while another download holds the lock.
    pub fn start_download(
        &self,
        remote: RemoteFile,
        part_bytes: u64,
    ) -> Result<PartialDownload, CacheError> {
        self.store.partials().open_download(remote, part_bytes)
    }

    /// Removes the partial download of `remote`, unless it is locked.
    pub fn discard_download(&self, remote: &RemoteFile) {
        self.store.partials().discard(remote);
    }

    /// Adds a complete download, whose bytes have this digest, as a file of the cache.
    pub fn complete(
        &self,
        download: PartialDownload,
        digest: &Digest,
    ) -> Result<CachedFile, CacheError> {
        self.store.complete(download, digest)
    }

    /// Creates an empty file for decompressed bytes.
    pub fn create_decompressed(&self) -> Result<DecompressedFile, CacheError> {
        self.store.create_decompressed()
    }

    /// Adds a complete decompressed file, whose bytes have this digest, and removes the compressed `download`.
    pub fn complete_decompressed(
        &self,
        download: PartialDownload,
        decompressed: DecompressedFile,
        digest: &Digest,
    ) -> Result<CachedFile, CacheError> {
        self.store
            .complete_decompressed(download, decompressed, digest)
    }

    /// Evicts files until `required` more bytes fit. Unreferenced files are evicted first, in the order of their last
    /// use. The files of `expendable` are evicted last, even if a journal references them. A leased file is never
    /// evicted. In a shared directory nothing is evicted.
    pub fn free_space(
        &self,
        required: u64,
        expendable: &[Digest],
    ) -> Result<(), InsufficientSpace> {
        self.eviction.free_space(required, expendable)
    }

    /// Returns the error for a file of `required` bytes that did not fit.
    #[must_use]
    pub fn insufficient_space(&self, required: u64) -> InsufficientSpace {
        self.eviction.insufficient_space(required)
    }

    /// Removes the files of rejected versions, and evicts unreferenced files down to the size limit. In a shared
    /// directory nothing is removed.
    pub fn sweep(&self) {
        self.eviction.sweep();
    }

    /// Opens the journal of a model that is loaded from `location`. A missing or damaged journal, or one of another
    /// location, opens as an empty one. A load marker of an earlier process becomes part of the history.
    #[must_use]
    pub fn journal(&self, model: &ModelName, location: &str) -> Journal {
        self.journals.journal(model, location)
    }

    /// Rejects all further loads and removes the load markers: the process shuts down, and no version is rejected for a
    /// load that does not end.
    pub fn close_loads(&self) {
        self.journals.close();
    }

    /// Returns `true` if the process before this one ended during a load. Sequential loads let a second such end
    /// identify the version.
    #[must_use]
    pub fn requires_sequential_loads(&self) -> bool {
        self.journals.markers().is_left_behind()
    }

    /// Returns the rollout position of this environment. The first call draws it; see [`RolloutPosition`].
    #[must_use]
    pub fn rollout_position(&self) -> RolloutPosition {
        self.rollout_position.get()
    }
}

/// Returns `true` if a directory, which may not exist yet, is on NFS.
fn is_on_nfs(directory: &Path) -> bool {
    // The existing part of the path determines the file system.
    let existing = directory.ancestors().find(|path| path.exists());
    existing.is_some_and(sys::is_on_nfs) && !directory.is_symlink()
}

#[cfg(test)]
mod tests;

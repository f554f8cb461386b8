//! Content-addressed files, partial downloads, and the origins of files.
//!
//! [`FileStore`] owns the directories `files`, `partials` and `origins`. Its parts:
//!
//! - [`leases`]: files in use, which must not be removed;
//! - [`partials`]: downloads that are not complete;
//! - [`origins`]: the digest that a file of a source had when it was downloaded;
//! - [`placement`]: how a complete file gets its name;
//! - [`model_layout`]: the files of a version under their own names, for ONNX Runtime.

mod decompressed;
mod leases;
mod model_layout;
mod origins;
mod partials;
mod placement;
mod remote_file;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use decompressed::DecompressedFile;
pub use leases::CachedFile;
pub use model_layout::CachedModel;
pub use partials::{PartialDownload, ResumableDownload};
pub use remote_file::RemoteFile;

use super::directory::{Access, TEMPORARY_PREFIX, digest_of, entries, prepare, remove_temporary};
use super::error::CacheError;
use super::record::ModelRecord;
use crate::ids::Digest;
use crate::onnx::Description;
use crate::sys;
use leases::Leases;
use origins::Origins;
use partials::PartialDirectory;

/// Directory of content-addressed files.
#[derive(Debug)]
pub(super) struct FileStore {
    files: PathBuf,
    leases: Leases,
    partials: PartialDirectory,
    origins: Origins,
    is_shared: bool,
}

impl FileStore {
    /// Opens the store in the cache's directory.
    pub(super) fn open(directory: &Path, is_shared: bool) -> Result<Self, CacheError> {
        let access = if is_shared {
            Access::Shared
        } else {
            Access::Private
        };
        let [files, origins, partials] =
            ["files", "origins", "partials"].map(|name| directory.join(name));
        for path in [&files, &origins, &partials] {
            prepare(path, access, is_shared)?;
            // Other releases write temporary files without the dot. Here, no file is named after a model.
            remove_temporary(path, TEMPORARY_PREFIX.trim_start_matches('.'), is_shared);
        }
        Ok(Self {
            files,
            leases: Leases::default(),
            partials: PartialDirectory::new(partials, is_shared),
            origins: Origins::new(origins),
            is_shared,
        })
    }

    /// Returns `true` if other environments use the directory too.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Returns `true` if an earlier process of this environment has left a partial download.
    pub(super) fn has_own_partials(&self) -> bool {
        // In a shared directory, partial downloads may belong to other environments.
        !self.is_shared && !self.partials.entries().is_empty()
    }

    /// Returns the partial downloads.
    pub(super) fn partials(&self) -> &PartialDirectory {
        &self.partials
    }

    /// Returns the number of bytes that the disk has free, where the file system reports it.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        sys::disk(self.partials.path()).map(|disk| disk.free)
    }

    /// Returns the path of the file with this digest. The file may not exist.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.files.join(format!("{digest}.onnx"))
    }

    /// Returns the size of all files and partial downloads in bytes; `None` if the directory is shared.
    pub(super) fn bytes(&self) -> Option<u64> {
        let paths = self.files().into_iter().chain(self.partials.entries());
        let sizes = paths.filter_map(|path| path.metadata().ok());
        (!self.is_shared).then(|| sizes.map(|file| file.len()).sum())
    }

    /// Returns the paths of all files.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        entries(&self.files)
    }

    /// Returns the paths of the leased files.
    pub(super) fn leased(&self) -> Vec<Arc<PathBuf>> {
        self.leases.paths()
    }

    /// Leases the file with this digest. The file may not exist yet.
    pub(super) fn lease(&self, digest: &Digest) -> CachedFile {
        self.leases.lease(self.path(digest))
    }

    /// Removes a file unless it is leased, or a partial download unless it is locked.
    pub(super) fn remove(&self, path: &Path) {
        if path.starts_with(self.partials.path()) {
            partials::remove_unless_locked(path);
        } else {
            self.leases.remove_unless_leased(path);
        }
    }

    /// Removes the origins of files that do not exist any more.
    pub(super) fn sweep_origins(&self) {
        self.origins.sweep(|digest| self.path(digest).exists());
    }

    /// Implements [`Cache::find`](super::Cache::find).
    pub(super) fn find(&self, digest: &Digest) -> Option<CachedFile> {
        let file = self.lease(digest);
        match digest_of(file.path()) {
            Ok(found) if found == *digest => {
                self.touch(file.path());
                Some(file)
            }
            Ok(_) if !self.is_shared => {
                let _ = fs::remove_file(file.path());
                None
            }
            // An unreadable file may be complete: the cause can be a limit of open files.
            Ok(_) | Err(_) => None,
        }
    }

    /// Implements [`Cache::find_remote`](super::Cache::find_remote).
    pub(super) fn find_remote(&self, remote: &RemoteFile) -> Option<(CachedFile, Digest)> {
        let digest = self.origins.find(remote)?;
        Some((self.find(&digest)?, digest))
    }

    /// Implements [`Cache::adopt`](super::Cache::adopt).
    pub(super) fn adopt(&self, path: &Path, digest: &Digest) -> Option<CachedFile> {
        if self.is_shared || !digest_of(path).is_ok_and(|found| found == *digest) {
            return None;
        }
        let file = self.lease(digest);
        if file.path().exists() {
            return Some(file);
        }
        // A dangling link of an earlier adoption.
        let _ = fs::remove_file(file.path());
        symlink(path, file.path()).ok()?;
        Some(file)
    }

    /// Implements [`Cache::lay_out`](super::Cache::lay_out).
    pub(super) fn lay_out(
        &self,
        record: &ModelRecord,
        files: Vec<CachedFile>,
        description: Option<Description>,
    ) -> Result<CachedModel, CacheError> {
        CachedModel::new(record, files, description, self.partials.path())
    }

    /// Implements [`Cache::complete`](super::Cache::complete).
    pub(super) fn complete(
        &self,
        download: PartialDownload,
        digest: &Digest,
    ) -> Result<CachedFile, CacheError> {
        let file = self.lease(digest);
        let remote = download.persist(|content, path| match path {
            partials::DownloadPath::Named { path, record } => {
                placement::rename(&path, file.path())?;
                let _ = fs::remove_file(record);
                Ok(())
            }
            partials::DownloadPath::Unnamed(path) => {
                placement::persist(content, path, file.path(), digest, self.is_shared)
            }
        })?;
        self.added(&file, &remote, digest);
        Ok(file)
    }

    /// Implements [`Cache::create_decompressed`](super::Cache::create_decompressed).
    pub(super) fn create_decompressed(&self) -> Result<DecompressedFile, CacheError> {
        DecompressedFile::create(self.partials.path())
    }

    /// Implements [`Cache::complete_decompressed`](super::Cache::complete_decompressed).
    pub(super) fn complete_decompressed(
        &self,
        download: PartialDownload,
        decompressed: DecompressedFile,
        digest: &Digest,
    ) -> Result<CachedFile, CacheError> {
        let file = self.lease(digest);
        let (content, path) = decompressed.into_parts();
        placement::persist(&content, path, file.path(), digest, self.is_shared)?;
        self.added(&file, download.remote(), digest);
        download.discard();
        Ok(file)
    }

    /// Records a file that was added, and removes other partial downloads from its location.
    fn added(&self, file: &CachedFile, remote: &RemoteFile, digest: &Digest) {
        self.touch(file.path());
        self.origins.add(remote, digest);
        // A download of another version may have been locked when this one started.
        self.partials.sweep(&remote.location);
    }

    /// Sets the time of last use. This is the modification time, since many file systems do not keep access times and
    /// an index would be one more file to keep consistent.
    fn touch(&self, path: &Path) {
        // The target of a link does not belong to the cache.
        if !self.is_shared && !path.is_symlink() {
            placement::touch(path);
        }
    }
}

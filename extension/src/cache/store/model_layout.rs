//! Layout of a version's files for ONNX Runtime.
//!
//! The cache names a file by its digest. A model refers to its external data by relative paths. So each load of
//! several files gets a folder, in which every file has a hard link under its path at the source. The folder is
//! removed after the load: memory mappings of its files stay valid.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::CachedFile;
use crate::cache::directory::TEMPORARY_PREFIX;
use crate::cache::error::CacheError;
use crate::cache::record::ModelRecord;
use crate::onnx::Description;

/// Version with all its files in the cache, ready to load. The files exist at least until the drop.
#[derive(Debug)]
pub struct CachedModel {
    path: PathBuf,
    description: Option<Description>,
    _folder: Option<TempDir>,
    _files: Vec<CachedFile>,
}

impl CachedModel {
    /// Lays out a version, whose `files` have the order of [`ModelRecord::files`], in a new folder in `directory`.
    pub(super) fn new(
        record: &ModelRecord,
        files: Vec<CachedFile>,
        description: Option<Description>,
        directory: &Path,
    ) -> Result<Self, CacheError> {
        if let [file] = &*files {
            return Ok(Self {
                path: file.path().to_owned(),
                description,
                _folder: None,
                _files: files,
            });
        }
        let folder = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .tempdir_in(directory)
            .map_err(|error| CacheError::new("cannot create a folder in", directory, error))?;
        for (file, cached) in record.files().zip(&files) {
            let link = folder.path().join(file.path.laid_out().as_str());
            let parent = link.parent().unwrap_or(folder.path());
            fs::create_dir_all(parent)
                .and_then(|()| link_or_copy(cached.path(), &link))
                .map_err(|error| CacheError::new("cannot link", &link, error))?;
        }
        Ok(Self {
            path: folder.path().join(record.model.path.laid_out().as_str()),
            description,
            _folder: Some(folder),
            _files: files,
        })
    }

    /// Returns the path of the model file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the description of the model file, if the file has been parsed.
    #[must_use]
    pub fn description(&self) -> Option<&Description> {
        self.description.as_ref()
    }
}

/// Copies an adopted file, and links any other. ONNX Runtime follows no symbolic link out of a model's folder, and hard
/// links to other file systems do not exist.
fn link_or_copy(cached: &Path, link: &Path) -> io::Result<()> {
    if cached.is_symlink() {
        fs::copy(cached, link).map(|_| ())
    } else {
        fs::hard_link(cached, link)
    }
}

//! The files of a version under their own names, as ONNX Runtime wants to find them.
//!
//! In the cache a file is called by its digest, and a model that refers to others finds them by their names beside it. So
//! each load of several files gets a folder in which every file has a link with the name that it has at its source. The
//! folder goes when the load is over: what ONNX Runtime has mapped by then stays mapped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Cache, CacheError, CachedFile, ModelRecord, PARTIAL_PREFIX, failed};
use crate::onnx::Description;

/// A version whose files are all here. They stay at least as long as this lives.
#[derive(Debug)]
pub struct CachedModel {
    path: PathBuf,
    description: Option<Description>,
    _folder: Option<TempDir>,
    _files: Vec<CachedFile>,
}

impl CachedModel {
    /// The file to load.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What that file says of itself, where it has been read.
    #[must_use]
    pub fn description(&self) -> Option<&Description> {
        self.description.as_ref()
    }
}

impl Cache {
    /// Lays out a version of which `files` are the files, in the order of the record's. What its model's file says of
    /// itself goes with it, so that it is read only once.
    pub fn lay_out(
        &self,
        record: &ModelRecord,
        files: Vec<CachedFile>,
        description: Option<Description>,
    ) -> Result<CachedModel, CacheError> {
        if let [file] = &*files {
            return Ok(CachedModel {
                path: file.path().to_owned(),
                description,
                _folder: None,
                _files: files,
            });
        }
        let folder = tempfile::Builder::new()
            .prefix(PARTIAL_PREFIX)
            .tempdir_in(&self.partials)
            .map_err(|error| failed("cannot make a folder in", &self.partials, error))?;
        for (file, kept) in record.files().zip(&files) {
            let link = folder.path().join(file.path.laid_out().as_str());
            let parent = link.parent().unwrap_or(folder.path());
            fs::create_dir_all(parent)
                .and_then(|()| link_or_copy(kept.path(), &link))
                .map_err(|error| failed("cannot lay out", &link, error))?;
        }
        Ok(CachedModel {
            path: folder.path().join(record.model.path.laid_out().as_str()),
            description,
            _folder: Some(folder),
            _files: files,
        })
    }
}

/// ONNX Runtime follows no link out of a model's folder, and there may be none of another kind to a file elsewhere.
fn link_or_copy(kept: &Path, link: &Path) -> io::Result<()> {
    if kept.is_symlink() {
        fs::copy(kept, link).map(|_| ())
    } else {
        fs::hard_link(kept, link)
    }
}

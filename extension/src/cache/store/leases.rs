//! Leases of files: a leased file is not removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Complete file of the cache. The file exists at least until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct CachedFile(Arc<PathBuf>);

impl CachedFile {
    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Leased files.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<Vec<Weak<PathBuf>>>);

impl Leases {
    /// Leases the file at `path`.
    pub(super) fn lease(&self, path: PathBuf) -> CachedFile {
        let path = Arc::new(path);
        let mut leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leases.push(Arc::downgrade(&path));
        CachedFile(path)
    }

    /// Returns the paths of the leased files.
    pub(super) fn paths(&self) -> Vec<Arc<PathBuf>> {
        let mut leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leases.retain(|lease| lease.strong_count() > 0);
        leases.iter().filter_map(Weak::upgrade).collect()
    }

    /// Removes a file unless it is leased. A lease that is requested at the same time waits for the removal.
    pub(super) fn remove_unless_leased(&self, path: &Path) {
        let mut leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leases.retain(|lease| lease.strong_count() > 0);
        let mut held = leases.iter().filter_map(Weak::upgrade);
        if !held.any(|lease| *lease == path) {
            let _ = fs::remove_file(path);
        }
    }
}

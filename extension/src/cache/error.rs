//! Errors of the cache directory.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on the cache directory failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {source}{}", hint(.source))]
pub struct CacheError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl CacheError {
    /// An error of `action`, such as "cannot open", on `path`.
    pub(super) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// Returns the message for callers outside the environment. It contains no path.
    #[must_use]
    pub fn public(&self) -> String {
        let Self { source, .. } = self;
        format!("cannot use the model cache: {source}{}", hint(source))
    }

    /// Returns `true` if the cause is a full disk or an exhausted quota.
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        is_storage_full(&self.source)
    }
}

/// Returns `true` if the cause of a failed write is a full disk or an exhausted quota.
#[must_use]
pub fn is_storage_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "; the function's ephemeral storage is too small for the model"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "; set MODEL_CACHE_DIR to a directory that this process can write, such as one in /tmp"
        }
        _ => "",
    }
}

//! Decompressed content of a compressed download.
//!
//! The file has a temporary name until it is complete, and does not outlive the process. The compressed partial
//! download does: the next process decompresses it again, which is faster than recording the progress.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::TempPath;

use crate::cache::directory::temporary_file;
use crate::cache::error::CacheError;
use crate::sys;

/// File that is written sequentially. The file is removed on drop.
#[derive(Debug)]
pub struct DecompressedFile {
    file: File,
    path: TempPath,
}

impl DecompressedFile {
    /// Creates an empty file in `directory`.
    pub(super) fn create(directory: &Path) -> Result<Self, CacheError> {
        let (file, path) = temporary_file(directory)?.into_parts();
        Ok(Self { file, path })
    }

    /// Reserves disk space for a total of `bytes`, where the file system supports it.
    pub fn reserve(&self, bytes: u64) -> io::Result<()> {
        sys::reserve_space(&self.file, bytes)
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    pub(super) fn into_parts(self) -> (File, TempPath) {
        (self.file, self.path)
    }
}

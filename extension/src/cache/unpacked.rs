//! A file that grows out of one that came compressed.
//!
//! It has no name that anybody knows until it is whole. The compressed bytes outlive the process and this does not:
//! the next one decompresses what is here again, which takes less time than to note how far it had come.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::TempPath;

use super::{Cache, CacheError, CachedFile, PartialDownload, temporary};
use crate::ids::Digest;
use crate::sys;

/// A file that is written from its beginning to its end. Dropped, it is gone.
#[derive(Debug)]
pub struct DecompressedFile {
    file: File,
    path: TempPath,
}

impl Cache {
    /// Begins a file beside the partial ones.
    pub fn unpacked(&self) -> Result<DecompressedFile, CacheError> {
        let (file, path) = temporary(&self.partials)?.into_parts();
        Ok(DecompressedFile { file, path })
    }

    /// Gives a file that has become whole its name, and removes the compressed one that it came out of; its bytes
    /// have this digest.
    pub fn complete_decompressed(
        &self,
        partial: PartialDownload,
        unpacked: DecompressedFile,
        digest: &Digest,
    ) -> Result<CachedFile, CacheError> {
        let kept = self.lease(digest);
        self.place(&unpacked.file, unpacked.path, &kept, digest)?;
        self.note_origin(partial.wanted(), digest);
        let location = partial.wanted().location.clone();
        partial.discard();
        self.sweep_partials(&location, Path::new(""));
        Ok(kept)
    }
}

impl DecompressedFile {
    /// Takes the room on the disk for so many bytes in all, where the file system can do that.
    pub fn reserve(&self, bytes: u64) -> io::Result<()> {
        sys::reserve_space(&self.file, bytes)
    }

    /// Writes bytes at its end.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }
}

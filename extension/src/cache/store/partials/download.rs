//! A partial download that this process works on.
//!
//! The content arrives in parts, several at a time. [`TransferProgress`] records, in the same file, how many bytes of
//! each part have been written. What [`PartialDownload::write`] has written outlives the process, but without fsync
//! not the machine.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use tempfile::TempPath;

use super::progress::TransferProgress;
use crate::cache::directory::{allocated_bytes, write_json};
use crate::cache::error::CacheError;
use crate::cache::store::RemoteFile;
use crate::sys;

/// Partial download with exclusive access. A drop keeps the content for the next download.
#[derive(Debug)]
pub struct PartialDownload {
    remote: RemoteFile,
    file: File,
    progress: TransferProgress,
    path: DownloadPath,
}

/// Path of a partial download.
#[derive(Debug)]
pub(in crate::cache::store) enum DownloadPath {
    /// The next download of the same version finds the file by its name.
    Named { path: PathBuf, record: PathBuf },
    /// The file is removed unless it becomes complete.
    Unnamed(TempPath),
}

impl PartialDownload {
    /// Continues with the content of a locked file; starts anew if the content is invalid.
    pub(super) fn open(
        remote: RemoteFile,
        part_bytes: u64,
        file: File,
        path: PathBuf,
    ) -> Result<Self, CacheError> {
        let progress = TransferProgress::read(&file, remote.size)
            .map_err(|error| CacheError::new("cannot read", &path, error))?;
        let progress = match progress {
            Some(progress) => progress.divided(part_bytes),
            None => {
                file.set_len(0)
                    .map_err(|error| CacheError::new("cannot truncate", &path, error))?;
                TransferProgress::of_prefix(remote.size, part_bytes, 0)
            }
        };
        let record = path.with_extension("json");
        let mut download = Self {
            remote,
            file,
            progress,
            path: DownloadPath::Named { path, record },
        };
        download.write_record()?;
        Ok(download)
    }

    /// Starts a download to an empty file that no other process finds.
    pub(super) fn unnamed(remote: RemoteFile, part_bytes: u64, file: File, path: TempPath) -> Self {
        let progress = TransferProgress::of_prefix(remote.size, part_bytes, 0);
        Self {
            remote,
            file,
            progress,
            path: DownloadPath::Unnamed(path),
        }
    }

    /// Returns the file at the source.
    #[must_use]
    pub fn remote(&self) -> &RemoteFile {
        &self.remote
    }

    /// Returns the number of bytes that have been downloaded.
    #[must_use]
    pub fn downloaded(&self) -> u64 {
        self.progress.downloaded()
    }

    /// Returns the missing range of each incomplete part, in order.
    #[must_use]
    pub fn missing(&self) -> Vec<Range<u64>> {
        self.progress.missing()
    }

    /// Returns the number of bytes that are not allocated on disk yet.
    pub fn unallocated_bytes(&self) -> io::Result<u64> {
        let allocated = allocated_bytes(&self.file.metadata()?);
        Ok(self.remote.size.saturating_sub(allocated))
    }

    /// Reserves disk space, where the file system supports it, and prepares the file for [`Self::write`].
    pub fn prepare(&mut self) -> io::Result<()> {
        sys::reserve_space(&self.file, self.remote.size)?;
        self.progress.lay_out(&self.file)
    }

    /// Writes missing bytes of one part. They must follow the bytes that the part has.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        self.progress.record(&self.file, offset, bytes.len() as u64)
    }

    /// Reads downloaded bytes from `offset` on, at most to the end of the part. Returns the number of bytes read; zero
    /// if the byte at `offset` is missing.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.progress.available_until(offset) - offset;
        let length = usize::try_from(available).map_or(buffer.len(), |it| it.min(buffer.len()));
        self.file.read_exact_at(&mut buffer[..length], offset)?;
        Ok(length)
    }

    /// Returns `true` if the byte at `offset` has been downloaded.
    #[must_use]
    pub fn has(&self, offset: u64) -> bool {
        self.progress.available_until(offset) > offset
    }

    /// Returns a handle of the file, for reads of downloaded bytes by another thread.
    pub fn try_clone_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Removes the download and its record.
    pub fn discard(self) {
        if let DownloadPath::Named { path, record } = &self.path {
            let _ = fs::remove_file(path);
            let _ = fs::remove_file(record);
        }
    }

    /// Truncates the complete file to its content, and has `place` give it its name.
    pub(in crate::cache::store) fn persist(
        self,
        place: impl FnOnce(&File, DownloadPath) -> Result<(), CacheError>,
    ) -> Result<RemoteFile, CacheError> {
        let truncated = self.file.set_len(self.remote.size);
        truncated.map_err(|error| self.failed("cannot truncate", error))?;
        place(&self.file, self.path)?;
        Ok(self.remote)
    }

    /// Writes the record for the next process. Keeps the checksum of an earlier record: the response to a range request
    /// does not repeat it.
    fn write_record(&mut self) -> Result<(), CacheError> {
        let DownloadPath::Named { record, .. } = &self.path else {
            return Ok(());
        };
        let earlier = fs::read(record).ok();
        let earlier: Option<RemoteFile> =
            earlier.and_then(|json| serde_json::from_slice(&json).ok());
        let name = self.remote.download_name();
        if let Some(earlier) = earlier.filter(|earlier| earlier.download_name() == name) {
            if self.remote.checksum.is_none() {
                self.remote.checksum.clone_from(&earlier.checksum);
            }
            if earlier == self.remote {
                return Ok(());
            }
        }
        write_json(record, &self.remote)
            .map_err(|error| self.failed("cannot write the record of", error))
    }

    fn failed(&self, action: &'static str, error: io::Error) -> CacheError {
        let path = match &self.path {
            DownloadPath::Named { path, .. } => path.as_path(),
            DownloadPath::Unnamed(path) => path,
        };
        CacheError::new(action, path, error)
    }

    #[cfg(test)]
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

//! Journal of a model: the state that survives a restart of the process in the same execution environment.
//!
//! | content | purpose |
//! |---|---|
//! | [`History`] | versions seen, accepted and rejected, and interrupted loads |
//! | downloaded files | files of an incomplete version, which are not downloaded again |
//! | [`RejectedFile`] | content of the source that failed verification, which is not downloaded again |
//!
//! # Interrupted loads
//! A load can end the whole process. The [load marker](super::load_markers) tells the next process which version was
//! being loaded. Rules:
//!
//! - A version that was never active is rejected if a version that was active exists; that version serves.
//! - Any other version is rejected after three interrupted loads. The process may have been killed for another reason,
//!   such as an Init that exceeded its 10 seconds.
//! - An interrupted warm-up of an accepted version does not reject the version: it is loaded without a warm-up.

mod history;
mod rejected;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::directory::write_json;
use super::error::CacheError;
use super::load_markers::{InterruptedLoad, LoadMarkers, ShuttingDown};
use super::record::FileRecord;
use crate::ids::{Digest, Expected, FilePath, Identity, ModelName};
pub use history::{History, ManifestMetadata, RejectionCause};
pub use rejected::RejectedFile;
use rejected::RejectedFiles;

/// Journal of one model, stored in the cache directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    model: ModelName,
    markers: Arc<LoadMarkers>,
    content: JournalContent,
    /// The history on disk.
    saved: History,
}

/// Content of a journal file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct JournalContent {
    history: History,
    /// Downloaded files of a version that is not complete.
    #[serde(default)]
    downloaded: Mutex<Vec<FileRecord>>,
    /// Content of the source that is not downloaded again.
    #[serde(default)]
    rejected: Mutex<RejectedFiles>,
}

impl JournalContent {
    /// Reads a journal file; `None` if the file is missing or damaged.
    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Returns the digests of the files that may still be loaded.
    pub(super) fn referenced(&self) -> Vec<Digest> {
        let downloaded = self.downloaded();
        let downloaded = downloaded.iter().map(|file| &file.digest);
        let referenced = self.history.referenced().chain(downloaded);
        referenced.cloned().collect()
    }

    /// Returns the digests of the files of rejected versions.
    pub(super) fn rejected(&self) -> Vec<Digest> {
        self.history.rejected_digests().cloned().collect()
    }

    fn rejected_files(&self) -> MutexGuard<'_, RejectedFiles> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn downloaded(&self) -> MutexGuard<'_, Vec<FileRecord>> {
        self.downloaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal {
    /// Implements [`Cache::journal`](super::Cache::journal).
    pub(super) fn open(
        path: PathBuf,
        model: &ModelName,
        location: &str,
        markers: &Arc<LoadMarkers>,
    ) -> Self {
        let content = JournalContent::read(&path);
        let content = content.filter(|content| content.history.location() == location);
        let content = content.unwrap_or_else(|| JournalContent {
            history: History::new(location),
            ..JournalContent::default()
        });
        let mut journal = Self {
            path,
            model: model.clone(),
            markers: Arc::clone(markers),
            saved: content.history.clone(),
            content,
        };
        journal.record_interrupted_load();
        journal
    }

    /// Returns the history of the model's versions.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.content.history
    }

    /// Changes the history and saves the journal.
    pub fn update<T>(&mut self, change: impl FnOnce(&mut History) -> T) -> T {
        let result = change(&mut self.content.history);
        self.save();
        result
    }

    /// Changes the history in memory only. [`Self::save`] writes the change later, off the critical path. A process
    /// that ends before repeats the work.
    pub fn update_unsaved<T>(&mut self, change: impl FnOnce(&mut History) -> T) -> T {
        change(&mut self.content.history)
    }

    /// Writes the journal if the history has changed.
    pub fn save(&mut self) {
        if self.content.history != self.saved {
            self.write();
            self.saved = self.content.history.clone();
        }
    }

    /// Returns the record of the file that has this identity at the source.
    #[must_use]
    pub fn find_file(&self, path: &FilePath, identity: &Identity) -> Option<FileRecord> {
        let downloaded = self.content.downloaded();
        let is_same = |file: &&FileRecord| file.path == *path && file.identity == *identity;
        let known = self.history().find_file(path, identity);
        known.or_else(|| downloaded.iter().find(is_same)).cloned()
    }

    /// Records a downloaded file of an incomplete version. The next attempt does not download the file again.
    pub fn add_downloaded_file(&self, file: FileRecord) {
        let mut downloaded = self.content.downloaded();
        if !downloaded.contains(&file) {
            downloaded.retain(|other| other.path != file.path);
            downloaded.push(file);
            drop(downloaded);
            self.write();
        }
    }

    /// Forgets the downloaded files: the version is complete, and its record contains them.
    pub fn complete_download(&self) {
        let downloaded = std::mem::take(&mut *self.content.downloaded());
        if !downloaded.is_empty() {
            self.write();
        }
    }

    /// Records content that must not be downloaded again.
    pub fn reject_file(&self, rejected: RejectedFile) {
        self.content.rejected_files().add(rejected);
        self.write();
    }

    /// Returns the rejection of the content that the source last had at `path`, if it was rejected with these expected
    /// values.
    #[must_use]
    pub fn current_rejection(
        &self,
        path: &FilePath,
        expected: Option<&Expected>,
    ) -> Option<RejectedFile> {
        let rejected = self.content.rejected_files();
        rejected.current(path, expected).cloned()
    }

    /// Returns the reason for the rejection of this content, if it was rejected with these expected values.
    #[must_use]
    pub fn file_rejection_reason(
        &self,
        path: &FilePath,
        identity: &Identity,
        expected: Option<&Expected>,
    ) -> Option<String> {
        let rejected = self.content.rejected_files();
        let found = rejected.find(path, identity, expected);
        found.map(|file| file.reason.clone())
    }

    /// Records the identity of the content that the source has at `path` now.
    pub fn set_source_identity(&self, path: &FilePath, identity: &Identity) {
        let mut rejected = self.content.rejected_files();
        if !rejected.is_empty() && rejected.set_current(path, identity) {
            drop(rejected);
            self.write();
        }
    }

    /// Returns the record of the newest file at `path`, of a complete or an incomplete version.
    #[must_use]
    pub fn latest_file(&self, path: &FilePath) -> Option<FileRecord> {
        let downloaded = self.content.downloaded();
        let newest = self.history().newest();
        let newest = newest.and_then(|newest| newest.file(path));
        let downloaded = downloaded.iter().find(|file| file.path == *path);
        downloaded.or(newest).cloned()
    }

    /// Sets the load marker: the load of the version with this digest begins.
    ///
    /// # Errors
    /// [`ShuttingDown`] after [`Cache::close_loads`](super::Cache::close_loads).
    pub fn begin_load(&self, digest: &Digest) -> Result<(), ShuttingDown> {
        self.markers.begin_load(&self.model, digest)
    }

    /// Returns a callback that turns the load marker into a warm-up marker. To be called at the end of the load itself.
    pub fn warm_up_callback(&self, digest: &Digest) -> impl FnOnce() + Send + use<> {
        self.markers.warm_up_callback(&self.model, digest)
    }

    /// Removes the load marker: the load has ended, successfully or not.
    pub fn end_load(&self) {
        self.markers.end_load(&self.model);
    }

    /// Returns a callback that does what [`Self::end_load`] does.
    pub fn end_load_callback(&self) -> impl FnOnce() + Send + use<> {
        let (markers, model) = (Arc::clone(&self.markers), self.model.clone());
        move || markers.end_load(&model)
    }

    fn record_interrupted_load(&mut self) {
        let Some(InterruptedLoad { digest, in_warm_up }) = self.markers.take(&self.model) else {
            return;
        };
        self.update(|history| {
            if in_warm_up {
                history.record_interrupted_warm_up(&digest);
            } else {
                history.record_interrupted_load(&digest);
            }
        });
    }

    /// Writes the journal. A failure costs a repeated download after a restart, so it is only logged.
    fn write(&self) {
        if let Err(error) = write_json(&self.path, &self.content) {
            let error = CacheError::new("cannot write", &self.path, error);
            warn!(
                "the model will be downloaded again after a restart in this environment: {error}"
            );
        }
    }
}

#[cfg(test)]
mod tests;

//! What is known of a model's versions in this execution environment, and how their loads went, on the disk.
//!
//! A load can take the whole process with it, and the [marker](super::load_markers) that it leaves says so to the next
//! start. A version with a good one behind it is refused then, and the good one answers. One with nothing behind it, or
//! that was active here before, is tried three times, since the process may have been killed for another reason, such as
//! an Init over its 10 seconds. A death in the warm-up of a version that was let in before is no reason to refuse: the
//! version is loaded again, and not warmed up.

mod history;
mod rejected;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::load_markers::{Death, LoadMarkers, ShuttingDown};
use super::{Cache, FileRecord, failed, keep_json};
use crate::ids::{Digest, Expected, FilePath, Identity, ModelName};
pub use history::{History, ManifestMetadata, RejectionCause};
pub use rejected::RejectedFile;
use rejected::RejectedFiles;

/// The journal of one model, which lies in the cache's directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    model: ModelName,
    markers: Arc<LoadMarkers>,
    kept: Kept,
    /// The history as the disk has it.
    written: History,
}

/// What is written.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    history: History,
    /// Files that are here of a version of which others are not.
    #[serde(default)]
    arrived: Mutex<Vec<FileRecord>>,
    /// Content of the source that is not fetched again.
    #[serde(default)]
    rejected: Mutex<RejectedFiles>,
}

impl Kept {
    /// The digests of the files that may still be loaded.
    pub(super) fn needed(&self) -> Vec<Digest> {
        let arrived = self.arrived();
        let arrived = arrived.iter().map(|file| &file.digest);
        self.history.needed().chain(arrived).cloned().collect()
    }

    /// The files of versions that are not to be loaded.
    pub(super) fn refused(&self) -> Vec<Digest> {
        self.history.refused_files().cloned().collect()
    }

    fn rejected_files(&self) -> MutexGuard<'_, RejectedFiles> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrived(&self) -> MutexGuard<'_, Vec<FileRecord>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Reads the journal of a model that comes from `location`; one that is absent, damaged or of another place is
    /// empty. A load marker that was left behind becomes part of the history.
    #[must_use]
    pub fn journal(&self, model: &ModelName, location: &str) -> Journal {
        let path = self.journal_path(model);
        let kept = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok())
            .filter(|kept| kept.history.location == location);
        let kept = kept.unwrap_or_else(|| Kept {
            history: History::new(location),
            ..Kept::default()
        });
        let mut journal = Journal {
            path,
            model: model.clone(),
            markers: Arc::clone(&self.markers),
            written: kept.history.clone(),
            kept,
        };
        journal.count_death();
        journal
    }

    /// Lets no load begin from here on, and removes all load markers: the process ends by itself, and no version is blamed
    /// for a load that is cut short.
    pub fn close_loads(&self) {
        self.markers.close();
    }

    /// Returns whether the process before this one died in a load. Then loads are made one at a time, so that a second
    /// death names one version.
    #[must_use]
    pub fn requires_sequential_loads(&self) -> bool {
        self.markers.is_left_behind()
    }
}

impl Journal {
    /// What has been seen of the versions.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.kept.history
    }

    /// Changes what has been seen, and writes that down when it is done.
    pub fn update<T>(&mut self, change: impl FnOnce(&mut History) -> T) -> T {
        let result = change(&mut self.kept.history);
        self.save();
        result
    }

    /// Changes what has been seen, to be [written](Self::save) when nobody waits for it: a start that does not find it
    /// does again what was done.
    pub fn update_unsaved<T>(&mut self, change: impl FnOnce(&mut History) -> T) -> T {
        change(&mut self.kept.history)
    }

    /// Writes down what has been seen, unless it is written.
    pub fn save(&mut self) {
        if self.kept.history != self.written {
            self.write();
            self.written = self.kept.history.clone();
        }
    }

    /// What is known of a file when its source says this of it.
    #[must_use]
    pub fn find_file(&self, path: &FilePath, identity: &Identity) -> Option<FileRecord> {
        let arrived = self.kept.arrived();
        let is_it = |file: &&FileRecord| file.path == *path && file.identity == *identity;
        let known = self.history().find_file(path, identity);
        known.or_else(|| arrived.iter().find(is_it)).cloned()
    }

    /// Notes that a file is here of a version of which others are not yet, so that it is not fetched again when they
    /// cannot be had.
    pub fn add_downloaded_file(&self, file: FileRecord) {
        let mut arrived = self.kept.arrived();
        if !arrived.contains(&file) {
            arrived.retain(|other| other.path != file.path);
            arrived.push(file);
            drop(arrived);
            self.write();
        }
    }

    /// Notes that a version is whole: files that arrived are part of it, or of no use.
    pub fn complete_download(&self) {
        let arrived = std::mem::take(&mut *self.kept.arrived());
        if !arrived.is_empty() {
            self.write();
        }
    }

    /// Notes that this content is not fetched again.
    pub fn reject_file(&self, rejected: RejectedFile) {
        self.kept.rejected_files().add(rejected);
        self.write();
    }

    /// The content that the source was last seen to hold at `path`, if it is rejected under this promise.
    #[must_use]
    pub fn current_rejection(
        &self,
        path: &FilePath,
        expected: Option<&Expected>,
    ) -> Option<RejectedFile> {
        let rejected = self.kept.rejected_files();
        rejected.current(path, expected).cloned()
    }

    /// The reason for which this content is rejected under this promise, if it is.
    #[must_use]
    pub fn file_rejection_reason(
        &self,
        path: &FilePath,
        identity: &Identity,
        expected: Option<&Expected>,
    ) -> Option<String> {
        let rejected = self.kept.rejected_files();
        let found = rejected.find(path, identity, expected);
        found.map(|file| file.reason.clone())
    }

    /// Notes which content the source holds at `path` now.
    pub fn set_source_identity(&self, path: &FilePath, identity: &Identity) {
        let mut rejected = self.kept.rejected_files();
        if !rejected.is_empty() && rejected.holds(path, identity) {
            drop(rejected);
            self.write();
        }
    }

    /// What was last seen of a file, whether it belongs to a version that is whole or not.
    #[must_use]
    pub fn latest_file(&self, path: &FilePath) -> Option<FileRecord> {
        let arrived = self.kept.arrived();
        let newest = self.history().newest();
        let newest = newest.and_then(|newest| newest.file(path));
        let arrived = arrived.iter().find(|file| file.path == *path);
        arrived.or(newest).cloned()
    }

    /// Sets the load marker: a load of the version of this digest begins.
    ///
    /// # Errors
    /// [`ShuttingDown`] when no load may begin any more.
    pub fn begin_load(&self, digest: &Digest) -> Result<(), ShuttingDown> {
        self.markers.begin_load(&self.model, digest)
    }

    /// Makes the marker that of a warm-up, once the load itself has ended; to be called where that is seen.
    pub fn warm_up_callback(&self, digest: &Digest) -> impl FnOnce() + Send + use<> {
        self.markers.warm_up_callback(&self.model, digest)
    }

    /// Removes the marker: the load has ended, and what comes of it is noted next.
    pub fn end_load(&self) {
        self.markers.end_load(&self.model);
    }

    /// Removes the marker, as [`Self::end_load`] does; to be called where the end of the load is seen.
    pub fn end_load_callback(&self) -> impl FnOnce() + Send + use<> {
        let (markers, model) = (Arc::clone(&self.markers), self.model.clone());
        move || markers.end_load(&model)
    }

    fn count_death(&mut self) {
        let Some(Death { digest, in_warm_up }) = self.markers.take(&self.model) else {
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

    /// Writes the journal. Without it a second start fetches again: no reason to fail now.
    fn write(&self) {
        if let Err(error) = keep_json(&self.path, &self.kept) {
            let error = failed("cannot write", &self.path, error);
            warn!("a second start here will fetch the model again: {error}");
        }
    }
}

#[cfg(test)]
mod tests;

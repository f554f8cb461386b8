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
pub use history::{Cause, History, Published};
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
    pub fn loads_one_at_a_time(&self) -> bool {
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
    pub fn note<T>(&mut self, change: impl FnOnce(&mut History) -> T) -> T {
        let result = change(&mut self.kept.history);
        self.keep();
        result
    }

    /// Changes what has been seen, to be [written](Self::keep) when nobody waits for it: a start that does not find it
    /// does again what was done.
    pub fn note_for_later<T>(&mut self, change: impl FnOnce(&mut History) -> T) -> T {
        change(&mut self.kept.history)
    }

    /// Writes down what has been seen, unless it is written.
    pub fn keep(&mut self) {
        if self.kept.history != self.written {
            self.save();
            self.written = self.kept.history.clone();
        }
    }

    /// What is known of a file when its source says this of it.
    #[must_use]
    pub fn known(&self, path: &FilePath, identity: &Identity) -> Option<FileRecord> {
        let arrived = self.kept.arrived();
        let is_it = |file: &&FileRecord| file.path == *path && file.identity == *identity;
        let known = self.history().known(path, identity);
        known.or_else(|| arrived.iter().find(is_it)).cloned()
    }

    /// Notes that a file is here of a version of which others are not yet, so that it is not fetched again when they
    /// cannot be had.
    pub fn arrived(&self, file: FileRecord) {
        let mut arrived = self.kept.arrived();
        if !arrived.contains(&file) {
            arrived.retain(|other| other.path != file.path);
            arrived.push(file);
            drop(arrived);
            self.save();
        }
    }

    /// Notes that a version is whole: files that arrived are part of it, or of no use.
    pub fn is_whole(&self) {
        let arrived = std::mem::take(&mut *self.kept.arrived());
        if !arrived.is_empty() {
            self.save();
        }
    }

    /// Notes that this content is not fetched again.
    pub fn reject_file(&self, rejected: RejectedFile) {
        self.kept.rejected_files().add(rejected);
        self.save();
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
    pub fn why_rejected(
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
    pub fn source_holds(&self, path: &FilePath, identity: &Identity) {
        let mut rejected = self.kept.rejected_files();
        if !rejected.is_empty() && rejected.holds(path, identity) {
            drop(rejected);
            self.save();
        }
    }

    /// What was last seen of a file, whether it belongs to a version that is whole or not.
    #[must_use]
    pub fn seen(&self, path: &FilePath) -> Option<FileRecord> {
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
    pub fn load_begins(&self, digest: &Digest) -> Result<(), ShuttingDown> {
        self.markers.load_begins(&self.model, digest)
    }

    /// Makes the marker that of a warm-up, once the load itself has ended; to be called where that is seen.
    pub fn warm_up_begins(&self, digest: &Digest) -> impl FnOnce() + Send + use<> {
        self.markers.warm_up_begins(&self.model, digest)
    }

    /// Removes the marker: the load has ended, and what comes of it is noted next.
    pub fn load_ended(&self) {
        self.markers.load_ended(&self.model);
    }

    /// Removes the marker, as [`Self::load_ended`] does; to be called where the end of the load is seen.
    pub fn load_ends(&self) -> impl FnOnce() + Send + use<> {
        let (markers, model) = (Arc::clone(&self.markers), self.model.clone());
        move || markers.load_ended(&model)
    }

    fn count_death(&mut self) {
        let Some(Death { digest, in_warm_up }) = self.markers.take(&self.model) else {
            return;
        };
        self.note(|history| {
            if in_warm_up {
                history.died_in_warm_up(&digest);
            } else {
                history.died(&digest);
            }
        });
    }

    /// Writes the journal. Without it a second start fetches again: no reason to fail now.
    fn save(&self) {
        if let Err(error) = keep_json(&self.path, &self.kept) {
            let error = failed("cannot write", &self.path, error);
            warn!("a second start here will fetch the model again: {error}");
        }
    }
}

#[cfg(test)]
mod tests;

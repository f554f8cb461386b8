//! What is known of a model's versions in this execution environment, and how their loads went, on the disk.
//!
//! A load can take the whole process with it: by a crash inside ONNX Runtime, or because memory ran out. So a mark
//! is set before every load and taken away after it, also when the process ends in good order in between. A start
//! that finds a mark knows that its predecessor died in that load. A version with a good one behind it is refused
//! then, and the good one answers; one with nothing behind it is tried three times, since the process may have been
//! killed for another reason, such as an Init over its 10 seconds. A death in the warm-up of a version that was let in
//! before is told apart by the mark, and is no reason to refuse: the version is loaded again, and not warmed up.

mod history;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Cache, FileRecord, failed, keep_json};
use crate::ids::{Digest, FilePath, Identity, ModelName};
pub use history::{Cause, History, Published};

/// What a mark begins with when the load has ended and the warm-up runs.
const WARM_UP: &str = "warm-up ";

/// The journal of one model, which lies in the cache's directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    mark: PathBuf,
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

    fn arrived(&self) -> MutexGuard<'_, Vec<FileRecord>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Reads the journal of a model that comes from `location`; one that is absent, damaged or of another place is
    /// empty. A mark that a load has left behind becomes part of the history.
    #[must_use]
    pub fn journal(&self, model: &ModelName, location: &str) -> Journal {
        let path = self.journal_path(model);
        let kept = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok())
            .filter(|kept| kept.history.location == location);
        let kept = kept.unwrap_or_else(|| Kept {
            history: History::new(location),
            arrived: Mutex::default(),
        });
        let mut journal = Journal {
            path,
            mark: self.loading.join(model.as_str()),
            written: kept.history.clone(),
            kept,
        };
        journal.count_death();
        journal
    }

    /// Takes all marks away, before the process ends in good order while something loads.
    pub fn forgive_loads(&self) {
        for mark in super::entries(&self.loading) {
            let _ = fs::remove_file(mark);
        }
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

    /// What was last seen of a file, whether it belongs to a version that is whole or not.
    #[must_use]
    pub fn seen(&self, path: &FilePath) -> Option<FileRecord> {
        let arrived = self.kept.arrived();
        let newest = self.history().newest();
        let newest = newest.and_then(|newest| newest.file(path));
        let arrived = arrived.iter().find(|file| file.path == *path);
        arrived.or(newest).cloned()
    }

    /// Sets the mark: a load of the version of this digest begins.
    pub fn load_begins(&self, digest: &Digest) {
        if let Err(error) = fs::write(&self.mark, digest.as_str()) {
            warn!(
                "a crash in this load would not be noticed: cannot write {}: {error}",
                self.mark.display()
            );
        }
    }

    /// Makes the mark that of a warm-up, once the load itself has ended; to be called where that is seen. A mark that
    /// was [forgiven](Cache::forgive_loads) meanwhile is not set again.
    pub fn warm_up_begins(&self, digest: &Digest) -> impl FnOnce() + Send + use<> {
        let (mark, text) = (self.mark.clone(), format!("{WARM_UP}{digest}"));
        move || {
            let mark = fs::OpenOptions::new().write(true).truncate(true).open(mark);
            // Without it a death counts as one in the load.
            let _ = mark.and_then(|mut mark| mark.write_all(text.as_bytes()));
        }
    }

    /// Takes the mark away: the load has ended, and what comes of it is noted next.
    pub fn load_ended(&self) {
        self.load_ends()();
    }

    /// Takes the mark away, as [`Self::load_ended`] does, to be called where the load's end is seen.
    pub fn load_ends(&self) -> impl FnOnce() + Send + use<> {
        let mark = self.mark.clone();
        move || {
            let _ = fs::remove_file(mark);
        }
    }

    fn count_death(&mut self) {
        let Ok(mark) = fs::read_to_string(&self.mark) else {
            return;
        };
        self.load_ended();
        let (digest, in_warm_up) = match mark.strip_prefix(WARM_UP) {
            Some(digest) => (digest, true),
            None => (mark.as_str(), false),
        };
        // A mark that was not written whole says nothing.
        let Ok(digest) = Digest::parse(digest) else {
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

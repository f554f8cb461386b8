//! Load markers: files that name the version whose load is under way, one for each model.
//!
//! A load can end the whole process: by a crash inside ONNX Runtime, or because memory ran out. A marker is set before
//! each load and removed after it, so that a start which finds a marker knows in which load its predecessor died. Rules:
//!
//! - After [`LoadMarkers::close`] no load begins and no marker is set: a process that ends by itself blames no version.
//! - Several markers at a start do not say which of the loads ended the process. They are removed, no version is blamed,
//!   and the loads of this start are made [one at a time](LoadMarkers::is_left_behind), so that a second death names
//!   one version.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing::warn;

use super::entries;
use crate::ids::{Digest, ModelName};

/// Prefix of a marker whose load has ended and whose warm-up runs.
const WARM_UP: &str = "warm-up ";

/// The load markers of one execution environment.
#[derive(Debug)]
pub(super) struct LoadMarkers {
    directory: PathBuf,
    is_left_behind: bool,
    /// Set once no load may begin any more.
    is_closed: Mutex<bool>,
}

/// Content of a marker that a process has left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Death {
    /// The version.
    pub(super) digest: Digest,
    /// Set where it was loaded and its warm-up ran.
    pub(super) in_warm_up: bool,
}

/// The process ends, and no load may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sidecar is shutting down")]
pub struct ShuttingDown;

impl LoadMarkers {
    /// Opens the markers in a directory, which exists.
    pub(super) fn open(directory: &Path) -> Self {
        let left = entries(directory);
        if left.len() > 1 {
            warn!(
                models = %names(&left),
                "a process died while it loaded several models: no version is blamed, and they are loaded one at a time"
            );
            for marker in &left {
                let _ = fs::remove_file(marker);
            }
        }
        Self {
            directory: directory.to_owned(),
            is_left_behind: !left.is_empty(),
            is_closed: Mutex::new(false),
        }
    }

    /// Returns whether the process before this one died in a load.
    pub(super) fn is_left_behind(&self) -> bool {
        self.is_left_behind
    }

    /// Removes the marker that a process before this one has left for a model, and returns what it says.
    pub(super) fn take(&self, model: &ModelName) -> Option<Death> {
        let text = fs::read_to_string(self.path(model)).ok()?;
        self.end_load(model);
        let (digest, in_warm_up) = match text.strip_prefix(WARM_UP) {
            Some(digest) => (digest, true),
            None => (&*text, false),
        };
        // A marker that was not written whole says nothing.
        let digest = Digest::parse(digest).ok()?;
        Some(Death { digest, in_warm_up })
    }

    /// Sets the marker of a model: a load of the version of this digest begins.
    pub(super) fn begin_load(
        &self,
        model: &ModelName,
        digest: &Digest,
    ) -> Result<(), ShuttingDown> {
        let is_closed = self.is_closed.lock();
        if *is_closed.unwrap_or_else(PoisonError::into_inner) {
            return Err(ShuttingDown);
        }
        let path = self.path(model);
        if let Err(error) = fs::write(&path, digest.as_str()) {
            warn!(
                "a crash in this load would not be noticed: cannot write {}: {error}",
                path.display()
            );
        }
        Ok(())
    }

    /// Makes the marker that of a warm-up, once the load itself has ended; to be called where that is seen. A marker that
    /// was removed since is not set again.
    pub(super) fn warm_up_callback(
        &self,
        model: &ModelName,
        digest: &Digest,
    ) -> impl FnOnce() + Send + use<> {
        let (path, text) = (self.path(model), format!("{WARM_UP}{digest}"));
        move || {
            let marker = fs::OpenOptions::new().write(true).truncate(true).open(path);
            // Without it a death counts as one in the load.
            let _ = marker.and_then(|mut marker| marker.write_all(text.as_bytes()));
        }
    }

    /// Removes the marker of a model: its load has ended.
    pub(super) fn end_load(&self, model: &ModelName) {
        let _ = fs::remove_file(self.path(model));
    }

    /// Lets no load begin from here on, and removes all markers.
    pub(super) fn close(&self) {
        let mut is_closed = self
            .is_closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *is_closed = true;
        for marker in entries(&self.directory) {
            let _ = fs::remove_file(marker);
        }
    }

    fn path(&self, model: &ModelName) -> PathBuf {
        self.directory.join(model.as_str())
    }
}

fn names(markers: &[PathBuf]) -> String {
    let names = markers.iter().filter_map(|path| path.file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    names.sort_unstable();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn digest(bytes: &str) -> Digest {
        Digest::of(Sha256::new().chain_update(bytes))
    }

    fn model(name: &str) -> ModelName {
        ModelName::parse(name).unwrap()
    }

    #[test]
    fn one_marker_names_the_version_and_several_name_none() {
        let directory = tempfile::tempdir().unwrap();
        let start = || LoadMarkers::open(directory.path());
        let (a, b) = (model("a"), model("b"));
        let first = start();
        assert!(!first.is_left_behind());
        first.begin_load(&a, &digest("1")).unwrap();
        let second = start();
        assert!(second.is_left_behind());
        let death = Death {
            digest: digest("1"),
            in_warm_up: false,
        };
        assert_eq!(second.take(&a), Some(death));
        assert_eq!(second.take(&a), None, "it is counted once");

        second.begin_load(&a, &digest("1")).unwrap();
        second.begin_load(&b, &digest("2")).unwrap();
        let third = start();
        assert!(third.is_left_behind());
        assert_eq!((third.take(&a), third.take(&b)), (None, None));
        assert!(!start().is_left_behind());
    }

    #[test]
    fn a_warm_up_is_told_apart_and_a_marker_that_is_not_whole_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let markers = LoadMarkers::open(directory.path());
        let (name, version) = (model("a"), digest("1"));
        markers.begin_load(&name, &version).unwrap();
        markers.warm_up_callback(&name, &version)();
        assert!(markers.take(&name).unwrap().in_warm_up);
        fs::write(directory.path().join("a"), "0123").unwrap();
        assert_eq!(markers.take(&name), None);
    }

    #[test]
    fn once_closed_no_load_begins_and_no_marker_is_set() {
        let directory = tempfile::tempdir().unwrap();
        let markers = LoadMarkers::open(directory.path());
        let (name, version) = (model("a"), digest("1"));
        markers.begin_load(&name, &version).unwrap();
        let warm_up_callback = markers.warm_up_callback(&name, &version);
        markers.close();
        warm_up_callback();
        assert_eq!(markers.begin_load(&name, &version), Err(ShuttingDown));
        assert_eq!(entries(directory.path()), Vec::<PathBuf>::new());
    }
}

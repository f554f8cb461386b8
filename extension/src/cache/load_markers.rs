//! Load markers: files that name the version whose load is in progress, one file per model.
//!
//! A load can end the whole process: ONNX Runtime crashes, or memory runs out. A marker is set before each load and
//! removed after it. A process that finds a marker at its start knows which load ended its predecessor. Rules:
//!
//! - After [`LoadMarkers::close`] no load begins and no marker is set: a process that shuts down blames no version.
//! - Several markers do not identify the load that ended the process. They are removed, no version is rejected, and the
//!   loads of this process are [sequential](LoadMarkers::is_left_behind), so that a second such end identifies the
//!   version.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing::warn;

use super::directory::entries;
use crate::ids::{Digest, ModelName};

/// Prefix of a marker's content after the load, while the warm-up is in progress.
const WARM_UP_PREFIX: &str = "warm-up ";

/// Load markers of one execution environment.
#[derive(Debug)]
pub(super) struct LoadMarkers {
    directory: PathBuf,
    is_left_behind: bool,
    /// `true` once the process shuts down.
    is_closed: Mutex<bool>,
}

/// Load that did not end before its process did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InterruptedLoad {
    /// Digest of the version.
    pub(super) digest: Digest,
    /// `true` if the version was loaded and its warm-up was in progress.
    pub(super) in_warm_up: bool,
}

/// No load may begin, because the process shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sidecar is shutting down")]
pub struct ShuttingDown;

impl LoadMarkers {
    /// Opens the markers in an existing directory.
    pub(super) fn open(directory: &Path) -> Self {
        let left = entries(directory);
        if left.len() > 1 {
            for marker in &left {
                let _ = fs::remove_file(marker);
            }
            warn!(
                models = %names(&left),
                "the previous process ended while it loaded several models: no version is rejected; models are loaded one at a time"
            );
        }
        Self {
            directory: directory.to_owned(),
            is_left_behind: !left.is_empty(),
            is_closed: Mutex::new(false),
        }
    }

    /// Returns `true` if the previous process ended during a load.
    pub(super) fn is_left_behind(&self) -> bool {
        self.is_left_behind
    }

    /// Removes the marker that the previous process has left for a model, and returns its content.
    pub(super) fn take(&self, model: &ModelName) -> Option<InterruptedLoad> {
        let text = fs::read_to_string(self.path(model)).ok()?;
        self.end_load(model);
        let (digest, in_warm_up) = match text.strip_prefix(WARM_UP_PREFIX) {
            Some(digest) => (digest, true),
            None => (&*text, false),
        };
        // An incomplete marker identifies no version.
        let digest = Digest::parse(digest).ok()?;
        Some(InterruptedLoad { digest, in_warm_up })
    }

    /// Sets the marker of a model: the load of the version with this digest begins.
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
                "cannot write {}: {error}; a crash during this load will not be detected",
                path.display()
            );
        }
        Ok(())
    }

    /// Returns a callback that turns the marker into a warm-up marker. To be called at the end of the load itself. The
    /// callback does not restore a marker that was removed.
    pub(super) fn warm_up_callback(
        &self,
        model: &ModelName,
        digest: &Digest,
    ) -> impl FnOnce() + Send + use<> {
        let (path, text) = (self.path(model), format!("{WARM_UP_PREFIX}{digest}"));
        move || {
            let marker = fs::OpenOptions::new().write(true).truncate(true).open(path);
            // If this fails, an interrupted warm-up counts as an interrupted load.
            let _ = marker.and_then(|mut marker| marker.write_all(text.as_bytes()));
        }
    }

    /// Removes the marker of a model: its load has ended.
    pub(super) fn end_load(&self, model: &ModelName) {
        let _ = fs::remove_file(self.path(model));
    }

    /// Rejects all further loads and removes all markers.
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
    fn one_marker_identifies_the_version_and_several_identify_none() {
        let directory = tempfile::tempdir().unwrap();
        let start = || LoadMarkers::open(directory.path());
        let (a, b) = (model("a"), model("b"));
        let first = start();
        assert!(!first.is_left_behind());
        first.begin_load(&a, &digest("1")).unwrap();
        let second = start();
        assert!(second.is_left_behind());
        let interrupted = InterruptedLoad {
            digest: digest("1"),
            in_warm_up: false,
        };
        assert_eq!(second.take(&a), Some(interrupted));
        assert_eq!(second.take(&a), None, "it is counted once");

        second.begin_load(&a, &digest("1")).unwrap();
        second.begin_load(&b, &digest("2")).unwrap();
        let third = start();
        assert!(third.is_left_behind());
        assert_eq!((third.take(&a), third.take(&b)), (None, None));
        assert!(!start().is_left_behind());
    }

    #[test]
    fn a_warm_up_is_distinguished_and_an_incomplete_marker_is_ignored() {
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
    fn after_close_no_load_begins_and_no_marker_is_set() {
        let directory = tempfile::tempdir().unwrap();
        let markers = LoadMarkers::open(directory.path());
        let (name, version) = (model("a"), digest("1"));
        markers.begin_load(&name, &version).unwrap();
        let warm_up_begins = markers.warm_up_callback(&name, &version);
        markers.close();
        warm_up_begins();
        assert_eq!(markers.begin_load(&name, &version), Err(ShuttingDown));
        assert_eq!(entries(directory.path()), Vec::<PathBuf>::new());
    }
}

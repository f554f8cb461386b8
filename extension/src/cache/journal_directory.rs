//! Directory of journals and load markers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directory::{Access, create, entries, prepare};
use super::error::CacheError;
use super::journal::{Journal, JournalContent};
use super::load_markers::LoadMarkers;
use crate::ids::{Digest, ModelName};

/// The journals of all models of an execution environment.
#[derive(Debug)]
pub(super) struct JournalDirectory {
    path: PathBuf,
    markers: Arc<LoadMarkers>,
    /// File that exists while a process uses the directory.
    running: PathBuf,
    is_after_kill: bool,
}

impl JournalDirectory {
    /// Opens the journals in the directory for the state of this environment, which may lie in the `cache` directory.
    pub(super) fn open(private: &Path, cache: &Path, is_shared: bool) -> Result<Self, CacheError> {
        let [path, loading] = ["journals", "loading"].map(|name| private.join(name));
        create(&loading, Access::Private)?;
        let markers = Arc::new(LoadMarkers::open(&loading));
        let access = if is_shared && private.starts_with(cache) {
            Access::Shared
        } else {
            Access::Private
        };
        for path in [&path, &loading] {
            prepare(path, access, is_shared)?;
        }
        let running = private.join("running");
        let is_after_kill = running.exists();
        if !is_after_kill {
            // Without the file, a kill of this process is not counted.
            let _ = fs::File::create(&running);
        }
        Ok(Self {
            path,
            markers,
            running,
            is_after_kill,
        })
    }

    /// Returns `true` if the previous process of this environment ended without [`Self::close`].
    pub(super) fn is_after_kill(&self) -> bool {
        self.is_after_kill
    }

    /// Notes that the process shuts down: removes the load markers, and rejects all further loads.
    pub(super) fn close(&self) {
        self.markers.close();
        let _ = fs::remove_file(&self.running);
    }

    /// Returns the path of the directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the load markers.
    pub(super) fn markers(&self) -> &LoadMarkers {
        &self.markers
    }

    /// Returns `true` if an earlier process of this environment has left a journal or a load marker.
    pub(super) fn is_restart(&self) -> bool {
        self.markers.is_left_behind() || !entries(&self.path).is_empty()
    }

    /// Implements [`Cache::journal`](super::Cache::journal).
    pub(super) fn journal(&self, model: &ModelName, location: &str) -> Journal {
        Journal::open(self.path_of(model), model, location, &self.markers)
    }

    /// Returns the digests of the files that journals reference.
    pub(super) fn referenced(&self) -> Vec<Digest> {
        self.contents().flat_map(|it| it.referenced()).collect()
    }

    /// Returns the digests of the files of rejected versions.
    pub(super) fn rejected(&self) -> Vec<Digest> {
        self.contents().flat_map(|it| it.rejected()).collect()
    }

    /// Returns the path of a model's journal.
    pub(super) fn path_of(&self, model: &ModelName) -> PathBuf {
        self.path.join(format!("{model}.json"))
    }

    fn contents(&self) -> impl Iterator<Item = JournalContent> {
        let paths = entries(&self.path).into_iter();
        paths.filter_map(|path| JournalContent::read(&path))
    }
}

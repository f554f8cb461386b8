//! Resolution of a model's location to versions: the candidates that should become active, and the fallbacks.
//!
//! A location names a model's file, a Triton repository, or a manifest. Each form has a [`VersionResolver`], and
//! [`resolve`] is the only place that matches the form. A resolver reads the source and the journal, and decides
//! nothing else: the [planner](super::planner) orders its results into steps.
//!
//! | form | version check | candidates | fallbacks |
//! |---|---|---|---|
//! | [object](object) | conditional request for each known file | the object | earlier versions, where the bucket keeps them |
//! | [repository](repository) | list of folders, then as for an object | highest number | the next lower numbers |
//! | [manifest](manifest) | conditional request for the manifest | chosen version, behind a canary the current one | `current` behind a canary, `previous` |
//!
//! A bad release must not cost the environments that start after it, which have no accepted version of their own: they
//! load a fallback. A model whose version the operator has pinned has none.

mod manifest;
mod object;
mod repository;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;

use super::Shared;
use super::error::CheckError;
use super::source_files::{FileState, SourceFiles};
use crate::cache::Journal;
use crate::clock::Timestamp;
use crate::config::{Form, ModelSettings};
use crate::ids::{FilePath, Identity, VersionName};
use crate::manifest::{Choice, PublishedVersion, VersionLabels};
use crate::source::{EarlierVersion, ModelFolder, Object};
use manifest::ManifestResolver;
use object::ObjectResolver;
use repository::RepositoryResolver;

/// Maximum age of a list of fallbacks while the source holds the same content.
const MAX_LIST_AGE: Duration = Duration::from_secs(600);

/// Versions that one form of source offers.
pub(super) trait VersionResolver: Send + Sync {
    /// Checks whether the source holds another version than the journal's newest; unless `known`, opens the version
    /// that it holds. One round trip, or two for a repository.
    fn changed<'a>(
        &'a self,
        journal: &'a Journal,
        known: bool,
    ) -> BoxFuture<'a, Result<SourceCheck, CheckError>>;

    /// Returns the versions that should become active, in order of preference: at least one.
    fn candidates(
        &self,
        change: Change,
        state: SourceState,
    ) -> BoxFuture<'_, Labelled<(Vec<Candidate>, SourceState)>>;

    /// Lists the versions to fall back to, in order of preference. `previous` is the list of the last check, which is
    /// reused where the source cannot have changed it.
    fn fallbacks(
        &self,
        state: SourceState,
        previous: Option<FallbackList>,
    ) -> BoxFuture<'_, Labelled<FallbackList>>;
}

/// Result of a version check.
pub(super) struct SourceCheck {
    /// Content that differs from the known one; `None` if the source holds the known version.
    pub(super) change: Option<Change>,
    pub(super) state: SourceState,
}

/// Changed content, opened and not yet read.
pub(super) enum Change {
    /// Content that is a version itself.
    Version(Candidate),
    /// Manifest that names versions.
    Manifest(Object),
}

/// State of the source, as a version check has seen it.
#[derive(Default)]
pub(super) struct SourceState {
    /// Identity of the newest content, where the source reported it.
    pub(super) newest: Option<Identity>,
    /// Fallbacks, where they are known without another request.
    fallbacks: Option<Vec<Fallback>>,
}

/// Version that should become active.
pub(super) enum Candidate {
    /// Model's file, with the states of those files that were checked.
    Files {
        model: FilePath,
        name: Option<VersionName>,
        states: HashMap<FilePath, FileState>,
    },
    /// Version of a manifest.
    Published(Arc<PublishedCandidate>),
}

/// Version to fall back to.
#[derive(Clone)]
pub(super) enum Fallback {
    /// Version of a manifest.
    Published(Arc<PublishedCandidate>),
    /// Earlier version of the object at this path.
    Earlier(FilePath, Arc<EarlierVersion>),
    /// Model's file in a repository's folder with a lower number.
    Folder {
        model: FilePath,
        name: Option<VersionName>,
    },
}

/// Version that a manifest names.
pub(super) struct PublishedCandidate {
    pub(super) name: VersionName,
    pub(super) version: PublishedVersion,
    /// Identity of the manifest.
    pub(super) manifest: Identity,
}

/// Result of a request that may have read a manifest, and the version labels of that manifest.
pub(super) struct Labelled<T> {
    pub(super) result: Result<T, CheckError>,
    pub(super) labels: Option<VersionLabels>,
}

impl<T> Labelled<T> {
    fn without_labels(result: Result<T, CheckError>) -> Self {
        Self {
            result,
            labels: None,
        }
    }
}

/// List of fallbacks, in order of preference.
pub(super) struct FallbackList {
    /// Identity of the newest content at the time of the list; `None` where the source did not report it.
    newest: Option<Identity>,
    at: Timestamp,
    pub(super) versions: Vec<Fallback>,
}

impl FallbackList {
    /// Returns a list of these versions.
    pub(super) fn new(newest: Option<Identity>, at: Timestamp, versions: Vec<Fallback>) -> Self {
        Self {
            newest,
            at,
            versions,
        }
    }

    /// Returns whether the list still holds for this content.
    fn is_current(&self, newest: Option<&Identity>, now: Timestamp) -> bool {
        self.newest.as_ref() == newest && self.at <= now && now.since(self.at) < MAX_LIST_AGE
    }
}

/// Returns access to the files of a model, and the resolver for the form of its location.
pub(super) fn resolve(
    settings: &ModelSettings,
    folder: Box<dyn ModelFolder>,
    shared: Shared,
) -> (Arc<SourceFiles>, Box<dyn VersionResolver>) {
    let files = |configured: Option<&FilePath>, pinned| {
        Arc::new(SourceFiles {
            model: settings.name.clone(),
            location: settings.location.to_string(),
            folder,
            shared,
            configured: configured.cloned(),
            pinned,
        })
    };
    match &settings.form {
        Form::Model(path) => {
            let pinned = match &settings.choice {
                Choice::Version(id) => Some(id.clone()),
                _ => None,
            };
            let files = files(Some(path), pinned);
            let resolver = ObjectResolver::new(Arc::clone(&files), path.clone());
            (files, Box::new(resolver))
        }
        Form::Repository => {
            let files = files(None, None);
            let resolver = RepositoryResolver::new(Arc::clone(&files), settings.choice.clone());
            (files, Box::new(resolver))
        }
        Form::Manifest(path) => {
            let files = files(Some(path), None);
            let choice = settings.choice.clone();
            let resolver = ManifestResolver::new(Arc::clone(&files), path.clone(), choice);
            (files, Box::new(resolver))
        }
    }
}

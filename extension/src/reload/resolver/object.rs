//! Versions of a plain object: the object, and its earlier versions where the bucket keeps them.
//!
//! A deleted object has earlier versions too, and the last one serves. A model with data files has no earlier version
//! without a manifest, since the matching versions of its files are unknown.

use std::collections::HashMap;
use std::sync::Arc;

use futures_core::future::BoxFuture;

use super::{
    Candidate, Change, Fallback, FallbackList, Labelled, SourceCheck, SourceState, VersionResolver,
};
use crate::cache::{FileRecord, Journal, ModelRecord};
use crate::ids::{FilePath, VersionName};
use crate::reload::error::CheckError;
use crate::reload::source_files::{FileState, SourceFiles};

/// Resolver of a plain object.
pub(super) struct ObjectResolver {
    files: Arc<SourceFiles>,
    path: FilePath,
}

impl ObjectResolver {
    pub(super) fn new(files: Arc<SourceFiles>, path: FilePath) -> Self {
        Self { files, path }
    }

    async fn list(
        &self,
        state: SourceState,
        previous: Option<FallbackList>,
    ) -> Result<FallbackList, CheckError> {
        let now = self.files.shared.clock.now();
        let newest = state.newest;
        if let Some(list) = previous.filter(|list| list.is_current(newest.as_ref(), now)) {
            return Ok(list);
        }
        let earlier = self
            .files
            .folder
            .earlier_versions(&self.path)
            .await?
            .into_iter();
        let fallback = |earlier| Fallback::Earlier(self.path.clone(), Arc::new(earlier));
        Ok(FallbackList::new(
            newest,
            now,
            earlier.map(fallback).collect(),
        ))
    }
}

impl VersionResolver for ObjectResolver {
    fn changed<'a>(
        &'a self,
        journal: &'a Journal,
        known: bool,
    ) -> BoxFuture<'a, Result<SourceCheck, CheckError>> {
        Box::pin(check_model(&self.files, &self.path, None, journal, known))
    }

    fn candidates(
        &self,
        change: Change,
        state: SourceState,
    ) -> BoxFuture<'_, Labelled<(Vec<Candidate>, SourceState)>> {
        Box::pin(async { the_version(change, state) })
    }

    fn fallbacks(
        &self,
        state: SourceState,
        previous: Option<FallbackList>,
    ) -> BoxFuture<'_, Labelled<FallbackList>> {
        Box::pin(async { Labelled::without_labels(self.list(state, previous).await) })
    }
}

/// Returns the only candidate of a source without a manifest.
pub(super) fn the_version(
    change: Change,
    state: SourceState,
) -> Labelled<(Vec<Candidate>, SourceState)> {
    Labelled::without_labels(match change {
        Change::Version(candidate) => Ok((vec![candidate], state)),
        Change::Manifest(_) => Err(CheckError::Unsteady),
    })
}

/// Checks a model's file, and the data files that the journal knows of, for a change.
pub(super) async fn check_model(
    files: &SourceFiles,
    model: &FilePath,
    name: Option<VersionName>,
    journal: &Journal,
    known: bool,
) -> Result<SourceCheck, CheckError> {
    let newest = journal.history().newest().filter(|_| known);
    let newest = newest.filter(|newest| newest.model.path == *model);
    let states = if known {
        let others = newest.into_iter().flat_map(|newest| &newest.others);
        let paths = std::iter::once(model).chain(others.map(|file| &file.path));
        let seen: Vec<FileRecord> = paths.filter_map(|path| journal.latest_file(path)).collect();
        if seen.iter().any(|file| file.path == *model) {
            match files.check_files(seen, journal).await? {
                Some(states) => Some(states),
                // Files of an incomplete version have arrived and are unchanged: the others remain to be fetched.
                None if !newest.is_some_and(|newest| is_complete(newest, journal)) => {
                    Some(HashMap::new())
                }
                None => None,
            }
        } else {
            Some(HashMap::from([current(files, model, journal).await?]))
        }
    } else {
        Some(HashMap::from([current(files, model, journal).await?]))
    };
    let identity = match &states {
        Some(states) => states.get(model).map(|state| state.identity().clone()),
        None => newest.map(|newest| newest.model.identity.clone()),
    };
    let candidate = |states| Candidate::Files {
        model: model.clone(),
        name,
        states,
    };
    Ok(SourceCheck {
        change: states.map(|states| Change::Version(candidate(states))),
        state: SourceState {
            newest: identity,
            fallbacks: None,
        },
    })
}

async fn current(
    files: &SourceFiles,
    model: &FilePath,
    journal: &Journal,
) -> Result<(FilePath, FileState), CheckError> {
    let state = files.current_state(model, journal).await?;
    Ok((model.clone(), state))
}

fn is_complete(newest: &ModelRecord, journal: &Journal) -> bool {
    newest
        .files()
        .all(|file| journal.latest_file(&file.path).as_ref() == Some(file))
}

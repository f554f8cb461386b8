//! Versions that a manifest names: the chosen one, the current one behind a canary, and the previous one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use futures_core::future::BoxFuture;
use tracing::info;

use super::{
    Candidate, Change, Fallback, FallbackList, Labelled, PublishedCandidate, SourceCheck,
    SourceState, VersionResolver,
};
use crate::cache::Journal;
use crate::fetch;
use crate::ids::{FilePath, Identity};
use crate::manifest::{
    Choice, MAX_BYTES, Manifest, NamedVersion, Selection, SelectionReason, VersionLabels,
};
use crate::reload::error::CheckError;
use crate::reload::source_files::SourceFiles;
use crate::source::{Object, Opened};

/// Resolver of a manifest.
pub(super) struct ManifestResolver {
    files: Arc<SourceFiles>,
    path: FilePath,
    choice: Choice,
    /// Set while a canary is ignored until the restore of a snapshot, after which the manifest is read again.
    is_canary_held: AtomicBool,
}

/// Versions that a manifest has this environment run.
struct Resolution {
    /// Candidates, in order of preference: at least one.
    candidates: Vec<Arc<PublishedCandidate>>,
    fallbacks: Vec<Arc<PublishedCandidate>>,
}

impl ManifestResolver {
    pub(super) fn new(files: Arc<SourceFiles>, path: FilePath, choice: Choice) -> Self {
        Self {
            files,
            path,
            choice,
            is_canary_held: AtomicBool::new(false),
        }
    }

    async fn check(&self, journal: &Journal, known: bool) -> Result<SourceCheck, CheckError> {
        let must_read = !self.is_for_snapshot() && self.is_canary_held.swap(false, Relaxed);
        let settled = journal.history().applied_manifest();
        let condition = settled.filter(|_| known && !must_read);
        let source = self.files.source(&self.path)?;
        let (change, newest) =
            match fetch::open(&*source, &self.files.shared.cache, condition).await? {
                Opened::Unchanged => (None, settled.cloned()),
                Opened::Object(object) => {
                    let identity = object.identity.clone();
                    (Some(Change::Manifest(object)), Some(identity))
                }
            };
        Ok(SourceCheck {
            change,
            state: SourceState {
                newest,
                fallbacks: None,
            },
        })
    }

    async fn resolve(
        &self,
        change: Change,
        state: SourceState,
    ) -> Labelled<(Vec<Candidate>, SourceState)> {
        let Change::Manifest(object) = change else {
            return Labelled::without_labels(Err(CheckError::Unsteady));
        };
        let Labelled { result, labels } = self.read(object).await;
        let result = result.map(|resolution| {
            let candidates = resolution.candidates.into_iter().map(Candidate::Published);
            let state = SourceState {
                fallbacks: Some(fallbacks(resolution.fallbacks)),
                ..state
            };
            (candidates.collect(), state)
        });
        Labelled { result, labels }
    }

    async fn list(
        &self,
        state: SourceState,
        previous: Option<FallbackList>,
    ) -> Labelled<FallbackList> {
        let now = self.files.shared.clock.now();
        let newest = state.newest;
        if let Some(list) = previous.filter(|list| list.is_current(newest.as_ref(), now)) {
            return Labelled::without_labels(Ok(list));
        }
        if let Some(known) = state.fallbacks {
            return Labelled::without_labels(Ok(FallbackList::new(newest, now, known)));
        }
        let Labelled { result, labels } = match self.open().await {
            Ok(object) => self.read(object).await,
            Err(error) => Labelled::without_labels(Err(error)),
        };
        let list = |resolution: Resolution| {
            FallbackList::new(newest, now, fallbacks(resolution.fallbacks))
        };
        Labelled {
            result: result.map(list),
            labels,
        }
    }

    async fn open(&self) -> Result<Object, CheckError> {
        let source = self.files.source(&self.path)?;
        self.files.open_from(&*source).await
    }

    /// Reads the manifest, and selects the versions for this environment.
    async fn read(&self, object: Object) -> Labelled<Resolution> {
        let (mut manifest, identity) = match self.fetch(object).await {
            Ok(read) => read,
            Err(error) => return Labelled::without_labels(Err(error)),
        };
        if self.is_for_snapshot() && manifest.without_canary() {
            self.is_canary_held.store(true, Relaxed);
        }
        Labelled {
            result: self.select(&manifest, &identity),
            labels: Some(labels(&manifest)),
        }
    }

    async fn fetch(&self, object: Object) -> Result<(Manifest, Identity), CheckError> {
        let max = MAX_BYTES as u64;
        if object.size > max {
            let size = object.size;
            return Err(self.error(format!("it has {size} bytes; at most {max} are allowed")));
        }
        let (source, parts) = (self.files.source(&self.path)?, self.files.shared.parts);
        let fetched = self
            .files
            .fetch_from(&*source, &self.path, object, None, parts, None)
            .await?;
        let json = std::fs::read(fetched.file.path())
            .map_err(|error| self.error(format!("it cannot be read from the cache: {error}")))?;
        let manifest = Manifest::parse(&json).map_err(|error| self.error(error.to_string()))?;
        Ok((manifest, fetched.identity))
    }

    fn select(&self, manifest: &Manifest, identity: &Identity) -> Result<Resolution, CheckError> {
        let (choice, model) = (&self.choice, &self.files.model);
        let cache = &self.files.shared.cache;
        let Selection {
            version,
            reason: why,
            fallbacks,
        } = manifest
            .select(choice, model, || cache.rollout_position())
            .map_err(|error| self.error(format!("{choice} cannot be run: {error}")))?;
        info!(%model, %why, "selected the manifest's version {}", version.0);
        let published = |(name, version): NamedVersion<'_>| {
            Arc::new(PublishedCandidate {
                name: name.clone(),
                version: version.clone(),
                manifest: identity.clone(),
            })
        };
        let mut candidates = vec![published(version)];
        let fallbacks: Vec<_> = fallbacks.into_iter().map(published).collect();
        // If the canary is rejected, this environment runs the current version, as all others do.
        if why == SelectionReason::Canary {
            candidates.extend(fallbacks.first().cloned());
        }
        Ok(Resolution {
            candidates,
            fallbacks,
        })
    }

    /// Returns `true` if a position for a canary would be that of every environment restored from a snapshot.
    fn is_for_snapshot(&self) -> bool {
        self.files.shared.status.snapshot().is_before_restore()
    }

    fn error(&self, reason: String) -> CheckError {
        self.files.manifest_error(reason)
    }
}

impl VersionResolver for ManifestResolver {
    fn changed<'a>(
        &'a self,
        journal: &'a Journal,
        known: bool,
    ) -> BoxFuture<'a, Result<SourceCheck, CheckError>> {
        Box::pin(self.check(journal, known))
    }

    fn candidates(
        &self,
        change: Change,
        state: SourceState,
    ) -> BoxFuture<'_, Labelled<(Vec<Candidate>, SourceState)>> {
        Box::pin(self.resolve(change, state))
    }

    fn fallbacks(
        &self,
        state: SourceState,
        previous: Option<FallbackList>,
    ) -> BoxFuture<'_, Labelled<FallbackList>> {
        Box::pin(self.list(state, previous))
    }
}

fn labels(manifest: &Manifest) -> VersionLabels {
    manifest.labels().clone()
}

fn fallbacks(versions: Vec<Arc<PublishedCandidate>>) -> Vec<Fallback> {
    versions.into_iter().map(Fallback::Published).collect()
}

//! Reloader of one model: performs the steps that the [planner](super::planner) decides.

mod progress;
mod report;
mod rollback;
mod source_check;

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tracing::info;

use super::activation::{RenameError, apply_metadata, rename};
use super::cleanup::JournalSlot;
use super::download::{Download, Downloader, LoadableModel, find_cached};
use super::loader::{LoadFailure, LoadFailureKind, LoadRequest, Loader};
use super::planner::{End, Event, Offer, Payload, Planner, Step};
use super::resolver::{
    Candidate, Change, Fallback, FallbackList, Labelled, SourceState, VersionResolver, resolve,
};
use super::source_files::SourceFiles;
use super::validation::AcceptanceCriteria;
use super::{Outcome, Shared};
use crate::cache::{Journal, ModelRecord, RejectionCause};
use crate::clock::timed_awake;
use crate::config::{ModelSettings, Reload};
use crate::engine::PreparedWeights;
use crate::ids::Digest;
use crate::manifest::Choice;
use crate::source::ModelFolder;
use progress::CheckProgress;

/// Keeps one model current.
pub struct Reloader {
    settings: ModelSettings,
    shared: Shared,
    files: Arc<SourceFiles>,
    resolver: Box<dyn VersionResolver>,
    loader: Loader,
    /// Held by the check under way.
    journal: Mutex<JournalSlot>,
    /// Fallbacks listed by the last check, so that a source without changes is not listed at each check.
    fallbacks: StdMutex<Option<FallbackList>>,
}

/// Payload of the planner's steps: versions as the resolver finds and the download returns them.
struct VersionPayload;

impl Payload for VersionPayload {
    type Change = Change;
    type Source = SourceState;
    type Candidate = Candidate;
    type Fallback = Fallback;
    type Model = LoadableModel;
}

impl Reloader {
    /// Returns a reloader for the model of `settings`, whose files lie in `folder`.
    #[must_use]
    pub fn new(settings: ModelSettings, folder: Box<dyn ModelFolder>, shared: Shared) -> Self {
        let (files, resolver) = resolve(&settings, folder, shared.clone());
        Self {
            loader: Loader::new(settings.name.clone(), shared.clone()),
            settings,
            shared,
            files,
            resolver,
            journal: Mutex::default(),
            fallbacks: StdMutex::default(),
        }
    }

    /// Checks the source, and activates a new version if there is one. During a check, another call only waits for its
    /// end.
    pub async fn check(&self) -> Outcome {
        let Ok(mut slot) = self.journal.try_lock() else {
            drop(self.journal.lock().await);
            return Outcome::Current;
        };
        // Without reloads, one version stays active for the lifetime of the process.
        if self.shared.memory.mode == Reload::Off && self.active().is_some() {
            return Outcome::Current;
        }
        let journal = self.read_journal(&mut slot).await;
        let deferred = self.loader.deferred();
        let (planner, step) = Planner::check(journal.history(), self.active(), deferred);
        self.run(planner, step, &mut slot, &mut CheckProgress::default())
            .await
    }

    async fn read_journal<'a>(&self, slot: &'a mut JournalSlot) -> &'a mut Journal {
        let (model, origin) = (&self.settings.name, self.settings.origin());
        slot.get(|| self.shared.cache.journal(model, &origin)).await
    }

    fn active(&self) -> Option<Digest> {
        let active = self.shared.models.current(&self.settings.name);
        active.map(|loaded| loaded.digest.clone())
    }

    /// Performs the planner's steps to the end.
    async fn run(
        &self,
        mut planner: Planner<VersionPayload>,
        mut step: Step<VersionPayload>,
        slot: &mut JournalSlot,
        progress: &mut CheckProgress,
    ) -> Outcome {
        let journal = self.read_journal(slot).await;
        let (model, shared) = (&self.settings.name, &self.shared);
        let now = shared.clock.now();
        shared.status.update(model, |status| {
            status.is_busy = true;
            status.check_started_at = Some(now);
        });
        let mut has_loaded = false;
        let end = loop {
            let event = match step {
                Step::End(end) => break end,
                Step::CheckSource { known, in_cache } => {
                    self.check_source(known, in_cache, journal, progress).await
                }
                Step::Resolve { change, source } => self.resolve(change, source, progress).await,
                Step::ListFallbacks { source } => self.list_fallbacks(source, progress).await,
                Step::Download(offer) => self.download(offer, journal, progress).await,
                Step::FindInCache(record) => self.find(record, progress).await,
                Step::Load {
                    record,
                    model,
                    replay,
                } => {
                    has_loaded = true;
                    self.load(record, model, replay, journal, progress).await
                }
                Step::Rename { record, model } => {
                    self.rename(record, model, journal, progress).await
                }
            };
            // Once a version is active, the cleanup writes the journal. Lists decide nothing that a restart needs.
            let may_write_later = matches!(
                event,
                Event::Loaded { .. } | Event::Resolved { .. } | Event::FallbacksListed { .. }
            );
            let next = |history: &mut _| planner.next(history, event);
            step = if may_write_later {
                journal.update_unsaved(next)
            } else {
                journal.update(next)
            };
        };
        drop((planner, progress.drained.take()));
        apply_metadata(model, journal.history(), shared);
        self.report(end, journal, progress);
        if end == End::Loaded {
            slot.begin_cleanup(&shared.cache);
        } else {
            journal.save();
            if has_loaded {
                shared.cache.sweep();
            }
        }
        match end {
            End::Current => Outcome::Current,
            End::Loaded => Outcome::Loaded(std::mem::take(&mut progress.timings)),
            End::Failed => Outcome::Failed,
        }
    }

    async fn resolve(
        &self,
        change: Change,
        source: SourceState,
        progress: &mut CheckProgress,
    ) -> Event<VersionPayload> {
        let resolve = self.resolver.candidates(change, source);
        let (Labelled { result, labels }, time) = timed_awake(resolve).await;
        progress.resolving += time;
        match result {
            Ok((candidates, source)) => Event::Resolved {
                candidates,
                source,
                labels,
            },
            Err(problem) => {
                self.not_available(problem, false, progress);
                Event::NotResolved { labels }
            }
        }
    }

    async fn list_fallbacks(
        &self,
        source: Option<SourceState>,
        progress: &mut CheckProgress,
    ) -> Event<VersionPayload> {
        if progress.is_source_down() {
            return Event::NoFallback { labels: None };
        }
        let source = source.unwrap_or_default();
        let (now, newest) = (self.shared.clock.now(), source.newest.clone());
        let empty = FallbackList::new(newest, now, Vec::new());
        let previous = self.kept_fallbacks(None);
        let list = async {
            if let Choice::Version(_) = &self.settings.choice {
                // The operator wants the pinned version or none.
                return Labelled {
                    result: Ok(None),
                    labels: None,
                };
            }
            let Labelled { result, labels } = self.resolver.fallbacks(source, previous).await;
            Labelled {
                result: result.map(Some),
                labels,
            }
        };
        let (Labelled { result, labels }, time) = timed_awake(list).await;
        progress.resolving += time;
        let list = match result {
            Ok(list) => list.unwrap_or(empty),
            Err(problem) => {
                let is_transient = problem.is_transient();
                self.not_available(problem, true, progress);
                if is_transient {
                    return Event::NoFallback { labels };
                }
                // A list that cannot be read is not requested again while the source holds the same content.
                empty
            }
        };
        let fallbacks = list.versions.clone();
        progress.fallbacks = Some(list);
        Event::FallbacksListed { fallbacks, labels }
    }

    /// Exchanges the list of fallbacks that is kept for the next check.
    fn kept_fallbacks(&self, list: Option<FallbackList>) -> Option<FallbackList> {
        let mut kept = self
            .fallbacks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *kept, list)
    }

    async fn download(
        &self,
        offer: Offer<VersionPayload>,
        journal: &Journal,
        progress: &mut CheckProgress,
    ) -> Event<VersionPayload> {
        let is_fallback = matches!(offer, Offer::Fallback(_));
        if is_fallback && progress.is_source_down() {
            return Event::NoFallback { labels: None };
        }
        let downloader = Downloader {
            files: &self.files,
            journal,
            deferred: self.loader.deferred(),
        };
        let download = async {
            match offer {
                Offer::Candidate(candidate) => downloader.candidate(candidate).await.map(Some),
                Offer::Fallback(fallback) => downloader.fallback(&fallback).await,
            }
        };
        let (result, time) = timed_awake(download).await;
        let time = time + std::mem::take(&mut progress.resolving);
        let Download {
            record,
            model,
            published,
            transferred,
        } = match result {
            Ok(Some(download)) => download,
            Ok(None) => return Event::NotDownloaded,
            Err(problem) => {
                self.not_available(problem, is_fallback, progress);
                return Event::NotDownloaded;
            }
        };
        journal.complete_download();
        match transferred {
            Some(bytes) => {
                progress.timings.steps.fetch = Some(time);
                self.count_fetch(time, bytes);
            }
            None if model.is_some() => self.count_cache_hit(),
            None => {}
        }
        if is_fallback && model.is_some() {
            info!(model = %self.settings.name, version = %record.version, digest = %record.digest(), "falling back to an earlier version");
        }
        Event::Downloaded {
            record,
            model,
            published,
        }
    }

    async fn find(
        &self,
        record: ModelRecord,
        progress: &mut CheckProgress,
    ) -> Event<VersionPayload> {
        let (found, cache) = self.find_timed(Some(record)).await;
        progress.timings.cache = cache;
        found.map_or(Event::NotFound, Event::Found)
    }

    /// Returns a version that is in the cache, and the duration of the search.
    async fn find_timed(&self, record: Option<ModelRecord>) -> (Option<LoadableModel>, Duration) {
        let started = Instant::now();
        let Some(record) = record else {
            return (None, Duration::ZERO);
        };
        let files = find_cached(&self.shared.cache, record).await;
        let model = files.map(|files| LoadableModel {
            files,
            criteria: AcceptanceCriteria::default(),
            prepared: PreparedWeights::default(),
        });
        (model, started.elapsed())
    }

    async fn load(
        &self,
        record: ModelRecord,
        model: LoadableModel,
        replay: bool,
        journal: &Journal,
        progress: &mut CheckProgress,
    ) -> Event<VersionPayload> {
        let rollback = progress.rollback.as_ref().filter(|_| replay);
        let request = LoadRequest {
            record: &record,
            files: model.files,
            criteria: model.criteria,
            prepared: model.prepared,
            evidence: rollback.map(|rollback| rollback.evidence.clone()),
            journal,
        };
        let (timings, drained) = (&mut progress.timings, &mut progress.drained);
        let LoadFailure { kind, vacated } = match self.loader.load(request, timings, drained).await
        {
            Ok(activated) => {
                progress.rolled_back(activated.rollback.as_deref());
                return Event::Loaded {
                    signature: activated.signature,
                    rollback: activated.rollback,
                };
            }
            Err(failure) => failure,
        };
        match kind {
            LoadFailureKind::NotAttempted(problem) => {
                progress.failed(problem);
                Event::NotLoaded { vacated }
            }
            LoadFailureKind::NotConfirmed(outcome) => {
                progress.not_rolled_back(outcome);
                Event::NotConfirmed { vacated }
            }
            LoadFailureKind::Deferred(problem) => {
                progress.failed(problem);
                Event::Deferred { vacated }
            }
            LoadFailureKind::Rejected {
                cause,
                reason,
                problem,
            } => {
                progress.failed(problem);
                Event::Rejected {
                    cause,
                    reason,
                    vacated,
                }
            }
        }
    }

    async fn rename(
        &self,
        record: ModelRecord,
        model: Option<LoadableModel>,
        journal: &Journal,
        progress: &mut CheckProgress,
    ) -> Event<VersionPayload> {
        let name = &self.settings.name;
        let (files, criteria) = model.map(|model| (model.files, model.criteria)).unzip();
        let criteria = criteria.unwrap_or_default();
        let renamed = rename(name, &record, criteria, journal, &self.shared).await;
        drop(files);
        match renamed {
            Ok(signature) => {
                self.loader.note_renamed(record);
                Event::Renamed { signature }
            }
            Err(RenameError::Rejected(error)) => {
                let reason = error.to_string();
                progress.failed(error);
                Event::Rejected {
                    cause: RejectionCause::Criteria,
                    reason,
                    vacated: false,
                }
            }
            Err(RenameError::NotAttempted(problem)) => {
                if let Some(problem) = problem {
                    progress.failed(problem);
                }
                Event::NotLoaded { vacated: false }
            }
        }
    }
}

#[cfg(test)]
mod tests;

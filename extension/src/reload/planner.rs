//! Planner of a check: a pure state machine, so that tests can try every order of events.
//!
//! A [`Planner`] receives an [`Event`] and returns the next [`Step`], until [`Step::End`]. The
//! [reloader](super::reloader) performs the steps. Decisions are based on the [`History`], and recorded in it, so that
//! they outlive the process. Opened bodies, candidates and files ride in the steps and events as a [`Payload`] that the
//! planner passes on unread.
//!
//! Guarantees:
//!
//! - A version is active only after a load that succeeded.
//! - An active version is replaced only by another version, or by itself again.
//! - If the source responds and offers an acceptable version, such a version becomes active, whatever failed before.
//!
//! Order of attempts:
//!
//! 1. The source's candidates, in their order.
//! 2. If no version is active and no candidate is acceptable: the versions accepted here last, then the source's
//!    fallbacks.
//! 3. If the active version had to leave memory for a load that failed: that version again.
//!
//! A rollback ([`Planner::roll_back`]) loads the previous version, or the source's fallback, and replays failed
//! inputs on it. The active version is rejected only after a load that confirms the rollback.
//!
//! # States
//!
//! A rollback begins in `Finding`, or in `Checking` if no previous version is known.
//!
//! ```mermaid
//! stateDiagram-v2
//!     [*] --> Checking
//!     Checking --> Resolving: changed
//!     Checking --> Renaming: unchanged, active under another name
//!     Checking --> Loading: unchanged or unreachable, newest version in the cache
//!     Checking --> Checking: unchanged, files not in the cache
//!     Checking --> Finding: no version active
//!     Checking --> Ended: unchanged, or unreachable with an active version
//!     Resolving --> Downloading: candidates
//!     Resolving --> Finding: failed, no version active
//!     Downloading --> Loading: in the cache
//!     Downloading --> Renaming: content is active under another name
//!     Downloading --> Downloading: failed or rejected, next candidate or fallback
//!     Downloading --> Finding: last candidate, no version active
//!     Finding --> Loading: found
//!     Finding --> Checking: not found, in a rollback
//!     Finding --> Listing: not found
//!     Listing --> Downloading: fallbacks
//!     Loading --> Downloading: failed, next candidate or fallback
//!     Loading --> Finding: failed, no version active
//!     Loading --> Ended: active
//!     Renaming --> Downloading: rejected, next candidate
//!     Renaming --> Ended: renamed
//!     Downloading --> Ended: nothing left to try
//!     Listing --> Ended: nothing left to try
//!     Loading --> Ended: nothing left to try
//!     Ended --> [*]
//! ```
//!
//! # Journal
//!
//! The [journal](crate::cache::Journal) keeps, per model and location:
//!
//! | entry | content | written |
//! |---|---|---|
//! | accepted version | record, criteria, first golden example, signature | after a load or rename |
//! | previous version | the accepted version before, for a rollback | after a load |
//! | candidate | newest version in the source, until accepted | after a download |
//! | fallback | version that the source offers instead | after a download |
//! | manifest | identity of the manifest that needs no more work | at the end of a check |
//! | labels | version labels of the last manifest | when a manifest is read |
//! | rejections | content or criteria not to be tried again, with the reason | after a failed load or validation |
//! | passed-over candidate | reason for which the first candidate is not active | at the end of a check |
//! | deaths | processes that died in a load, per version | at the next start |
//! | arrived files | files of an incomplete version | after each file |
//! | rejected content | content that failed verification twice | after a download |

mod after_load;
mod state;
mod step;

use std::collections::VecDeque;

use crate::cache::{History, ManifestMetadata, ModelRecord};
use crate::ids::{Digest, Identity};
use state::{After, Failing, Restoring, State, Target, note_labels};
pub(super) use step::{End, Event, Offer, Payload, Step};

/// Check under way.
pub(super) struct Planner<P: Payload> {
    /// Active version.
    active: Option<Digest>,
    /// Version to roll back.
    failing: Option<Failing>,
    /// `true` once the source was asked for its present version, known or not.
    asked_anew: bool,
    state: State,
    /// State of the source after the last version check.
    source: Option<P::Source>,
    /// Candidates that were not downloaded yet.
    candidates: VecDeque<P::Candidate>,
    /// Fallbacks of the source, once listed.
    fallbacks: Option<Vec<P::Fallback>>,
    /// Files found in parallel with the version check, held until the next download so that they are not evicted for
    /// it.
    found: Option<P::Model>,
    /// Versions that could not be loaded in this check.
    tried: Vec<Digest>,
    /// Version whose load has to wait.
    deferred: Option<Digest>,
    /// Manifest that was read in this check.
    manifest: Option<Identity>,
    /// `true` if a later check may achieve more.
    unfinished: bool,
    /// `true` once a candidate of the source was seen.
    has_seen: bool,
    /// Reason for which the first candidate is not active.
    passed_over: Option<String>,
    /// Set while the former active version, which had to leave memory, is restored.
    restoring: Option<Restoring>,
}

impl<P: Payload> Planner<P> {
    /// Begins a check alongside the active version, if there is one; the version whose load is `deferred` is not
    /// loaded.
    pub(super) fn check(
        history: &History,
        active: Option<Digest>,
        deferred: Option<Digest>,
    ) -> (Self, Step<P>) {
        let mut planner = Self {
            active,
            failing: None,
            asked_anew: false,
            state: State::Ended,
            source: None,
            candidates: VecDeque::new(),
            fallbacks: None,
            found: None,
            tried: deferred.iter().cloned().collect(),
            deferred,
            manifest: None,
            unfinished: false,
            has_seen: false,
            passed_over: None,
            restoring: None,
        };
        let step = planner.check_source(history, true);
        (planner, step)
    }

    /// Begins a rollback from the version of this digest. That version stays active until another one has replaced it,
    /// since some correct responses are better than none.
    pub(super) fn roll_back(
        history: &History,
        active: Option<Digest>,
        digest: &Digest,
    ) -> (Self, Step<P>) {
        let (mut planner, _) = Self::check(history, active, None);
        if planner.active.as_ref() != Some(digest) {
            planner.state = State::Ended;
            return (planner, Step::End(End::Current));
        }
        planner.failing = Some(Failing {
            digest: digest.clone(),
            is_wanted: false,
        });
        planner.tried.push(digest.clone());
        let step = match planner.find(history) {
            Some(find) => find,
            None => planner.check_source(history, false),
        };
        (planner, step)
    }

    /// Returns the next step.
    pub(super) fn next(&mut self, history: &mut History, event: Event<P>) -> Step<P> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        match (state, event) {
            (State::Checking { in_cache }, Event::Unchanged { source, found }) => {
                self.source = Some(source);
                self.unchanged(history, in_cache.zip(found))
            }
            (
                State::Checking { .. },
                Event::Changed {
                    change,
                    source,
                    found,
                },
            ) => {
                self.found = found;
                self.state = State::Resolving;
                Step::Resolve { change, source }
            }
            (State::Checking { in_cache }, Event::Unreachable { found }) => {
                match in_cache.zip(found) {
                    _ if self.is_served() => self.end(history, End::Failed),
                    Some((record, model)) => self.load(record, model, After::FallBack),
                    None => self.fall_back(history),
                }
            }
            (
                State::Resolving,
                Event::Resolved {
                    candidates,
                    source,
                    labels,
                },
            ) => {
                note_labels(history, labels);
                self.source = Some(source);
                self.candidates = candidates.into();
                self.next_candidate(history)
            }
            (State::Resolving, Event::NotResolved { labels }) => {
                note_labels(history, labels);
                self.unfinished = true;
                self.go_on(history, After::FallBack)
            }
            (State::Listing, Event::FallbacksListed { fallbacks, labels }) => {
                note_labels(history, labels);
                self.fallbacks = Some(fallbacks);
                self.fallback(history, 0)
            }
            (State::Listing | State::Downloading(_), Event::NoFallback { labels }) => {
                note_labels(history, labels);
                self.go_on(history, After::Nothing)
            }
            (
                State::Downloading(target),
                Event::Downloaded {
                    record,
                    model,
                    published,
                },
            ) => {
                self.found = None;
                let after = self.following(target);
                match target {
                    Target::Candidate => self.seen(history, record, model, published, after),
                    Target::Fallback(_) => {
                        self.may_fall_back(history, record, model, published, after)
                    }
                }
            }
            (State::Downloading(target), Event::NotDownloaded) => {
                self.unfinished |= target == Target::Candidate;
                let after = self.following(target);
                self.go_on(history, after)
            }
            (State::Finding(record), Event::Found(model)) => {
                self.found = None;
                self.load_fallback(record, model, After::Fallback(0))
            }
            (State::Finding(_), Event::NotFound) => {
                self.found = None;
                if self.failing.is_some() && !self.asked_anew {
                    self.check_source(history, false)
                } else {
                    self.fallback(history, 0)
                }
            }
            (State::Loading { record, after }, event) => {
                self.loaded(history, &record, after, event)
            }
            (State::Renaming { record, after }, event) => {
                self.renamed(history, &record, after, event)
            }
            // Unreachable: the event does not belong to the step.
            (_, _) => self.end(history, End::Failed),
        }
    }

    fn unchanged(
        &mut self,
        history: &mut History,
        found: Option<(ModelRecord, P::Model)>,
    ) -> Step<P> {
        let Some(usable) = history.loadable_offline() else {
            return self.end_or_fall_back(history);
        };
        if self.active.as_ref() == Some(&usable.digest()) {
            let usable = usable.clone();
            return self.rename(history, usable, None, After::FallBack);
        }
        if self.tried.contains(&usable.digest()) {
            return self.end_or_fall_back(history);
        }
        match found {
            Some((record, model)) if record == *usable => self.load(record, model, After::FallBack),
            _ => self.check_source(history, false),
        }
    }

    fn end_or_fall_back(&mut self, history: &mut History) -> Step<P> {
        if self.is_served() {
            self.end(history, End::Current)
        } else {
            self.fall_back(history)
        }
    }

    /// Handles a candidate that is in the cache, or known to be rejected.
    fn seen(
        &mut self,
        history: &mut History,
        record: ModelRecord,
        model: Option<P::Model>,
        published: Option<ManifestMetadata>,
        after: After,
    ) -> Step<P> {
        let digest = record.digest();
        let criteria = published.as_ref().map(|it| it.criteria.clone());
        self.manifest = published.as_ref().map(|it| it.manifest.clone());
        self.has_seen = true;
        history.set_candidate(record.clone(), published);
        if let Some(reason) = history.rejection_reason(&digest, criteria.as_ref()) {
            self.passed_over.get_or_insert(reason.to_owned());
            return self.go_on(history, after);
        }
        if let Some(failing) = &mut self.failing {
            failing.is_wanted |= failing.digest == digest;
        }
        if self.tried.contains(&digest) {
            // A deferred version is still to be loaded, by a later check.
            self.unfinished |= self.deferred.as_ref() == Some(&digest);
            return self.go_on(history, after);
        }
        if self.active.as_ref() == Some(&digest) {
            return self.rename(history, record, model, after);
        }
        let Some(model) = model else {
            return self.not_loaded(history, &record, false);
        };
        match &self.failing {
            Some(failing) if failing.is_wanted => self.load_fallback(record, model, after),
            _ => self.load(record, model, after),
        }
    }

    /// Handles a fallback that is in the cache, or known to be rejected.
    fn may_fall_back(
        &mut self,
        history: &mut History,
        record: ModelRecord,
        model: Option<P::Model>,
        published: Option<ManifestMetadata>,
        after: After,
    ) -> Step<P> {
        let (digest, criteria) = (record.digest(), published.as_ref().map(|it| &it.criteria));
        if history.rejection_reason(&digest, criteria).is_some() || self.tried.contains(&digest) {
            return self.go_on(history, after);
        }
        history.set_fallback(record.clone(), published);
        // No candidate was seen to be unacceptable.
        if !self.has_seen {
            history.set_applied_manifest(None);
        }
        match model {
            Some(model) => self.load_fallback(record, model, after),
            None => self.not_loaded(history, &record, false),
        }
    }

    fn go_on(&mut self, history: &mut History, after: After) -> Step<P> {
        match after {
            After::NextCandidate => self.next_candidate(history),
            After::Fallback(index) => self.fallback(history, index),
            After::FallBack if !self.is_served() => self.fall_back(history),
            After::FallBack | After::Nothing => match self.restoring.take() {
                Some(Restoring::NextCandidate) => self.next_candidate(history),
                _ => self.end(history, End::Failed),
            },
        }
    }

    /// Returns whether a version is active that is not to be rolled back.
    fn is_served(&self) -> bool {
        self.active.is_some() && self.failing.is_none()
    }

    fn check_source(&mut self, history: &History, known: bool) -> Step<P> {
        self.asked_anew |= !known;
        let usable = history.loadable_offline().filter(|_| known);
        let in_cache = usable.filter(|usable| {
            let digest = usable.digest();
            self.active.as_ref() != Some(&digest) && !self.tried.contains(&digest)
        });
        let in_cache = in_cache.cloned();
        self.state = State::Checking {
            in_cache: in_cache.clone(),
        };
        Step::CheckSource { known, in_cache }
    }

    fn next_candidate(&mut self, history: &mut History) -> Step<P> {
        match self.candidates.pop_front() {
            Some(candidate) => {
                self.state = State::Downloading(Target::Candidate);
                Step::Download(Offer::Candidate(candidate))
            }
            None => {
                self.unfinished = true;
                self.go_on(history, After::FallBack)
            }
        }
    }

    /// Downloads the source's fallback at this index.
    fn fallback(&mut self, history: &mut History, index: usize) -> Step<P> {
        let Some(fallbacks) = &self.fallbacks else {
            self.state = State::Listing;
            return Step::ListFallbacks {
                source: self.source.take(),
            };
        };
        match fallbacks.get(index).cloned() {
            Some(fallback) => {
                self.state = State::Downloading(Target::Fallback(index));
                Step::Download(Offer::Fallback(fallback))
            }
            None => self.go_on(history, After::Nothing),
        }
    }

    /// Returns the continuation after a version that cannot become active.
    fn following(&self, target: Target) -> After {
        match target {
            Target::Candidate if self.candidates.is_empty() => After::FallBack,
            Target::Candidate => After::NextCandidate,
            Target::Fallback(index) => After::Fallback(index + 1),
        }
    }

    fn load(&mut self, record: ModelRecord, model: P::Model, after: After) -> Step<P> {
        self.load_with(false, record, model, after)
    }

    /// Loads a version that is not the source's first choice; in a rollback, failed inputs decide whether it becomes
    /// active.
    fn load_fallback(&mut self, record: ModelRecord, model: P::Model, after: After) -> Step<P> {
        self.load_with(self.failing.is_some(), record, model, after)
    }

    fn load_with(
        &mut self,
        replay: bool,
        record: ModelRecord,
        model: P::Model,
        after: After,
    ) -> Step<P> {
        self.state = State::Loading {
            record: record.clone(),
            after,
        };
        Step::Load {
            record,
            model,
            replay,
        }
    }

    /// Falls back to a version accepted here, or else to the source's fallbacks.
    fn fall_back(&mut self, history: &mut History) -> Step<P> {
        match self.find(history) {
            Some(find) => find,
            None => self.fallback(history, 0),
        }
    }

    fn find(&mut self, history: &History) -> Option<Step<P>> {
        let mut known = history
            .loadable_offline()
            .into_iter()
            .chain(history.last_active())
            .chain(history.previous_active());
        let record = known.find(|record| !self.tried.contains(&record.digest()))?;
        self.state = State::Finding(record.clone());
        Some(Step::FindInCache(record.clone()))
    }

    fn end(&mut self, history: &mut History, end: End) -> Step<P> {
        if let Some(manifest) = self.manifest.take() {
            history.set_applied_manifest(Some(manifest));
        }
        // A version that was not rolled back after all may have a new name.
        if self.unfinished || self.failing.is_some() {
            history.set_applied_manifest(None);
        }
        if self.has_seen {
            history.set_fallback_reason(self.passed_over.take());
        }
        self.state = State::Ended;
        Step::End(end)
    }
}

#[cfg(test)]
mod tests;

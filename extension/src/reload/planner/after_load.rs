//! Continuation after a load or a rename.

use super::Planner;
use super::state::{After, Failing, Restoring, State};
use super::step::{End, Event, Payload, Step};
use crate::cache::{History, ModelRecord, RejectionCause};

impl<P: Payload> Planner<P> {
    /// Continues after the attempt to load a version.
    pub(super) fn loaded(
        &mut self,
        history: &mut History,
        record: &ModelRecord,
        after: After,
        event: Event<P>,
    ) -> Step<P> {
        match event {
            Event::Loaded {
                signature,
                rollback,
            } => {
                self.active = Some(record.digest());
                // Without a replay nothing is proved against the former version: the source had another candidate.
                if let (Some(failing), Some(reason)) = (self.failing.take(), rollback) {
                    history.reject_content(&failing.digest, &reason);
                }
                history.accept(record, signature);
                match self.restoring.take() {
                    None => self.end(history, End::Loaded),
                    Some(Restoring::NextCandidate) => self.next_candidate(history),
                    Some(Restoring::End) => self.end(history, End::Failed),
                }
            }
            Event::Rejected {
                cause,
                reason,
                vacated,
            } => {
                self.reject(history, record, cause, reason);
                self.load_failed(history, after, vacated)
            }
            Event::Deferred { vacated } => {
                self.unfinished = true;
                self.tried.push(record.digest());
                if vacated || !self.is_served() {
                    let after = if vacated { After::FallBack } else { after };
                    self.load_failed(history, after, vacated)
                } else {
                    self.end(history, End::Failed)
                }
            }
            Event::NotConfirmed { vacated } => self.not_confirmed(history, vacated),
            Event::NotLoaded { vacated } => self.not_loaded(history, record, vacated),
            // Unreachable: the event does not belong to the step.
            _ => self.end(history, End::Failed),
        }
    }

    pub(super) fn not_loaded(
        &mut self,
        history: &mut History,
        record: &ModelRecord,
        vacated: bool,
    ) -> Step<P> {
        self.unfinished = true;
        self.tried.push(record.digest());
        if vacated {
            self.load_failed(history, After::FallBack, true)
        } else {
            self.end(history, End::Failed)
        }
    }

    /// Continues after a load that failed: restores the active version if it had to leave memory.
    fn load_failed(&mut self, history: &mut History, after: After, vacated: bool) -> Step<P> {
        if !vacated || self.restoring.is_some() {
            return self.go_on(history, after);
        }
        self.active = None;
        self.restoring = Some(match after {
            After::NextCandidate => Restoring::NextCandidate,
            _ => Restoring::End,
        });
        self.fall_back(history)
    }

    /// Ends a rollback whose evidence does not hold. An active version that had to leave memory is restored.
    fn not_confirmed(&mut self, history: &mut History, vacated: bool) -> Step<P> {
        let failing = self.failing.take();
        // The source's candidate was not tried, and may have a new name.
        self.unfinished |= self.has_seen;
        if !vacated && self.active.is_some() {
            return self.end(history, End::Current);
        }
        if let Some(Failing { digest, .. }) = failing {
            self.tried.retain(|tried| *tried != digest);
        }
        self.active = None;
        self.restoring = Some(Restoring::End);
        self.fall_back(history)
    }

    /// Begins to rename the active version, whose content the source wants.
    pub(super) fn rename(
        &mut self,
        history: &mut History,
        record: ModelRecord,
        model: Option<P::Model>,
        after: After,
    ) -> Step<P> {
        if history.last_active() == Some(&record) {
            return self.end(history, End::Current);
        }
        self.state = State::Renaming {
            record: record.clone(),
            after,
        };
        Step::Rename { record, model }
    }

    /// Continues after the attempt to rename the active version. On failure it stays active under its former name.
    pub(super) fn renamed(
        &mut self,
        history: &mut History,
        record: &ModelRecord,
        after: After,
        event: Event<P>,
    ) -> Step<P> {
        match event {
            Event::Renamed { signature } => {
                history.accept(record, signature);
                self.end(history, End::Current)
            }
            Event::Rejected { cause, reason, .. } => {
                self.reject(history, record, cause, reason);
                self.go_on(history, after)
            }
            _ => {
                self.unfinished = true;
                self.end(history, End::Failed)
            }
        }
    }

    /// Records a rejection. Content that only failed its criteria may still be accepted under others.
    fn reject(
        &mut self,
        history: &mut History,
        record: &ModelRecord,
        cause: RejectionCause,
        reason: String,
    ) {
        history.reject(record, cause, &reason);
        self.passed_over.get_or_insert(reason);
        if cause == RejectionCause::Content {
            self.tried.push(record.digest());
        }
    }
}

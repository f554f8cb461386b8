//! Rollback policy: when a version whose runs fail is to give way to the previous version.
//!
//! A version that loads may still fail in every run, and a caller can make runs of any version fail. So each version
//! is on trial until [`TRIAL`] of its runs have succeeded. A failure is a 500, or a 400 that a node of the graph
//! caused; of their inputs a random sample is kept. When most runs have failed, a rollback is asked for with the
//! [evidence](Evidence). The reloader runs the sample on the previous version, and only what that answers counts.
//!
//! A caller must gain nothing by it. Failures that both versions share are taken out of the count, their inputs are
//! known again, and each further request takes twice as many failures and twice the time of the one before.
//!
//! Pure: told of each run with the time, it says when to ask.

mod sample;

use std::collections::VecDeque;
use std::hash::RandomState;
use std::time::Duration;

use tokio::sync::oneshot::{self, error::TryRecvError};

pub(super) use self::sample::Input;
use self::sample::Sample;
use crate::clock::{Deadline, Timestamp};
use crate::engine::EngineError;
use crate::ids::Digest;
use crate::status::{Evidence, MIN_RUNS, Replayed, RollbackOutcome, share};

/// Successful runs after which a version has proved itself.
const TRIAL: u32 = 100;
/// Maximum number of inputs that are known to fail on both versions.
const MAX_REFUTED: usize = 256;
/// Minimum time from the first request to the second; it doubles with each.
const PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(3_600);
/// Maximum number of times that the failures before the next request double.
const MAX_DOUBLINGS: u32 = 8;

/// Trial of one model's active version.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// Keys fingerprints and draws samples: random, so that no caller can choose what is drawn.
    random: RandomState,
    active: Option<(Key, Record)>,
    previous: Option<Key>,
}

/// Load of a version: one that returns after another is on trial anew.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    digest: Digest,
    loaded_at: Timestamp,
}

/// Status of a failed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// 500: inside, and not by what the caller sent as far as the engine can tell.
    Internal,
    /// 400: a node of the graph refused what came to it.
    Refused,
}

#[derive(Debug, Default)]
struct Record {
    succeeded: u32,
    /// Failures that count, as estimated by earlier replays.
    confirmed: u32,
    /// Failures since the last request.
    sample: Sample,
    /// Runs that ended with 500 and are not known to do so on both versions.
    errors: u32,
    /// Fingerprints of inputs that fail on both versions.
    refuted: VecDeque<u64>,
    requests: u32,
    failures_since_request: u32,
    next_request_at: Option<Deadline>,
    pending: Option<Pending>,
    /// Memory does not hold both versions: replays cannot decide.
    needs_clear_majority: bool,
    /// Nothing is left to ask for.
    is_settled: bool,
}

/// A request for a rollback that has no outcome yet.
#[derive(Debug)]
struct Pending {
    outcome: oneshot::Receiver<RollbackOutcome>,
    sample: Sample,
    was_clear: bool,
}

impl Failure {
    /// Returns the failure that this error of a run is; `None` where the run says nothing about the version. A run
    /// that failed for memory says more of the environment.
    pub(super) fn of(error: &EngineError) -> Option<Self> {
        match error {
            EngineError::Node(_) => Some(Self::Refused),
            error if error.is_inside() => Some(Self::Internal),
            _ => None,
        }
    }
}

impl Trial {
    /// Notes a run that succeeded.
    pub(super) fn succeeded(&mut self, digest: &Digest, loaded_at: Timestamp) {
        if let Some(record) = self.record(digest, loaded_at) {
            record.succeeded += 1;
            if record.succeeded >= TRIAL {
                *record = Record {
                    succeeded: TRIAL,
                    ..Record::default()
                };
            }
        }
    }

    /// Returns what to make a fingerprint with, if a failure of this version is to be noted.
    pub(super) fn wants(&mut self, digest: &Digest, loaded_at: Timestamp) -> Option<RandomState> {
        self.record(digest, loaded_at)?;
        Some(self.random.clone())
    }

    /// Notes a run that failed, with its input where that can be kept. Returns the evidence for a rollback when one is
    /// to be asked for; it comes again with the next failure unless that is [told](Self::requested).
    pub(super) fn failed(
        &mut self,
        digest: &Digest,
        loaded_at: Timestamp,
        failure: Failure,
        input: Option<Input>,
        now: Timestamp,
    ) -> Option<Evidence> {
        let random = self.random.clone();
        let record = self.record(digest, loaded_at)?;
        record.take_outcome();
        let is_refuted = |input: &Input| record.refuted.contains(&input.fingerprint);
        if input.as_ref().is_some_and(is_refuted) {
            return None;
        }
        let is_internal = failure == Failure::Internal;
        record.errors = record.errors.saturating_add(is_internal.into());
        // A failure whose input cannot be compared does not count.
        let counts = input.is_some() || is_internal;
        record.failures_since_request = record.failures_since_request.saturating_add(counts.into());
        if let Some(input) = input {
            record.sample.add(input, &random);
        }
        record.evidence(now)
    }

    /// A rollback was asked for with the last evidence.
    pub(super) fn requested(
        &mut self,
        outcome: oneshot::Receiver<RollbackOutcome>,
        now: Timestamp,
    ) {
        if let Some((_, record)) = &mut self.active {
            record.requested(outcome, now);
        }
    }

    /// The record of a version that is on trial. A version that was not seen yet is active from here on.
    fn record(&mut self, digest: &Digest, loaded_at: Timestamp) -> Option<&mut Record> {
        let is_active = |(key, _): &(Key, Record)| key.digest == *digest;
        if !self.active.as_ref().is_some_and(is_active) {
            let key = Key {
                digest: digest.clone(),
                loaded_at,
            };
            // A request that began on the previous version ends on it.
            let is_newer = |(active, _): &(Key, Record)| active.loaded_at > loaded_at;
            if self.previous.as_ref() == Some(&key) || self.active.as_ref().is_some_and(is_newer) {
                return None;
            }
            let before = self.active.replace((key, Record::default()));
            self.previous = before.map(|(key, _)| key);
        }
        let (key, record) = self.active.as_mut()?;
        if key.loaded_at < loaded_at {
            // Loaded anew, with no run of another version in between: what was learnt stays true.
            key.loaded_at = loaded_at;
            record.is_settled = false;
        }
        (record.succeeded < TRIAL).then_some(record)
    }
}

impl Record {
    /// Returns the evidence, if now is the time to ask for a rollback.
    fn evidence(&self, now: Timestamp) -> Option<Evidence> {
        let is_early = self
            .next_request_at
            .is_some_and(|at| !at.remaining(now).is_zero());
        let is_busy = self.pending.is_some() || self.is_settled;
        if is_early || is_busy || self.failures_since_request < self.failures_needed() {
            return None;
        }
        let evidence = Evidence {
            succeeded: self.succeeded,
            confirmed: self.confirmed,
            unverified: self.sample.failures(),
            inputs: self.sample.inputs(),
            errors: self.errors,
        };
        let can_compare = !self.needs_clear_majority && evidence.suffices(false);
        let suffices = can_compare && evidence.is_majority() || evidence.is_clear_majority();
        suffices.then_some(evidence)
    }

    /// Failures since the last request that the next one takes.
    fn failures_needed(&self) -> u32 {
        match self.requests {
            0 => 0,
            requests => MIN_RUNS << requests.min(MAX_DOUBLINGS),
        }
    }

    fn requested(&mut self, outcome: oneshot::Receiver<RollbackOutcome>, now: Timestamp) {
        let evidence = self.evidence(now);
        self.pending = Some(Pending {
            outcome,
            sample: std::mem::take(&mut self.sample),
            was_clear: evidence.is_some_and(|evidence| evidence.is_clear_majority()),
        });
        let pause = PAUSE.saturating_mul(1 << self.requests.min(16));
        self.next_request_at = Some(Deadline::after(now, pause.min(MAX_PAUSE)));
        self.requests = self.requests.saturating_add(1);
        self.failures_since_request = 0;
    }

    /// Takes the outcome of the last request, once it is there.
    fn take_outcome(&mut self) {
        let Some(pending) = &mut self.pending else {
            return;
        };
        let outcome = match pending.outcome.try_recv() {
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Closed) => RollbackOutcome::Unavailable { may_retry: true },
            Ok(outcome) => outcome,
        };
        let Some(pending) = self.pending.take() else {
            return;
        };
        match outcome {
            RollbackOutcome::Kept(replayed) => self.learn(&pending, &replayed),
            RollbackOutcome::NotEnough if !pending.was_clear => {
                // Nothing was loaded: that request does not count.
                self.needs_clear_majority = true;
                self.requests = self.requests.saturating_sub(1);
                self.next_request_at = None;
                self.sample.put_back(pending.sample);
            }
            RollbackOutcome::NotEnough | RollbackOutcome::Unavailable { may_retry: true } => {
                self.sample.put_back(pending.sample);
            }
            RollbackOutcome::Replaced | RollbackOutcome::Unavailable { may_retry: false } => {
                self.is_settled = true;
            }
        }
    }

    /// Takes failures that both versions share out of the count.
    fn learn(&mut self, pending: &Pending, replayed: &[Replayed]) {
        let counted = share(pending.sample.failures(), replayed);
        self.confirmed = self.confirmed.saturating_add(counted);
        if counted == 0 {
            self.errors = 0;
        }
        for (fingerprint, replayed) in pending.sample.fingerprints().zip(replayed) {
            if *replayed == Replayed::Failed && !self.refuted.contains(&fingerprint) {
                self.refuted.push_back(fingerprint);
            }
        }
        let spare = self.refuted.len().saturating_sub(MAX_REFUTED);
        self.refuted.drain(..spare);
        // The same may have failed again in between.
        self.sample
            .forget(|fingerprint| self.refuted.contains(&fingerprint));
    }
}

#[cfg(test)]
mod tests;

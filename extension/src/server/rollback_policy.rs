//! Rollback policy: decides when a rollback is requested for a version whose runs fail.
//!
//! A version that loads may still fail in every run, and a caller can make runs of any version fail. Each version is
//! therefore on trial until [`TRIAL_RUNS`] of its runs have succeeded. A failure is a 500, or a 400 that a node of the
//! graph caused. A random sample of the failed inputs is kept. When most runs have failed, a rollback is requested with
//! the [evidence](Evidence). The reloader runs the sample on the previous version, and a failure counts only if the
//! previous version succeeds.
//!
//! No caller can force a rollback. Failures that both versions share are removed from the count, and their inputs are
//! recognized from then on. Each further request takes twice as many failures, and twice the time, as the request
//! before.
//!
//! The policy is pure: its input is the end of each run and the time.

mod key;
mod sample;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot::{self, error::TryRecvError};

use self::key::HashKey;
use self::sample::FailureSample;
pub(super) use self::sample::FingerprintedInput;
use crate::clock::{Deadline, Timestamp};
use crate::engine::EngineError;
use crate::ids::Digest;
use crate::rollback::{Evidence, MIN_RUNS, Replayed, RollbackOutcome, share};

/// Number of successful runs that ends a trial.
const TRIAL_RUNS: u32 = 100;
/// Maximum number of fingerprints of inputs that fail on both versions.
const MAX_REFUTED: usize = 256;
/// Time from the first request to the earliest second one. Doubles with each request.
const MIN_REQUEST_INTERVAL: Duration = Duration::from_secs(5);
/// Limit of that doubling.
const MAX_REQUEST_INTERVAL: Duration = Duration::from_secs(3_600);
/// Maximum number of times that the required failures double.
const MAX_DOUBLINGS: u32 = 8;

/// Rollback policy of one model, with the trial of its active version.
#[derive(Debug, Default)]
pub(super) struct RollbackPolicy {
    /// Key of the fingerprints and of the sampling: random, so that no caller can choose what is sampled. Drawn at the
    /// first failure, which is after the restore of a snapshot.
    key: Option<HashKey>,
    active: Option<(VersionLoad, VersionTrial)>,
    previous: Option<VersionLoad>,
}

/// One load of a version. A version that becomes active again is on trial again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct VersionLoad {
    digest: Digest,
    loaded_at: Timestamp,
}

/// Kind of a failed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// 500: the engine does not attribute the failure to the input.
    Internal,
    /// 400: a node of the graph rejected its input.
    Node,
}

/// Trial of one version.
#[derive(Debug, Default)]
struct VersionTrial {
    succeeded: u32,
    /// Failures that count, as estimated from earlier replays.
    confirmed: u32,
    /// Failures since the last request.
    sample: FailureSample,
    /// Runs that ended with 500, except for inputs that are known to fail on both versions.
    errors: u32,
    /// Fingerprints of inputs that fail on both versions.
    refuted: VecDeque<u64>,
    requests: u32,
    failures_since_request: u32,
    next_request_at: Option<Deadline>,
    pending: Option<PendingRollback>,
    /// Memory does not hold both versions: replays cannot decide.
    needs_clear_majority: bool,
    /// No rollback is possible, so that none is requested.
    is_settled: bool,
}

/// Rollback request that has no outcome yet.
#[derive(Debug)]
struct PendingRollback {
    outcome: oneshot::Receiver<RollbackOutcome>,
    sample: FailureSample,
    was_clear: bool,
}

impl FailureKind {
    /// Returns the kind of this error; `None` for an error that says nothing about the version. A lack of memory, for
    /// example, says more about the environment.
    pub(super) fn of(error: &EngineError) -> Option<Self> {
        match error {
            EngineError::Node(_) => Some(Self::Node),
            error if error.is_inside() => Some(Self::Internal),
            _ => None,
        }
    }
}

impl RollbackPolicy {
    /// Records a successful run.
    pub(super) fn run_succeeded(&mut self, digest: &Digest, loaded_at: Timestamp) {
        if let Some(trial) = self.trial(digest, loaded_at) {
            trial.succeeded += 1;
            if trial.succeeded >= TRIAL_RUNS {
                *trial = VersionTrial {
                    succeeded: TRIAL_RUNS,
                    ..VersionTrial::default()
                };
            }
        }
    }

    /// Returns the key for the fingerprint of a failed input; `None` if failures of this version do not matter.
    pub(super) fn fingerprint_key(
        &mut self,
        digest: &Digest,
        loaded_at: Timestamp,
    ) -> Option<HashKey> {
        self.trial(digest, loaded_at)?;
        Some(self.key())
    }

    fn key(&mut self) -> HashKey {
        *self.key.get_or_insert_with(HashKey::random)
    }

    /// Records a failed run, with its input if that can be kept. Returns the evidence if a rollback must be requested.
    /// The next failure returns it again unless [`requested`](Self::requested) is called.
    pub(super) fn run_failed(
        &mut self,
        digest: &Digest,
        loaded_at: Timestamp,
        failure: FailureKind,
        input: Option<FingerprintedInput>,
        now: Timestamp,
    ) -> Option<Evidence> {
        let key = self.key();
        let trial = self.trial(digest, loaded_at)?;
        trial.take_outcome();
        let is_refuted = |input: &FingerprintedInput| trial.refuted.contains(&input.fingerprint);
        if input.as_ref().is_some_and(is_refuted) {
            return None;
        }
        let is_internal = failure == FailureKind::Internal;
        trial.errors = trial.errors.saturating_add(is_internal.into());
        // A 400 whose input cannot be replayed does not count.
        let counts = input.is_some() || is_internal;
        trial.failures_since_request = trial.failures_since_request.saturating_add(counts.into());
        if let Some(input) = input {
            trial.sample.add(input, &key);
        }
        trial.evidence(now)
    }

    /// Records that a rollback was requested with the last evidence.
    pub(super) fn requested(
        &mut self,
        outcome: oneshot::Receiver<RollbackOutcome>,
        now: Timestamp,
    ) {
        if let Some((_, trial)) = &mut self.active {
            trial.requested(outcome, now);
        }
    }

    /// Returns the trial of a version, if the version is on trial. A version that was not seen before becomes the
    /// active one.
    fn trial(&mut self, digest: &Digest, loaded_at: Timestamp) -> Option<&mut VersionTrial> {
        let is_active = |(key, _): &(VersionLoad, VersionTrial)| key.digest == *digest;
        if !self.active.as_ref().is_some_and(is_active) {
            let key = VersionLoad {
                digest: digest.clone(),
                loaded_at,
            };
            // A late run of the previous version.
            let is_newer = |(active, _): &(VersionLoad, VersionTrial)| active.loaded_at > loaded_at;
            if self.previous.as_ref() == Some(&key) || self.active.as_ref().is_some_and(is_newer) {
                return None;
            }
            let before = self.active.replace((key, VersionTrial::default()));
            self.previous = before.map(|(key, _)| key);
        }
        let (key, trial) = self.active.as_mut()?;
        if key.loaded_at < loaded_at {
            // Loaded again without a run of another version in between: the trial continues.
            key.loaded_at = loaded_at;
            trial.is_settled = false;
        }
        (trial.succeeded < TRIAL_RUNS).then_some(trial)
    }
}

impl VersionTrial {
    /// Returns the evidence if a rollback must be requested now.
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

    /// Returns the number of failures since the last request that the next request takes.
    fn failures_needed(&self) -> u32 {
        match self.requests {
            0 => 0,
            requests => MIN_RUNS << requests.min(MAX_DOUBLINGS),
        }
    }

    fn requested(&mut self, outcome: oneshot::Receiver<RollbackOutcome>, now: Timestamp) {
        let evidence = self.evidence(now);
        self.pending = Some(PendingRollback {
            outcome,
            sample: std::mem::take(&mut self.sample),
            was_clear: evidence.is_some_and(|evidence| evidence.is_clear_majority()),
        });
        let interval = MIN_REQUEST_INTERVAL.saturating_mul(1 << self.requests.min(16));
        self.next_request_at = Some(Deadline::after(now, interval.min(MAX_REQUEST_INTERVAL)));
        self.requests = self.requests.saturating_add(1);
        self.failures_since_request = 0;
    }

    /// Applies the outcome of the pending request, once it is known.
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
            RollbackOutcome::Kept(replayed) => self.apply_replays(&pending, &replayed),
            RollbackOutcome::InsufficientEvidence if !pending.was_clear => {
                // Nothing was loaded, so that the request does not count.
                self.needs_clear_majority = true;
                self.requests = self.requests.saturating_sub(1);
                self.next_request_at = None;
                self.sample.put_back(pending.sample);
            }
            RollbackOutcome::InsufficientEvidence
            | RollbackOutcome::Unavailable { may_retry: true } => {
                self.sample.put_back(pending.sample);
            }
            RollbackOutcome::Replaced | RollbackOutcome::Unavailable { may_retry: false } => {
                self.is_settled = true;
            }
        }
    }

    /// Removes failures that both versions share from the count.
    fn apply_replays(&mut self, pending: &PendingRollback, replayed: &[Replayed]) {
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
        let excess = self.refuted.len().saturating_sub(MAX_REFUTED);
        self.refuted.drain(..excess);
        // The same inputs may have failed again since the request.
        self.sample
            .forget(|fingerprint| self.refuted.contains(&fingerprint));
    }
}

#[cfg(test)]
mod tests;

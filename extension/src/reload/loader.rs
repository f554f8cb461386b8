//! Load of a version, from files in the cache to the active version.
//!
//! The memory policy decides whether a version is loaded [alongside](Placement) the active one or in its place. The
//! journal holds a marker during the load and the [validation](super::validation), since both can kill the process. The
//! version is then activated.

mod attempt;
mod load_backoff;
mod rejection;
mod replace;
mod replay;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::info;

use super::activation::activate;
use super::description::describe;
use super::download::find_cached;
use super::error::CheckError;
use super::memory::{Exclusivity, LoadCost, MemoryNeed, ModelBytes, Placement, placement};
use super::validation::{AcceptanceCriteria, Validation};
use super::{Shared, Timings, milliseconds};
use crate::cache::{CachedModel, Journal, ModelRecord};
use crate::clock::timed_awake;
use crate::config::Reload;
use crate::engine::PreparedWeights;
use crate::ids::{Digest, ModelName};
use crate::metrics::defs;
use crate::models::LoadedModel;
use crate::onnx::Description;
use crate::rollback::{Evidence, RollbackOutcome};
use crate::tensor::Signature;
use attempt::LoadAttempt;
use load_backoff::LoadBackoff;
pub(super) use rejection::{LoadFailure, LoadFailureKind};
use rejection::{not_attempted, rejection_cause};
use replace::drain_active;
use replay::Replay;

/// Loads and activates the versions of one model.
pub(super) struct Loader {
    model: ModelName,
    shared: Shared,
    /// Active version, and the cost of its load.
    active: Mutex<Option<(ModelRecord, LoadCost)>>,
    /// Backoff of the version whose last load failed for a reason outside of it.
    backoff: Mutex<Option<LoadBackoff>>,
}

/// Input of a load.
pub(super) struct LoadRequest<'a> {
    pub(super) record: &'a ModelRecord,
    pub(super) files: CachedModel,
    pub(super) criteria: AcceptanceCriteria,
    pub(super) prepared: PreparedWeights,
    /// Evidence of the rollback for which the version is loaded.
    pub(super) evidence: Option<Evidence>,
    pub(super) journal: &'a Journal,
}

/// Result of a load after which the version is active.
pub(super) struct Activated {
    pub(super) signature: Signature,
    /// Reason for the rollback, where the load was one.
    pub(super) rollback: Option<String>,
}

impl Loader {
    /// Returns the loader of a model.
    pub(super) fn new(model: ModelName, shared: Shared) -> Self {
        Self {
            model,
            shared,
            active: Mutex::default(),
            backoff: Mutex::default(),
        }
    }

    /// Notes a new record of the active version, whose content is the same.
    pub(super) fn note_renamed(&self, record: ModelRecord) {
        if let Some((active, _)) = &mut *self.active() {
            *active = record;
        }
    }

    /// Returns the version whose load has to wait now.
    pub(super) fn deferred(&self) -> Option<Digest> {
        let now = self.shared.clock.now();
        self.backoff().as_ref()?.deferred(now).cloned()
    }

    /// Returns the reason for which the newest version is not loaded now, if its load has to wait.
    pub(super) fn deferral(&self, journal: &Journal) -> Option<CheckError> {
        let backoff = self.backoff();
        let backoff = backoff.as_ref()?;
        let deferred = backoff.deferred(self.shared.clock.now())?;
        let is_newest = journal.history().newest()?.digest() == *deferred;
        is_newest.then(|| CheckError::Deferred(backoff.reason()))
    }

    fn active(&self) -> MutexGuard<'_, Option<(ModelRecord, LoadCost)>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn backoff(&self) -> MutexGuard<'_, Option<LoadBackoff>> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads, validates and activates a version; for a rollback, the replay of failed inputs decides before the
    /// activation. `drained` receives the files of a version that had to leave memory, if they are in the cache.
    #[expect(
        clippy::too_many_lines,
        reason = "the steps of one load, in their order"
    )]
    pub(super) async fn load(
        &self,
        request: LoadRequest<'_>,
        timings: &mut Timings,
        drained: &mut Option<CachedModel>,
    ) -> Result<Activated, LoadFailure> {
        let LoadRequest {
            record,
            files,
            criteria,
            prepared,
            evidence,
            journal,
        } = request;
        let (digest, model) = (record.digest(), &self.model);
        let active = self.shared.models.current(model);
        let is_reload = active.is_some();
        drop(active);
        timings.bytes = record.size();
        let started = Instant::now();
        let engine = match self.shared.engine.get().await {
            Ok((engine, _)) => engine,
            Err(problem) => return Err(not_attempted(problem, false)),
        };
        let memory = &self.shared.memory;
        let description = description(record, &files).await;
        let bytes = ModelBytes::of(record, description.as_ref());
        let permit = memory
            .loads
            .acquire(self.exclusivity(is_reload, bytes), &**memory)
            .await;
        let mut placement = Placement::Alongside;
        if is_reload {
            match self.make_space(record, bytes, evidence.as_ref()).await {
                Ok(Some((decided, files))) => {
                    placement = decided;
                    *drained = files;
                }
                Ok(None) => {
                    let insufficient = RollbackOutcome::InsufficientEvidence;
                    return Err(LoadFailureKind::NotConfirmed(insufficient).vacated(false));
                }
                Err(problem) => return Err(not_attempted(problem, false)),
            }
        }
        let vacated = placement == Placement::InPlace;
        // Prepared weights are part of what the load takes.
        let own = crate::sys::own_bytes().map(|own| own.saturating_sub(prepared.bytes()));
        let measurement = memory.loads.measure(own);
        let waited = started.elapsed();
        let active = self.active().as_ref().map(|(_, cost)| *cost);
        let need = MemoryNeed { new: bytes, active };
        let reserved = memory.account.load(need.estimate());
        if let Err(problem) = journal.begin_load(&digest) {
            return Err(not_attempted(problem, vacated));
        }
        let attempt = LoadAttempt {
            engine,
            has_low_priority: is_reload && !vacated,
        };
        let in_place = vacated || !is_reload;
        let replay = || {
            let evidence = evidence.clone()?;
            let begins = journal.end_load_callback();
            Some(Replay::new(evidence, in_place, Arc::clone(memory), begins))
        };
        let validation = self.validation(record, criteria.clone(), journal);
        let load = async {
            let described = description.clone();
            let load = attempt.load(files, described, prepared, validation, replay());
            let mut result = load.await;
            if matches!(&result, Ok(Err(problem)) if problem.is_of_file()) {
                // Whole files are laid out anew, and may be readable now.
                if let Some(files) = find_cached(&self.shared.cache, record.clone()).await {
                    let validation = self.validation(record, criteria, journal);
                    let none = PreparedWeights::default();
                    let load = attempt.load(files, description, none, validation, replay());
                    result = load.await;
                }
            }
            result
        };
        let (result, loading) = timed_awake(load).await;
        journal.end_load();
        let grown = measurement.grown(crate::sys::own_bytes());
        drop((measurement, reserved, permit));
        let (decision, validated, files) = match result {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(problem)) => return Err(self.failure(record, problem).await.vacated(vacated)),
            Err(problem) => return Err(not_attempted(problem, vacated)),
        };
        let (session, rollback) = match decision {
            Ok(decided) => decided,
            Err(replayed) => {
                let kept = RollbackOutcome::Kept(replayed);
                return Err(LoadFailureKind::NotConfirmed(kept).vacated(vacated));
            }
        };
        validated.report(model, &record.version);
        self.record_duration(timings, validated.warm_up, waited, loading);
        drop(files);
        let signature = session.signature().clone();
        self.backoff().take_if(|backoff| backoff.is_of(&digest));
        activate(
            model,
            record,
            digest,
            session,
            // Requests did not wait for a reload.
            (!is_reload).then_some(timings.steps),
            journal.history(),
            &self.shared,
        );
        let cost = LoadCost {
            files: bytes,
            grown,
        };
        *self.active() = Some((record.clone(), cost));
        count_load(model, is_reload);
        self.log_activation(timings, is_reload);
        Ok(Activated {
            signature,
            rollback,
        })
    }

    /// Returns the exclusivity of a load. After a process has died in a load, each load runs alone, so that another
    /// death names one version.
    fn exclusivity(&self, is_reload: bool, new: ModelBytes) -> Exclusivity {
        if is_reload || self.shared.cache.requires_sequential_loads() {
            return Exclusivity::Exclusive;
        }
        let need = MemoryNeed { new, active: None };
        Exclusivity::Shared {
            estimate: need.estimate(),
        }
    }

    /// Decides the placement of a new version. To load it in place of the active version, drains that version, and
    /// returns its files if they are in the cache. `None` for a rollback whose evidence does not suffice for the
    /// placement.
    async fn make_space(
        &self,
        record: &ModelRecord,
        new: ModelBytes,
        evidence: Option<&Evidence>,
    ) -> Result<Option<(Placement, Option<CachedModel>)>, CheckError> {
        let (model, memory) = (&self.model, &self.shared.memory);
        let (old, cost) = self.active().clone().unzip();
        let need = MemoryNeed { new, active: cost };
        memory.wait_for_requests(&need).await;
        let (placement, why) = placement(memory.mode, &need, memory.probe.free());
        let version = &record.version;
        let in_place = placement == Placement::InPlace;
        if evidence.is_some_and(|evidence| !evidence.suffices(in_place)) {
            info!(%model, %version, in_place, "no rollback: the evidence does not suffice for this load: {why}");
            return Ok(None);
        }
        if placement == Placement::Alongside {
            info!(%model, %version, "loading the new version alongside the active one: {why}");
            return Ok(Some((placement, None)));
        }
        let files = match old {
            Some(old) => find_cached(&self.shared.cache, old).await,
            None => None,
        };
        if files.is_none() && memory.mode != Reload::Replace {
            return Err(CheckError::NoReturn);
        }
        info!(%model, %version, "replacing the active version, and requests wait for the new one: {why}");
        drain_active(model, version, &self.shared).await?;
        Ok(Some((placement, files)))
    }

    fn validation(
        &self,
        record: &ModelRecord,
        criteria: AcceptanceCriteria,
        journal: &Journal,
    ) -> Validation {
        let active = self.shared.models.current(&self.model);
        let signature = active.as_deref().map(LoadedModel::signature);
        Validation::for_version(record, criteria, signature, journal)
    }

    /// Decides about the version of a failed load, which is rejected only with files that are whole.
    async fn failure(&self, record: &ModelRecord, problem: CheckError) -> LoadFailureKind {
        count_failure(&self.model, &problem);
        let reason = problem.public();
        let Some(cause) = rejection_cause(&problem) else {
            let now = self.shared.clock.now();
            let mut backoff = self.backoff();
            let former = backoff.take();
            let next = LoadBackoff::after_failure(former, record.digest(), now, reason);
            *backoff = Some(next);
            return LoadFailureKind::Deferred(problem);
        };
        let files = find_cached(&self.shared.cache, record.clone()).await;
        if files.is_none() {
            return LoadFailureKind::Deferred(CheckError::FilesLost(Box::new(problem)));
        }
        LoadFailureKind::Rejected {
            cause,
            reason,
            problem,
        }
    }

    /// Records the duration of a load, in time awake: the wait for the permit, the load, and the warm-up.
    fn record_duration(
        &self,
        timings: &mut Timings,
        warm_up: Option<Duration>,
        waited: Duration,
        loading: Duration,
    ) {
        timings.steps.warm_up = warm_up.map(|time| time.min(loading));
        let warm_up = timings.steps.warm_up.unwrap_or_default();
        timings.steps.load = (waited + loading).saturating_sub(warm_up);
        let model = self.model.to_string();
        metrics::histogram!(defs::MODEL_LOAD_TIME, defs::MODEL_LABEL => model)
            .record(milliseconds(loading.saturating_sub(warm_up)));
    }

    fn log_activation(&self, timings: &Timings, is_reload: bool) {
        let active = self.shared.models.current(&self.model);
        let active = active.as_deref();
        info!(
            model = %self.model,
            version = active.map(|active| active.version.as_str()),
            digest = active.map(|active| active.digest.as_str()),
            bytes = timings.bytes,
            fetch_ms = timings.steps.fetch.map(milliseconds),
            load_ms = milliseconds(timings.steps.load),
            warm_up_ms = timings.steps.warm_up.map(milliseconds),
            "{}",
            if is_reload { "a new version is active" } else { "the model is loaded" }
        );
    }
}

/// Counts a version that was loaded and validated.
fn count_load(model: &ModelName, is_reload: bool) {
    metrics::counter!(defs::MODEL_LOADS, defs::MODEL_LABEL => model.to_string()).increment(1);
    if is_reload {
        metrics::counter!(defs::MODEL_RELOADS, defs::MODEL_LABEL => model.to_string()).increment(1);
    }
}

/// Counts a version that could not be loaded, or that failed validation.
fn count_failure(model: &ModelName, problem: &CheckError) {
    let metric = match problem {
        CheckError::ShuttingDown(_) => return,
        CheckError::Validation(_) => defs::MODEL_VALIDATION_FAILURES,
        _ => defs::MODEL_LOAD_FAILURES,
    };
    metrics::counter!(metric, defs::MODEL_LABEL => model.to_string()).increment(1);
}

/// Returns the description of a version's model where the load needs it. A version from the cache has not been read
/// yet, and only one with data files needs its description.
async fn description(record: &ModelRecord, files: &CachedModel) -> Option<Description> {
    match files.description() {
        None if !record.others.is_empty() => describe(files.path()).await.ok().flatten(),
        read => read.cloned(),
    }
}

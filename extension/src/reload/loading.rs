//! From the files of a version to its first answer.
//!
//! Memory decides whether it comes in [beside](How) the version that answers or in its place. The journal has a mark
//! while ONNX Runtime loads it, and while it is held against its terms at the [gate](super::gate): both can take the
//! process with them. Then it is swapped in.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::info;

use super::engine_slot::on_thread;
use super::gate::{Gate, Passed, Terms};
use super::gather::describe;
use super::in_place::make_way;
use super::load_backoff::LoadBackoff;
use super::machine::Event;
use super::memory::{Company, How, Need, Seen, Weights, choose};
use super::replay::{Decision, Replay};
use super::{CheckError, Reloader, Steps, Walk, milliseconds};
use crate::cache::{CachedModel, Journal, ModelRecord, RejectionCause};
use crate::clock::timed_awake;
use crate::config::Reload;
use crate::engine::{Engine, EngineError, Session};
use crate::ids::Digest;
use crate::manifest::VersionLabels;
use crate::metrics::defs;
use crate::models::Loaded;
use crate::onnx::Description;
use crate::status::{Evidence, ModelStatus, RollbackOutcome};

impl Reloader {
    fn loaded(&self) -> MutexGuard<'_, Option<(ModelRecord, Seen)>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that what is loaded has this name, and its files these places.
    pub(super) fn is_known_as(&self, record: ModelRecord) {
        if let Some((known, _)) = &mut *self.loaded() {
            *known = record;
        }
    }

    /// Decides how a new version comes in, and where it takes the place of the one that answers, makes that one go; its
    /// files are given then, if they are here. `None` for a rollback whose evidence does not suffice for that.
    async fn make_room(
        &self,
        record: &ModelRecord,
        new: Weights,
        evidence: Option<&Evidence>,
    ) -> Result<Option<(How, Option<CachedModel>)>, CheckError> {
        let (name, memory) = (&self.settings.name, &self.shared.memory);
        let (old, seen) = self.loaded().clone().unzip();
        let need = Need { new, old: seen };
        memory.wait_for_requests(&need).await;
        let (how, why) = choose(memory.mode, &need, memory.probe.free());
        let version = &record.version;
        let in_place = how == How::InPlace;
        if evidence.is_some_and(|evidence| !evidence.suffices(in_place)) {
            info!(model = %name, %version, in_place, "no rollback: the evidence does not suffice for this load: {why}");
            return Ok(None);
        }
        if how == How::Beside {
            info!(model = %name, %version, "the new version is loaded beside the one that answers: {why}");
            return Ok(Some((how, None)));
        }
        let (found, _) = self.find(old).await;
        if found.is_none() && memory.mode != Reload::Replace {
            return Err(CheckError::NoReturn);
        }
        info!(model = %name, %version, "the new version replaces the one that answers, and requests wait: {why}");
        make_way(name, version, &self.shared).await?;
        Ok(Some((how, found)))
    }

    /// Loads a version, holds it against its terms, and lets it answer. With `replay`, the inputs of the rollback decide
    /// first.
    pub(super) async fn load(
        &self,
        record: ModelRecord,
        replay: bool,
        journal: &Journal,
        walk: &mut Walk,
    ) -> Event {
        let Some(files) = walk.files.take() else {
            return Event::NotLoaded { vacated: false };
        };
        let digest = record.digest();
        let name = &self.settings.name;
        let reload = self.shared.models.current(name).is_some();
        walk.steps.bytes = record.size();
        let started = Instant::now();
        let engine = match self.shared.engine.get().await {
            Ok((engine, _)) => engine,
            Err(problem) => return walk.not_tried(problem, false),
        };
        let memory = &self.shared.memory;
        let rollback = walk.rollback.as_ref().filter(|_| replay);
        let evidence = rollback.map(|rollback| rollback.evidence.clone());
        let description = description(&record, &files).await;
        let weights = Weights::of(&record, description.as_ref());
        let turn = memory
            .loads
            .turn(self.company(reload, weights), &**memory)
            .await;
        let mut how = How::Beside;
        if reload {
            match self.make_room(&record, weights, evidence.as_ref()).await {
                Ok(Some((decided, way_back))) => {
                    how = decided;
                    walk.way_back = way_back;
                }
                Ok(None) => return walk.stays(RollbackOutcome::InsufficientEvidence, false),
                Err(problem) => return walk.not_tried(problem, false),
            }
        }
        let vacated = how == How::InPlace;
        let measure = memory.loads.measure(crate::sys::own_bytes());
        let waited = started.elapsed();
        let old = self.loaded().as_ref().map(|(_, seen)| *seen);
        let reserved = memory.account.load(Need { new: weights, old }.estimate());
        if let Err(problem) = journal.begin_load(&digest) {
            return walk.not_tried(problem, vacated);
        }
        let attempt = Attempt {
            engine,
            gives_way: reload && !vacated,
        };
        let in_place = vacated || !reload;
        let trial = || {
            let evidence = evidence.clone()?;
            let begins = journal.end_load_callback();
            Some(Replay::new(evidence, in_place, Arc::clone(memory), begins))
        };
        let terms = std::mem::take(&mut walk.terms);
        let gate = self.gate(&record, terms.clone(), journal);
        let load = async {
            let described = description.clone();
            let mut result = attempt.load(files, described, gate, trial()).await;
            if matches!(&result, Ok(Err(problem)) if problem.is_of_file()) {
                // Files that are whole are laid out anew, and may be readable now.
                if let (Some(files), _) = self.find(Some(record.clone())).await {
                    let gate = self.gate(&record, terms, journal);
                    result = attempt.load(files, description, gate, trial()).await;
                }
            }
            result
        };
        let (result, loading) = timed_awake(load).await;
        journal.end_load();
        let took = measure.took(crate::sys::own_bytes());
        drop((measure, reserved, turn));
        let (decided, passed, files) = match result {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(problem)) => return self.not_loaded(&record, problem, vacated, walk).await,
            Err(problem) => return walk.not_tried(problem, vacated),
        };
        let (session, rollback) = match decided {
            Ok(decided) => decided,
            Err(replayed) => return walk.stays(RollbackOutcome::Kept(replayed), vacated),
        };
        passed.report(name, &record.version);
        self.count_load(&mut walk.steps, passed.warm_up, waited, loading);
        drop(files);
        let signature = session.signature().clone();
        let labels = journal.history().labels().clone();
        self.backoff().take_if(|backoff| backoff.is_of(&digest));
        self.let_answer(&record, digest, session, labels);
        *self.loaded() = Some((record, Seen { weights, took }));
        if reload {
            metrics::counter!(defs::MODEL_RELOADS, defs::MODEL_LABEL => name.to_string())
                .increment(1);
        }
        self.tell(&walk.steps, reload);
        walk.rolled_back(rollback.as_deref());
        Event::Loaded {
            signature,
            rollback,
        }
    }

    /// Counts a load that ended well, in time awake: the wait for its turn, and the load with the run that warmed it up.
    fn count_load(
        &self,
        steps: &mut Steps,
        warm_up: Option<Duration>,
        waited: Duration,
        loading: Duration,
    ) {
        steps.warm_up = warm_up.map(|time| time.min(loading));
        let warm_up = steps.warm_up.unwrap_or_default();
        steps.load = (waited + loading).saturating_sub(warm_up);
        let model = self.settings.name.to_string();
        metrics::histogram!(defs::MODEL_LOAD_TIME, defs::MODEL_LABEL => model)
            .record(milliseconds(loading.saturating_sub(warm_up)));
    }

    /// Company of a load. After a death in a load there is none, so that another death names one version.
    fn company(&self, reload: bool, new: Weights) -> Company {
        if reload || self.shared.cache.requires_sequential_loads() {
            return Company::None;
        }
        let need = Need { new, old: None };
        Company::Fitting {
            estimate: need.estimate(),
        }
    }

    /// Decides by the reason what becomes of a version that could not be loaded: it is rejected only for what it is
    /// itself, that is with files that are whole.
    async fn not_loaded(
        &self,
        record: &ModelRecord,
        problem: CheckError,
        vacated: bool,
        walk: &mut Walk,
    ) -> Event {
        let is_outside = problem.is_outside_of_version();
        if !is_outside && self.find(Some(record.clone())).await.0.is_none() {
            walk.failed(CheckError::FilesLost(Box::new(problem)));
            return Event::Deferred { vacated };
        }
        let reason = problem.public();
        if is_outside {
            let now = self.shared.clock.now();
            let mut backoff = self.backoff();
            let before = backoff.take();
            *backoff = Some(LoadBackoff::after_failure(
                before,
                record.digest(),
                now,
                reason,
            ));
            walk.failed(problem);
            return Event::Deferred { vacated };
        }
        let cause = match problem {
            CheckError::Gate(_) => RejectionCause::Criteria,
            _ => RejectionCause::Content,
        };
        walk.failed(problem);
        Event::Refused {
            cause,
            reason,
            vacated,
        }
    }

    /// From here on this version answers.
    fn let_answer(
        &self,
        record: &ModelRecord,
        digest: Digest,
        session: Box<dyn Session>,
        labels: VersionLabels,
    ) {
        let (name, shared) = (&self.settings.name, &self.shared);
        let version = &record.version;
        let now = shared.clock.now();
        let loaded = Loaded::new(name.clone(), version.clone(), digest, now, session);
        shared.models.swap(loaded.with_labels(labels));
        shared.status.activated(name, version, now);
        let no_problem = |status: &mut ModelStatus| (status.problem, status.detail) = (None, None);
        shared.status.update(name, no_problem);
    }

    fn tell(&self, steps: &Steps, reload: bool) {
        let name = &self.settings.name;
        let current = self.shared.models.current(name);
        let current = current.as_deref();
        info!(
            model = %name,
            version = current.map(|current| current.version.as_str()),
            digest = current.map(|current| current.digest.as_str()),
            bytes = steps.bytes,
            fetch_ms = steps.fetch.map(milliseconds),
            load_ms = milliseconds(steps.load),
            warm_up_ms = steps.warm_up.map(milliseconds),
            "{}",
            if reload { "another version answers from now on" } else { "the model is loaded" }
        );
    }

    /// What the version is held against before it answers. One whose content was let in here before, on the same terms, is
    /// only warmed up.
    pub(super) fn gate(&self, record: &ModelRecord, terms: Terms, journal: &Journal) -> Gate {
        let (history, digest) = (journal.history(), record.digest());
        if history.was_accepted(record) {
            let inputs = history.example(record);
            return match inputs {
                Some(inputs) => {
                    Gate::warm_up_only(inputs.to_vec(), journal.warm_up_callback(&digest))
                }
                None => Gate::new(Terms::default()),
            };
        }
        let current = self.shared.models.current(&self.settings.name);
        let before = current.map(|loaded| loaded.signature().clone());
        Gate::new(Terms {
            before: before.or_else(|| history.signature().cloned()),
            ..terms
        })
    }
}

/// Parameters of a load.
struct Attempt {
    engine: Arc<dyn Engine>,
    /// Set where threads that serve requests come first.
    gives_way: bool,
}

impl Attempt {
    /// Loads a version and holds it against its terms, on a thread; for a rollback, failed inputs decide then. The files
    /// are given back.
    async fn load(
        &self,
        files: CachedModel,
        description: Option<Description>,
        gate: Gate,
        trial: Option<Replay>,
    ) -> Result<Result<(Decision, Passed, CachedModel), CheckError>, EngineError> {
        let (engine, gives_way) = (Arc::clone(&self.engine), self.gives_way);
        on_thread("load-model", move || {
            if gives_way {
                crate::sys::lower_thread_priority();
            }
            let session = engine.load(files.path(), description.as_ref())?;
            let passed = gate.check(&*session)?;
            let decided = match trial {
                Some(trial) => trial.decide(session),
                None => Ok((session, None)),
            };
            Ok((decided, passed, files))
        })
        .await
    }
}

impl CheckError {
    /// Returns whether a file of the version could not be read.
    fn is_of_file(&self) -> bool {
        matches!(self, CheckError::Engine(EngineError::File { .. }))
    }

    /// Returns whether a load failed for a reason that says nothing about the version, whose files are whole. A file that is
    /// missing then is one that the model refers to and does not have.
    fn is_outside_of_version(&self) -> bool {
        match self {
            CheckError::Engine(EngineError::File { is_missing, .. }) => !is_missing,
            CheckError::Engine(error) => error.is_out_of_memory(),
            CheckError::Gate(refusal) => refusal.is_out_of_memory(),
            _ => false,
        }
    }
}

impl Walk {
    /// The load could not even be tried.
    fn not_tried(&mut self, problem: impl Into<CheckError>, vacated: bool) -> Event {
        self.failed(problem);
        Event::NotLoaded { vacated }
    }
}

/// Returns what a model says of itself, where that matters: a version from the cache has not been read yet, and only data
/// files need it.
async fn description(record: &ModelRecord, files: &CachedModel) -> Option<Description> {
    match files.description() {
        None if !record.others.is_empty() => describe(files.path()).await.ok().flatten(),
        read => read.cloned(),
    }
}

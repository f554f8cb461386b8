//! From the files of a version to its first answer.
//!
//! Memory decides whether it comes in [beside](How) the version that answers or in its place. The journal has a mark
//! while ONNX Runtime loads it, and while it is held against its terms at the [gate](super::gate): both can take the
//! process with them. Then it is swapped in.

use std::fs::File;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::info;

use super::engine_slot::on_thread;
use super::gate::{Gate, Terms};
use super::in_place::make_way;
use super::machine::Event;
use super::memory::{How, Need, Seen, Weights, choose};
use super::replay::Replay;
use super::{CheckError, Reloader, Steps, Walk, milliseconds};
use crate::cache::{Cause, Journal, KeptModel, Record};
use crate::config::Reload;
use crate::engine::Session;
use crate::ids::{Digest, Version};
use crate::metrics::defs;
use crate::models::Loaded;
use crate::onnx::Description;
use crate::status::{Evidence, ModelStatus, RollbackOutcome};

impl Reloader {
    fn loaded(&self) -> MutexGuard<'_, Option<(Record, Seen)>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides how a new version comes in, and where it takes the place of the one that answers, makes that one go; its
    /// files are given then, if they are here. `None` for a rollback whose evidence does not suffice for that.
    async fn make_room(
        &self,
        record: &Record,
        new: Weights,
        evidence: Option<&Evidence>,
    ) -> Result<Option<(How, Option<KeptModel>)>, CheckError> {
        let (name, memory) = (&self.settings.name, &self.shared.memory);
        let (old, seen) = self.loaded().clone().unzip();
        let need = Need { new, old: seen };
        memory.wait_for_requests(&need).await;
        let (how, why) = choose(memory.mode, &need, memory.probe.free());
        let version = record.version();
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
        make_way(name, &version, &self.shared).await?;
        Ok(Some((how, found)))
    }

    /// Loads a version, holds it against its terms, and lets it answer. With `replay`, the inputs of the rollback decide
    /// first.
    pub(super) async fn load(
        &self,
        record: Record,
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
            Err(problem) => {
                walk.failed(problem);
                return Event::NotLoaded { vacated: false };
            }
        };
        let memory = &self.shared.memory;
        let rollback = walk.rollback.as_ref().filter(|_| replay);
        let evidence = rollback.map(|rollback| rollback.evidence.clone());
        let description = describe(&record, &files).await;
        let weights = Weights::of(&record, description.as_ref());
        let (turn, how) = if reload {
            let turn = memory.loads.turn().await;
            match self.make_room(&record, weights, evidence.as_ref()).await {
                Ok(Some((how, way_back))) => {
                    walk.way_back = way_back;
                    (Some(turn), how)
                }
                Ok(None) => return walk.stays(RollbackOutcome::NotEnough, false),
                Err(problem) => {
                    walk.failed(problem);
                    return Event::NotLoaded { vacated: false };
                }
            }
        } else {
            (None, How::Beside)
        };
        let vacated = how == How::InPlace;
        let measure = memory.loads.measure(crate::sys::own_bytes());
        let old = self.loaded().as_ref().map(|(_, seen)| *seen);
        let reserved = memory.account.load(Need { new: weights, old }.estimate());
        let loading = Instant::now();
        journal.load_begins(&digest);
        let gate = self.gate(&record, std::mem::take(&mut walk.terms), journal);
        let in_place = vacated || !reload;
        let trial = evidence.map(|evidence| {
            Replay::new(evidence, in_place, Arc::clone(memory), journal.load_ends())
        });
        let result = on_thread("load-model", move || {
            if reload && !vacated {
                crate::sys::lower_thread_priority();
            }
            let session = engine.load(files.path(), description.as_ref())?;
            let passed = gate.check(&*session)?;
            let decided = match trial {
                Some(trial) => trial.decide(session),
                None => Ok((session, None)),
            };
            Ok::<_, CheckError>((decided, passed, files))
        })
        .await;
        journal.load_ended();
        let took = measure.took(crate::sys::own_bytes());
        drop((measure, reserved, turn));
        let (decided, passed, files) = match result {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(problem)) => return walk.refused(problem, vacated),
            Err(problem) => {
                walk.failed(problem);
                return Event::NotLoaded { vacated };
            }
        };
        let (session, rollback) = match decided {
            Ok(decided) => decided,
            Err(replayed) => return walk.stays(RollbackOutcome::Kept(replayed), vacated),
        };
        let version = record.version();
        passed.report(name, &version);
        let steps = &mut walk.steps;
        steps.warm_up = passed.warm_up;
        let warm_up = passed.warm_up.unwrap_or_default();
        steps.load = started.elapsed().saturating_sub(warm_up);
        drop(files);
        metrics::histogram!(defs::MODEL_LOAD_TIME, defs::MODEL_LABEL => name.to_string())
            .record(milliseconds(loading.elapsed().saturating_sub(warm_up)));
        let signature = session.signature().clone();
        *self.loaded() = Some((record, Seen { weights, took }));
        self.let_answer(&version, digest, session);
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

    /// From here on this version answers.
    fn let_answer(&self, version: &Version, digest: Digest, session: Box<dyn Session>) {
        let (name, shared) = (&self.settings.name, &self.shared);
        let now = shared.clock.now();
        let loaded = Loaded::new(name.clone(), version.clone(), digest, now, session);
        shared.models.swap(loaded);
        shared.status.answers(name, version, now);
        let no_problem = |status: &mut ModelStatus| status.problem = None;
        shared.status.update(name, no_problem);
    }

    fn tell(&self, steps: &Steps, reload: bool) {
        let name = &self.settings.name;
        let current = self.shared.models.current(name);
        info!(
            model = %name,
            version = current.map(|current| current.version.to_string()),
            bytes = steps.bytes,
            fetch_ms = steps.fetch.map(milliseconds),
            load_ms = milliseconds(steps.load),
            warm_up_ms = steps.warm_up.map(milliseconds),
            "{}",
            if reload { "another version answers from now on" } else { "the model is loaded" }
        );
    }

    /// What the version is held against before it answers. One that was let in here before is only warmed up.
    fn gate(&self, record: &Record, terms: Terms, journal: &Journal) -> Gate {
        let (history, digest) = (journal.history(), record.digest());
        if history.good() == Some(record) || history.before() == Some(record) {
            let inputs = history.example(&digest);
            return match inputs {
                Some(inputs) => {
                    Gate::warm_up_only(inputs.to_vec(), journal.warm_up_begins(&digest))
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

impl Walk {
    /// The version is not to be loaded.
    fn refused(&mut self, problem: CheckError, vacated: bool) -> Event {
        let reason = problem.to_string();
        let cause = match problem {
            CheckError::Gate(_) => Cause::Terms,
            _ => Cause::Itself,
        };
        self.failed(problem);
        Event::Refused {
            cause,
            reason,
            vacated,
        }
    }
}

/// What a model says of itself, as far as its data files matter. What comes from the cache has not been read yet.
async fn describe(record: &Record, files: &KeptModel) -> Option<Description> {
    let description = files.description().cloned();
    if description.is_some() || record.others.is_empty() {
        return description;
    }
    let path = files.path().to_owned();
    let read = move || Description::read(&File::open(path).ok()?).ok();
    tokio::task::spawn_blocking(read).await.ok().flatten()
}

//! When what is done: at Init, at an invocation, on a timer, at the end.
//!
//! What is due is decided by [`machine`], a pure one; a [`Driver`] does it with [`Work`]. On Lambda the Extensions
//! API drives it ([`lambda`]); on any other machine, and on managed instances, timers do.

mod driver;
mod first_checks;
pub mod init_time;
pub mod lambda;
pub mod machine;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use driver::Driver;
pub use first_checks::FirstChecks;
use futures_core::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::warn;

use crate::clock::{Clock, Thaws};
use crate::ids::{ByName, ModelName};
use crate::metrics::{Reporter, defs};
use crate::models::Models;
use crate::reload::{Outcome, Reloader};
use crate::status::{ModelCommand, RollbackRequest, Status};
use machine::{ATTEMPT_PAUSE, Job};

/// What there is to be done, and with what.
pub struct Work {
    /// Keeps each model current.
    pub reloaders: ByName<Arc<Reloader>>,
    /// Sends the metrics.
    pub reporter: Reporter,
    /// What is loaded.
    pub models: Arc<Models>,
    /// Where each model stands.
    pub status: Arc<Status>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where a freeze that is over is told.
    pub thaws: Thaws,
    /// Models whose age is to be observed when the check under way has ended.
    pub unobserved: Mutex<BTreeSet<ModelName>>,
}

impl Work {
    /// What is to be done for this; `None` for a model that is not served here.
    fn run(self: &Arc<Self>, job: &Job) -> Option<BoxFuture<'static, Option<Outcome>>> {
        match job {
            Job::Check(model) => {
                let reloader = Arc::clone(self.reloaders.get(model)?);
                let (work, model) = (Arc::clone(self), model.clone());
                Some(Box::pin(async move {
                    let outcome = reloader.check().await;
                    if work.unobserved().remove(&model) {
                        work.observe_age(&model);
                    }
                    Some(outcome)
                }))
            }
            Job::Flush => {
                let work = Arc::clone(self);
                Some(Box::pin(async move {
                    work.flush().await;
                    None
                }))
            }
        }
    }

    /// Does what requests ask for. All of it ends when this is dropped.
    async fn handle_commands(self: Arc<Self>, mut wanted: mpsc::Receiver<ModelCommand>) {
        let mut tasks = JoinSet::new();
        loop {
            let command = tokio::select! {
                command = wanted.recv() => command,
                Some(_) = tasks.join_next() => continue,
            };
            match command {
                Some(ModelCommand::Check(model)) => self.check_soon(&model, &mut tasks),
                Some(ModelCommand::RollBack(request)) => self.roll_back(request, &mut tasks),
                None => return,
            }
        }
    }

    /// Makes an attempt for a model, a pause after one that failed.
    fn check_soon(&self, model: &ModelName, tasks: &mut JoinSet<()>) {
        let Some(reloader) = self.reloaders.get(model).cloned() else {
            return;
        };
        let status = self.status.get(model).unwrap_or_default();
        let failed_at = status.check_ended_at.filter(|_| status.problem.is_some());
        let rested = failed_at.map_or(ATTEMPT_PAUSE, |at| self.clock.now().since(at));
        let pause = ATTEMPT_PAUSE.saturating_sub(rested);
        // Several commands end their pause together, and make one check.
        tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            reloader.check().await;
        });
    }

    fn roll_back(&self, request: RollbackRequest, tasks: &mut JoinSet<()>) {
        if let Some(reloader) = self.reloaders.get(&request.model).cloned() {
            tasks.spawn(async move {
                let outcome = reloader.roll_back(&request.digest, request.evidence).await;
                // The version may have proved itself since, so that nobody waits for it.
                let _ = request.outcome.send(outcome);
            });
        }
    }

    async fn flush(&self) {
        self.observe();
        if let Err(error) = self.reporter.flush().await {
            warn!("metrics are kept for the next time: {error}");
        }
    }

    /// Sends the metrics for the last time; whether that was done within `time`.
    async fn flush_finally(&self, time: Duration) -> bool {
        self.observe();
        match tokio::time::timeout(time, self.reporter.flush()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => warn!("metrics go to the log: {error}"),
            Err(_) => warn!(
                "metrics go to the log: there was no answer within {} ms",
                time.as_millis()
            ),
        }
        false
    }

    /// Observes the state of the sidecar and its models. The age of a version is observed after the check that is under
    /// way: before it, the age would be that of the freeze.
    #[expect(
        clippy::cast_precision_loss,
        reason = "CloudWatch's values are 64-bit floats"
    )]
    fn observe(&self) {
        if let Some(bytes) = crate::sys::resident_bytes() {
            metrics::gauge!(defs::SIDECAR_MEMORY).set(bytes as f64);
        }
        for (model, status) in self.status.all() {
            if status.is_busy {
                self.unobserved().insert(model.clone());
            } else {
                self.observe_age(model);
            }
        }
    }

    /// Observes the age of a model's version.
    fn observe_age(&self, model: &ModelName) {
        let status = self.status.get(model).unwrap_or_default();
        if let Some(age) = status.age(self.clock.now()) {
            metrics::gauge!(defs::MODEL_AGE, defs::MODEL_LABEL => model.to_string())
                .set(age.as_secs_f64());
        }
    }

    fn unobserved(&self) -> MutexGuard<'_, BTreeSet<ModelName>> {
        self.unobserved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

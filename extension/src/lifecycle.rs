//! Schedule of version checks and metrics deliveries: at Init, at invocations, on timers and at the shutdown.
//!
//! A pure state machine ([`machine`]) decides what is due, and a [`Driver`] performs it with the parts in
//! [`JobRunner`]. On Lambda, events of the Extensions API drive it ([`lambda`]). If the sidecar is the function's
//! runtime, the invocations that it polls do. On managed instances and on other machines, timers do.

mod driver;
mod first_checks;
pub mod init_time;
pub mod lambda;
pub mod machine;
mod observation;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use driver::Driver;
pub use first_checks::FirstChecks;
use futures_core::future::BoxFuture;
pub use observation::{Observation, follow_version};
use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::clock::{Clock, Thaws, Timestamp};
use crate::ids::ModelName;
use crate::metrics::Reporter;
use crate::models::Models;
use crate::reload::{Outcome, Reloader};
use crate::rollback::RollbackRequest;
use crate::status::{ModelCommand, Status};
use machine::{ATTEMPT_PAUSE, Job};

/// Runner of jobs and commands, with the parts that they use.
pub struct JobRunner {
    /// Reloader of each model.
    pub reloaders: BTreeMap<ModelName, Arc<Reloader>>,
    /// Reporter of the metrics.
    pub reporter: Reporter,
    /// Loaded models.
    pub models: Arc<Models>,
    /// State of each model.
    pub status: Arc<Status>,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Thaws of this environment.
    pub thaws: Thaws,
    /// Observer of the sidecar and its models, before each delivery of metrics.
    pub observation: Arc<Observation>,
    /// Time of the restore from a snapshot, once its work is done.
    pub restore: OnceCell<Timestamp>,
}

impl JobRunner {
    /// Returns the future that performs `job`; `None` for an unknown model.
    fn run(self: &Arc<Self>, job: &Job) -> Option<BoxFuture<'static, Option<Outcome>>> {
        match job {
            Job::Check(model) => {
                let reloader = Arc::clone(self.reloaders.get(model)?);
                let (runner, model) = (Arc::clone(self), model.clone());
                Some(Box::pin(async move {
                    let outcome = reloader.check().await;
                    runner.observation.check_ended(&model);
                    Some(outcome)
                }))
            }
            Job::Flush => {
                let runner = Arc::clone(self);
                Some(Box::pin(async move {
                    runner.flush().await;
                    None
                }))
            }
        }
    }

    /// Handles commands from requests. All started work ends when the future is dropped.
    async fn handle_commands(self: Arc<Self>, mut commands: mpsc::Receiver<ModelCommand>) {
        let mut tasks = JoinSet::new();
        loop {
            let command = tokio::select! {
                command = commands.recv() => command,
                Some(_) = tasks.join_next() => continue,
            };
            match command {
                Some(ModelCommand::Check(model)) => self.check_soon(&model, &mut tasks),
                Some(ModelCommand::RollBack(request)) => self.roll_back(request, &mut tasks),
                Some(ModelCommand::Restored(done)) => {
                    let is_first = !self.restore.initialized();
                    self.restored().await;
                    // The caller waits for no poll. It is gone if it has reached its time limit.
                    let _ = done.send(());
                    if is_first {
                        self.check_all(&mut tasks);
                    }
                }
                None => return,
            }
        }
    }

    /// Does the work after the restore of a snapshot, once: the first call does it, and any other waits for it. Returns
    /// the time of the restore.
    ///
    /// Must run on the thread of the jobs, whose random numbers it seeds.
    ///
    /// Drops connections and credentials of the environment in which the snapshot was made, and seeds random choices.
    /// Drops metrics from before, since every environment restored from the snapshot would deliver them.
    async fn restored(&self) -> Timestamp {
        let work = async {
            let now = self.clock.now();
            self.thaws.note(now);
            self.status.restored();
            crate::sys::reseed_libraries();
            for model in self.models.names() {
                let active = self.models.current(model);
                if let Some(drift) = active.as_ref().and_then(|active| active.drift.as_ref()) {
                    drift.reseed(crate::sys::random_u64());
                }
            }
            self.reporter.discard().await;
            info!("restored from a snapshot");
            now
        };
        *self.restore.get_or_init(|| work).await
    }

    /// Checks all models now.
    fn check_all(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        for model in self.models.names() {
            if let Some(check) = self.run(&Job::Check(model.clone())) {
                tasks.spawn(async move {
                    check.await;
                });
            }
        }
    }

    /// Checks a model, with a pause after a failed check.
    fn check_soon(&self, model: &ModelName, tasks: &mut JoinSet<()>) {
        let Some(reloader) = self.reloaders.get(model).cloned() else {
            return;
        };
        let status = self.status.get(model).unwrap_or_default();
        let failed_at = status.check_ended_at.filter(|_| status.problem.is_some());
        let rested = failed_at.map_or(ATTEMPT_PAUSE, |at| self.clock.now().since(at));
        let pause = ATTEMPT_PAUSE.saturating_sub(rested);
        // Several commands end their pause together, and share one check.
        tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            reloader.check().await;
        });
    }

    fn roll_back(&self, request: RollbackRequest, tasks: &mut JoinSet<()>) {
        if let Some(reloader) = self.reloaders.get(&request.model).cloned() {
            tasks.spawn(async move {
                let outcome = reloader.roll_back(&request.digest, request.evidence).await;
                // The receiver is gone if the version has passed its trial since.
                let _ = request.outcome.send(outcome);
            });
        }
    }

    async fn flush(&self) {
        self.observe();
        if let Err(error) = self.reporter.flush().await {
            warn!("cannot deliver metrics, keeping them for the next delivery: {error}");
        }
    }

    /// Delivers the metrics for the last time. Returns `true` if that succeeded within `time`.
    async fn flush_finally(&self, time: Duration) -> bool {
        self.observe();
        match tokio::time::timeout(time, self.reporter.flush()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => warn!("cannot deliver metrics, writing them to the log: {error}"),
            Err(_) => warn!(
                "cannot deliver metrics, writing them to the log: no response within {} ms",
                time.as_millis()
            ),
        }
        false
    }

    /// Observes the state of the sidecar and its models.
    fn observe(&self) {
        self.observation.observe();
        self.observe_drift();
    }

    /// Observes the drift of each active version that has served enough rows since the last observation.
    fn observe_drift(&self) {
        for model in self.models.names() {
            let Some(active) = self.models.current(model) else {
                continue;
            };
            if let Some(report) = active.drift.as_ref().and_then(|drift| drift.report()) {
                report.record(model, &active.version);
            }
        }
    }
}

#[cfg(test)]
mod tests;

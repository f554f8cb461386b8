//! When what is done: at Init, at an invocation, on a timer, at the end.
//!
//! What is due is decided by [`machine`], a pure one; a [`Driver`] does it with [`Work`]. On Lambda the Extensions
//! API drives it ([`lambda`]); on any other machine, and on managed instances, timers do.

mod driver;
pub mod lambda;
pub mod machine;

use std::sync::Arc;
use std::time::Duration;

pub use driver::Driver;
use futures_core::future::BoxFuture;
use tokio::sync::mpsc;
use tracing::warn;

use crate::clock::{Clock, Thaws};
use crate::ids::{ByName, ModelName};
use crate::metrics::{Reporter, defs};
use crate::models::Models;
use crate::reload::{Outcome, Reloader};
use crate::status::{RollbackRequest, Status, Wish};
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
}

impl Work {
    /// What is to be done for this; `None` for a model that is not served here.
    fn run(self: &Arc<Self>, job: &Job) -> Option<BoxFuture<'static, Option<Outcome>>> {
        match job {
            Job::Check(model) => {
                let reloader = Arc::clone(self.reloaders.get(model)?);
                Some(Box::pin(async move { Some(reloader.check().await) }))
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

    /// Does what requests ask for.
    pub async fn serve_wishes(self: Arc<Self>, mut wanted: mpsc::Receiver<Wish>) {
        while let Some(wish) = wanted.recv().await {
            match wish {
                Wish::Check(model) => self.check_soon(&model),
                Wish::RollBack(request) => self.roll_back(request),
            }
        }
    }

    /// Makes an attempt for a model, a pause after one that failed.
    fn check_soon(&self, model: &ModelName) {
        let Some(reloader) = self.reloaders.get(model).cloned() else {
            return;
        };
        let status = self.status.get(model).unwrap_or_default();
        let failed_at = status.attempted_at.filter(|_| status.problem.is_some());
        let rested = failed_at.map_or(ATTEMPT_PAUSE, |at| self.clock.now().since(at));
        let pause = ATTEMPT_PAUSE.saturating_sub(rested);
        // Several wishes end their pause together, and make one check.
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            reloader.check().await
        });
    }

    fn roll_back(&self, request: RollbackRequest) {
        if let Some(reloader) = self.reloaders.get(&request.model).cloned() {
            tokio::spawn(async move {
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

    /// Observes what is true now, rather than what happened.
    #[expect(
        clippy::cast_precision_loss,
        reason = "CloudWatch's values are 64-bit floats"
    )]
    fn observe(&self) {
        if let Some(bytes) = crate::sys::resident_bytes() {
            metrics::gauge!(defs::SIDECAR_MEMORY).set(bytes as f64);
        }
        let now = self.clock.now();
        for (name, status) in self.status.all() {
            if let Some(age) = status.age(now) {
                metrics::gauge!(defs::MODEL_AGE, defs::MODEL_LABEL => name.to_string())
                    .set(age.as_secs_f64());
            }
        }
    }
}

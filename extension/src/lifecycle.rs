//! When what is done: at Init, at an invocation, on a timer, at the end.
//!
//! What is due is decided by [`plan`], a pure machine; [`Work`] does it. On Lambda the Extensions API drives
//! both ([`lambda`]); on any other machine, and on managed instances, timers do ([`timers`]).

pub mod lambda;
pub mod plan;
pub mod timers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::clock::Clock;
use crate::ids::ModelName;
use crate::metrics::{Reporter, defs};
use crate::models::Models;
use crate::reload::{Outcome, Reloader};
use crate::status::Status;
use plan::Due;

/// Between two attempts to get a model that cannot be had, however many requests want it.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(1);

/// What there is to be done, and with what.
pub struct Work {
    /// Keeps each model current.
    pub reloaders: BTreeMap<ModelName, Arc<Reloader>>,
    /// Sends the metrics.
    pub reporter: Reporter,
    /// What is loaded.
    pub models: Arc<Models>,
    /// Where each model stands.
    pub status: Arc<Status>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Work {
    /// Begins what is due; each part goes on by itself, whether it is waited for or not.
    pub fn begin(self: &Arc<Self>, due: Due) -> Vec<JoinHandle<()>> {
        let checks = due
            .checks
            .into_iter()
            .filter_map(|model| self.reloaders.get(&model).cloned());
        let mut begun: Vec<JoinHandle<()>> = checks
            .map(|reloader| {
                tokio::spawn(async move {
                    reloader.check().await;
                })
            })
            .collect();
        if due.flush {
            let work = Arc::clone(self);
            begun.push(tokio::spawn(async move { work.flush().await }));
        }
        begun
    }

    /// Checks every model, all side by side.
    pub async fn check_all(&self) -> Vec<(ModelName, Outcome)> {
        let checks: Vec<_> = self
            .reloaders
            .iter()
            .map(|(name, reloader)| {
                let reloader = Arc::clone(reloader);
                (
                    name.clone(),
                    tokio::spawn(async move { reloader.check().await }),
                )
            })
            .collect();
        let mut outcomes = Vec::with_capacity(checks.len());
        for (name, check) in checks {
            outcomes.push((name, check.await.unwrap_or(Outcome::Failed)));
        }
        outcomes
    }

    /// Makes an attempt for each model that a request asks for and that is not there.
    pub async fn serve_wishes(self: Arc<Self>, mut wanted: mpsc::Receiver<ModelName>) {
        while let Some(model) = wanted.recv().await {
            let Some(reloader) = self.reloaders.get(&model).cloned() else {
                continue;
            };
            let attempted = self
                .status
                .get(&model)
                .and_then(|status| status.attempted_at);
            let rested =
                attempted.map_or(ATTEMPT_PAUSE, |attempted| self.clock.now().since(attempted));
            let pause = ATTEMPT_PAUSE.saturating_sub(rested);
            // Several wishes end their pause together, and make one check.
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                reloader.check().await
            });
        }
    }

    async fn flush(&self) {
        self.observe();
        if let Err(error) = self.reporter.flush().await {
            warn!("metrics are kept for the next time: {error}");
        }
    }

    /// Sends the metrics for the last time; what is not taken within `time` goes to the log.
    pub async fn flush_finally(&self, time: Duration) {
        self.observe();
        match tokio::time::timeout(time, self.reporter.flush()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => warn!("metrics go to the log: {error}"),
            Err(_) => warn!(
                "metrics go to the log: there was no answer within {} ms",
                time.as_millis()
            ),
        }
        self.reporter.write_rest_to_log().await;
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
            if let Some(checked) = status.checked_at {
                metrics::gauge!(defs::MODEL_AGE, defs::MODEL_LABEL => name.to_string())
                    .set(now.since(checked).as_secs_f64());
            }
        }
    }
}

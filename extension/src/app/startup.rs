//! Startup: how long `next` is withheld for the first checks, and what follows once they have ended.
//!
//! An environment's first Init has 10 s, and `next` is withheld until the models are loaded, or until
//! `MODEL_INIT_BUDGET` is over. A start in an environment that was reset runs within an invocation, on the function's
//! timeout, which ends in SIGKILL for an extension that has not called `next`. So `next` is called at once there:
//! requests wait for the model within their own deadlines, and a SHUTDOWN is heard.
//!
//! Either way the first loads keep their normal priority until they have ended.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::StartError;
use super::startup_report::Phases;
use crate::engine::EngineError;
use crate::lifecycle::{FirstChecks, Work};
use crate::metrics::defs;
use crate::reload::milliseconds;
use crate::sys;

/// A startup whose first checks are under way or have ended.
pub(super) struct Startup {
    /// The first checks; `None` once they have been reported.
    pub(super) checks: Option<FirstChecks>,
    /// Durations of the phases.
    pub(super) phases: Phases,
    /// The opening of ONNX Runtime, until it was waited for.
    pub(super) opening: Option<JoinHandle<Result<Duration, EngineError>>>,
    /// The parts that checks work on.
    pub(super) work: Arc<Work>,
    /// The socket's path, for the report.
    pub(super) socket: PathBuf,
    /// Set by `MODEL_REQUIRED`: a model that is missing is an error.
    pub(super) is_required: bool,
    /// Set on Lambda: the main thread gives way to the function once all is done.
    pub(super) gives_way: bool,
}

impl Startup {
    /// Waits for the models until they answer, or until `budget` is over.
    pub(super) async fn within(&mut self, budget: Duration) -> Result<(), StartError> {
        if let Ok(ended) = tokio::time::timeout(budget, self.finish()).await {
            return ended;
        }
        metrics::counter!(defs::INIT_BUDGET_EXCEEDED).increment(1);
        if let Some(problem) = self.missing().filter(|_| self.is_required) {
            let budget = budget.as_millis();
            return Err(StartError::Required(format!(
                "{problem}, and MODEL_INIT_BUDGET ({budget} ms) is over"
            )));
        }
        warn!(
            budget_ms = milliseconds(budget),
            "the models are not there yet, and MODEL_INIT_BUDGET is over: requests wait for them"
        );
        Ok(())
    }

    /// Does not wait for the models: this is another start in the same environment, within an invocation.
    pub(super) fn at_once() {
        info!(
            "this environment was used before: Init ends at once, and requests wait for the models"
        );
    }

    /// Does what is left once the first checks have ended; returns only when the startup has failed.
    pub(super) async fn failure(&mut self) -> StartError {
        match self.finish().await {
            Ok(()) => std::future::pending().await,
            Err(problem) => problem,
        }
    }

    /// Waits until the first checks have ended, and reports. Nothing is lost when the wait is given up.
    async fn finish(&mut self) -> Result<(), StartError> {
        let Some(checks) = &mut self.checks else {
            return Ok(());
        };
        let outcomes = checks.ended().await.to_vec();
        let missing = self.missing();
        if missing.is_some() {
            metrics::counter!(defs::INIT_FAILURES).increment(1);
        }
        if let Some(problem) = missing.filter(|_| self.is_required) {
            return Err(StartError::Required(problem));
        }
        if let Some(opening) = &mut self.opening {
            self.phases.open = opening.await.ok().and_then(Result::ok);
            self.opening = None;
        }
        self.checks = None;
        self.phases.report(&outcomes, &self.socket);
        if self.gives_way {
            // Requests have threads of their own.
            sys::use_sched_batch();
        }
        Ok(())
    }

    /// Names the models that are not loaded, with the reasons.
    fn missing(&self) -> Option<String> {
        let missing: Vec<String> = self
            .work
            .models
            .names()
            .filter(|name| self.work.models.current(name).is_none())
            .map(|name| self.work.status.unavailable_detail(name))
            .collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }
}

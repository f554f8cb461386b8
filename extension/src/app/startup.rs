//! Startup: the wait of Init for the first version checks, and the work after they have ended.
//!
//! The first Init of an environment has 10 s. It does not call `next` until all models are active or
//! `MODEL_INIT_BUDGET` has passed. A start after a reset runs within an invocation and its timeout. Lambda then kills
//! an extension that has not called `next`, so `next` is called at once. Requests wait for the model within their own
//! deadlines, and SHUTDOWN is received.
//!
//! In both cases the first loads keep their normal priority until they have ended.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::start_error::StartError;
use super::startup_report::Phases;
use crate::engine::EngineError;
use crate::lifecycle::{FirstChecks, JobRunner};
use crate::metrics::defs;
use crate::reload::milliseconds;
use crate::sys;

/// Startup whose first version checks are running or have ended.
pub(super) struct Startup {
    /// First version checks; `None` after they were reported.
    pub(super) checks: Option<FirstChecks>,
    /// Durations of the phases of Init.
    pub(super) phases: Phases,
    /// Opening of ONNX Runtime, until it was waited for.
    pub(super) opening: Option<JoinHandle<Result<Duration, EngineError>>>,
    /// Parts that the checks use.
    pub(super) runner: Arc<JobRunner>,
    /// Path of the socket, for the report.
    pub(super) socket: PathBuf,
    /// `true` if a model that is not loaded is an error (`MODEL_REQUIRED`).
    pub(super) is_required: bool,
    /// `true` if the main thread must not preempt the function after the startup, as on Lambda.
    pub(super) yields_to_function: bool,
}

impl Startup {
    /// Waits until all models are active, for at most `budget`.
    pub(super) async fn within(&mut self, budget: Duration) -> Result<(), StartError> {
        if let Ok(ended) = tokio::time::timeout(budget, self.finish()).await {
            return ended;
        }
        metrics::counter!(defs::INIT_BUDGET_EXCEEDED).increment(1);
        if let Some(problem) = self.missing().filter(|_| self.is_required) {
            let budget = budget.as_millis();
            return Err(StartError::Required(format!(
                "{problem}, and MODEL_INIT_BUDGET ({budget} ms) has passed"
            )));
        }
        warn!(
            budget_ms = milliseconds(budget),
            "MODEL_INIT_BUDGET has passed before all models are active: Init ends, and requests wait"
        );
        Ok(())
    }

    /// Logs that Init does not wait for the models, because it runs within an invocation after a reset.
    pub(super) fn skip_wait() {
        info!("restart after a reset: Init ends at once, and requests wait for the models");
    }

    /// Completes the startup after the first checks; returns only if the startup has failed.
    pub(super) async fn failure(&mut self) -> StartError {
        match self.finish().await {
            Ok(()) => std::future::pending().await,
            Err(problem) => problem,
        }
    }

    /// Waits until the first checks have ended, and reports. Cancel-safe.
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
        if self.yields_to_function {
            // Requests are unaffected: their threads are separate.
            sys::use_sched_batch();
        }
        Ok(())
    }

    /// Returns the models that are not loaded, with the reasons; `None` if all are loaded.
    fn missing(&self) -> Option<String> {
        let missing: Vec<String> = self
            .runner
            .models
            .names()
            .filter(|name| self.runner.models.current(name).is_none())
            .map(|name| self.runner.status.unavailable_detail(name))
            .collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }
}

//! Observer of inference requests: feeds the metrics, the log, Triton's statistics and the rollback policy.
//!
//! A request fills an [`InferenceTrace`] as far as it gets. At its end, [`InferenceObserver::finished`] is called once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use tokio::sync::oneshot;
use tracing::warn;

use super::error::ApiError;
use super::model_health::{null_share, predictions};
use super::rollback_policy::{FailureKind, FingerprintedInput, RollbackPolicy};
use super::statistics::{InferenceTimes, Statistics};
use crate::clock::Clock;
use crate::drift::SampledRows;
use crate::ids::ModelName;
use crate::metrics::defs::{self, MODEL_LABEL};
use crate::models::{LoadedModel, Models};
use crate::rollback::RollbackRequest;
use crate::scheduler::RunError;
use crate::status::Status;
use crate::tensor::Value;

/// Progress of one inference request.
#[derive(Default)]
pub(super) struct InferenceTrace {
    /// ID of the invocation, if the handler sent the request.
    pub(super) request_id: Option<HeaderValue>,
    /// Version that the request runs on, and the time at which its body was complete.
    pub(super) version: Option<(Arc<LoadedModel>, Instant)>,
    pub(super) run: RunProgress,
    /// Rows for the drift of the version, if it is measured.
    pub(super) sampled: Option<SampledRows>,
    /// Time spent in each stage, once the response is complete.
    pub(super) times: Option<InferenceTimes>,
}

/// Progress of the run of one inference request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RunProgress {
    /// The run has not ended.
    #[default]
    Unfinished,
    Succeeded,
    /// The run failed, with the error that ended the request.
    Failed,
}

/// Records the end of each inference request.
pub(super) struct InferenceObserver {
    models: Arc<Models>,
    status: Arc<Status>,
    clock: Arc<dyn Clock>,
    /// `true` if the scheduler batches requests, so that batch sizes are recorded.
    has_batches: bool,
    metrics: BTreeMap<ModelName, ModelMetrics>,
    statistics: Statistics,
    rollback_policies: BTreeMap<ModelName, Mutex<RollbackPolicy>>,
}

/// Metrics of one model, looked up once.
struct ModelMetrics {
    inferences: metrics::Counter,
    latency: metrics::Histogram,
    queue: metrics::Histogram,
    batch: metrics::Histogram,
    full: metrics::Counter,
    errors: metrics::Counter,
    rejected: metrics::Counter,
    stale: metrics::Counter,
    confidence: metrics::Histogram,
    class: metrics::Histogram,
    nulls: metrics::Histogram,
    /// Output with the predictions; `None` to recognise it.
    confidence_output: Option<String>,
}

impl ModelMetrics {
    fn new(model: &ModelName) -> Self {
        let label = model.to_string();
        Self {
            inferences: metrics::counter!(defs::INFERENCES, MODEL_LABEL => label.clone()),
            latency: metrics::histogram!(defs::INFERENCE_LATENCY, MODEL_LABEL => label.clone()),
            queue: metrics::histogram!(defs::QUEUE_TIME, MODEL_LABEL => label.clone()),
            batch: metrics::histogram!(defs::BATCH_SIZE, MODEL_LABEL => label.clone()),
            full: metrics::counter!(defs::QUEUE_FULL, MODEL_LABEL => label.clone()),
            errors: metrics::counter!(defs::INFERENCE_ERRORS, MODEL_LABEL => label.clone()),
            rejected: metrics::counter!(defs::REJECTED_REQUESTS, MODEL_LABEL => label.clone()),
            stale: metrics::counter!(defs::STALE_RESPONSES, MODEL_LABEL => label.clone()),
            confidence: metrics::histogram!(defs::PREDICTION_CONFIDENCE, MODEL_LABEL => label.clone()),
            class: metrics::histogram!(defs::PREDICTED_CLASS, MODEL_LABEL => label.clone()),
            nulls: metrics::histogram!(defs::NULL_FEATURE_SHARE, MODEL_LABEL => label),
            confidence_output: None,
        }
    }
}

impl InferenceObserver {
    pub(super) fn new(
        models: Arc<Models>,
        status: Arc<Status>,
        clock: Arc<dyn Clock>,
        has_batches: bool,
    ) -> Self {
        let metrics = models
            .names()
            .map(|name| (name.clone(), ModelMetrics::new(name)));
        let policies = models.names().map(|name| (name.clone(), Mutex::default()));
        Self {
            metrics: metrics.collect(),
            rollback_policies: policies.collect(),
            statistics: Statistics::new(models.names()),
            models,
            status,
            clock,
            has_batches,
        }
    }

    /// Sets the output of each model that has the predictions.
    pub(super) fn set_confidence_outputs(&mut self, outputs: BTreeMap<ModelName, String>) {
        for (model, output) in outputs {
            if let Some(metrics) = self.metrics.get_mut(&model) {
                metrics.confidence_output = Some(output);
            }
        }
    }

    /// Observes the inputs of a request.
    pub(super) fn decoded(&self, model: &ModelName, inputs: &[(String, Value)]) {
        if let Some(metrics) = self.metrics.get(model)
            && let Some(share) = null_share(inputs)
        {
            metrics.nulls.record(share);
        }
    }

    /// Observes the outputs of a request.
    pub(super) fn predicted(&self, model: &ModelName, outputs: &[(String, Value)]) {
        let Some(metrics) = self.metrics.get(model) else {
            return;
        };
        predictions(
            outputs,
            metrics.confidence_output.as_deref(),
            |prediction| {
                metrics.confidence.record(prediction.confidence);
                let class = u32::try_from(prediction.class).unwrap_or(u32::MAX);
                metrics.class.record(class);
            },
        );
    }

    /// Records the end of a request to this model. Takes the inputs of a failed run out of the error, where the
    /// rollback policy needs them.
    pub(super) fn finished<T>(
        &self,
        model: &ModelName,
        trace: &InferenceTrace,
        result: &mut Result<T, ApiError>,
    ) {
        if let Some((loaded, received)) = &trace.version {
            if let (Ok(_), Some(drift), Some(sampled)) = (&result, &loaded.drift, &trace.sampled) {
                drift.count(sampled);
            }
            match (trace.run, &mut *result) {
                (RunProgress::Succeeded, _) => self.run_succeeded(loaded),
                (RunProgress::Failed, Err(ApiError::Run(error))) => self.run_failed(loaded, error),
                _ => {}
            }
            self.count(loaded, *received, trace.times);
        }
        let Some(metrics) = self.metrics.get(model) else {
            return;
        };
        if let Some(times) = &trace.times {
            metrics.latency.record(ms(times.total));
            metrics.queue.record(ms(times.queue));
            if times.is_first && self.has_batches {
                let requests = u32::try_from(times.batched_requests).unwrap_or(u32::MAX);
                metrics.batch.record(requests);
            }
        }
        match result {
            Ok(_) => metrics.inferences.increment(1),
            Err(ApiError::Run(RunError::QueueFull { .. })) => metrics.full.increment(1),
            Err(error) if error.status().is_client_error() => metrics.rejected.increment(1),
            Err(error) => {
                metrics.errors.increment(1);
                let request_id = trace.request_id.as_ref();
                warn!(
                    model = %model,
                    request_id = request_id.and_then(|id| id.to_str().ok()),
                    status = error.status().as_u16(),
                    "inference failed: {error}"
                );
            }
        }
    }

    /// Counts a request that a version serves although its check is overdue.
    pub(super) fn served_stale(&self, model: &ModelName) {
        if let Some(metrics) = self.metrics.get(model) {
            metrics.stale.increment(1);
        }
    }

    /// Returns the statistics of the active version, for Triton's statistics extension.
    pub(super) fn statistics(&self, loaded: &LoadedModel) -> serde_json::Value {
        self.statistics.of(loaded)
    }

    fn count(&self, loaded: &LoadedModel, received: Instant, times: Option<InferenceTimes>) {
        let ended = times.ok_or_else(|| received.elapsed());
        self.statistics
            .count(loaded, &self.models, self.clock.now(), ended);
    }

    fn run_succeeded(&self, loaded: &LoadedModel) {
        if let Some(policy) = self.rollback_policies.get(&loaded.name) {
            let mut policy = policy.lock().unwrap_or_else(PoisonError::into_inner);
            policy.run_succeeded(&loaded.digest, loaded.loaded_at);
        }
    }

    /// Reports a failed run to the rollback policy, and requests the rollback that the policy asks for.
    fn run_failed(&self, loaded: &LoadedModel, error: &mut RunError) {
        // Otherwise, the failure would count in every environment that is restored from the snapshot.
        if self.status.snapshot().is_before_restore() {
            return;
        }
        let Some(policy) = self.rollback_policies.get(&loaded.name) else {
            return;
        };
        let lock = || policy.lock().unwrap_or_else(PoisonError::into_inner);
        let (digest, loaded_at) = (&loaded.digest, loaded.loaded_at);
        let Some(failure) = error.engine().and_then(FailureKind::of) else {
            return;
        };
        let Some(key) = lock().fingerprint_key(digest, loaded_at) else {
            return;
        };
        let input = match error {
            RunError::Failed(failed) => failed.request.take(),
            _ => None,
        };
        // Hashed without the lock: an input may be large.
        let input = input.and_then(|request| FingerprintedInput::new(request, &key));
        let now = self.clock.now();
        let mut policy = lock();
        if let Some(evidence) = policy.run_failed(digest, loaded_at, failure, input, now) {
            let (outcome, receiver) = oneshot::channel();
            let is_sent = self.status.request_rollback(RollbackRequest {
                model: loaded.name.clone(),
                digest: digest.clone(),
                evidence,
                outcome,
            });
            if is_sent {
                policy.requested(receiver, now);
            }
        }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::Receiver;

    use super::*;
    use crate::clock::SystemClock;
    use crate::engine::EngineError;
    use crate::models::stub;
    use crate::scheduler::FailedRun;
    use crate::status::ModelCommand;

    /// Lets 40 runs fail inside the engine, which is evidence without any input. Returns `true` if a rollback is
    /// requested.
    fn is_rollback_requested(
        observer: &InferenceObserver,
        commands: &mut Receiver<ModelCommand>,
    ) -> bool {
        let name = ModelName::parse("m").unwrap();
        let loaded = stub::loaded(&name, "1", |_| Ok(Vec::new()));
        for _ in 0..40 {
            let error = EngineError::Run("inside".to_owned());
            let failed = FailedRun {
                error,
                request: None,
            };
            observer.run_failed(&loaded, &mut RunError::Failed(Box::new(failed)));
        }
        matches!(commands.try_recv(), Ok(ModelCommand::RollBack(_)))
    }

    #[test]
    fn failures_before_a_snapshot_count_in_no_environment() {
        let names = || [ModelName::parse("m").unwrap()];
        let (status, mut commands) = Status::new(names());
        let status = Arc::new(status.for_snapshot(true));
        let models = Arc::new(Models::new(names()));
        let clock = Arc::new(SystemClock);
        let observer = InferenceObserver::new(models, Arc::clone(&status), clock, false);
        assert!(!is_rollback_requested(&observer, &mut commands));
        status.ready_for_snapshot();
        assert!(!is_rollback_requested(&observer, &mut commands));
        status.restored();
        assert!(is_rollback_requested(&observer, &mut commands));
    }
}

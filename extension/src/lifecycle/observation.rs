//! Observation of the state of the sidecar and its models, before each delivery of metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cache::Cache;
use crate::clock::Clock;
use crate::ids::{ModelName, VersionName};
use crate::metrics::{Recorder, defs};
use crate::request_memory::Account;
use crate::status::{ModelStatus, Status};
use crate::sys;

/// Minimum length of a period of the metric `ActiveVersion`: the resolution of the metrics.
const MIN_PERIOD: Duration = Duration::from_secs(60);

/// Directory of temporary files, which the function and all extensions share.
const TMP: &str = "/tmp";

/// Observer of the sidecar and its models.
pub struct Observation {
    status: Arc<Status>,
    cache: Cache,
    account: Arc<Account>,
    clock: Arc<dyn Clock>,
    /// Length of a period in milliseconds, in which an environment observes `ActiveVersion` once.
    period: u64,
    /// Observes the queues of the server.
    observe_queues: Box<dyn Fn() + Send + Sync>,
    state: Mutex<ObservationState>,
}

#[derive(Default)]
struct ObservationState {
    /// Models that must be observed when their running version check ends.
    unobserved: BTreeSet<ModelName>,
    /// Period and version of the last observation of `ActiveVersion`.
    active: BTreeMap<ModelName, (u64, VersionName)>,
}

impl Observation {
    /// Creates an observer for deliveries every `interval`. `observe_queues` observes the queues of the server.
    #[must_use]
    pub fn new(
        status: Arc<Status>,
        cache: Cache,
        account: Arc<Account>,
        clock: Arc<dyn Clock>,
        interval: Duration,
        observe_queues: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let period = interval.max(MIN_PERIOD).as_millis();
        Self {
            status,
            cache,
            account,
            clock,
            period: u64::try_from(period).unwrap_or(u64::MAX),
            observe_queues: Box::new(observe_queues),
            state: Mutex::default(),
        }
    }

    /// Observes the sidecar, its queues and all models. A model with a running version check is observed after it,
    /// because until then its age includes the freeze.
    pub fn observe(&self) {
        self.observe_process();
        (self.observe_queues)();
        for (model, status) in self.status.all() {
            if let Some(version) = &status.version {
                self.observe_active(model, version);
            }
            if status.is_busy {
                self.state().unobserved.insert(model.clone());
            } else {
                self.observe_model(model);
            }
        }
    }

    /// Observes memory, disk, threads and descriptors.
    #[expect(
        clippy::cast_precision_loss,
        reason = "CloudWatch's values are 64-bit floats"
    )]
    fn observe_process(&self) {
        let count = |count: Option<usize>| count.and_then(|count| u64::try_from(count).ok());
        for (name, value) in [
            (defs::SIDECAR_MEMORY, sys::resident_bytes()),
            (defs::REQUEST_MEMORY, count(Some(self.account.take_peak()))),
            (defs::CACHE_BYTES, self.cache.bytes()),
            (
                defs::TMP_FREE,
                sys::disk(Path::new(TMP)).map(|tmp| tmp.free),
            ),
            (defs::THREADS, count(sys::threads())),
            (defs::FILE_DESCRIPTORS, count(sys::file_descriptors())),
        ] {
            if let Some(value) = value {
                metrics::gauge!(name).set(value as f64);
            }
        }
    }

    /// Observes a model whose version check has ended, if that is due.
    pub(super) fn check_ended(&self, model: &ModelName) {
        let is_due = self.state().unobserved.remove(model);
        if is_due {
            self.observe_model(model);
        }
    }

    /// Observes the time since the last successful version check, and since a wanted version was seen that is not
    /// active.
    fn observe_model(&self, model: &ModelName) {
        let status = self.status.get(model).unwrap_or_default();
        let now = self.clock.now();
        if let Some(age) = status.age(now) {
            metrics::gauge!(defs::MODEL_AGE, defs::MODEL_LABEL => model.to_string())
                .set(age.as_secs_f64());
        }
        let lag = status.wanted_since.map(|since| now.since(since));
        metrics::gauge!(defs::MODEL_VERSION_LAG, defs::MODEL_LABEL => model.to_string())
            .set(lag.unwrap_or_default().as_secs_f64());
    }

    /// Observes the active version, once in each period.
    fn observe_active(&self, model: &ModelName, version: &VersionName) {
        let period = self.clock.now().0 / self.period;
        let observed = (period, version.clone());
        let last = self.state().active.insert(model.clone(), observed.clone());
        if last != Some(observed) {
            let labels = [
                (defs::MODEL_LABEL, model.to_string()),
                (defs::VERSION_LABEL, version.to_string()),
            ];
            metrics::gauge!(defs::ACTIVE_VERSION, &labels).set(1.0);
        }
    }

    fn state(&self) -> MutexGuard<'_, ObservationState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the recorder each version of a model that becomes active, until the status is dropped.
pub async fn follow_version(model: ModelName, status: Arc<Status>, recorder: Recorder) {
    let Some(mut changes) = status.watch(&model) else {
        return;
    };
    drop(status);
    let mut last = None;
    loop {
        let is_new = |status: &ModelStatus| status.version.is_some() && status.version != last;
        let version = match changes.wait_for(is_new).await {
            Ok(status) => status.version.clone(),
            Err(_) => return,
        };
        if let Some(version) = &version {
            recorder.activated(model.as_str(), version.as_str());
        }
        last = version;
    }
}

//! Statistics of inference requests: their number, and the time spent in each stage.
//!
//! Counts belong to one load of one version. The active version starts with none, and requests that end later on an
//! earlier version are not counted. A request that is rejected as invalid counts as failed, once a version was there to
//! validate it against. Nothing is cached, and nothing is kept for each batch size.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::ids::{Digest, ModelName};
use crate::models::{LoadedModel, Models};

/// Statistics of every model's active version.
#[derive(Debug)]
pub(super) struct Statistics(BTreeMap<ModelName, Mutex<VersionStatistics>>);

/// Size of a successful request, and the time that it spent in each stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct InferenceTimes {
    /// Number of rows of the request.
    pub(super) rows: u64,
    /// Number of requests in the same run.
    pub(super) batched_requests: usize,
    /// `true` for exactly one request of each run, so that the run is counted once.
    pub(super) is_first: bool,
    /// From the last byte of the request to the response.
    pub(super) total: Duration,
    pub(super) queue: Duration,
    pub(super) decode: Duration,
    pub(super) infer: Duration,
    pub(super) encode: Duration,
}

/// Statistics of one load of one version.
#[derive(Clone, Debug, Default)]
struct VersionStatistics {
    version: Option<(Digest, Timestamp)>,
    counts: InferenceCounts,
}

impl VersionStatistics {
    fn is_of(&self, loaded: &LoadedModel) -> bool {
        let is = |(digest, at): &(Digest, Timestamp)| {
            *digest == loaded.digest && *at == loaded.loaded_at
        };
        self.version.as_ref().is_some_and(is)
    }
}

/// Counts, in the form and under the names of Triton's statistics extension.
#[derive(Clone, Debug, Default, Serialize)]
struct InferenceCounts {
    /// Time of the last request, in milliseconds since the Unix epoch.
    last_inference: u64,
    inference_count: u64,
    execution_count: u64,
    inference_stats: StageTimes,
    batch_stats: [(); 0],
}

#[derive(Clone, Debug, Default, Serialize)]
struct StageTimes {
    success: StageTime,
    fail: StageTime,
    queue: StageTime,
    compute_input: StageTime,
    compute_infer: StageTime,
    compute_output: StageTime,
    cache_hit: StageTime,
    cache_miss: StageTime,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct StageTime {
    count: u64,
    ns: u64,
}

impl StageTime {
    fn add(&mut self, time: Duration) {
        self.count = self.count.saturating_add(1);
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.ns = self.ns.saturating_add(ns);
    }
}

impl InferenceCounts {
    fn add(&mut self, ended: Result<InferenceTimes, Duration>) {
        let stages = &mut self.inference_stats;
        match ended {
            Err(time) => stages.fail.add(time),
            Ok(times) => {
                self.inference_count = self.inference_count.saturating_add(times.rows);
                let executions = u64::from(times.is_first);
                self.execution_count = self.execution_count.saturating_add(executions);
                stages.success.add(times.total);
                stages.queue.add(times.queue);
                stages.compute_input.add(times.decode);
                stages.compute_infer.add(times.infer);
                stages.compute_output.add(times.encode);
            }
        }
    }
}

impl Statistics {
    /// Creates empty statistics for these models.
    pub(super) fn new<'a>(models: impl Iterator<Item = &'a ModelName>) -> Self {
        Self(
            models
                .map(|name| (name.clone(), Mutex::default()))
                .collect(),
        )
    }

    /// Counts a request that ended now on this version: its times, or the time until it failed.
    pub(super) fn count(
        &self,
        loaded: &LoadedModel,
        models: &Models,
        now: Timestamp,
        ended: Result<InferenceTimes, Duration>,
    ) {
        let Some(mut statistics) = self.lock(&loaded.name) else {
            return;
        };
        if !statistics.is_of(loaded) {
            let current = models.current(&loaded.name);
            if !current.is_some_and(|current| key(&current) == key(loaded)) {
                return;
            }
            *statistics = VersionStatistics {
                version: Some(key(loaded)),
                counts: InferenceCounts::default(),
            };
        }
        statistics.counts.last_inference = now.0;
        statistics.counts.add(ended);
    }

    /// Returns the statistics of this version, in the form of Triton's statistics extension.
    pub(super) fn of(&self, loaded: &LoadedModel) -> serde_json::Value {
        let statistics = self.lock(&loaded.name);
        let statistics = statistics.filter(|statistics| statistics.is_of(loaded));
        let counts = statistics.map_or_else(InferenceCounts::default, |it| it.counts.clone());
        let mut value = serde_json::json!(counts);
        value["name"] = loaded.name.as_str().into();
        value["version"] = loaded.version.as_str().into();
        value
    }

    fn lock(&self, model: &ModelName) -> Option<MutexGuard<'_, VersionStatistics>> {
        let statistics = self.0.get(model)?;
        Some(statistics.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Identity of a load: a version that is loaded again starts with empty counts.
fn key(loaded: &LoadedModel) -> (Digest, Timestamp) {
    (loaded.digest.clone(), loaded.loaded_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_saturate() {
        let mut time = StageTime {
            count: u64::MAX,
            ns: u64::MAX - 1,
        };
        time.add(Duration::from_nanos(5));
        assert_eq!((time.count, time.ns), (u64::MAX, u64::MAX));
    }
}

//! Triton's statistics extension: how many requests a model's version has answered, and where their time went.
//!
//! Specification: <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md>.
//! The statistics are those of the version that answers, since it was loaded: another begins with none, and what ends
//! later on one before is not counted. A request that was refused because of what it said has failed as well, once
//! there was a version that it could be held against. Nothing is cached, and nothing kept for each size of a batch.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;

use super::Context;
use super::answer::{Answer, check_target, find, json, named};
use super::error::ApiError;
use super::route::Target;
use crate::clock::Timestamp;
use crate::ids::{ByName, Digest, ModelName};
use crate::models::Loaded;

/// What the server's metadata calls it.
pub(super) const EXTENSION: &str = "statistics";

/// The statistics of each model's version.
#[derive(Debug)]
pub(super) struct Statistics(ByName<Mutex<Record>>);

/// One request that was answered with outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Success {
    /// How many rows it had.
    pub(super) rows: u64,
    /// How many requests had its run.
    pub(super) batched_requests: usize,
    /// Whether its run is counted as its own: of requests that had one together, one has it.
    pub(super) is_first: bool,
    /// From its last byte to its answer.
    pub(super) whole: Duration,
    pub(super) queue: Duration,
    pub(super) decode: Duration,
    pub(super) infer: Duration,
    pub(super) encode: Duration,
}

/// Those of one load of one version.
#[derive(Clone, Debug, Default)]
struct Record {
    of: Option<(Digest, Timestamp)>,
    counts: Counts,
}

impl Record {
    fn is_of(&self, loaded: &Loaded) -> bool {
        let is = |(digest, at): &(Digest, Timestamp)| {
            *digest == loaded.digest && *at == loaded.loaded_at
        };
        self.of.as_ref().is_some_and(is)
    }
}

#[derive(Clone, Debug, Default, Serialize)]
struct Counts {
    /// When the last request came, in milliseconds since the Unix epoch.
    last_inference: u64,
    inference_count: u64,
    execution_count: u64,
    inference_stats: Stages,
    batch_stats: [(); 0],
}

#[derive(Clone, Debug, Default, Serialize)]
struct Stages {
    success: Spent,
    fail: Spent,
    queue: Spent,
    compute_input: Spent,
    compute_infer: Spent,
    compute_output: Spent,
    cache_hit: Spent,
    cache_miss: Spent,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Spent {
    count: u64,
    ns: u64,
}

impl Spent {
    fn add(&mut self, time: Duration) {
        self.count = self.count.saturating_add(1);
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.ns = self.ns.saturating_add(ns);
    }
}

impl Statistics {
    /// Statistics of these models, nothing counted yet.
    pub(super) fn new<'a>(models: impl Iterator<Item = &'a ModelName>) -> Self {
        Self(
            models
                .map(|name| (name.clone(), Mutex::default()))
                .collect(),
        )
    }

    fn record(&self, model: &ModelName) -> Option<MutexGuard<'_, Record>> {
        let record = self.0.get(model)?;
        Some(record.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts a request that came to this version: with what it took, or how long it was until it failed.
pub(super) fn count(context: &Context, loaded: &Loaded, ended: Result<Success, Duration>) {
    let Some(mut record) = context.statistics.record(&loaded.name) else {
        return;
    };
    if !record.is_of(loaded) {
        let current = context.models.current(&loaded.name);
        if !current.is_some_and(|current| key(&current) == key(loaded)) {
            return;
        }
        *record = Record {
            of: Some(key(loaded)),
            counts: Counts::default(),
        };
    }
    let counts = &mut record.counts;
    counts.last_inference = context.clock.now().0;
    let stages = &mut counts.inference_stats;
    match ended {
        Err(time) => stages.fail.add(time),
        Ok(success) => {
            counts.inference_count = counts.inference_count.saturating_add(success.rows);
            let executions = u64::from(success.is_first);
            counts.execution_count = counts.execution_count.saturating_add(executions);
            stages.success.add(success.whole);
            stages.queue.add(success.queue);
            stages.compute_input.add(success.decode);
            stages.compute_infer.add(success.infer);
            stages.compute_output.add(success.encode);
        }
    }
}

/// A version that returns begins anew.
fn key(loaded: &Loaded) -> (Digest, Timestamp) {
    (loaded.digest.clone(), loaded.loaded_at)
}

/// The statistics of one model, or of every model that is loaded.
pub(super) fn answer(target: Option<&Target>, context: &Context) -> Result<Answer, ApiError> {
    let Some(target) = target else {
        let loaded = context
            .models
            .names()
            .filter_map(|name| context.models.current(name));
        let all: Vec<_> = loaded.map(|loaded| of(&loaded, context)).collect();
        return Ok(write(&all));
    };
    let name = find(&target.model, context)?;
    let Some(loaded) = context.models.current(name) else {
        return Err(ApiError::NotReady(context.status.why_missing(name)));
    };
    check_target(target, &loaded)?;
    Ok(named(write(&[of(&loaded, context)]), &loaded))
}

fn of(loaded: &Loaded, context: &Context) -> serde_json::Value {
    let record = context.statistics.record(&loaded.name);
    let record = record.filter(|record| record.is_of(loaded));
    let counts = record.map_or_else(Counts::default, |record| record.counts.clone());
    let mut value = serde_json::json!(counts);
    value["name"] = loaded.name.as_str().into();
    value["version"] = loaded.version.as_str().into();
    value
}

fn write(all: &[serde_json::Value]) -> Answer {
    let text = serde_json::json!({ "model_stats": all }).to_string();
    json(StatusCode::OK, text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_is_full_stays_so() {
        let mut spent = Spent {
            count: u64::MAX,
            ns: u64::MAX - 1,
        };
        spent.add(Duration::from_nanos(5));
        assert_eq!((spent.count, spent.ns), (u64::MAX, u64::MAX));
    }
}

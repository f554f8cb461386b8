//! Reload: finds a new version of a model, downloads, loads and validates it, and makes it active.
//!
//! There is one [`Reloader`] per model. A pure [planner] decides the steps of a check; the [reloader] performs them:
//!
//! 1. The [resolver] checks the source, with one conditional request per known file.
//! 2. A new version is [downloaded](download), or found in the cache.
//! 3. The [loader] loads it alongside the active version or in its place, [validates](validation) it and
//!    [activates](activation) it.
//! 4. The [cleanup] follows once the version is active.
//!
//! Any failure leaves the active version as it is. It is counted, logged with its reason, and shown in the status. A
//! rejected version is not fetched again until the source changes. At a start, a file in the cache is loaded without a
//! transfer if the source confirms it, or if the source does not respond.

mod activation;
mod cleanup;
mod description;
mod download;
mod engine_slot;
mod error;
mod loader;
mod memory;
mod planner;
mod preparation;
mod reloader;
mod resolver;
mod source_files;
mod timed_run;
mod validation;

use std::sync::Arc;
use std::time::Duration;

use crate::cache::Cache;
use crate::clock::{Clock, Thaws};
use crate::fetch::PartLimits;
use crate::models::{LoadSteps, Models};
use crate::status::Status;
pub use engine_slot::EngineSlot;
pub use memory::{Loads, Memory};
pub use reloader::Reloader;
pub use validation::validate_published;

/// Parts that the reloaders of one execution environment share.
#[derive(Clone)]
pub struct Shared {
    /// Cache of model files.
    pub cache: Cache,
    /// Division of a fetch into parts.
    pub parts: PartLimits,
    /// Engine that loads the models.
    pub engine: Arc<EngineSlot>,
    /// Loaded versions.
    pub models: Arc<Models>,
    /// Memory of the environment, and the policy of reloads.
    pub memory: Arc<Memory>,
    /// Status of each model.
    pub status: Arc<Status>,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// Thaws, after which a transfer is not trusted.
    pub thaws: Thaws,
    /// Number of rows of a request that are compared with the baseline of the active version; zero for none.
    pub drift_rows: usize,
}

/// Outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The active version is the newest.
    Current,
    /// Another version is active.
    Loaded(Timings),
    /// The check failed; the active version, if any, stays active.
    Failed,
}

/// Durations of the steps of a check that loaded a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Search in the cache.
    pub cache: Duration,
    /// Response time of the source.
    pub check: Duration,
    /// Size of the files in bytes.
    pub bytes: u64,
    /// Steps from the download on.
    pub steps: LoadSteps,
}

/// Returns a duration in milliseconds, to the microsecond.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

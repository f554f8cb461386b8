//! Jitter of the poll interval.
//!
//! The jitter is a hash of a seed, the model and the time of its last check. It needs no state, and environments that
//! were restored from one snapshot diverge after their first check.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::ids::ModelName;

/// Number of steps of the jitter.
const STEPS: u32 = 1 << 16;

/// Returns a time from zero up to `spread` (exclusive), uniformly distributed over environments and checks.
pub(super) fn jitter(spread: Duration, seed: u64, model: &ModelName, begun: Timestamp) -> Duration {
    let mut hasher = DefaultHasher::new();
    (seed, model, begun).hash(&mut hasher);
    let steps = u32::try_from(hasher.finish() % u64::from(STEPS)).unwrap_or_default();
    spread / STEPS * steps
}

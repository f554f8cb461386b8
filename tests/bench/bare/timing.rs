//! Durations of phases.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Calls a function, and returns its result with its duration.
pub(crate) fn timed<T>(what: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let started = Instant::now();
    Ok((what()?, started.elapsed()))
}

/// Milliseconds of a duration, with three decimals.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

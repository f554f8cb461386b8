//! Lambda's own metrics in `CloudWatch`, namespace `AWS/Lambda`, as far as the lab can know them.
//!
//! Source: AWS Lambda developer guide, "Types of metrics for Lambda functions". Each ended invocation has one
//! observation of `Invocations`, `Errors`, `Throttles`, `Duration`, `PostRuntimeExtensionsDuration` and
//! `ConcurrentExecutions`; a throttled one has `Throttles` alone. Times are those of the environment's clock, in
//! whole minutes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Report;
use super::report::Status;
use crate::cloudwatch::{Datapoint, Values};

const NAMESPACE: &str = "AWS/Lambda";
const MINUTE: u64 = 60;

/// Metrics of one function.
#[derive(Debug)]
pub(super) struct LambdaMetrics {
    function_name: String,
    minutes: Mutex<BTreeMap<(u64, &'static str), Observations>>,
    /// Number of invocations whose callers wait.
    concurrent: AtomicUsize,
    /// Maximum of that number since the last report.
    peak: AtomicUsize,
    /// Milliseconds by which the environments' clock was ahead of the machine's at the last report.
    ahead_ms: AtomicU64,
}

/// Observations of a metric in one minute.
#[derive(Debug)]
struct Observations {
    unit: &'static str,
    /// Counts by the bits of the value, which is rounded, so that a long run stays small.
    counts: BTreeMap<u64, f64>,
}

impl LambdaMetrics {
    pub(super) fn new(function_name: &str) -> Self {
        Self {
            function_name: function_name.to_owned(),
            minutes: Mutex::default(),
            concurrent: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            ahead_ms: AtomicU64::new(0),
        }
    }

    pub(super) fn all(&self) -> Vec<Datapoint> {
        let minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        let datapoint = |((minute, name), observed): (&(u64, &str), &Observations)| Datapoint {
            namespace: NAMESPACE.to_owned(),
            name: (*name).to_owned(),
            dimensions: BTreeMap::from([("FunctionName".to_owned(), self.function_name.clone())]),
            timestamp: UNIX_EPOCH + Duration::from_secs(*minute),
            values: Values::Distribution(
                observed
                    .counts
                    .iter()
                    .map(|(bits, count)| (f64::from_bits(*bits), *count))
                    .collect(),
            ),
            unit: Some(observed.unit.to_owned()),
            storage_resolution: 60,
        };
        minutes.iter().map(datapoint).collect()
    }

    /// Counts an invocation as running until the returned value is dropped.
    pub(super) fn run(&self) -> RunningInvocation<'_> {
        let running = self.concurrent.fetch_add(1, Ordering::AcqRel) + 1;
        self.peak.fetch_max(running, Ordering::AcqRel);
        RunningInvocation(self)
    }

    /// Records a rejected invocation.
    pub(super) fn throttled(&self) {
        let ahead = Duration::from_millis(self.ahead_ms.load(Ordering::Acquire));
        self.push(SystemTime::now() + ahead, "Throttles", "Count", 1.0);
    }

    /// Records an ended invocation. `failed` is `true` if the function responded with an error.
    pub(super) fn ended(&self, report: &Report, failed: bool, at: SystemTime) {
        let ahead = at.duration_since(SystemTime::now()).unwrap_or_default();
        let ahead = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
        self.ahead_ms.store(ahead, Ordering::Release);
        let failed = failed || report.status != Status::Success;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        let running = self.concurrent.load(Ordering::Acquire);
        let peak = self.peak.swap(running, Ordering::AcqRel);
        let concurrent = u32::try_from(peak.max(1)).unwrap_or(u32::MAX);
        for (name, unit, value) in [
            ("Invocations", "Count", 1.0),
            ("Errors", "Count", f64::from(u8::from(failed))),
            ("Throttles", "Count", 0.0),
            ("Duration", "Milliseconds", milliseconds(report.duration)),
            (
                "PostRuntimeExtensionsDuration",
                "Milliseconds",
                milliseconds(report.post_runtime_extensions),
            ),
            ("ConcurrentExecutions", "Count", f64::from(concurrent)),
        ] {
            self.push(at, name, unit, value);
        }
    }

    fn push(&self, at: SystemTime, name: &'static str, unit: &'static str, value: f64) {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let minute = seconds / MINUTE * MINUTE;
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        let observed = minutes
            .entry((minute, name))
            .or_insert_with(|| Observations {
                unit,
                counts: BTreeMap::new(),
            });
        let rounded = (value * 100.0).round() / 100.0;
        *observed.counts.entry(rounded.to_bits()).or_default() += 1.0;
    }
}

/// A running invocation.
pub(super) struct RunningInvocation<'a>(&'a LambdaMetrics);

impl Drop for RunningInvocation<'_> {
    fn drop(&mut self) {
        self.0.concurrent.fetch_sub(1, Ordering::AcqRel);
    }
}

//! Delivery of observations to a sink.
//!
//! While the sink cannot take them, data are kept, up to a bound in bytes. After [`FAILURES_BEFORE_LOG`] failures in a
//! row they go to the log in Embedded Metric Format instead, which CloudWatch reads as well. A datum that is invalid is
//! dropped and counted; it never holds up the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_core::future::BoxFuture;
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::validation::validate;
use super::{Datum, EmfSink, Recorder, defs};
use crate::clock::Clock;

/// A destination of metrics.
pub trait Sink: Send + Sync {
    /// Delivers `data` in their order, as far as the destination takes them.
    fn send<'a>(&'a self, data: &'a [Datum]) -> BoxFuture<'a, Delivery>;
}

/// Result of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Number of data from the front that need no further attempt: delivered, or rejected as invalid.
    pub settled: usize,
    /// Data among them that were rejected as invalid.
    pub rejected: Vec<Rejection>,
    /// Reason why the data after them were not delivered.
    pub problem: Option<String>,
}

impl Delivery {
    /// A delivery of `data` in full.
    #[must_use]
    pub fn of_all(data: &[Datum]) -> Self {
        Self {
            settled: data.len(),
            ..Self::default()
        }
    }
}

/// A datum that the destination rejected as invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Name of its metric.
    pub metric: &'static str,
    /// Reason that the destination gave.
    pub reason: String,
}

/// Data that could not be delivered.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Undelivered {
    reason: String,
}

/// The sink that drops everything.
#[derive(Clone, Copy, Debug)]
pub struct NoSink;

impl Sink for NoSink {
    fn send<'a>(&'a self, data: &'a [Datum]) -> BoxFuture<'a, Delivery> {
        Box::pin(async { Delivery::of_all(data) })
    }
}

/// Maximum memory of data that are kept while the sink is away: hours of minutes of a busy model.
const MAX_KEPT_BYTES: usize = 1024 * 1024;
/// Failures in a row after which data go to the log.
const FAILURES_BEFORE_LOG: u32 = 5;

/// Takes observations from the recorder to the sink.
pub struct Reporter {
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn Sink>,
    log: EmfSink,
    state: Mutex<State>,
    failures: AtomicU32,
}

#[derive(Default)]
struct State {
    undelivered: Vec<Datum>,
    /// Messages that are logged once: data were dropped, data go to the log.
    has_told_of_dropped: bool,
    goes_to_log: bool,
}

impl Reporter {
    /// A reporter to `sink`; data that `sink` cannot take for long, or at the end, are written to the log by `log`.
    #[must_use]
    pub fn new(
        recorder: Recorder,
        clock: Arc<dyn Clock>,
        sink: Arc<dyn Sink>,
        log: EmfSink,
    ) -> Self {
        Self {
            recorder,
            clock,
            sink,
            log,
            state: Mutex::default(),
            failures: AtomicU32::new(0),
        }
    }

    /// Sends everything observed so far; what cannot be delivered is kept for the next time. Cancelled in the
    /// middle, a flush loses nothing, but may deliver data twice.
    pub async fn flush(&self) -> Result<(), Undelivered> {
        let mut state = self.state.lock().await;
        state.collect(&self.recorder, &*self.clock);
        if state.undelivered.is_empty() {
            return Ok(());
        }
        let delivery = self.sink.send(&state.undelivered).await;
        let settled = delivery.settled.min(state.undelivered.len());
        state.undelivered.drain(..settled);
        for rejection in delivery.rejected {
            state.drop_one(rejection.metric, &rejection.reason);
        }
        let Some(reason) = delivery.problem else {
            self.failures.store(0, Ordering::Relaxed);
            if std::mem::take(&mut state.goes_to_log) {
                info!("metrics are delivered again");
            }
            return Ok(());
        };
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
        self.failures.store(failures, Ordering::Relaxed);
        if failures < FAILURES_BEFORE_LOG {
            return Err(Undelivered { reason });
        }
        if !std::mem::replace(&mut state.goes_to_log, true) {
            warn!(
                failures,
                "metrics go to the log until they can be delivered again: {reason}"
            );
        }
        state.write_to(&self.log);
        Ok(())
    }

    /// Number of flushes in a row that failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Drops everything observed so far.
    pub async fn discard(&self) {
        let mut state = self.state.lock().await;
        state.undelivered.clear();
        drop(self.recorder.drain());
    }

    /// Writes all that is still undelivered to the log, for CloudWatch to read there.
    pub async fn write_rest_to_log(&self) {
        let mut state = self.state.lock().await;
        state.collect(&self.recorder, &*self.clock);
        state.write_to(&self.log);
    }
}

impl State {
    /// Takes what was observed; invalid data and, beyond the bound, the oldest are dropped.
    fn collect(&mut self, recorder: &Recorder, clock: &dyn Clock) {
        self.undelivered.extend(recorder.drain());
        let now = clock.now();
        let mut dropped: Vec<(&'static str, &'static str)> = Vec::new();
        self.undelivered.retain_mut(|datum| {
            let valid = validate(datum, now);
            let reason = valid.err();
            dropped.extend(reason.map(|reason| (datum.metric.name, reason)));
            reason.is_none()
        });
        let mut bytes: usize = self.undelivered.iter().map(Datum::bytes).sum();
        let surplus = self.undelivered.iter().take_while(|datum| {
            let is_surplus = bytes > MAX_KEPT_BYTES;
            bytes -= datum.bytes();
            is_surplus
        });
        let surplus = surplus.count();
        dropped.extend(
            self.undelivered
                .drain(..surplus)
                .map(|datum| (datum.metric.name, "more than 1 MiB of data are undelivered")),
        );
        for (metric, reason) in dropped {
            self.drop_one(metric, reason);
        }
    }

    /// Counts a datum that is dropped; the first one is logged.
    fn drop_one(&mut self, metric: &'static str, reason: &str) {
        metrics::counter!(defs::METRICS_DROPPED).increment(1);
        if !std::mem::replace(&mut self.has_told_of_dropped, true) {
            warn!(
                metric,
                "a datum of this metric was dropped, and further ones are only counted in {}: {reason}",
                defs::METRICS_DROPPED
            );
        }
    }

    fn write_to(&mut self, log: &EmfSink) {
        log.write(&self.undelivered);
        self.undelivered.clear();
    }
}

#[cfg(test)]
mod tests;

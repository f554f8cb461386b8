//! Delivery of observations to a sink.
//!
//! Undelivered data are kept, up to a limit in bytes. After [`FAILURES_BEFORE_LOG`] failures in a row, data are
//! written to the log in Embedded Metric Format instead, which CloudWatch reads as well. An invalid datum is dropped
//! and counted, and never blocks the delivery of other data.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Mutex, MutexGuard};
use tracing::{info, warn};

use super::datum::Datum;
use super::defs::{self, Set};
use super::emf::EmfSink;
use super::recorder::Recorder;
use super::sink::{DeliveryProgress, Sink};
use super::validation::validate;
use crate::clock::Clock;

/// Data that could not be delivered.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Undelivered {
    reason: String,
}

/// Maximum memory of undelivered data: several hours of a busy model.
const MAX_KEPT_BYTES: usize = 1024 * 1024;
/// Reason for which data beyond that memory are dropped.
const TOO_MANY: &str = "more than 1 MiB of data are undelivered";
/// Failures in a row after which data are written to the log.
const FAILURES_BEFORE_LOG: u32 = 5;

/// Deliverer of observations from the recorder to a sink.
pub struct Reporter {
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn Sink>,
    log: EmfSink,
    set: Set,
    state: Mutex<ReporterState>,
    failures: AtomicU32,
}

#[derive(Default)]
struct ReporterState {
    undelivered: Vec<Datum>,
    /// `true` after the warning about dropped data, which is logged once.
    has_warned_of_dropped: bool,
    /// `true` while data are written to the log.
    is_logging: bool,
}

impl Reporter {
    /// Creates a reporter of the metrics in `set` to `sink`. `log` writes the data that `sink` has not taken after
    /// several failures or at the end.
    #[must_use]
    pub fn new(
        recorder: Recorder,
        clock: Arc<dyn Clock>,
        sink: Arc<dyn Sink>,
        log: EmfSink,
        set: Set,
    ) -> Self {
        Self {
            recorder,
            clock,
            sink,
            log,
            set,
            state: Mutex::default(),
            failures: AtomicU32::new(0),
        }
    }

    /// Delivers everything observed so far, and keeps undelivered data for the next flush. A cancelled flush loses
    /// nothing, and may deliver the data of the request in flight twice.
    pub async fn flush(&self) -> Result<(), Undelivered> {
        let mut state = self.state.lock().await;
        state.collect(&self.recorder, &*self.clock, self.set);
        if state.undelivered.is_empty() {
            return Ok(());
        }
        let mut running = RunningDelivery {
            state,
            progress: DeliveryProgress::default(),
        };
        let RunningDelivery { state, progress } = &running;
        let sent = self.sink.send(&state.undelivered, progress).await;
        running.settle();
        let state = &mut running.state;
        let Err(reason) = sent else {
            self.failures.store(0, Ordering::Relaxed);
            if std::mem::take(&mut state.is_logging) {
                info!("metrics can be delivered again");
            }
            return Ok(());
        };
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
        self.failures.store(failures, Ordering::Relaxed);
        if failures < FAILURES_BEFORE_LOG {
            return Err(Undelivered { reason });
        }
        if !std::mem::replace(&mut state.is_logging, true) {
            warn!(
                failures,
                "writing metrics to the log until CloudWatch accepts them again: {reason}"
            );
        }
        state.write_to(&self.log);
        Ok(())
    }

    /// Returns the number of flushes that failed in a row.
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

    /// Writes all undelivered data to the log, where CloudWatch reads them.
    pub async fn write_rest_to_log(&self) {
        let mut state = self.state.lock().await;
        state.collect(&self.recorder, &*self.clock, self.set);
        state.write_to(&self.log);
    }
}

/// Delivery in progress. Data that it has settled are removed even if it is cancelled.
struct RunningDelivery<'a> {
    state: MutexGuard<'a, ReporterState>,
    progress: DeliveryProgress,
}

impl RunningDelivery<'_> {
    fn settle(&mut self) {
        let undelivered = &mut self.state.undelivered;
        let settled = self.progress.settled().min(undelivered.len());
        undelivered.drain(..settled);
        self.progress.settle(0);
        for rejection in self.progress.take_rejected() {
            self.state.drop_one(rejection.metric, &rejection.reason);
        }
    }
}

impl Drop for RunningDelivery<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

impl ReporterState {
    /// Takes new observations; drops invalid data and, beyond the limit, the oldest.
    fn collect(&mut self, recorder: &Recorder, clock: &dyn Clock, set: Set) {
        let (data, surplus) = recorder.drain();
        let data = data.into_iter();
        self.undelivered
            .extend(data.filter(|datum| datum.metric.set <= set));
        let now = clock.now();
        let mut dropped: Vec<(&'static str, &'static str)> = Vec::new();
        dropped.extend((0..surplus).map(|_| ("any", TOO_MANY)));
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
                .map(|datum| (datum.metric.name, TOO_MANY)),
        );
        for (metric, reason) in dropped {
            self.drop_one(metric, reason);
        }
    }

    /// Counts a datum that is dropped; the first one is logged.
    fn drop_one(&mut self, metric: &'static str, reason: &str) {
        metrics::counter!(defs::METRICS_DROPPED).increment(1);
        if !std::mem::replace(&mut self.has_warned_of_dropped, true) {
            warn!(
                metric,
                "dropped a datum of this metric; further ones are only counted in {}: {reason}",
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

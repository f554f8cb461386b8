//! Destinations of metrics: the trait that they implement, and the sink that drops everything.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_core::future::BoxFuture;

use super::datum::Datum;

/// A destination of metrics.
pub trait Sink: Send + Sync {
    /// Delivers `data` in their order, and notes in `progress` how far it got. The error is the reason why the data
    /// after that were not delivered.
    fn send<'a>(
        &'a self,
        data: &'a [Datum],
        progress: &'a DeliveryProgress,
    ) -> BoxFuture<'a, Result<(), String>>;
}

/// Progress of a delivery. It counts even if the delivery is cancelled.
#[derive(Debug, Default)]
pub struct DeliveryProgress {
    settled: AtomicUsize,
    rejected: Mutex<Vec<Rejection>>,
}

impl DeliveryProgress {
    /// Notes that the first `count` data need no further attempt: they were delivered, or rejected as invalid.
    pub fn settle(&self, count: usize) {
        self.settled.store(count, Ordering::Relaxed);
    }

    /// Notes that the datum before the first `count` was rejected as invalid.
    pub fn reject(&self, count: usize, rejection: Rejection) {
        let rejected = self.rejected.lock();
        rejected
            .unwrap_or_else(PoisonError::into_inner)
            .push(rejection);
        self.settle(count);
    }

    /// Returns the number of data from the front that need no further attempt.
    #[must_use]
    pub fn settled(&self) -> usize {
        self.settled.load(Ordering::Relaxed)
    }

    /// Returns and removes the rejections so far.
    #[must_use]
    pub fn take_rejected(&self) -> Vec<Rejection> {
        let rejected = self.rejected.lock();
        std::mem::take(&mut *rejected.unwrap_or_else(PoisonError::into_inner))
    }
}

/// A datum that the destination rejected as invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Name of the metric.
    pub metric: &'static str,
    /// Reason that the destination gave.
    pub reason: String,
}

/// Sink that drops everything.
#[derive(Clone, Copy, Debug)]
pub struct NoSink;

impl Sink for NoSink {
    fn send<'a>(
        &'a self,
        data: &'a [Datum],
        progress: &'a DeliveryProgress,
    ) -> BoxFuture<'a, Result<(), String>> {
        progress.settle(data.len());
        Box::pin(async { Ok(()) })
    }
}

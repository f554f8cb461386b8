//! Destinations of metrics: the trait that they implement, and the sink that drops everything.

use futures_core::future::BoxFuture;

use super::datum::Datum;

/// A destination of metrics.
pub trait Sink: Send + Sync {
    /// Delivers `data` in their order, up to the first datum that the destination cannot take now.
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
    /// Name of the metric.
    pub metric: &'static str,
    /// Reason that the destination gave.
    pub reason: String,
}

/// Sink that drops everything.
#[derive(Clone, Copy, Debug)]
pub struct NoSink;

impl Sink for NoSink {
    fn send<'a>(&'a self, data: &'a [Datum]) -> BoxFuture<'a, Delivery> {
        Box::pin(async { Delivery::of_all(data) })
    }
}

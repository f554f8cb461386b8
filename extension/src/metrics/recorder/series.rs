//! Series: the observations of one metric of one model.
//!
//! An observation takes no lock and allocates nothing: it adds to totals that are never reset. The first observation
//! in another minute, a drain, or a change of the version moves the increase of the totals to the ledger. An
//! observation that races with this counts in the next minute.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{CounterFn, GaugeFn, HistogramFn};

use super::histogram::{Histogram, TakenCounts};
use super::ledger::Ledger;
use crate::clock::{Clock, Timestamp};
use crate::metrics::datum::Datum;
use crate::metrics::defs::{Definition, Kind};
use crate::metrics::totals::Total;

/// Observations of one metric of one model.
pub(super) struct Series {
    metric: &'static Definition,
    model: Option<String>,
    /// Version of a series that has its own; `None` for the active version.
    version: Option<String>,
    clock: Arc<dyn Clock>,
    ledger: Arc<Ledger>,
    /// Minute of the last observation, in milliseconds since the Unix epoch.
    minute: AtomicU64,
    totals: Totals,
    taken: Mutex<Taken>,
}

/// All observations so far.
enum Totals {
    Counter(AtomicU64),
    Gauge { bits: AtomicU64, changes: AtomicU64 },
    Distribution(Box<Histogram>),
}

/// Totals that are in the ledger.
#[derive(Default)]
struct Taken {
    count: u64,
    distribution: TakenCounts,
}

impl Series {
    pub(super) fn new(
        metric: &'static Definition,
        model: Option<String>,
        version: Option<String>,
        clock: Arc<dyn Clock>,
        ledger: Arc<Ledger>,
    ) -> Self {
        let totals = match metric.kind {
            Kind::Counter => Totals::Counter(AtomicU64::new(0)),
            Kind::Gauge => Totals::Gauge {
                bits: AtomicU64::new(0),
                changes: AtomicU64::new(0),
            },
            Kind::Distribution | Kind::Category => Totals::Distribution(Box::default()),
        };
        Self {
            metric,
            model,
            version,
            clock,
            ledger,
            minute: AtomicU64::new(0),
            totals,
            taken: Mutex::default(),
        }
    }

    pub(super) fn metric(&self) -> &'static Definition {
        self.metric
    }

    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Returns all observations so far; `None` for a gauge without a value.
    pub(super) fn total(&self) -> Option<Total> {
        Some(match &self.totals {
            Totals::Counter(sum) => Total::Sum(sum.load(Ordering::Relaxed)),
            Totals::Gauge { changes, .. } if changes.load(Ordering::Relaxed) == 0 => return None,
            Totals::Gauge { bits, .. } => Total::Last(f64::from_bits(bits.load(Ordering::Relaxed))),
            Totals::Distribution(histogram) => Total::Distribution(histogram.values()),
        })
    }

    /// Moves all new observations to the ledger.
    pub(super) fn seal(&self) {
        self.seal_before(None);
    }

    /// Begins the present minute, if it is another one.
    fn enter_minute(&self) {
        let now = self.clock.now().minute();
        if self.minute.load(Ordering::Relaxed) != now.0 {
            self.seal_before(Some(now));
        }
    }

    /// Moves all new observations to the ledger, and begins the minute `next`.
    #[cold]
    fn seal_before(&self, next: Option<Timestamp>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = self.minute.load(Ordering::Relaxed);
        // Another thread may have begun the minute.
        if next.is_some_and(|next| next.0 == minute) {
            return;
        }
        let values = self.take(&mut taken);
        if let Some(next) = next {
            self.minute.store(next.0, Ordering::Relaxed);
        }
        if !values.is_empty() {
            let version = self.version.clone();
            let active = || self.ledger.version(self.model.as_deref());
            self.ledger.add(Datum {
                metric: self.metric,
                model: self.model.clone(),
                version: version.or_else(active),
                minute: Timestamp(minute),
                values,
            });
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "CloudWatch's values are 64-bit floats"
    )]
    fn take(&self, taken: &mut Taken) -> Vec<(f64, f64)> {
        match &self.totals {
            Totals::Counter(sum) => match take_count(sum, &mut taken.count) {
                0 => Vec::new(),
                increase => vec![(increase as f64, 1.0)],
            },
            Totals::Gauge { bits, changes } => match take_count(changes, &mut taken.count) {
                0 => Vec::new(),
                _ => vec![(f64::from_bits(bits.load(Ordering::Relaxed)), 1.0)],
            },
            Totals::Distribution(histogram) => {
                let values = histogram.since(&mut taken.distribution);
                let counted = values.into_iter();
                counted
                    .map(|(value, count)| (value, count as f64))
                    .collect()
            }
        }
    }

    fn change_gauge(&self, change: impl Fn(f64) -> f64) {
        if let Totals::Gauge { bits, changes } = &self.totals {
            self.enter_minute();
            let change = |bits| Some(change(f64::from_bits(bits)).to_bits());
            let _ = bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
            changes.fetch_add(1, Ordering::Release);
        }
    }
}

/// Returns the increase of a total since the last call.
fn take_count(total: &AtomicU64, taken: &mut u64) -> u64 {
    let count = total.load(Ordering::Acquire);
    count - std::mem::replace(taken, count)
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        if let Totals::Counter(sum) = &self.totals {
            self.enter_minute();
            sum.fetch_add(value, Ordering::Relaxed);
        }
    }

    fn absolute(&self, value: u64) {
        if let Totals::Counter(sum) = &self.totals {
            self.enter_minute();
            sum.fetch_max(value, Ordering::Relaxed);
        }
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.change_gauge(|last| last + value);
    }

    fn decrement(&self, value: f64) {
        self.change_gauge(|last| last - value);
    }

    fn set(&self, value: f64) {
        self.change_gauge(|_| value);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        if let Totals::Distribution(histogram) = &self.totals {
            self.enter_minute();
            histogram.record(value);
        }
    }
}

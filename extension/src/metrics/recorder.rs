//! Recorder behind the `metrics` facade.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata,
    SharedString, Unit,
};

use super::defs::{self, Definition, MODEL_LABEL};
use crate::clock::{Clock, Timestamp};

/// Values of one metric in one minute.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    /// Definition of the metric.
    pub metric: &'static Definition,
    /// Model of the observation; `None` if the metric is not about a model.
    pub model: Option<String>,
    /// Start of the minute.
    pub minute: Timestamp,
    /// Distinct values, each with its number of observations.
    pub values: Vec<(f64, f64)>,
}

/// Store of observations until they are drained. Clones share the store.
#[derive(Clone)]
pub struct Recorder {
    clock: Arc<dyn Clock>,
    series: Arc<Mutex<HashMap<Key, Arc<Series>>>>,
}

impl Recorder {
    /// Creates an empty recorder, which takes the minutes from `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            series: Arc::default(),
        }
    }

    /// Returns and removes all observations.
    #[must_use]
    pub fn drain(&self) -> Vec<Datum> {
        let mut data = Vec::new();
        for (key, series) in lock(&self.series).iter() {
            let model = key
                .labels()
                .find(|label| label.key() == MODEL_LABEL)
                .map(|label| label.value().to_owned());
            for (minute, bucket) in std::mem::take(&mut *lock(&series.minutes)) {
                data.push(Datum {
                    metric: series.metric,
                    model: model.clone(),
                    minute,
                    values: bucket.values(),
                });
            }
        }
        data
    }

    /// Returns the series of a metric and model; `None` for a name that is not in the table of metrics.
    fn series(&self, key: &Key) -> Option<Arc<Series>> {
        let mut all = lock(&self.series);
        if let Some(series) = all.get(key) {
            return Some(Arc::clone(series));
        }
        let series = Arc::new(Series {
            metric: defs::find(key.name())?,
            clock: Arc::clone(&self.clock),
            minutes: Mutex::default(),
        });
        all.insert(key.clone(), Arc::clone(&series));
        Some(series)
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.series(key)
            .map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.series(key).map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.series(key)
            .map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

/// Observations of one metric of one model, by minute.
struct Series {
    metric: &'static Definition,
    clock: Arc<dyn Clock>,
    minutes: Mutex<BTreeMap<Timestamp, MinuteValues>>,
}

#[derive(Debug)]
enum MinuteValues {
    Sum(f64),
    Last(f64),
    Distribution(HashMap<u64, f64>),
}

impl MinuteValues {
    fn values(self) -> Vec<(f64, f64)> {
        match self {
            MinuteValues::Sum(value) | MinuteValues::Last(value) => vec![(value, 1.0)],
            MinuteValues::Distribution(counts) => {
                let mut values: Vec<(f64, f64)> = counts
                    .into_iter()
                    .map(|(bits, count)| (f64::from_bits(bits), count))
                    .collect();
                values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
                values
            }
        }
    }
}

impl Series {
    /// Adds to the bucket of this minute, which `empty` creates if needed.
    fn observe(&self, empty: impl FnOnce() -> MinuteValues, add: impl FnOnce(&mut MinuteValues)) {
        let minute = self.clock.now().minute();
        add(lock(&self.minutes).entry(minute).or_insert_with(empty));
    }
}

impl CounterFn for Series {
    #[expect(
        clippy::cast_precision_loss,
        reason = "CloudWatch's values are 64-bit floats"
    )]
    fn increment(&self, value: u64) {
        let value = value as f64;
        let empty = || MinuteValues::Sum(0.0);
        self.observe(empty, |bucket| {
            if let MinuteValues::Sum(sum) = bucket {
                *sum += value;
            }
        });
    }

    fn absolute(&self, value: u64) {
        CounterFn::increment(self, value);
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        let empty = || MinuteValues::Last(0.0);
        self.observe(empty, |bucket| {
            if let MinuteValues::Last(last) = bucket {
                *last += value;
            }
        });
    }

    fn decrement(&self, value: f64) {
        GaugeFn::increment(self, -value);
    }

    fn set(&self, value: f64) {
        self.observe(
            || MinuteValues::Last(value),
            |bucket| *bucket = MinuteValues::Last(value),
        );
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let bits = three_digits(value).to_bits();
        let empty = || MinuteValues::Distribution(HashMap::new());
        self.observe(empty, |bucket| {
            if let MinuteValues::Distribution(counts) = bucket {
                *counts.entry(bits).or_default() += 1.0;
            }
        });
    }
}

/// Rounds to three significant digits, so that a minute holds few distinct values; the error is at most 0.5 %.
fn three_digits(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the magnitude of a finite number is within ±330"
    )]
    let digits = 2 - value.abs().log10().floor() as i32;
    // Powers with a positive exponent are exact, so that 0.1 stays 0.1.
    if digits >= 0 {
        let scale = 10f64.powi(digits);
        (value * scale).round() / scale
    } else {
        let scale = 10f64.powi(-digits);
        (value / scale).round() * scale
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Datum {
    /// Returns the memory that the datum occupies, in bytes.
    #[must_use]
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.model.as_ref().map_or(0, String::len)
            + self.values.len() * size_of::<(f64, f64)>()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct ManualClock(AtomicU64);

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn an_observation_counts_in_the_minute_in_which_it_was_made() {
        let clock = Arc::new(ManualClock::default());
        let recorder = Recorder::new(Arc::<ManualClock>::clone(&clock));
        metrics::with_local_recorder(&recorder, || {
            for ms in [59_000, 59_999, 60_000] {
                clock.0.store(ms, Ordering::Relaxed);
                metrics::counter!("Inferences", MODEL_LABEL => "wine").increment(1);
            }
        });
        // Drained an hour later.
        clock.0.store(3_600_000, Ordering::Relaxed);
        let data = recorder.drain();
        let minutes: Vec<_> = data
            .iter()
            .map(|datum| (datum.minute.0, datum.values.clone()))
            .collect();
        assert_eq!(minutes, [(0, vec![(2.0, 1.0)]), (60_000, vec![(1.0, 1.0)])]);
        assert_eq!(data[0].model.as_deref(), Some("wine"));
        assert!(recorder.drain().is_empty(), "nothing is reported twice");
    }

    #[test]
    fn a_distribution_keeps_its_values_and_their_counts() {
        let recorder = Recorder::new(Arc::new(ManualClock::default()));
        metrics::with_local_recorder(&recorder, || {
            let latency = metrics::histogram!("InferenceLatency");
            for value in [0.123_44, 0.123_46, 12.0, f64::NAN, 0.0, 123_456.0] {
                latency.record(value);
            }
        });
        assert_eq!(
            recorder.drain()[0].values,
            [(0.0, 1.0), (0.123, 2.0), (12.0, 1.0), (123_000.0, 1.0)]
        );
    }

    #[test]
    fn an_unknown_name_is_not_recorded() {
        let recorder = Recorder::new(Arc::new(ManualClock::default()));
        metrics::with_local_recorder(&recorder, || {
            metrics::counter!("SomethingElse").increment(1);
            metrics::gauge!("SomethingElse").set(1.0);
            metrics::histogram!("SomethingElse").record(1.0);
        });
        assert!(recorder.drain().is_empty());
    }

    #[test]
    fn a_gauge_keeps_its_last_value() {
        let recorder = Recorder::new(Arc::new(ManualClock::default()));
        metrics::with_local_recorder(&recorder, || {
            metrics::gauge!("ModelAge").set(3.0);
            metrics::gauge!("ModelAge").set(5.0);
        });
        assert_eq!(recorder.drain()[0].values, [(5.0, 1.0)]);
    }
}

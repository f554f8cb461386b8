//! Recorder behind the `metrics` facade.

mod histogram;
mod ledger;
mod series;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};

use super::datum::Datum;
use super::defs::{self, Kind, MODEL_LABEL, VERSION_LABEL};
use super::totals::{SeriesTotal, Total};
use crate::clock::Clock;
use ledger::Ledger;
use series::Series;

/// Function that observes states.
type Observe = Box<dyn Fn() + Send + Sync>;

/// Store of observations until they are drained. Clones share the store.
#[derive(Clone)]
pub struct Recorder {
    clock: Arc<dyn Clock>,
    series: Arc<Mutex<HashMap<Key, Arc<Series>>>>,
    ledger: Arc<Ledger>,
    observe: Arc<OnceLock<Observe>>,
}

impl Recorder {
    /// Creates an empty recorder, which takes the minutes from `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            series: Arc::default(),
            ledger: Arc::default(),
            observe: Arc::default(),
        }
    }

    /// Returns and removes all observations, and the number of data that were dropped because they exceeded the
    /// memory of the recorder.
    #[must_use]
    pub fn drain(&self) -> (Vec<Datum>, u64) {
        lock(&self.series).retain(|_, series| {
            series.seal();
            // A version is observed once in an interval, and most versions never again.
            series.version().is_none()
        });
        self.ledger.take()
    }

    /// Sets the function that observes states before an export. Only the first call has an effect.
    pub fn observe_with(&self, observe: impl Fn() + Send + Sync + 'static) {
        let _ = self.observe.set(Box::new(observe));
    }

    /// Returns all observations since the start of the process. Removes nothing.
    #[must_use]
    pub fn totals(&self) -> Vec<SeriesTotal> {
        if let Some(observe) = self.observe.get() {
            observe();
        }
        let mut totals: Vec<SeriesTotal> = Vec::new();
        for series in lock(&self.series).values() {
            // The version of a series with a version of its own may not be active any more.
            if let (None, Some(total)) = (series.version(), series.total()) {
                totals.push(SeriesTotal {
                    metric: series.metric(),
                    model: series.model().map(str::to_owned),
                    version: None,
                    total,
                });
            }
        }
        for (model, version) in self.ledger.versions() {
            totals.extend(defs::find(defs::ACTIVE_VERSION).map(|metric| SeriesTotal {
                metric,
                model: Some(model),
                version: Some(version),
                total: Total::Last(1.0),
            }));
        }
        totals
    }

    /// Notes the version of a model that is active from now on. Observations before belong to the version before.
    pub fn activated(&self, model: &str, version: &str) {
        let all = lock(&self.series);
        for series in all.values().filter(|it| it.model() == Some(model)) {
            series.seal();
        }
        self.ledger.set_version(model, version);
    }

    /// Returns the series of a metric and model; `None` for a name that is not in the table of metrics, or that has
    /// another kind.
    fn series(&self, key: &Key, is_kind: fn(Kind) -> bool) -> Option<Arc<Series>> {
        let mut all = lock(&self.series);
        if let Some(series) = all.get(key) {
            return Some(Arc::clone(series));
        }
        let metric = defs::find(key.name()).filter(|metric| is_kind(metric.kind))?;
        let label = |name: &str| {
            let mut labels = key.labels();
            let label = labels.find(|label| label.key() == name);
            label.map(|label| label.value().to_owned())
        };
        let (model, version) = (label(MODEL_LABEL), label(VERSION_LABEL));
        let (clock, ledger) = (Arc::clone(&self.clock), Arc::clone(&self.ledger));
        let series = Arc::new(Series::new(metric, model, version, clock, ledger));
        all.insert(key.clone(), Arc::clone(&series));
        Some(series)
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let series = self.series(key, |kind| kind == Kind::Counter);
        series.map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let series = self.series(key, |kind| kind == Kind::Gauge);
        series.map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let is_kind = |kind| matches!(kind, Kind::Distribution | Kind::Category);
        let series = self.series(key, is_kind);
        series.map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::clock::Timestamp;

    #[derive(Default)]
    struct ManualClock(AtomicU64);

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    fn recorder() -> (Recorder, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        (Recorder::new(Arc::<ManualClock>::clone(&clock)), clock)
    }

    fn drain(recorder: &Recorder) -> Vec<Datum> {
        let (data, dropped) = recorder.drain();
        assert_eq!(dropped, 0);
        data
    }

    #[test]
    fn an_observation_counts_in_the_minute_in_which_it_was_made() {
        let (recorder, clock) = recorder();
        metrics::with_local_recorder(&recorder, || {
            for ms in [59_000, 59_999, 60_000] {
                clock.0.store(ms, Ordering::Relaxed);
                metrics::counter!("Inferences", MODEL_LABEL => "wine").increment(1);
                metrics::histogram!("QueueTime").record(2.0);
            }
        });
        // Drained an hour later.
        clock.0.store(3_600_000, Ordering::Relaxed);
        let mut data = drain(&recorder);
        data.sort_by_key(|datum| (datum.metric.name, datum.minute));
        let minutes: Vec<_> = data
            .iter()
            .map(|datum| (datum.metric.name, datum.minute.0, datum.values.clone()))
            .collect();
        let expected = [
            ("Inferences", 0, vec![(2.0, 1.0)]),
            ("Inferences", 60_000, vec![(1.0, 1.0)]),
            ("QueueTime", 0, vec![(2.0, 2.0)]),
            ("QueueTime", 60_000, vec![(2.0, 1.0)]),
        ];
        assert_eq!(minutes, expected);
        assert_eq!(data[0].model.as_deref(), Some("wine"));
        assert!(drain(&recorder).is_empty(), "nothing is reported twice");
    }

    #[test]
    fn totals_are_those_since_the_start() {
        let (recorder, _) = recorder();
        let observed = recorder.clone();
        recorder.observe_with(move || {
            metrics::with_local_recorder(&observed, || metrics::gauge!("Threads").set(4.0));
        });
        metrics::with_local_recorder(&recorder, || {
            for _ in 0..2 {
                metrics::counter!("Inferences", MODEL_LABEL => "wine").increment(2);
                metrics::histogram!("QueueTime").record(2.0);
                let _ = recorder.drain();
            }
        });
        recorder.activated("wine", "7");
        let mut totals = recorder.totals();
        totals.sort_by_key(|total| total.metric.name);
        let totals: Vec<_> = totals
            .into_iter()
            .map(|it| (it.metric.name, it.version, it.total))
            .collect();
        let expected = [
            ("ActiveVersion", Some("7".to_owned()), Total::Last(1.0)),
            ("Inferences", None, Total::Sum(4)),
            ("QueueTime", None, Total::Distribution(vec![(2.0, 2)])),
            ("Threads", None, Total::Last(4.0)),
        ];
        assert_eq!(totals, expected);
    }

    #[test]
    fn a_gauge_keeps_its_last_value() {
        let (recorder, _) = recorder();
        metrics::with_local_recorder(&recorder, || {
            for value in [5.0, 0.0] {
                metrics::gauge!("ModelAge", MODEL_LABEL => "wine").set(value);
            }
        });
        assert_eq!(drain(&recorder)[0].values, [(0.0, 1.0)]);
        assert!(drain(&recorder).is_empty());
    }

    #[test]
    fn observations_belong_to_the_version_that_was_active() {
        let (recorder, _) = recorder();
        let count = || metrics::counter!("Inferences", MODEL_LABEL => "wine").increment(1);
        metrics::with_local_recorder(&recorder, || {
            count();
            for version in ["1", "2"] {
                recorder.activated("wine", version);
                count();
            }
            metrics::gauge!("ActiveVersion", MODEL_LABEL => "wine", VERSION_LABEL => "3").set(1.0);
        });
        let data = drain(&recorder);
        let mut versions: Vec<_> = data.iter().map(|datum| datum.version.as_deref()).collect();
        versions.sort_unstable();
        assert_eq!(versions, [None, Some("1"), Some("2"), Some("3")]);
    }

    #[test]
    fn concurrent_observations_across_minutes_are_counted_once() {
        const THREADS: u32 = 4;
        const EACH: u32 = 20_000;
        let (recorder, clock) = recorder();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    metrics::with_local_recorder(&recorder, || {
                        let (count, time) = (
                            metrics::counter!("Inferences"),
                            metrics::histogram!("QueueTime"),
                        );
                        for _ in 0..EACH {
                            clock.0.fetch_add(3, Ordering::Relaxed);
                            count.increment(1);
                            time.record(1.0);
                        }
                    });
                });
            }
        });
        let data = drain(&recorder);
        for name in ["Inferences", "QueueTime"] {
            let of_metric = data.iter().filter(|datum| datum.metric.name == name);
            let values = of_metric.flat_map(|datum| &datum.values);
            let sum: f64 = values.map(|(value, count)| value * count).sum();
            assert!(
                (sum - f64::from(THREADS * EACH)).abs() < 1e-9,
                "{name}: {sum}"
            );
        }
    }

    #[test]
    fn memory_is_limited_without_drains() {
        let (recorder, clock) = recorder();
        metrics::with_local_recorder(&recorder, || {
            let time = metrics::histogram!("QueueTime");
            for minute in 0..2_000_u64 {
                clock.0.store(minute * 60_000, Ordering::Relaxed);
                for value in 128..256_u32 {
                    time.record(f64::from(value));
                }
            }
        });
        let (data, dropped) = recorder.drain();
        let bytes: usize = data.iter().map(Datum::bytes).sum();
        assert!((500_000..=1 << 20).contains(&bytes), "{bytes}");
        assert_eq!(data.len() as u64 + dropped, 2_000);
        assert_eq!(data.last().unwrap().minute.0, 1_999 * 60_000);
    }

    #[test]
    fn an_unknown_name_is_not_recorded() {
        let (recorder, _) = recorder();
        metrics::with_local_recorder(&recorder, || {
            metrics::counter!("SomethingElse").increment(1);
            metrics::gauge!("SomethingElse").set(1.0);
            metrics::histogram!("SomethingElse").record(1.0);
            metrics::gauge!("Inferences").set(1.0);
        });
        assert!(drain(&recorder).is_empty());
    }
}

//! Counts of one environment: those of its clients, and those of the metrics.

use std::collections::BTreeMap;

use crate::cloudwatch::{Datapoint, Values};

/// Metrics whose sum of values is compared.
const SUMS: [&str; 5] = [
    "Inferences",
    "RejectedRequests",
    "InferenceErrors",
    "ColdStarts",
    "RestartsAfterKill",
];
/// Metrics whose number of observations is compared.
const OBSERVED: [&str; 4] = [
    "InferenceLatency",
    "QueueTime",
    "PredictionConfidence",
    "NullFeatureShare",
];
/// Counts of each predicted class.
const CLASSES: [&str; 3] = ["PredictedClass 0", "PredictedClass 1", "PredictedClass 2"];
/// Maximum number of rows of a request whose predictions are observed.
const MAX_ROWS: usize = 16;

/// Rows of a request whose predictions are observed: as many as allowed, at equal distances.
fn observed(classes: &[usize]) -> impl Iterator<Item = &usize> {
    let step = classes.len().div_ceil(MAX_ROWS).max(1);
    classes.iter().step_by(step)
}

/// Number of observations of each compared metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts(BTreeMap<&'static str, f64>);

impl Counts {
    /// Names of the compared metrics, in the order of a report.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SUMS.into_iter().chain(OBSERVED).chain(CLASSES)
    }

    /// Returns the observations of a request that succeeded, with the predicted class of each of its rows.
    #[must_use]
    pub fn of_success(classes: &[usize]) -> Self {
        let mut counts = Self::of_request();
        for class in observed(classes) {
            counts.add_to("PredictionConfidence", 1.0);
            if let Some(name) = CLASSES.get(*class) {
                counts.add_to(name, 1.0);
            }
        }
        counts
    }

    /// Returns the observations of a request that succeeded, without those of its rows.
    fn of_request() -> Self {
        let mut counts = Self::default();
        for name in [
            "Inferences",
            "InferenceLatency",
            "QueueTime",
            "NullFeatureShare",
        ] {
            counts.add_to(name, 1.0);
        }
        counts
    }

    /// Returns the maximum observations of a request of this many rows, whatever its result.
    #[must_use]
    pub fn at_most(rows: usize) -> Self {
        let mut counts = Self::of_request();
        counts.add_to("InferenceErrors", 1.0);
        let rows = super::member::count(observed(&vec![0; rows]).count());
        for name in CLASSES.into_iter().chain(["PredictionConfidence"]) {
            counts.add_to(name, rows);
        }
        counts
    }

    /// Returns the observations in datapoints.
    #[must_use]
    pub fn of_datapoints(datapoints: &[Datapoint]) -> Self {
        let mut counts = Self::default();
        for datapoint in datapoints {
            counts.observe(datapoint);
        }
        counts
    }

    fn observe(&mut self, datapoint: &Datapoint) {
        let Values::Distribution(values) = &datapoint.values else {
            return;
        };
        let name = datapoint.name.as_str();
        if let Some(name) = SUMS.into_iter().find(|sum| *sum == name) {
            let sum: f64 = values.iter().map(|(value, count)| value * count).sum();
            self.add_to(name, sum);
        } else if let Some(name) = OBSERVED.into_iter().find(|observed| *observed == name) {
            self.add_to(name, values.iter().map(|(_, count)| count).sum());
        } else if name == "PredictedClass" {
            for (class, name) in (0_u8..).map(f64::from).zip(CLASSES) {
                let of_class = values
                    .iter()
                    .filter(|(value, _)| (*value - class).abs() < 0.5);
                self.add_to(name, of_class.map(|(_, count)| count).sum());
            }
        }
    }

    /// Adds `count` to a metric.
    pub fn add_to(&mut self, name: &'static str, count: f64) {
        *self.0.entry(name).or_default() += count;
    }

    /// Adds all counts of `other`.
    pub fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            self.add_to(name, *count);
        }
    }

    /// Subtracts all counts of `other`.
    pub fn subtract(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            self.add_to(name, -count);
        }
    }

    /// Returns the part of each count that exceeds `other`.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Self {
        let beyond = |name| (self.get(name) - other.get(name)).max(0.0);
        Self(self.0.keys().map(|name| (*name, beyond(name))).collect())
    }

    /// Count of a metric.
    #[must_use]
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Sum of all counts.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.0.values().sum()
    }
}

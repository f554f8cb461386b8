//! Accepted datapoints, and the filters with which tests and the demo query them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::wire::{Datum, PutMetricData};

pub use super::wire::StatisticSet;

/// One metric of one request, as accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Datapoint {
    /// Namespace.
    pub namespace: String,
    /// Name of the metric.
    pub name: String,
    /// Dimensions.
    pub dimensions: BTreeMap<String, String>,
    /// The sender's timestamp, or else the time of arrival.
    pub timestamp: SystemTime,
    /// Observations.
    pub values: Values,
    /// Unit, `None` if the sender gave none.
    pub unit: Option<String>,
    /// Storage resolution in seconds: 60, or 1 for high resolution.
    pub storage_resolution: i64,
}

/// Observations, in one of the two forms of the API.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Values with their counts; a single `Value` has the count 1.
    Distribution(Vec<(f64, f64)>),
    /// A statistic set.
    Statistics(StatisticSet),
}

/// Selects datapoints.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    name: Option<String>,
    namespace: Option<String>,
    dimensions: Vec<(String, String)>,
}

impl Filter {
    /// Selects all datapoints.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Selects one metric in every namespace and with all dimensions.
    #[must_use]
    pub fn metric(name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            ..Self::default()
        }
    }

    /// Restricts the filter to a namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Restricts the filter to datapoints with this dimension and value, among others.
    #[must_use]
    pub fn dimension(mut self, name: &str, value: &str) -> Self {
        self.dimensions.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns `true` if the filter selects the datapoint.
    #[must_use]
    pub fn matches(&self, datapoint: &Datapoint) -> bool {
        self.name
            .as_ref()
            .is_none_or(|name| *name == datapoint.name)
            && self
                .namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == datapoint.namespace)
            && self
                .dimensions
                .iter()
                .all(|(name, value)| datapoint.dimensions.get(name) == Some(value))
    }
}

pub(super) fn datapoints(input: PutMetricData, now: SystemTime) -> Vec<Datapoint> {
    let namespace = input.namespace.unwrap_or_default();
    input
        .metric_data
        .into_iter()
        .map(|datum| datapoint(namespace.clone(), datum, now))
        .collect()
}

fn datapoint(namespace: String, datum: Datum, now: SystemTime) -> Datapoint {
    let values = match (datum.statistic_values, datum.values) {
        (Some(set), _) => Values::Statistics(set),
        (None, Some(values)) => {
            let counts = datum.counts.unwrap_or_else(|| vec![1.0; values.len()]);
            Values::Distribution(values.into_iter().zip(counts).collect())
        }
        (None, None) => {
            Values::Distribution(datum.value.map(|value| (value, 1.0)).into_iter().collect())
        }
    };
    Datapoint {
        namespace,
        name: datum.metric_name.unwrap_or_default(),
        dimensions: datum
            .dimensions
            .into_iter()
            .map(|dimension| {
                let name = dimension.name.unwrap_or_default();
                (name, dimension.value.unwrap_or_default())
            })
            .collect(),
        timestamp: datum.timestamp.map_or(now, |timestamp| timestamp.0),
        values,
        unit: datum.unit,
        storage_resolution: datum.storage_resolution.unwrap_or(60),
    }
}

pub(super) fn sum(datapoints: &[Datapoint]) -> f64 {
    let of_one = |one: &Datapoint| match &one.values {
        Values::Distribution(values) => values.iter().map(|(value, count)| value * count).sum(),
        Values::Statistics(set) => set.sum,
    };
    datapoints.iter().map(of_one).sum()
}

pub(super) fn count(datapoints: &[Datapoint]) -> f64 {
    let of_one = |one: &Datapoint| match &one.values {
        Values::Distribution(values) => values.iter().map(|(_, count)| count).sum(),
        Values::Statistics(set) => set.sample_count,
    };
    datapoints.iter().map(of_one).sum()
}

/// Nearest rank: the smallest value at or below which `percent` of the observations lie.
pub(super) fn percentile(datapoints: &[Datapoint], percent: f64) -> Option<f64> {
    let mut values: Vec<(f64, f64)> = datapoints
        .iter()
        .filter_map(|one| match &one.values {
            Values::Distribution(values) => Some(values),
            Values::Statistics(_) => None,
        })
        .flatten()
        .copied()
        .collect();
    values.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let rank = values.iter().map(|(_, count)| count).sum::<f64>() * percent / 100.0;
    let mut below = 0.0;
    values
        .iter()
        .find(|(_, count)| {
            below += count;
            below >= rank
        })
        .map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(values: &[(f64, f64)]) -> Datapoint {
        Datapoint {
            namespace: "Lab".into(),
            name: "Latency".into(),
            dimensions: BTreeMap::new(),
            timestamp: SystemTime::UNIX_EPOCH,
            values: Values::Distribution(values.to_vec()),
            unit: None,
            storage_resolution: 60,
        }
    }

    #[test]
    fn statistics_weigh_values_by_their_counts() {
        let taken = [
            observed(&[(1.0, 98.0)]),
            observed(&[(500.0, 1.0), (9.0, 1.0)]),
        ];
        assert!((sum(&taken) - 607.0).abs() < 1e-9);
        assert!((count(&taken) - 100.0).abs() < 1e-9);
        assert_eq!(percentile(&taken, 50.0), Some(1.0));
        assert_eq!(percentile(&taken, 99.0), Some(9.0));
        assert_eq!(percentile(&taken, 100.0), Some(500.0));
        assert_eq!(percentile(&[], 50.0), None);
    }
}

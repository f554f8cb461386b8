//! Statistics of a metric over periods.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use super::query::{Datapoint, Values};

/// Values by the start of their period, in seconds since 1970.
pub type Points = BTreeMap<u64, f64>;

/// Statistic of a period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    /// Sum of the observations.
    Sum,
    /// Mean of the observations.
    Average,
    /// Smallest observation.
    Minimum,
    /// Largest observation.
    Maximum,
    /// Number of observations.
    SampleCount,
    /// Smallest observation that is not exceeded by this percentage.
    Percentile(f64),
    /// Percentage of the observations above the first limit, and up to the second one.
    PercentileRank(f64, f64),
}

/// A text that names no statistic.
#[derive(Debug, thiserror::Error)]
#[error(
    "unknown statistic {0:?}; allowed: Sum, Average, Minimum, Maximum, SampleCount, percentiles such as p99.9, and ranks such as PR(1:2)"
)]
pub struct NoSuchStatistic(String);

impl FromStr for Statistic {
    type Err = NoSuchStatistic;

    fn from_str(text: &str) -> Result<Self, NoSuchStatistic> {
        let percentile = || {
            let percent: f64 = text.strip_prefix('p')?.parse().ok()?;
            (0.0..=100.0)
                .contains(&percent)
                .then_some(Self::Percentile(percent))
        };
        let rank = || {
            let limits = text.strip_prefix("PR(")?.strip_suffix(')')?;
            let (low, high) = limits.split_once(':')?;
            let limit = |text: &str, default| match text {
                "" => Some(default),
                text => text.parse().ok(),
            };
            let rank = (limit(low, f64::NEG_INFINITY)?, limit(high, f64::INFINITY)?);
            Some(Self::PercentileRank(rank.0, rank.1))
        };
        match text {
            "Sum" => Ok(Self::Sum),
            "Average" => Ok(Self::Average),
            "Minimum" => Ok(Self::Minimum),
            "Maximum" => Ok(Self::Maximum),
            "SampleCount" => Ok(Self::SampleCount),
            _ => percentile()
                .or_else(rank)
                .ok_or_else(|| NoSuchStatistic(text.to_owned())),
        }
    }
}

/// Returns the statistic of each period of `period` seconds that has data.
#[must_use]
pub fn aggregate(datapoints: &[&Datapoint], statistic: Statistic, period: u64) -> Points {
    let mut periods: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    for datapoint in datapoints {
        let since = datapoint.timestamp.duration_since(UNIX_EPOCH);
        let start = since.unwrap_or_default().as_secs() / period * period;
        let observed = periods.entry(start).or_default();
        match &datapoint.values {
            Values::Distribution(values) => observed.extend(values),
            // No distribution: the mean keeps sum and count.
            Values::Statistics(set) => {
                observed.push((set.sum / set.sample_count, set.sample_count));
            }
        }
    }
    let value = |observed: Vec<(f64, f64)>| statistic.of(observed);
    periods
        .into_iter()
        .filter_map(|(start, observed)| Some((start, value(observed)?)))
        .collect()
}

impl Statistic {
    /// Returns the statistic of observations with their counts; `None` without observations.
    fn of(self, mut observed: Vec<(f64, f64)>) -> Option<f64> {
        let count: f64 = observed.iter().map(|(_, count)| count).sum();
        let sum: f64 = observed.iter().map(|(value, count)| value * count).sum();
        observed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let (first, last) = (observed.first()?.0, observed.last()?.0);
        Some(match self {
            Self::Sum => sum,
            Self::Average => sum / count,
            Self::Minimum => first,
            Self::Maximum => last,
            Self::SampleCount => count,
            Self::PercentileRank(low, high) => {
                let is_within = |value: f64| value > low && value <= high;
                let within = observed.iter().filter(|(value, _)| is_within(*value));
                100.0 * within.map(|(_, count)| count).sum::<f64>() / count
            }
            Self::Percentile(percent) => {
                let rank = count * percent / 100.0;
                let mut below = 0.0;
                let found = observed.iter().find(|(_, count)| {
                    below += count;
                    below >= rank
                });
                found.map_or(last, |(value, _)| *value)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn observed(second: u64, values: &[(f64, f64)]) -> Datapoint {
        Datapoint {
            namespace: "Lab".into(),
            name: "Latency".into(),
            dimensions: BTreeMap::new(),
            timestamp: UNIX_EPOCH + Duration::from_secs(second),
            values: Values::Distribution(values.to_vec()),
            unit: None,
            storage_resolution: 60,
        }
    }

    #[test]
    fn observations_of_a_period_are_combined() {
        let data = [
            observed(0, &[(1.0, 98.0)]),
            observed(299, &[(5.0, 1.0), (9.0, 1.0)]),
            observed(300, &[(7.0, 1.0)]),
        ];
        let data: Vec<&Datapoint> = data.iter().collect();
        let of = |name: &str| {
            let points = aggregate(&data, name.parse().unwrap(), 300);
            (points[&0], points[&300])
        };
        assert_eq!(of("Sum"), (112.0, 7.0));
        assert_eq!(of("SampleCount"), (100.0, 1.0));
        assert_eq!(of("Average"), (1.12, 7.0));
        assert_eq!(of("Minimum"), (1.0, 7.0));
        assert_eq!(of("Maximum"), (9.0, 7.0));
        assert_eq!(of("p50"), (1.0, 7.0));
        assert_eq!(of("p99"), (5.0, 7.0));
        assert_eq!(of("p99.9"), (9.0, 7.0));
        assert_eq!(of("PR(:1)"), (98.0, 0.0));
        assert_eq!(of("PR(1:8)"), (1.0, 100.0));
        assert_eq!(of("PR(1:)"), (2.0, 100.0));
    }

    #[test]
    fn unknown_statistics_are_rejected() {
        for wrong in ["", "p", "p101", "Mean", "sum", "PR(1)", "PR(a:2)", "PR(1:2"] {
            assert!(wrong.parse::<Statistic>().is_err(), "{wrong}");
        }
    }
}

//! All observations of a series since the start of the process.

use super::defs::Definition;

/// All observations of a metric of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesTotal {
    /// Definition of the metric.
    pub metric: &'static Definition,
    /// Model of the observations; `None` if the metric is not about a model.
    pub model: Option<String>,
    /// Version of the observations; `None` if the metric is not about a version.
    pub version: Option<String>,
    /// The observations.
    pub total: Total,
}

/// Observations in the form of the metric's kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Total {
    /// Sum of a counter.
    Sum(u64),
    /// Last value of a gauge.
    Last(f64),
    /// Values of a distribution with their counts, in ascending order.
    Distribution(Vec<(f64, u64)>),
}

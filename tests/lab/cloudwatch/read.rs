//! `ListMetrics` and `GetMetricData`, which read the accepted datapoints.
//!
//! Source: `CloudWatch` API reference. Queries name a metric and a statistic. Metric math is rejected.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ciborium::Value;
use serde::Deserialize;

use super::error::CloudWatchError;
use super::query::{Datapoint, Filter};
use super::statistic::{NoSuchStatistic, Statistic, aggregate};
use super::wire::{Dimension, Timestamp};

/// Maximum number of metrics in one response of `ListMetrics`.
const METRICS_A_PAGE: usize = 500;
/// Maximum number of queries of one `GetMetricData`.
const QUERIES_A_REQUEST: usize = 500;
/// The only value of `RecentlyActive`, and its meaning.
const RECENT: (&str, Duration) = ("PT3H", Duration::from_hours(3));

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListMetrics {
    namespace: Option<String>,
    metric_name: Option<String>,
    dimensions: Vec<Dimension>,
    next_token: Option<String>,
    recently_active: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct GetMetricData {
    pub(super) metric_data_queries: Vec<Query>,
    start_time: Option<Timestamp>,
    end_time: Option<Timestamp>,
    scan_by: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Query {
    id: Option<String>,
    metric_stat: Option<MetricStat>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct MetricStat {
    metric: Metric,
    period: u64,
    stat: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(clippy::struct_field_names, reason = "the names of CloudWatch's API")]
struct Metric {
    namespace: Option<String>,
    metric_name: Option<String>,
    dimensions: Vec<Dimension>,
}

/// Returns the response to `ListMetrics` at `now`: the metrics that match, a page at a time.
pub(super) fn list(
    input: &ListMetrics,
    datapoints: &[Datapoint],
    now: SystemTime,
) -> Result<Value, CloudWatchError> {
    let since = match input.recently_active.as_deref() {
        None => UNIX_EPOCH,
        Some(recent) if recent == RECENT.0 => now - RECENT.1,
        Some(other) => {
            return Err(CloudWatchError::invalid_value(format!(
                "RecentlyActive has the value {other}; the only one is {}.",
                RECENT.0
            )));
        }
    };
    let mut filter = match &input.metric_name {
        Some(name) => Filter::metric(name),
        None => Filter::all(),
    };
    if let Some(namespace) = &input.namespace {
        filter = filter.namespace(namespace);
    }
    // A filter without a value matches each value of the dimension.
    let names = |datapoint: &Datapoint| {
        let mut dimensions = input.dimensions.iter();
        dimensions.all(|Dimension { name, value }| {
            let found = datapoint
                .dimensions
                .get(name.as_deref().unwrap_or_default());
            found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        })
    };
    let metrics: BTreeSet<_> = datapoints
        .iter()
        .filter(|one| one.timestamp >= since && filter.matches(one) && names(one))
        .map(|one| (&one.namespace, &one.name, &one.dimensions))
        .collect();
    let skipped = match &input.next_token {
        None => 0,
        Some(token) => token
            .parse()
            .map_err(|_| CloudWatchError::invalid_value(format!("NextToken {token}")))?,
    };
    let page: Vec<Value> = metrics
        .iter()
        .skip(skipped)
        .take(METRICS_A_PAGE)
        .map(|(namespace, name, dimensions)| {
            map([
                ("Namespace", namespace.as_str().into()),
                ("MetricName", name.as_str().into()),
                ("Dimensions", dimension_list(dimensions)),
            ])
        })
        .collect();
    let end = skipped + page.len();
    let mut response = vec![("Metrics", Value::Array(page))];
    if end < metrics.len() {
        response.push(("NextToken", end.to_string().into()));
    }
    Ok(map(response))
}

/// Returns the response to `GetMetricData`. A query without data has a result without values.
pub(super) fn get(
    input: &GetMetricData,
    datapoints: &[Datapoint],
) -> Result<Value, CloudWatchError> {
    let queries = &input.metric_data_queries;
    if queries.is_empty() || queries.len() > QUERIES_A_REQUEST {
        return Err(CloudWatchError::invalid_value(format!(
            "The collection MetricDataQueries must have 1 to {QUERIES_A_REQUEST} members, it has {}.",
            queries.len()
        )));
    }
    let [Some(Timestamp(start)), Some(Timestamp(end))] = [input.start_time, input.end_time] else {
        return Err(CloudWatchError::missing("StartTime or EndTime"));
    };
    if start >= end {
        let message = "StartTime must be before EndTime.".to_owned();
        return Err(CloudWatchError::invalid_value(message));
    }
    let ascending = match input.scan_by.as_deref() {
        None | Some("TimestampDescending") => false,
        Some("TimestampAscending") => true,
        Some(other) => {
            return Err(CloudWatchError::invalid_value(format!("ScanBy {other}")));
        }
    };
    let mut ids = BTreeSet::new();
    let mut results = Vec::new();
    for query in queries {
        let id = query.id.as_deref().unwrap_or_default();
        if !id.starts_with(|first: char| first.is_ascii_lowercase()) || !ids.insert(id) {
            return Err(CloudWatchError::invalid_value(format!(
                "The id {id:?} is not unique, or does not begin with a lower-case letter."
            )));
        }
        let Some(wanted) = &query.metric_stat else {
            return Err(CloudWatchError::invalid_value(format!(
                "Query {id:?} has no MetricStat; expressions are not supported here."
            )));
        };
        let mut points = points(wanted, datapoints, (start, end))?;
        if !ascending {
            points.reverse();
        }
        let timestamps = points.iter().map(|(start, _)| {
            let seconds = Value::Integer((*start).into());
            Value::Tag(1, Box::new(seconds))
        });
        let values = points.iter().map(|(_, value)| Value::Float(*value));
        results.push(map([
            ("Id", id.into()),
            ("Label", wanted.metric.name().into()),
            ("Timestamps", Value::Array(timestamps.collect())),
            ("Values", Value::Array(values.collect())),
            ("StatusCode", "Complete".into()),
        ]));
    }
    Ok(map([
        ("MetricDataResults", Value::Array(results)),
        ("Messages", Value::Array(Vec::new())),
    ]))
}

/// Returns the statistic of each period that has data, oldest first.
fn points(
    wanted: &MetricStat,
    datapoints: &[Datapoint],
    (start, end): (SystemTime, SystemTime),
) -> Result<Vec<(u64, f64)>, CloudWatchError> {
    let period = wanted.period;
    if !matches!(period, 1 | 5 | 10 | 20 | 30) && (period == 0 || !period.is_multiple_of(60)) {
        return Err(CloudWatchError::invalid_value(format!(
            "Period {period} is not 1, 5, 10, 20, 30 or a multiple of 60."
        )));
    }
    let statistic: Statistic = wanted
        .stat
        .parse()
        .map_err(|error: NoSuchStatistic| CloudWatchError::invalid_value(error.to_string()))?;
    let since = start.duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = UNIX_EPOCH + Duration::from_secs(since.as_secs() / period * period);
    let dimensions: BTreeMap<String, String> = wanted
        .metric
        .dimensions
        .iter()
        .filter_map(|one| Some((one.name.clone()?, one.value.clone()?)))
        .collect();
    // A metric is its name with exactly these dimensions.
    let of_metric = |one: &&Datapoint| {
        Some(&one.namespace) == wanted.metric.namespace.as_ref()
            && one.name == wanted.metric.name()
            && one.dimensions == dimensions
            && (start..end).contains(&one.timestamp)
    };
    let datapoints: Vec<&Datapoint> = datapoints.iter().filter(of_metric).collect();
    Ok(aggregate(&datapoints, statistic, period)
        .into_iter()
        .collect())
}

impl Metric {
    fn name(&self) -> &str {
        self.metric_name.as_deref().unwrap_or_default()
    }
}

fn dimension_list(dimensions: &BTreeMap<String, String>) -> Value {
    let dimensions = dimensions.iter().map(|(name, value)| {
        map([
            ("Name", name.as_str().into()),
            ("Value", value.as_str().into()),
        ])
    });
    Value::Array(dimensions.collect())
}

fn map(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let fields = fields.into_iter();
    Value::Map(
        fields
            .map(|(name, value)| (Value::from(name), value))
            .collect(),
    )
}

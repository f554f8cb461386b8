//! Embedded Metric Format: lines in the log that CloudWatch turns into metrics.
//!
//! The format needs no permission and no API call. A line has one timestamp, one set of dimensions, and at most 100
//! metrics with at most 100 values each. Further data go into further lines. Source:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
//!
//! Arrays in this format have no counts, so a value is repeated for each observation. A metric with more than
//! [`MAX_REPEATED`] observations in a minute is written as a histogram, as by AWS's exporter of OpenTelemetry metrics.
//! The histogram is an object with `Values`, `Counts`, `Max`, `Min`, `Count` and `Sum`. The log stays small under high
//! load.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use futures_core::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::datum::Datum;
use super::defs::{Kind, Set, VERSION_LABEL};
use super::dimensions::Dimensions;
use super::sink::{DeliveryProgress, Sink};
use crate::clock::{Clock as _, SystemClock, Timestamp};

/// Maximum number of metrics in a line.
const MAX_METRICS: usize = 100;
/// Maximum number of values of a metric in a line.
const MAX_VALUES: usize = 100;
/// Maximum number of categories of a metric in a line.
const MAX_CATEGORIES: usize = 20;
/// Maximum number of observations that are written individually.
const MAX_REPEATED: f64 = 1_000.0;

/// Sink that writes metrics to standard output.
#[derive(Clone, Debug)]
pub struct EmfSink {
    namespace: String,
    dimensions: Dimensions,
    /// Set of the data that are metrics; other data are properties.
    set: Set,
    /// Log level of the function, which every line has: with JSON logs, Lambda drops lines below that level.
    level: String,
}

/// Data with one timestamp and one set of properties.
type Group<'a> = (
    u64,
    Option<&'a str>,
    Option<&'a str>,
    Vec<(&'a str, &'a str)>,
);

impl EmfSink {
    /// Creates a sink for `namespace`. Data of `set` are metrics; `level` is the function's log level.
    #[must_use]
    pub fn new(namespace: String, dimensions: Dimensions, set: Set, level: &str) -> Self {
        Self {
            namespace,
            dimensions,
            set,
            level: level.to_owned(),
        }
    }

    /// Writes `data`.
    pub fn write(&self, data: &[Datum]) {
        let mut text = String::new();
        for line in self.lines(data, SystemClock.now()) {
            text.push_str(&line.to_string());
            text.push('\n');
        }
        // One write, so that no other line of the log interleaves. A failure cannot be reported anywhere.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }

    fn lines(&self, data: &[Datum], written_at: Timestamp) -> Vec<Value> {
        let mut groups: BTreeMap<Group<'_>, Vec<LinePart<'_>>> = BTreeMap::new();
        for datum in data {
            let dimensions = self.dimensions.of(datum);
            let names = dimensions.iter().map(|(name, _)| *name).collect();
            let mut members = dimensions;
            if let Some(version) = &datum.version
                && members.iter().all(|(name, _)| *name != VERSION_LABEL)
            {
                members.push((VERSION_LABEL, version));
            }
            members.sort_unstable();
            let (model, version) = (datum.model.as_deref(), datum.version.as_deref());
            let group = groups.entry((datum.minute.0, model, version, members));
            let group = group.or_default();
            let part = |value| LinePart {
                datum,
                dimensions: BTreeSet::clone(&names),
                value,
            };
            if datum.metric.set > self.set {
                group.push(part(summary(datum)));
            } else {
                group.extend(values(datum).map(part));
            }
        }
        let mut lines = Vec::new();
        for ((minute, _, _, members), mut parts) in groups {
            while !parts.is_empty() {
                let (now, later) = one_line(parts);
                lines.push(self.line(minute, &members, &now, written_at));
                parts = later;
            }
        }
        lines
    }

    fn line(
        &self,
        minute: u64,
        members: &[(&str, &str)],
        parts: &[LinePart<'_>],
        written_at: Timestamp,
    ) -> Value {
        // Without a valid time, Lambda treats a JSON line as INFO, whatever its `level` is.
        let mut line = json!({ "timestamp": rfc_3339(written_at), "level": self.level });
        for (name, value) in members {
            line[*name] = (*value).into();
        }
        let mut directives: BTreeMap<&BTreeSet<&str>, Vec<Value>> = BTreeMap::new();
        for part in parts {
            let metric = part.datum.metric;
            line[metric.name] = part.value.clone();
            if metric.set <= self.set {
                let name = json!({ "Name": metric.name, "Unit": metric.unit.name() });
                directives.entry(&part.dimensions).or_default().push(name);
            }
        }
        let directives: Vec<Value> = directives
            .into_iter()
            .map(|(dimensions, metrics)| {
                json!({ "Namespace": self.namespace, "Dimensions": [dimensions], "Metrics": metrics })
            })
            .collect();
        if !directives.is_empty() {
            line["_aws"] = json!({ "Timestamp": minute, "CloudWatchMetrics": directives });
        }
        line
    }
}

/// Values of a metric that fit in one line.
#[derive(Clone)]
struct LinePart<'a> {
    datum: &'a Datum,
    dimensions: BTreeSet<&'a str>,
    value: Value,
}

/// Splits the values of a datum into parts that fit in a line.
fn values(datum: &Datum) -> impl Iterator<Item = Value> {
    let observations: f64 = datum.values.iter().map(|(_, count)| count).sum();
    if observations > MAX_REPEATED {
        let histograms = datum.values.chunks(MAX_VALUES).map(histogram);
        return histograms.collect::<Vec<_>>().into_iter();
    }
    let repeated = datum
        .values
        .iter()
        .flat_map(|&(value, count)| std::iter::repeat_n(value, times(count)));
    let values: Vec<f64> = repeated.collect();
    let arrays = values.chunks(MAX_VALUES).map(|values| json!(values));
    arrays.collect::<Vec<_>>().into_iter()
}

/// Summarises the values of a datum as a property: a number, the share of each category, or the count and the extremes
/// of a distribution.
fn summary(datum: &Datum) -> Value {
    match datum.metric.kind {
        Kind::Counter | Kind::Gauge => {
            let last = datum.values.last().map(|(value, _)| *value);
            return json!(last);
        }
        Kind::Category => return shares(&datum.values),
        Kind::Distribution => {}
    }
    let mut figures = histogram(&datum.values);
    if let Some(figures) = figures.as_object_mut() {
        figures.retain(|name, _| name != "Values" && name != "Counts");
    }
    figures
}

/// Formats the share of each category, the most frequent ones by name.
fn shares(values: &[(f64, f64)]) -> Value {
    let total: f64 = values.iter().map(|(_, count)| count).sum();
    let mut values = values.to_vec();
    values.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let mut shares = Map::new();
    let mut rest = 1.0;
    for (category, count) in values.iter().take(MAX_CATEGORIES) {
        let share = count / total;
        rest -= share;
        shares.insert(category.to_string(), rounded(share).into());
    }
    if values.len() > MAX_CATEGORIES {
        shares.insert("other".to_owned(), rounded(rest).into());
    }
    Value::Object(shares)
}

/// Rounds a share to four decimals.
fn rounded(share: f64) -> f64 {
    (share * 1e4).round() / 1e4
}

/// Formats values with their counts in the way of AWS's exporter.
fn histogram(values: &[(f64, f64)]) -> Value {
    let only_values = || values.iter().map(|(value, _)| *value);
    json!({
        "Values": only_values().collect::<Vec<_>>(),
        "Counts": values.iter().map(|(_, count)| *count).collect::<Vec<_>>(),
        "Max": only_values().fold(f64::NEG_INFINITY, f64::max),
        "Min": only_values().fold(f64::INFINITY, f64::min),
        "Count": values.iter().map(|(_, count)| count).sum::<f64>(),
        "Sum": values.iter().map(|(value, count)| value * count).sum::<f64>(),
    })
}

/// Formats a time according to RFC 3339, in UTC.
fn rfc_3339(time: Timestamp) -> Option<String> {
    let time = DateTime::from_millis(i64::try_from(time.0).ok()?);
    time.fmt(Format::DateTime).ok()
}

/// Splits off the metrics of one line, which holds each metric once.
fn one_line(parts: Vec<LinePart<'_>>) -> (Vec<LinePart<'_>>, Vec<LinePart<'_>>) {
    let (mut now, mut later): (Vec<LinePart<'_>>, Vec<LinePart<'_>>) = (Vec::new(), Vec::new());
    for part in parts {
        let is_new = |other: &LinePart<'_>| other.datum.metric != part.datum.metric;
        if now.len() < MAX_METRICS && now.iter().all(is_new) {
            now.push(part);
        } else {
            later.push(part);
        }
    }
    (now, later)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of observations in a minute"
)]
fn times(count: f64) -> usize {
    count as usize
}

impl Sink for EmfSink {
    fn send<'a>(
        &'a self,
        data: &'a [Datum],
        progress: &'a DeliveryProgress,
    ) -> BoxFuture<'a, Result<(), String>> {
        self.write(data);
        progress.settle(data.len());
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MetricsDimensions;
    use crate::metrics::defs;

    const WRITTEN_AT: Timestamp = Timestamp(1_790_000_000_123);

    fn datum(name: &str, values: Vec<(f64, f64)>) -> Datum {
        Datum {
            metric: defs::find(name).unwrap(),
            model: Some("wine".to_owned()),
            version: Some("7".to_owned()),
            minute: Timestamp(60_000),
            values,
        }
    }

    fn sink(function: Option<&str>, set: Set, level: &str) -> EmfSink {
        let function = function.map(str::to_owned);
        let dimensions = Dimensions::new(function, MetricsDimensions::default());
        EmfSink::new("ModelSidecar".to_owned(), dimensions, set, level)
    }

    #[test]
    fn line_follows_the_specification() {
        let sink = sink(Some("f"), Set::Default, "WARN");
        let data = [
            datum("InferenceLatency", vec![(1.5, 2.0), (3.0, 1.0)]),
            datum("Inferences", vec![(3.0, 1.0)]),
            datum("ActiveVersion", vec![(1.0, 1.0)]),
            datum("QueueFull", vec![(5.0, 1.0)]),
            datum("QueueTime", vec![(1.0, 3.0), (4.0, 1.0)]),
            datum("PredictedClass", vec![(0.0, 2.0), (2.0, 1.0)]),
        ];
        let expected = json!({
            "_aws": {
                "Timestamp": 60_000,
                "CloudWatchMetrics": [
                    {
                        "Namespace": "ModelSidecar",
                        "Dimensions": [["FunctionName", "ModelName"]],
                        "Metrics": [
                            { "Name": "InferenceLatency", "Unit": "Milliseconds" },
                            { "Name": "Inferences", "Unit": "Count" },
                        ],
                    },
                    {
                        "Namespace": "ModelSidecar",
                        "Dimensions": [["FunctionName", "ModelName", "ModelVersion"]],
                        "Metrics": [{ "Name": "ActiveVersion", "Unit": "Count" }],
                    },
                ],
            },
            "timestamp": "2026-09-21T14:13:20.123Z",
            "level": "WARN",
            "FunctionName": "f",
            "ModelName": "wine",
            "ModelVersion": "7",
            "InferenceLatency": [1.5, 1.5, 3.0],
            "Inferences": [3.0],
            "ActiveVersion": [1.0],
            "QueueFull": 5.0,
            "PredictedClass": { "0": 0.6667, "2": 0.3333 },
            "QueueTime": { "Count": 4.0, "Sum": 7.0, "Min": 1.0, "Max": 4.0 },
        });
        assert_eq!(sink.lines(&data, WRITTEN_AT), [expected]);
    }

    #[test]
    fn only_the_most_frequent_categories_are_named() {
        let values: Vec<_> = (0..100_u32)
            .map(|class| (f64::from(class), f64::from(class + 1)))
            .collect();
        let shares = shares(&values);
        let shares = shares.as_object().unwrap();
        assert_eq!(shares.len(), MAX_CATEGORIES + 1);
        assert!(shares.contains_key("99") && !shares.contains_key("0"));
        let sum: f64 = shares.values().filter_map(Value::as_f64).sum();
        assert!((sum - 1.0).abs() < 1e-2, "{sum}");
    }

    #[test]
    fn more_than_a_hundred_values_go_into_several_lines() {
        let sink = sink(None, Set::All, "INFO");
        let lines = sink.lines(&[datum("InferenceLatency", vec![(1.0, 250.0)])], WRITTEN_AT);
        let lengths: Vec<_> = lines
            .iter()
            .map(|line| line["InferenceLatency"].as_array().unwrap().len())
            .collect();
        assert_eq!(lengths, [100, 100, 50]);
    }

    #[test]
    fn a_million_observations_take_a_few_kilobytes_and_keep_their_counts() {
        let sink = sink(None, Set::All, "INFO");
        let values = (0u32..250).map(|value| (f64::from(value), 4_000.0));
        let lines = sink.lines(&[datum("InferenceLatency", values.collect())], WRITTEN_AT);
        let bytes: usize = lines.iter().map(|line| line.to_string().len()).sum();
        assert!(bytes < 10_000, "{bytes}");
        let sum = |field: &str| -> f64 {
            let of_line = |line: &Value| line["InferenceLatency"][field].as_f64().unwrap();
            lines.iter().map(of_line).sum()
        };
        assert!((sum("Count") - 1e6).abs() < 1e-9);
        assert!((sum("Sum") - 4_000.0 * 250.0 * 249.0 / 2.0).abs() < 1e-3);
        let counts = lines[2]["InferenceLatency"]["Counts"].as_array().unwrap();
        assert_eq!(counts.len(), 50);
    }
}

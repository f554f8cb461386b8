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

use std::collections::BTreeMap;
use std::io::Write as _;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use futures_core::future::BoxFuture;
use serde_json::{Value, json};

use super::recorder::Datum;
use super::sink::{Delivery, Sink};
use crate::clock::{Clock as _, SystemClock, Timestamp};

/// Maximum number of metrics in a line.
const MAX_METRICS: usize = 100;
/// Maximum number of values of a metric in a line.
const MAX_VALUES: usize = 100;
/// Maximum number of observations that are written individually.
const MAX_REPEATED: f64 = 1_000.0;

/// Sink that writes metrics to standard output.
#[derive(Clone, Debug)]
pub struct EmfSink {
    namespace: String,
    function: Option<String>,
    /// Log level of the function, which every line has: with JSON logs, Lambda drops lines below that level.
    level: String,
}

impl EmfSink {
    /// Creates a sink for `namespace`. `function` is a dimension of every metric; `level` is the function's log level.
    #[must_use]
    pub fn new(namespace: String, function: Option<String>, level: &str) -> Self {
        Self {
            namespace,
            function,
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
        let mut groups: BTreeMap<(u64, Option<&str>), Vec<LinePart<'_>>> = BTreeMap::new();
        for datum in data {
            let group = groups
                .entry((datum.minute.0, datum.model.as_deref()))
                .or_default();
            group.extend(parts(datum).map(|part| (datum, part)));
        }
        let mut lines = Vec::new();
        for ((minute, model), mut metrics) in groups {
            while !metrics.is_empty() {
                let (now, later) = one_line(metrics);
                lines.push(self.line(minute, model, &now, written_at));
                metrics = later;
            }
        }
        lines
    }

    fn line(
        &self,
        minute: u64,
        model: Option<&str>,
        metrics: &[LinePart<'_>],
        written_at: Timestamp,
    ) -> Value {
        let mut dimensions = Vec::new();
        // Without a valid time, Lambda treats a JSON line as INFO, whatever its `level` is.
        let mut line = json!({ "timestamp": rfc_3339(written_at), "level": self.level });
        for (name, value) in [
            ("FunctionName", self.function.as_deref()),
            (super::defs::MODEL_LABEL, model),
        ] {
            if let Some(value) = value {
                dimensions.push(name);
                line[name] = value.into();
            }
        }
        let names: Vec<Value> = metrics
            .iter()
            .map(
                |(datum, _)| json!({ "Name": datum.metric.name, "Unit": datum.metric.unit.name() }),
            )
            .collect();
        for (datum, values) in metrics {
            line[datum.metric.name] = values.clone();
        }
        line["_aws"] = json!({
            "Timestamp": minute,
            "CloudWatchMetrics": [{ "Namespace": self.namespace, "Dimensions": [dimensions], "Metrics": names }],
        });
        line
    }
}

/// Values of a metric that fit in one line.
type LinePart<'a> = (&'a Datum, Value);

/// Splits the values of a datum into parts that fit in a line.
fn parts(datum: &Datum) -> impl Iterator<Item = Value> {
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
fn one_line(metrics: Vec<LinePart<'_>>) -> (Vec<LinePart<'_>>, Vec<LinePart<'_>>) {
    let (mut now, mut later): (Vec<LinePart<'_>>, Vec<LinePart<'_>>) = (Vec::new(), Vec::new());
    for metric in metrics {
        let fits =
            now.len() < MAX_METRICS && now.iter().all(|(datum, _)| datum.metric != metric.0.metric);
        if fits {
            now.push(metric);
        } else {
            later.push(metric);
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
    fn send<'a>(&'a self, data: &'a [Datum]) -> BoxFuture<'a, Delivery> {
        self.write(data);
        Box::pin(async { Delivery::of_all(data) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::defs;

    const WRITTEN_AT: Timestamp = Timestamp(1_790_000_000_123);

    fn datum(name: &str, values: Vec<(f64, f64)>) -> Datum {
        Datum {
            metric: defs::find(name).unwrap(),
            model: Some("wine".to_owned()),
            minute: Timestamp(60_000),
            values,
        }
    }

    #[test]
    fn line_follows_the_specification() {
        let sink = EmfSink::new("ModelSidecar".to_owned(), Some("f".to_owned()), "WARN");
        let data = [
            datum("InferenceLatency", vec![(1.5, 2.0), (3.0, 1.0)]),
            datum("Inferences", vec![(3.0, 1.0)]),
        ];
        let expected = json!({
            "_aws": {
                "Timestamp": 60_000,
                "CloudWatchMetrics": [{
                    "Namespace": "ModelSidecar",
                    "Dimensions": [["FunctionName", "ModelName"]],
                    "Metrics": [
                        { "Name": "InferenceLatency", "Unit": "Milliseconds" },
                        { "Name": "Inferences", "Unit": "Count" },
                    ],
                }],
            },
            "timestamp": "2026-09-21T14:13:20.123Z",
            "level": "WARN",
            "FunctionName": "f",
            "ModelName": "wine",
            "InferenceLatency": [1.5, 1.5, 3.0],
            "Inferences": [3.0],
        });
        assert_eq!(sink.lines(&data, WRITTEN_AT), [expected]);
    }

    #[test]
    fn more_than_a_hundred_values_go_into_several_lines() {
        let sink = EmfSink::new("N".to_owned(), None, "INFO");
        let lines = sink.lines(&[datum("InferenceLatency", vec![(1.0, 250.0)])], WRITTEN_AT);
        let lengths: Vec<_> = lines
            .iter()
            .map(|line| line["InferenceLatency"].as_array().unwrap().len())
            .collect();
        assert_eq!(lengths, [100, 100, 50]);
    }

    #[test]
    fn a_million_observations_take_a_few_kilobytes_and_keep_their_counts() {
        let sink = EmfSink::new("N".to_owned(), None, "INFO");
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

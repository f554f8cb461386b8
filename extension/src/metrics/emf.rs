//! Embedded Metric Format: lines in the log that CloudWatch turns into metrics.
//!
//! No permission and no call. A line has one timestamp and one set of dimensions, at most 100 metrics, and at
//! most 100 values for each; more go into further lines.
//! Source: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.

use std::collections::BTreeMap;
use std::io::Write as _;

use futures_core::future::BoxFuture;
use serde_json::{Value, json};

use super::{Datum, Sink, SinkError};

const MOST_METRICS: usize = 100;
const MOST_VALUES: usize = 100;

/// Writes metrics to standard output.
#[derive(Clone, Debug)]
pub struct EmfSink {
    namespace: String,
    function: Option<String>,
    /// With JSON logs, Lambda drops lines below the function's log level: a metric is of that very level.
    level: String,
}

impl EmfSink {
    /// A sink for this namespace; `function` is a dimension of every metric, `level` the function's log level.
    #[must_use]
    pub fn new(namespace: String, function: Option<String>, level: &str) -> Self {
        Self {
            namespace,
            function,
            level: level.to_owned(),
        }
    }

    /// Writes all of `data`.
    pub fn write(&self, data: &[Datum]) {
        let mut text = String::new();
        for line in self.lines(data) {
            text.push_str(&line.to_string());
            text.push('\n');
        }
        // In one piece, so that no other line of the log comes in between. There is nobody to tell of a failure.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }

    fn lines(&self, data: &[Datum]) -> Vec<Value> {
        let mut groups: BTreeMap<(u64, Option<&str>), Vec<Part<'_>>> = BTreeMap::new();
        for datum in data {
            // The format has no counts: a value stands as often as it was observed.
            let repeated = datum
                .values
                .iter()
                .flat_map(|&(value, count)| std::iter::repeat_n(value, times(count)));
            let values: Vec<f64> = repeated.collect();
            for part in values.chunks(MOST_VALUES) {
                groups
                    .entry((datum.minute.0, datum.model.as_deref()))
                    .or_default()
                    .push((datum, part.to_vec()));
            }
        }
        let mut lines = Vec::new();
        for ((minute, model), mut metrics) in groups {
            while !metrics.is_empty() {
                let (now, later) = one_line(metrics);
                lines.push(self.line(minute, model, &now));
                metrics = later;
            }
        }
        lines
    }

    fn line(&self, minute: u64, model: Option<&str>, metrics: &[(&Datum, Vec<f64>)]) -> Value {
        let mut dimensions = Vec::new();
        let mut line = json!({ "level": self.level });
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
            .map(|(datum, _)| json!({ "Name": datum.name, "Unit": datum.unit().name() }))
            .collect();
        for (datum, values) in metrics {
            line[&datum.name] = json!(values);
        }
        line["_aws"] = json!({
            "Timestamp": minute,
            "CloudWatchMetrics": [{ "Namespace": self.namespace, "Dimensions": [dimensions], "Metrics": names }],
        });
        line
    }
}

type Part<'a> = (&'a Datum, Vec<f64>);

/// Splits off what fits in one line: each metric once.
fn one_line(metrics: Vec<Part<'_>>) -> (Vec<Part<'_>>, Vec<Part<'_>>) {
    let (mut now, mut later): (Vec<Part<'_>>, Vec<Part<'_>>) = (Vec::new(), Vec::new());
    for metric in metrics {
        let fits =
            now.len() < MOST_METRICS && now.iter().all(|(datum, _)| datum.name != metric.0.name);
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
    fn send<'a>(&'a self, data: &'a [Datum]) -> BoxFuture<'a, Result<(), SinkError>> {
        self.write(data);
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn datum(name: &str, values: Vec<(f64, f64)>) -> Datum {
        Datum {
            name: name.to_owned(),
            model: Some("wine".to_owned()),
            minute: Timestamp(60_000),
            values,
        }
    }

    #[test]
    fn a_line_is_as_the_specification_says() {
        let sink = EmfSink::new("ModelSidecar".to_owned(), Some("f".to_owned()), "WARN");
        let lines = sink.lines(&[
            datum("InferenceLatency", vec![(1.5, 2.0), (3.0, 1.0)]),
            datum("Inferences", vec![(3.0, 1.0)]),
        ]);
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
            "level": "WARN",
            "FunctionName": "f",
            "ModelName": "wine",
            "InferenceLatency": [1.5, 1.5, 3.0],
            "Inferences": [3.0],
        });
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn more_than_a_hundred_values_go_into_several_lines() {
        let sink = EmfSink::new("N".to_owned(), None, "INFO");
        let lines = sink.lines(&[datum("InferenceLatency", vec![(1.0, 250.0)])]);
        let lengths: Vec<_> = lines
            .iter()
            .map(|line| line["InferenceLatency"].as_array().unwrap().len())
            .collect();
        assert_eq!(lengths, [100, 100, 50]);
    }
}

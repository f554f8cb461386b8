//! Metrics in Embedded Metric Format, read from a log as `CloudWatch` reads them.
//!
//! Each directive of a line yields one datapoint for each of its metrics and sets of dimensions. A line that
//! `CloudWatch` would not accept is an error. Source:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
//! Histograms with `Values` and `Counts` are those of AWS's exporter of OpenTelemetry metrics.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::query::{Datapoint, Values};

/// Maximum length of a line in bytes: Lambda splits longer ones.
const MAX_LINE: usize = 256 * 1024;
/// Maximum number of metrics of a directive, and of values of a metric.
const MAX_METRICS: usize = 100;
const MAX_VALUES: usize = 100;
/// Maximum number of dimensions of a metric.
const MAX_DIMENSIONS: usize = 30;

/// Returns the datapoints of a line; `None` for a line without metrics.
///
/// # Errors
/// The reason for which `CloudWatch` does not extract the metrics.
#[must_use]
pub fn datapoints(line: &str) -> Option<Result<Vec<Datapoint>, String>> {
    if !line.starts_with('{') || !line.contains("\"_aws\"") {
        return None;
    }
    let extracted = extract(line);
    Some(extracted.map_err(|problem| format!("{problem}: {line}")))
}

fn extract(line: &str) -> Result<Vec<Datapoint>, String> {
    if line.len() > MAX_LINE {
        return Err(format!("{} bytes are split into several lines", line.len()));
    }
    let root: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let metadata = &root["_aws"];
    let milliseconds = metadata["Timestamp"].as_u64().ok_or("no Timestamp")?;
    let timestamp = UNIX_EPOCH + Duration::from_millis(milliseconds);
    let directives = metadata["CloudWatchMetrics"].as_array();
    let mut datapoints = Vec::new();
    for directive in directives.ok_or("no CloudWatchMetrics")? {
        let namespace = text(directive, "Namespace")?;
        let metrics = directive["Metrics"].as_array().ok_or("no Metrics")?;
        if metrics.len() > MAX_METRICS {
            return Err(format!("{} metrics in a directive", metrics.len()));
        }
        let sets = directive["Dimensions"].as_array().ok_or("no Dimensions")?;
        for dimensions in sets {
            let dimensions = dimensions_of(&root, dimensions)?;
            for metric in metrics {
                let name = text(metric, "Name")?;
                let values =
                    values(&root[&name]).map_err(|problem| format!("{name}: {problem}"))?;
                datapoints.push(Datapoint {
                    namespace: namespace.clone(),
                    name,
                    dimensions: dimensions.clone(),
                    timestamp,
                    values: Values::Distribution(values),
                    unit: metric["Unit"].as_str().map(str::to_owned),
                    storage_resolution: 60,
                });
            }
        }
    }
    Ok(datapoints)
}

fn dimensions_of(root: &Value, names: &Value) -> Result<BTreeMap<String, String>, String> {
    let names = names
        .as_array()
        .ok_or("Dimensions is not an array of arrays")?;
    if names.len() > MAX_DIMENSIONS {
        return Err(format!("{} dimensions", names.len()));
    }
    let pairs = names.iter().map(|name| {
        let name = name.as_str().ok_or("a dimension's name is not a string")?;
        let value = text(root, name)?;
        if value.is_empty() {
            return Err(format!("the dimension {name} is empty"));
        }
        Ok((name.to_owned(), value))
    });
    pairs.collect()
}

/// Returns the values of a metric's member with their counts.
fn values(member: &Value) -> Result<Vec<(f64, f64)>, String> {
    let numbers = |array: &Value| -> Result<Vec<f64>, String> {
        let array = array.as_array().ok_or("not an array")?;
        if array.len() > MAX_VALUES {
            return Err(format!("{} values", array.len()));
        }
        let numbers = array.iter().map(Value::as_f64);
        numbers
            .collect::<Option<_>>()
            .ok_or_else(|| "not a number".to_owned())
    };
    match member {
        Value::Number(number) => Ok(number
            .as_f64()
            .map(|number| (number, 1.0))
            .into_iter()
            .collect()),
        Value::Array(_) => Ok(numbers(member)?
            .into_iter()
            .map(|number| (number, 1.0))
            .collect()),
        Value::Object(_) => {
            let (values, counts) = (numbers(&member["Values"])?, numbers(&member["Counts"])?);
            if values.len() != counts.len() {
                return Err("not as many Counts as Values".to_owned());
            }
            Ok(values.into_iter().zip(counts).collect())
        }
        _ => Err("no value".to_owned()),
    }
}

fn text(object: &Value, name: &str) -> Result<String, String> {
    let text = object[name].as_str().map(str::to_owned);
    text.ok_or_else(|| format!("no {name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(metrics: &[&str], members: &Value) -> String {
        let metrics: Vec<_> = metrics
            .iter()
            .map(|name| json!({ "Name": name, "Unit": "Count" }))
            .collect();
        let directive = json!({ "Namespace": "Lab", "Dimensions": [["F"]], "Metrics": metrics });
        let mut line =
            json!({ "F": "f", "_aws": { "Timestamp": 60_000, "CloudWatchMetrics": [directive] } });
        for (name, value) in members.as_object().unwrap() {
            line[name] = value.clone();
        }
        line.to_string()
    }

    #[test]
    fn each_form_of_a_value_is_read() {
        let members = json!({
            "One": 2, "Several": [1, 2.5], "Histogram": { "Values": [1, 3], "Counts": [2, 5] }, "Property": 7,
        });
        let line = line(&["One", "Several", "Histogram"], &members);
        let read = datapoints(&line).unwrap().unwrap();
        let values: Vec<_> = read
            .iter()
            .map(|one| (one.name.as_str(), one.values.clone()))
            .collect();
        let expected = [
            ("One", vec![(2.0, 1.0)]),
            ("Several", vec![(1.0, 1.0), (2.5, 1.0)]),
            ("Histogram", vec![(1.0, 2.0), (3.0, 5.0)]),
        ];
        assert_eq!(
            values,
            expected.map(|(name, values)| (name, Values::Distribution(values)))
        );
        assert_eq!(read[0].dimensions["F"], "f");
        assert_eq!(read[0].timestamp, UNIX_EPOCH + Duration::from_mins(1));
    }

    #[test]
    fn a_line_that_cloudwatch_does_not_extract_is_an_error() {
        let many: Vec<u32> = (0..101).collect();
        for (metrics, members) in [
            (vec!["Absent"], json!({})),
            (vec!["Text"], json!({ "Text": "x" })),
            (vec!["Many"], json!({ "Many": many })),
            (
                vec!["Odd"],
                json!({ "Odd": { "Values": [1, 2], "Counts": [1] } }),
            ),
            (vec!["One"], json!({ "One": 1, "F": "" })),
        ] {
            let line = line(&metrics, &members);
            assert!(datapoints(&line).unwrap().is_err(), "{line}");
        }
        assert!(
            datapoints("{\"_aws\": ").unwrap().is_err(),
            "a truncated line"
        );
        assert!(datapoints("INFO no metrics").is_none());
        assert!(datapoints("{\"level\": \"INFO\"}").is_none());
    }
}

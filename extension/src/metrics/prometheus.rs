//! Prometheus' text format, for a server that scrapes the sidecar.
//!
//! Values are totals since the start of the process. Names are in snake case with the prefix `model_sidecar_`, times in
//! seconds and sizes in bytes, as Prometheus' conventions ask for. Source of the format:
//! <https://github.com/prometheus/docs/blob/main/content/docs/instrumenting/exposition_formats.md>.

use std::fmt::Write as _;

use super::defs::{self, Definition, Kind, Unit};
use super::totals::{SeriesTotal, Total};

/// Media type of the format.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Prefix of all names.
const PREFIX: &str = "model_sidecar_";
/// Upper bounds of the buckets of a duration, in seconds.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];
/// Upper bounds of the buckets of a share.
const SHARES: &[f64] = &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];
/// Upper bounds of the buckets of a count or size.
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Upper bounds of the buckets of a category.
const CATEGORIES: &[f64] = &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];

/// Returns the text of all series.
#[must_use]
pub fn text(mut series: Vec<SeriesTotal>) -> String {
    let place = |metric: &Definition| defs::ALL.iter().position(|it| it.name == metric.name);
    series.sort_by_cached_key(|it| (place(it.metric), it.model.clone(), it.version.clone()));
    let mut text = String::new();
    for of_metric in series.chunk_by(|one, other| one.metric.name == other.metric.name) {
        let metric = of_metric[0].metric;
        let name = name(metric);
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Distribution | Kind::Category => "histogram",
        };
        let help = metric.description.replace('\\', "\\\\");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for one in of_metric {
            write_series(&mut text, &name, one);
        }
    }
    text
}

fn write_series(text: &mut String, name: &str, series: &SeriesTotal) {
    let scale = scale(series.metric.unit);
    let labels = labels(series);
    match &series.total {
        #[expect(
            clippy::cast_precision_loss,
            reason = "Prometheus' values are 64-bit floats"
        )]
        Total::Sum(sum) => write_value(text, name, "", &labels, *sum as f64 * scale),
        Total::Last(value) => write_value(text, name, "", &labels, value * scale),
        Total::Distribution(values) => {
            let (mut count, mut sum) = (0_u64, 0.0);
            let mut values = values.iter().peekable();
            let bounds = bounds(series.metric).iter().copied();
            for bound in bounds.chain([f64::INFINITY]) {
                while let Some((value, times)) =
                    values.next_if(|(value, _)| *value * scale <= bound)
                {
                    count += times;
                    #[expect(clippy::cast_precision_loss, reason = "a sum of 64-bit floats")]
                    let times = *times as f64;
                    sum += value * scale * times;
                }
                let bound = if bound.is_finite() {
                    bound.to_string()
                } else {
                    "+Inf".to_owned()
                };
                let labels = with_label(&labels, "le", &bound);
                let _ = writeln!(text, "{name}_bucket{labels} {count}");
            }
            write_value(text, name, "_sum", &labels, sum);
            let labels = braces(&labels);
            let _ = writeln!(text, "{name}_count{labels} {count}");
        }
    }
}

fn write_value(text: &mut String, name: &str, suffix: &str, labels: &[String], value: f64) {
    let labels = braces(labels);
    let _ = writeln!(text, "{name}{suffix}{labels} {value}");
}

/// Returns the labels of a series, each as `name="value"`.
fn labels(series: &SeriesTotal) -> Vec<String> {
    let pairs = [("model", &series.model), ("version", &series.version)];
    let given = pairs
        .into_iter()
        .filter_map(|(name, value)| Some(label(name, value.as_deref()?)));
    given.collect()
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("{name}=\"{}\"", value.replace('\n', "\\n"))
}

fn with_label(labels: &[String], name: &str, value: &str) -> String {
    let more = [labels, &[label(name, value)]].concat();
    braces(&more)
}

fn braces(labels: &[String]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    format!("{{{}}}", labels.join(","))
}

fn scale(unit: Unit) -> f64 {
    match unit {
        Unit::Milliseconds => 1e-3,
        Unit::Count | Unit::Seconds | Unit::Bytes | Unit::None => 1.0,
    }
}

fn bounds(metric: &Definition) -> &'static [f64] {
    match (metric.kind, metric.unit) {
        (Kind::Category, _) => CATEGORIES,
        (_, Unit::Milliseconds | Unit::Seconds) => SECONDS,
        (_, Unit::None) => SHARES,
        (_, Unit::Count | Unit::Bytes) => COUNTS,
    }
}

/// Returns the name of a metric, such as `model_sidecar_inference_latency_seconds`.
fn name(metric: &Definition) -> String {
    let mut name = PREFIX.to_owned();
    for (place, c) in metric.name.chars().enumerate() {
        if c.is_ascii_uppercase() && place > 0 {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    let unit = match metric.unit {
        Unit::Milliseconds | Unit::Seconds => "_seconds",
        Unit::Bytes => "_bytes",
        Unit::Count | Unit::None => "",
    };
    if !name.ends_with(unit) {
        name.push_str(unit);
    }
    if metric.kind == Kind::Counter {
        name.push_str("_total");
    }
    name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn exported(name: &str, model: Option<&str>, total: Total) -> SeriesTotal {
        SeriesTotal {
            metric: defs::find(name).unwrap(),
            model: model.map(str::to_owned),
            version: None,
            total,
        }
    }

    #[test]
    fn series_of_a_metric_follow_its_help_and_type() {
        let mut active = exported("ActiveVersion", Some("b\"\\\n"), Total::Last(1.0));
        active.version = Some("7".to_owned());
        let text = text(vec![
            exported("SidecarMemory", None, Total::Last(1024.0)),
            active,
            exported("Inferences", Some("wine"), Total::Sum(3)),
            exported("Inferences", Some("beer"), Total::Sum(0)),
        ]);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "model_sidecar_inferences_total{model=\"beer\"} 0",
                "model_sidecar_inferences_total{model=\"wine\"} 3",
                r#"model_sidecar_active_version{model="b\"\\\n",version="7"} 1"#,
                "model_sidecar_sidecar_memory_bytes 1024",
            ]
        );
        assert!(text.starts_with(
            "# HELP model_sidecar_inferences_total inference requests that succeeded\n\
             # TYPE model_sidecar_inferences_total counter\n"
        ));
        assert_eq!(text.matches("# TYPE").count(), 3);
    }

    #[test]
    fn buckets_are_cumulative_and_in_seconds() {
        let values = vec![(0.25, 2), (1.0, 3), (60_000.0, 1)];
        let latency = exported("InferenceLatency", Some("m"), Total::Distribution(values));
        let text = text(vec![latency]);
        let name = "model_sidecar_inference_latency_seconds";
        for sample in [
            format!("{name}_bucket{{model=\"m\",le=\"0.0001\"}} 0\n"),
            format!("{name}_bucket{{model=\"m\",le=\"0.00025\"}} 2\n"),
            format!("{name}_bucket{{model=\"m\",le=\"0.001\"}} 5\n"),
            format!("{name}_bucket{{model=\"m\",le=\"30\"}} 5\n"),
            format!("{name}_bucket{{model=\"m\",le=\"+Inf\"}} 6\n"),
            format!("{name}_sum{{model=\"m\"}} 60.0035\n"),
            format!("{name}_count{{model=\"m\"}} 6\n"),
        ] {
            assert!(text.contains(&sample), "{sample}: {text}");
        }
    }

    #[test]
    fn names_are_valid_and_unique() {
        let names: BTreeSet<String> = defs::ALL.iter().map(name).collect();
        assert_eq!(names.len(), defs::ALL.len());
        let is_valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(
            names.iter().all(|name| name.chars().all(is_valid)),
            "{names:?}"
        );
        let bytes = name(defs::find("ModelFetchBytes").unwrap());
        assert_eq!(bytes, "model_sidecar_model_fetch_bytes_total");
    }
}

//! State of a fleet: what the environments of a function report to CloudWatch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model_sidecar::metrics::defs::{
    ACTIVE_VERSION, MODEL_AGE, MODEL_LABEL, MODEL_RELOAD_FAILURES, MODEL_ROLLBACKS,
    MODEL_VERSION_LAG, VERSION_LABEL,
};
use serde_json::{Value, json};

use super::series::{Minutes, Series, read, statistic};
use crate::console::Console;
use crate::context::Context;
use crate::document::Document;
use crate::list::table;
use crate::s3::date;

/// Options for the fleet.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FleetOptions {
    /// Show what the environments of this function report to CloudWatch
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Option<String>,
    /// Model of the function [default: all]
    #[arg(long, value_name = "NAME", requires = "function")]
    model: Option<String>,
    /// Minutes to look back
    #[arg(long, value_name = "NUMBER", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1440))]
    minutes: u32,
    /// Namespace of the metrics, as `MODEL_METRICS_NAMESPACE`
    #[arg(long, value_name = "NAME", default_value = "ModelSidecar")]
    namespace: String,
}

/// Metrics that are read. Others would cost money and are on the dashboard.
const METRICS: [&str; 5] = [
    ACTIVE_VERSION,
    MODEL_RELOAD_FAILURES,
    MODEL_ROLLBACKS,
    MODEL_AGE,
    MODEL_VERSION_LAG,
];

/// Reports of one model.
#[derive(Default)]
struct Model {
    /// Number of environments in each minute, by version.
    versions: BTreeMap<String, Minutes>,
    /// Other metrics of the model, with all their series combined.
    metrics: BTreeMap<&'static str, Minutes>,
}

impl Model {
    /// Sum of a counter, which is reported only when something is counted.
    fn sum(&self, metric: &str) -> f64 {
        let minutes = self.metrics.get(metric);
        minutes.map_or(0.0, |minutes| minutes.values().sum())
    }

    /// Value of a state in the newest minute that has one.
    fn newest(&self, metric: &str) -> Option<f64> {
        self.metrics.get(metric)?.values().next_back().copied()
    }
}

/// Reads and shows the reports of a function, and compares them with the manifest. `function` is that of the options.
pub(crate) async fn show(
    function: &str,
    options: &FleetOptions,
    document: &Document,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let end = UNIX_EPOCH + Duration::from_secs(now / 60 * 60 + 60);
    let range = (
        end - Duration::from_secs(60 * u64::from(options.minutes)),
        end,
    );
    let series = read(context, &options.namespace, function, &METRICS, range).await?;
    let models = models(series, options.model.as_deref());
    let minutes = options.minutes;
    console.line(format_args!(
        "\nfunction {function} in the last {minutes} minutes"
    ));
    if models.is_empty() {
        console.line("no environment has reported: nothing was invoked, or all invocations are younger than a minute");
    }
    let mut list = Vec::new();
    for (name, model) in &models {
        list.push(describe(name, model, document, console));
    }
    let notes = notes(&models, document);
    for note in &notes {
        console.line(format_args!("note: {note}"));
    }
    Ok(json!({
        "function": function,
        "namespace": options.namespace,
        "minutes": minutes,
        "models": list,
        "notes": notes,
    }))
}

/// Groups series by their model.
fn models(series: Vec<Series>, only: Option<&str>) -> BTreeMap<String, Model> {
    let mut models: BTreeMap<String, Model> = BTreeMap::new();
    for series in series {
        let Some(name) = series.dimensions.get(MODEL_LABEL) else {
            continue;
        };
        if series.minutes.is_empty() || only.is_some_and(|only| only != name) {
            continue;
        }
        let model = models.entry(name.clone()).or_default();
        let (minutes, is_state) = match series.dimensions.get(VERSION_LABEL) {
            Some(version) if series.metric == ACTIVE_VERSION => {
                (model.versions.entry(version.clone()).or_default(), false)
            }
            _ => {
                let is_state = statistic(series.metric) == "Maximum";
                (model.metrics.entry(series.metric).or_default(), is_state)
            }
        };
        for (minute, value) in series.minutes {
            let all = minutes.entry(minute).or_insert(0.0);
            *all = if is_state {
                all.max(value)
            } else {
                *all + value
            };
        }
    }
    models
}

/// Prints the versions and states of a model, and returns them as JSON.
fn describe(name: &str, model: &Model, document: &Document, console: &Console) -> Value {
    let mut rows = Vec::new();
    let mut versions = Vec::new();
    for (version, minutes) in &model.versions {
        let (newest, environments) = minutes.last_key_value().unwrap_or((&0, &0.0));
        let most = minutes.values().copied().fold(0.0, f64::max);
        let last = date(UNIX_EPOCH + Duration::from_secs(*newest));
        let roles = document.roles(version);
        rows.push([
            name.to_owned(),
            version.clone(),
            roles.join(", "),
            environments.to_string(),
            most.to_string(),
            last.clone(),
        ]);
        versions.push(json!({
            "version": version,
            "roles": roles,
            "environments": environments,
            "max_environments": most,
            "last_report": last,
        }));
    }
    let heading = [
        "model",
        "version",
        "role",
        "environments",
        "at most",
        "last report",
    ];
    table(heading, &rows, console);
    let (failures, rollbacks) = (model.sum(MODEL_RELOAD_FAILURES), model.sum(MODEL_ROLLBACKS));
    let (age, lag) = (model.newest(MODEL_AGE), model.newest(MODEL_VERSION_LAG));
    let seconds = |value: Option<f64>| match value {
        Some(value) => format!("{value:.0} s"),
        None => "an unknown time".to_owned(),
    };
    console.line(format_args!(
        "model {name}: rejected or failed versions {failures}, rollbacks {rollbacks}; last version check {} ago, \
         wanted version not active for {}",
        seconds(age),
        seconds(lag),
    ));
    json!({
        "model": name,
        "versions": versions,
        "reload_failures": failures,
        "rollbacks": rollbacks,
        "age_seconds": age,
        "version_lag_seconds": lag,
    })
}

/// Differences between the manifest and the fleet. With several models it is unknown which one the manifest is for.
fn notes(models: &BTreeMap<String, Model>, document: &Document) -> Vec<String> {
    let mut models = models.values();
    let (Some(model), None) = (models.next(), models.next()) else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    let canary = document.canary.as_ref().map(|canary| &canary.version);
    for wanted in [Some(&document.current), canary].into_iter().flatten() {
        if !model.versions.contains_key(wanted) {
            notes.push(format!("no environment reports version {wanted}"));
        }
    }
    let known: BTreeSet<&String> = document.versions.keys().collect();
    for version in model.versions.keys() {
        if !known.contains(version) {
            notes.push(format!(
                "environments report version {version}, which the manifest does not have"
            ));
        }
    }
    if model.newest(MODEL_VERSION_LAG).is_some_and(|lag| lag > 0.0) {
        notes.push("environments wait for a version that they cannot activate, or are loading it; look at their logs".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use model_sidecar::metrics::defs::FUNCTION_LABEL;

    use super::*;

    fn series(metric: &'static str, version: Option<&str>, minutes: &[(u64, f64)]) -> Series {
        let mut dimensions = BTreeMap::from([
            (FUNCTION_LABEL.to_owned(), "fraud".to_owned()),
            (MODEL_LABEL.to_owned(), "fraud".to_owned()),
        ]);
        dimensions.extend(version.map(|version| (VERSION_LABEL.to_owned(), version.to_owned())));
        Series {
            metric,
            dimensions,
            minutes: minutes.iter().copied().collect(),
        }
    }

    #[test]
    fn environments_add_up_and_the_largest_state_counts() {
        let series = vec![
            series(ACTIVE_VERSION, Some("2"), &[(60, 3.0), (120, 1.0)]),
            // Another value of a further dimension.
            series(ACTIVE_VERSION, Some("2"), &[(120, 4.0)]),
            series(ACTIVE_VERSION, Some("1"), &[]),
            series(MODEL_ROLLBACKS, None, &[(60, 1.0), (120, 2.0)]),
            series(MODEL_VERSION_LAG, Some("2"), &[(60, 900.0), (120, 7.0)]),
            series(MODEL_VERSION_LAG, None, &[(120, 9.0)]),
        ];
        let models = models(series, Some("fraud"));
        let model = &models["fraud"];
        assert_eq!(model.versions.len(), 1);
        assert_eq!(model.versions["2"], BTreeMap::from([(60, 3.0), (120, 5.0)]));
        assert!((model.sum(MODEL_ROLLBACKS) - 3.0).abs() < 1e-9);
        assert_eq!(model.newest(MODEL_VERSION_LAG), Some(9.0));
        assert_eq!(model.newest(MODEL_AGE), None);
    }

    #[test]
    fn only_the_asked_model_is_shown() {
        let all = vec![series(ACTIVE_VERSION, Some("2"), &[(60, 3.0)])];
        assert!(models(all, Some("wine")).is_empty());
    }
}

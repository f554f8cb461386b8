//! CloudWatch's metrics: the table, and its verification.

use anyhow::{Context as _, Result, ensure};
use lab::cloudwatch::{CloudWatch, Datapoint, Filter, Values};

use crate::console::{Console, grouped};
use crate::wine;

/// Names of function and model: the metrics' dimensions.
pub(crate) const FUNCTION: &str = "wine-demo";
pub(crate) const MODEL: &str = "wine";

/// Statistic shown for a metric.
#[derive(Clone, Copy)]
enum Shown {
    /// Sum of the observations.
    Sum,
    /// Number of observations, p50 and p99.
    Spread,
    /// The last observation.
    Last,
}

/// Rows of the table, in order; all must be present.
const TABLE: &[(&str, &str, Shown)] = &[
    ("Inferences", "Count", Shown::Sum),
    ("InferenceLatency", "Milliseconds", Shown::Spread),
    ("ColdStarts", "Count", Shown::Sum),
    ("ModelFetchBytes", "Bytes", Shown::Sum),
    ("ModelFetchTime", "Milliseconds", Shown::Spread),
    ("ModelLoadTime", "Milliseconds", Shown::Spread),
    ("ModelReloads", "Count", Shown::Sum),
    ("SidecarMemory", "Bytes", Shown::Last),
];

/// Metrics that count events which must not happen here.
const MISHAPS: [&str; 5] = [
    "InferenceErrors",
    "RejectedRequests",
    "ModelReloadFailures",
    "ModelCheckFailures",
    "ModelRollbacks",
];

fn ours(metric: &str) -> Filter {
    Filter::metric(metric)
        .namespace("ModelSidecar")
        .dimension("FunctionName", FUNCTION)
}

/// Number of inferences in CloudWatch.
pub(crate) fn inferences(cloudwatch: &CloudWatch) -> f64 {
    cloudwatch.sum(&ours("Inferences").dimension("ModelName", MODEL))
}

/// Minutes between the first inference and the last.
pub(crate) fn minutes_apart(cloudwatch: &CloudWatch) -> Result<u64> {
    let data = cloudwatch.datapoints(&ours("Inferences"));
    let minutes = data.iter().map(|one| one.timestamp);
    let (first, last) = (minutes.clone().min(), minutes.max());
    let (first, last) = first.zip(last).context("CloudWatch has no inferences")?;
    let minutes = last.duration_since(first)?.as_secs() / 60;
    ensure!(
        minutes >= 60,
        "CloudWatch has the inferences {minutes} minutes apart instead of an hour"
    );
    Ok(minutes)
}

/// Prints the table; fails if a metric is missing or has another unit.
pub(crate) fn table(cloudwatch: &CloudWatch, console: &Console) -> Result<()> {
    console.head(&format!(
        "{:<18} {:<13} {:>11} {:>9} {:>8} {:>8}",
        "metric", "unit", "value", "observed", "p50", "p99"
    ));
    for (name, unit, shown) in TABLE {
        let filter = ours(name);
        let data = cloudwatch.datapoints(&filter);
        let last = data
            .last()
            .with_context(|| format!("CloudWatch has no metric {name}"))?;
        ensure!(
            data.iter().all(|one| one.unit.as_deref() == Some(unit)),
            "{name} has a unit other than {unit}: {:?}",
            last.unit
        );
        let line = format!("{name:<18} {unit:<13}");
        match shown {
            Shown::Sum => {
                let sum = whole(cloudwatch.sum(&filter));
                console.row(&format!("{line} {:>11}", grouped(sum)));
            }
            Shown::Last => console.row(&format!(
                "{line} {:>11}",
                grouped(whole(newest(last, name)?))
            )),
            Shown::Spread => {
                let [p50, p99] =
                    [50.0, 99.0].map(|percent| cloudwatch.percentile(&filter, percent));
                let (p50, p99) = p50
                    .zip(p99)
                    .with_context(|| format!("{name} has no distribution: {:?}", last.values))?;
                let count = grouped(whole(cloudwatch.count(&filter)));
                console.row(&format!(
                    "{line} {:>11} {count:>9} {p50:>8.2} {p99:>8.2}",
                    ""
                ));
            }
        }
    }
    Ok(())
}

/// Verifies the values that do not depend on the machine.
pub(crate) fn check(cloudwatch: &CloudWatch) -> Result<()> {
    for name in MISHAPS {
        let count = cloudwatch.sum(&ours(name));
        ensure!(count == 0.0, "CloudWatch has {name} = {count}");
    }
    // Version 3 is version 1's file again, which is still in the cache.
    #[expect(clippy::cast_precision_loss, reason = "two models of a kilobyte")]
    let fetched = (wine::V1.len() + wine::V2.len()) as f64;
    for (name, expected) in [
        ("ColdStarts", 1.0),
        ("ModelReloads", 2.0),
        ("ModelFetchBytes", fetched),
    ] {
        let found = cloudwatch.sum(&ours(name));
        ensure!(
            (found - expected).abs() < 0.5,
            "CloudWatch has {name} = {found}, not {expected}"
        );
    }
    let refused = cloudwatch
        .requests()
        .into_iter()
        .find(|one| one.status != 200);
    ensure!(
        refused.is_none(),
        "CloudWatch rejected a request: {refused:?}"
    );
    Ok(())
}

fn newest(datapoint: &Datapoint, name: &str) -> Result<f64> {
    let value = match &datapoint.values {
        Values::Distribution(values) => values.last().map(|(value, _)| *value),
        Values::Statistics(set) => Some(set.maximum),
    };
    value.with_context(|| format!("{name} has no value"))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and sizes: never negative, far below 2^53"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value.round() as u64
}

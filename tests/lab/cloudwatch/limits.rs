//! Limits of `PutMetricData` and `MetricDatum`, after AWS's API reference.

use std::time::{Duration, SystemTime};

use super::error::CloudWatchError;
use super::wire::{Datum, Dimension, PutMetricData};

/// Maximum size of a decompressed request, in bytes.
pub(super) const LARGEST_REQUEST: usize = 1_000_000;
const METRICS_A_REQUEST: usize = 1000;
const DIMENSIONS_A_METRIC: usize = 30;
const VALUES_A_METRIC: usize = 150;
/// 2 to the power of 360.
const LARGEST_VALUE: f64 = 2.348_542_582_773_833_2e108;
const OLDEST: Duration = Duration::from_hours(14 * 24);
const FURTHEST_AHEAD: Duration = Duration::from_hours(2);

const UNITS: [&str; 27] = [
    "Bits",
    "Bits/Second",
    "Bytes",
    "Bytes/Second",
    "Count",
    "Count/Second",
    "Gigabits",
    "Gigabits/Second",
    "Gigabytes",
    "Gigabytes/Second",
    "Kilobits",
    "Kilobits/Second",
    "Kilobytes",
    "Kilobytes/Second",
    "Megabits",
    "Megabits/Second",
    "Megabytes",
    "Megabytes/Second",
    "Microseconds",
    "Milliseconds",
    "None",
    "Percent",
    "Seconds",
    "Terabits",
    "Terabits/Second",
    "Terabytes",
    "Terabytes/Second",
];

pub(super) fn check(input: &PutMetricData, now: SystemTime) -> Result<(), CloudWatchError> {
    namespace(input.namespace.as_deref())?;
    match input.metric_data.len() {
        0 => return Err(CloudWatchError::missing("MetricData")),
        1..=METRICS_A_REQUEST => {}
        count => {
            return Err(CloudWatchError::invalid_value(format!(
                "The collection MetricData must not have a size greater than \
                 {METRICS_A_REQUEST}, it has {count}."
            )));
        }
    }
    let mut metrics = input.metric_data.iter().enumerate();
    metrics.try_for_each(|(index, metric)| {
        datum(&format!("MetricData.member.{}", index + 1), metric, now)
    })
}

fn namespace(namespace: Option<&str>) -> Result<(), CloudWatchError> {
    let namespace = namespace.ok_or_else(|| CloudWatchError::missing("Namespace"))?;
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-/#: ".contains(letter);
    let is_valid = (1..=255).contains(&namespace.len())
        && namespace.chars().all(allowed)
        && !namespace.starts_with(':')
        && !namespace.trim().is_empty();
    if !is_valid {
        return Err(CloudWatchError::invalid_value(format!(
            "The value {namespace:?} for parameter Namespace is invalid."
        )));
    }
    if namespace.starts_with("AWS/") {
        return Err(CloudWatchError::invalid_value(format!(
            "The value {namespace} for parameter Namespace is invalid: AWS/ is reserved."
        )));
    }
    Ok(())
}

fn datum(place: &str, datum: &Datum, now: SystemTime) -> Result<(), CloudWatchError> {
    let name = datum
        .metric_name
        .as_ref()
        .ok_or_else(|| CloudWatchError::missing(&format!("{place}.MetricName")))?;
    length(&format!("{place}.MetricName"), name, 255)?;
    dimensions(place, &datum.dimensions)?;
    values(place, datum)?;
    if let Some(unit) = &datum.unit
        && !UNITS.contains(&unit.as_str())
    {
        return Err(CloudWatchError::invalid_value(format!(
            "The parameter {place}.Unit must be a value in the set {UNITS:?}, it is {unit:?}."
        )));
    }
    if let Some(seconds) = datum.storage_resolution
        && seconds != 1
        && seconds != 60
    {
        return Err(CloudWatchError::invalid_value(format!(
            "The parameter {place}.StorageResolution must be 1 or 60, it is {seconds}."
        )));
    }
    if let Some(time) = datum.timestamp {
        let oldest = now.checked_sub(OLDEST);
        let is_taken =
            oldest.is_none_or(|oldest| time.0 >= oldest) && time.0 <= now + FURTHEST_AHEAD;
        if !is_taken {
            return Err(CloudWatchError::invalid_value(format!(
                "The parameter {place}.Timestamp must be at most two weeks in the past and two \
                 hours in the future."
            )));
        }
    }
    Ok(())
}

fn dimensions(place: &str, dimensions: &[Dimension]) -> Result<(), CloudWatchError> {
    if dimensions.len() > DIMENSIONS_A_METRIC {
        return Err(CloudWatchError::invalid_value(format!(
            "The collection {place}.Dimensions must not have a size greater than \
             {DIMENSIONS_A_METRIC}, it has {}.",
            dimensions.len()
        )));
    }
    for (index, dimension) in dimensions.iter().enumerate() {
        let place = format!("{place}.Dimensions.member.{}", index + 1);
        let (Some(name), Some(value)) = (&dimension.name, &dimension.value) else {
            return Err(CloudWatchError::missing(&format!(
                "{place}.Name and .Value"
            )));
        };
        length(&format!("{place}.Name"), name, 255)?;
        length(&format!("{place}.Value"), value, 1024)?;
        if name.starts_with(':') {
            return Err(CloudWatchError::invalid_value(format!(
                "The parameter {place}.Name must not start with a colon."
            )));
        }
        let same = |other: &Dimension| other.name.as_ref() == Some(name);
        if dimensions[..index].iter().any(same) {
            return Err(CloudWatchError::invalid_value(format!(
                "The parameter {place}.Name must be unique, {name} is not."
            )));
        }
    }
    Ok(())
}

fn values(place: &str, datum: &Datum) -> Result<(), CloudWatchError> {
    let forms = [
        datum.value.is_some(),
        datum.statistic_values.is_some(),
        datum.values.is_some(),
    ];
    match forms.iter().filter(|is_given| **is_given).count() {
        0 => {
            return Err(CloudWatchError::invalid_combination(format!(
                "One of the parameters {place}.Value, .Values and .StatisticValues must be given."
            )));
        }
        1 => {}
        _ => {
            return Err(CloudWatchError::invalid_combination(format!(
                "Only one of the parameters {place}.Value, .Values and .StatisticValues may be \
                 given."
            )));
        }
    }
    if let Some(value) = datum.value {
        number(&format!("{place}.Value"), value)?;
    }
    if let Some(set) = datum.statistic_values {
        for value in [set.sample_count, set.sum, set.minimum, set.maximum] {
            number(&format!("{place}.StatisticValues"), value)?;
        }
        if set.minimum > set.maximum || set.sample_count <= 0.0 {
            return Err(CloudWatchError::invalid_value(format!(
                "The parameter {place}.StatisticValues is inconsistent: {set:?}."
            )));
        }
    }
    distribution(place, datum.values.as_deref(), datum.counts.as_deref())
}

fn distribution(
    place: &str,
    values: Option<&[f64]>,
    counts: Option<&[f64]>,
) -> Result<(), CloudWatchError> {
    let Some(values) = values else {
        return match counts {
            None => Ok(()),
            Some(_) => Err(CloudWatchError::invalid_combination(format!(
                "The parameter {place}.Counts may not be given without {place}.Values."
            ))),
        };
    };
    if values.is_empty() || values.len() > VALUES_A_METRIC {
        return Err(CloudWatchError::invalid_value(format!(
            "The collection {place}.Values must have a size from 1 to {VALUES_A_METRIC}, it has {}.",
            values.len()
        )));
    }
    for value in values {
        number(&format!("{place}.Values"), *value)?;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup();
    if sorted.len() < values.len() {
        return Err(CloudWatchError::invalid_value(format!(
            "The collection {place}.Values must hold distinct values."
        )));
    }
    let Some(counts) = counts else {
        return Ok(());
    };
    if counts.len() != values.len() {
        return Err(CloudWatchError::invalid_value(format!(
            "The collections {place}.Values ({}) and {place}.Counts ({}) must have the same size.",
            values.len(),
            counts.len()
        )));
    }
    if counts
        .iter()
        .any(|count| !count.is_finite() || *count <= 0.0)
    {
        return Err(CloudWatchError::invalid_value(format!(
            "The collection {place}.Counts must hold positive numbers."
        )));
    }
    Ok(())
}

fn number(place: &str, value: f64) -> Result<(), CloudWatchError> {
    if value.is_finite() && value.abs() <= LARGEST_VALUE {
        Ok(())
    } else {
        Err(CloudWatchError::invalid_value(format!(
            "The value {value} for parameter {place} is invalid: NaN, infinities and numbers \
             beyond 2^360 are not taken."
        )))
    }
}

fn length(place: &str, text: &str, most: usize) -> Result<(), CloudWatchError> {
    let is_ascii = text.chars().all(|letter| (' '..='~').contains(&letter));
    if (1..=most).contains(&text.len()) && is_ascii && !text.trim().is_empty() {
        Ok(())
    } else {
        Err(CloudWatchError::invalid_value(format!(
            "The value {text:?} for parameter {place} must be 1 to {most} printable ASCII letters."
        )))
    }
}

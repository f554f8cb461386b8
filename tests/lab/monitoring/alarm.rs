//! Alarms, evaluated as `CloudWatch` does.
//!
//! Source: `CloudWatch` user guide, "Evaluating an alarm" and "Percentile-based alarms and low data samples". A
//! simplification: `CloudWatch` evaluates at its own times, and reads a few periods more than it evaluates.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::expression::{self, Operand};
use super::{Parameters, substitute};
use crate::cloudwatch::{Datapoint, Points, Statistic, aggregate};

/// State of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmState {
    /// The threshold is kept.
    Ok,
    /// The threshold is breached.
    Alarm,
}

/// An alarm of `alarms.json`, with values for its placeholders.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_field_names, reason = "the names of CloudWatch's API")]
pub struct Alarm {
    /// Name.
    pub alarm_name: String,
    /// Meaning, and the place of the runbook.
    pub alarm_description: String,
    comparison_operator: Comparison,
    threshold: Value,
    evaluation_periods: u64,
    datapoints_to_alarm: usize,
    treat_missing_data: Missing,
    evaluate_low_sample_count_percentile: Option<LowSamples>,
    #[serde(flatten)]
    rule: Rule,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Comparison {
    GreaterThanThreshold,
    LessThanThreshold,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Missing {
    #[serde(rename = "notBreaching")]
    NotBreaching,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum LowSamples {
    #[serde(rename = "ignore")]
    Ignore,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Rule {
    #[serde(rename_all = "PascalCase")]
    Expression { metrics: Vec<Query> },
    #[serde(rename_all = "PascalCase")]
    Metric {
        #[serde(flatten)]
        metric: Metric,
        period: u64,
        statistic: Option<String>,
        extended_statistic: Option<String>,
    },
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_field_names, reason = "the names of CloudWatch's API")]
struct Metric {
    namespace: String,
    metric_name: String,
    dimensions: Vec<Dimension>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Dimension {
    name: String,
    value: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Query {
    id: String,
    expression: Option<String>,
    metric_stat: Option<MetricStat>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetricStat {
    metric: Metric,
    period: u64,
    stat: String,
}

impl Alarm {
    /// Reads `alarms.json` and substitutes its placeholders. The result is ordered by the logical ids.
    ///
    /// # Errors
    /// A property that is missing or that this evaluation does not know.
    pub fn read(text: &str, parameters: &Parameters) -> Result<Vec<Self>> {
        let text = substitute(text, parameters);
        let alarms: BTreeMap<String, Self> =
            serde_json::from_str(&text).context("cannot read the alarms")?;
        Ok(alarms.into_values().collect())
    }

    /// Threshold.
    ///
    /// # Errors
    /// A placeholder without a value.
    pub fn threshold(&self) -> Result<f64> {
        let text = self.threshold.as_str();
        let number = text.map_or_else(|| self.threshold.as_f64(), |text| text.parse().ok());
        number.with_context(|| {
            format!(
                "the threshold of {} is {}, not a number",
                self.alarm_name, self.threshold
            )
        })
    }

    /// Evaluates the last complete periods at the time `now`.
    ///
    /// # Errors
    /// An unknown statistic, or an expression that cannot be evaluated.
    pub fn evaluate(
        &self,
        data: &[Datapoint],
        now: SystemTime,
        previous: AlarmState,
    ) -> Result<AlarmState> {
        let period = self.period()?;
        let this = seconds(now) / period * period;
        let times: Vec<u64> = (1..=self.evaluation_periods)
            .rev()
            .filter_map(|back| this.checked_sub(back * period))
            .collect();
        if self.has_few_samples(data, &times)? {
            return Ok(previous);
        }
        let values = self.values(data, &times)?;
        let threshold = self.threshold()?;
        let breaches = |time: &&u64| match (values.get(time), self.treat_missing_data) {
            (Some(value), _) => match self.comparison_operator {
                Comparison::GreaterThanThreshold => *value > threshold,
                Comparison::LessThanThreshold => *value < threshold,
            },
            (None, Missing::NotBreaching) => false,
        };
        let breaching = times.iter().filter(breaches).count();
        Ok(if breaching >= self.datapoints_to_alarm {
            AlarmState::Alarm
        } else {
            AlarmState::Ok
        })
    }

    /// Names of the metrics.
    #[must_use]
    pub fn metrics(&self) -> Vec<&str> {
        match &self.rule {
            Rule::Metric { metric, .. } => vec![&metric.metric_name],
            Rule::Expression { metrics } => metrics
                .iter()
                .filter_map(|query| Some(query.metric_stat.as_ref()?.metric.metric_name.as_str()))
                .collect(),
        }
    }

    fn period(&self) -> Result<u64> {
        let period = match &self.rule {
            Rule::Metric { period, .. } => Some(*period),
            Rule::Expression { metrics } => metrics
                .iter()
                .find_map(|query| Some(query.metric_stat.as_ref()?.period)),
        };
        let period = period.context("an expression without metrics")?;
        ensure!(period > 0, "{} has a period of 0 s", self.alarm_name);
        Ok(period)
    }

    fn values(&self, data: &[Datapoint], times: &[u64]) -> Result<Points> {
        match &self.rule {
            Rule::Metric {
                metric,
                period,
                statistic,
                extended_statistic,
            } => {
                let name = statistic.as_ref().or(extended_statistic.as_ref());
                let name = name.with_context(|| format!("{} has no statistic", self.alarm_name))?;
                metric.points(data, name, *period)
            }
            Rule::Expression { metrics } => {
                let mut series = BTreeMap::new();
                let mut result = None;
                for query in metrics {
                    if let Some(stat) = &query.metric_stat {
                        let points = stat.metric.points(data, &stat.stat, stat.period)?;
                        // Only what is evaluated, so that the result has no other period.
                        let within = points.into_iter().filter(|(time, _)| times.contains(time));
                        series.insert(query.id.clone(), within.collect());
                    } else {
                        result = query.expression.as_deref();
                    }
                }
                let expression = result.context("an alarm without an expression")?;
                match expression::evaluate(expression, &series, times)? {
                    Operand::Series(points) => Ok(points),
                    Operand::Scalar(_) => anyhow::bail!("{expression} is one number"),
                }
            }
        }
    }

    /// Returns `true` if a percentile has too few samples in the evaluated periods.
    fn has_few_samples(&self, data: &[Datapoint], times: &[u64]) -> Result<bool> {
        let (
            Some(LowSamples::Ignore),
            Rule::Metric {
                metric,
                period,
                extended_statistic: Some(name),
                ..
            },
        ) = (self.evaluate_low_sample_count_percentile, &self.rule)
        else {
            return Ok(false);
        };
        let Statistic::Percentile(percent) = name.parse()? else {
            return Ok(false);
        };
        let share = percent / 100.0;
        let needed = 10.0 / if share < 0.5 { share } else { 1.0 - share };
        let counts = metric.points(data, "SampleCount", *period)?;
        let samples: f64 = times.iter().filter_map(|time| counts.get(time)).sum();
        // Periods without any data are missing, and not few samples. The quotient has a rounding error.
        Ok(samples > 0.0 && samples < needed - 1e-6)
    }
}

impl Metric {
    fn points(&self, data: &[Datapoint], statistic: &str, period: u64) -> Result<Points> {
        let has = |datapoint: &Datapoint, dimension: &Dimension| {
            datapoint.dimensions.get(&dimension.name) == Some(&dimension.value)
        };
        let ours: Vec<&Datapoint> = data
            .iter()
            .filter(|one| {
                one.namespace == self.namespace
                    && one.name == self.metric_name
                    && one.dimensions.len() == self.dimensions.len()
                    && self.dimensions.iter().all(|dimension| has(one, dimension))
            })
            .collect();
        Ok(aggregate(&ours, statistic.parse()?, period))
    }
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

//! Alarms.
//!
//! All alarms evaluate three periods of 300 s, and treat missing data as not breaching: an endpoint without traffic
//! sends nothing. A percentile of few samples is ignored; CloudWatch's limit is 10/(1-p) samples for p99 and 10/p for
//! p10, so 1,000 and 100. Rates and levels must breach in all three periods. One period is enough for
//! rejections and rollbacks, which are events that the sidecar sends at once. The same holds for drift: each value sums
//! up at least 50 rows per bin.

use model_sidecar::metrics::defs;
use serde_json::{Map, Value, json};

use crate::dashboard;
use crate::lambda;
use crate::series::{Metric, Statistic};

/// Seconds of a period.
pub const PERIOD: u32 = 300;
/// Number of periods that an alarm evaluates.
pub const PERIODS: u32 = 3;

/// Values that an alarm compares with its threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// One metric.
    Metric(Metric, Statistic),
    /// An expression over metrics with ids.
    Expression {
        /// Expression of CloudWatch's metric math.
        expression: &'static str,
        /// Unit and meaning of the result.
        label: &'static str,
        /// Id, metric and statistic of each operand.
        metrics: Vec<(&'static str, Metric, Statistic)>,
    },
}

impl Rule {
    /// Returns the metrics with their statistics.
    #[must_use]
    pub fn metrics(&self) -> Vec<(&Metric, Statistic)> {
        match self {
            Self::Metric(metric, statistic) => vec![(metric, statistic)],
            Self::Expression { metrics, .. } => metrics
                .iter()
                .map(|(_, metric, statistic)| (metric, *statistic))
                .collect(),
        }
    }
}

/// Direction of a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Values above the threshold breach.
    Above,
    /// Values below the threshold breach.
    Below,
}

/// One alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Logical id in `alarms.json` and, followed by `Alarm`, in the template.
    pub id: &'static str,
    /// End of the alarm's name, and its key in `docs/troubleshooting.md`.
    pub name: &'static str,
    /// Meaning of the state ALARM.
    pub meaning: &'static str,
    /// Compared values.
    pub rule: Rule,
    /// Direction of the threshold.
    pub breach: Breach,
    /// Name of the parameter with the threshold; `None` for zero.
    pub threshold: Option<&'static str>,
    /// Number of periods, of the last [`PERIODS`], that must breach.
    pub breaching_periods: u32,
}

impl Alarm {
    fn new(id: &'static str, name: &'static str, meaning: &'static str, rule: Rule) -> Self {
        Self {
            id,
            name,
            meaning,
            rule,
            breach: Breach::Above,
            threshold: None,
            breaching_periods: PERIODS,
        }
    }

    fn below(mut self) -> Self {
        self.breach = Breach::Below;
        self
    }

    fn threshold(mut self, parameter: &'static str) -> Self {
        self.threshold = Some(parameter);
        self
    }

    /// Makes one period enough, for values that are rare and final.
    fn at_once(mut self) -> Self {
        self.breaching_periods = 1;
        self
    }

    /// Returns the threshold, as a placeholder or a number.
    #[must_use]
    pub fn threshold_value(&self) -> Value {
        self.threshold
            .map_or_else(|| 0.into(), |name| format!("${{{name}}}").into())
    }
}

/// Returns all alarms.
#[must_use]
pub fn all() -> Vec<Alarm> {
    [
        of_requests(),
        of_versions(),
        of_predictions(),
        of_the_environment(),
    ]
    .concat()
}

/// Alarms of requests.
fn of_requests() -> Vec<Alarm> {
    vec![
        Alarm::new(
            "ErrorRate",
            "error-rate",
            "Inference requests fail on the server side.",
            Rule::Expression {
                expression: "100 * FILL(failed, 0) / (FILL(failed, 0) + FILL(succeeded, 0))",
                label: "failed inference requests in percent",
                metrics: vec![
                    ("failed", Metric::sidecar(defs::INFERENCE_ERRORS), "Sum"),
                    ("succeeded", Metric::sidecar(defs::INFERENCES), "Sum"),
                ],
            },
        )
        .threshold("ErrorPercent"),
        Alarm::new(
            "Throttles",
            "throttles",
            "Lambda rejects invocations because concurrency is used up.",
            Rule::Metric(Metric::lambda(lambda::THROTTLES), "Sum"),
        ),
        Alarm::new(
            "LatencyP99",
            "latency-p99",
            "One percent of the inference requests are slow.",
            Rule::Metric(Metric::sidecar(defs::INFERENCE_LATENCY), "p99"),
        )
        .threshold("LatencyP99Milliseconds"),
    ]
}

/// Alarms of model versions.
fn of_versions() -> Vec<Alarm> {
    vec![
        Alarm::new(
            "Staleness",
            "staleness",
            "Version checks fail: a new version would not be seen.",
            Rule::Metric(Metric::sidecar(defs::MODEL_AGE), "Maximum"),
        )
        .threshold("StalenessSeconds"),
        Alarm::new(
            "RejectedVersion",
            "rejected-version",
            "A published version cannot become active.",
            Rule::Metric(Metric::sidecar(defs::MODEL_RELOAD_FAILURES), "Sum"),
        )
        .at_once(),
        Alarm::new(
            "Rollback",
            "rollback",
            "A version was active and failed: the previous version is active again.",
            Rule::Metric(Metric::sidecar(defs::MODEL_ROLLBACKS), "Sum"),
        )
        .at_once(),
        Alarm::new(
            "VersionSkew",
            "version-skew",
            "An environment serves another version than the wanted one.",
            Rule::Metric(Metric::sidecar(defs::MODEL_VERSION_LAG), "Maximum"),
        )
        .threshold("VersionLagSeconds"),
    ]
}

/// Alarms of predictions and of drift.
fn of_predictions() -> Vec<Alarm> {
    vec![
        Alarm::new(
            "Confidence",
            "confidence-p10",
            "The model is unsure of many predictions.",
            Rule::Metric(Metric::sidecar(defs::PREDICTION_CONFIDENCE), "p10"),
        )
        .below()
        .threshold("ConfidenceP10"),
        Alarm::new(
            "FeatureDrift",
            "feature-drift",
            "A feature's values differ from those of the training data.",
            Rule::Metric(Metric::sidecar(defs::FEATURE_DRIFT_WORST), "Maximum"),
        )
        .at_once()
        .threshold("DriftIndex"),
        Alarm::new(
            "PredictionDrift",
            "prediction-drift",
            "The predictions are distributed unlike those of the training data.",
            Rule::Metric(Metric::sidecar(defs::PREDICTION_DRIFT), "Maximum"),
        )
        .at_once()
        .threshold("DriftIndex"),
    ]
}

/// Alarms of the execution environment.
fn of_the_environment() -> Vec<Alarm> {
    vec![
        Alarm::new(
            "Memory",
            "memory",
            "The sidecar occupies most of the function's memory.",
            Rule::Expression {
                expression: "100 * resident / (1048576 * ${MemorySize})",
                label: "resident memory in percent of the memory size",
                metrics: vec![("resident", Metric::sidecar(defs::SIDECAR_MEMORY), "Maximum")],
            },
        )
        .threshold("MemoryPercent"),
        Alarm::new(
            "PostRuntimeExtensions",
            "post-runtime-extensions",
            "Extensions hold invocations open after the response, and this time is billed.",
            Rule::Metric(
                Metric::lambda(lambda::POST_RUNTIME_EXTENSIONS_DURATION),
                "Average",
            ),
        )
        .threshold("PostRuntimeExtensionsMilliseconds"),
    ]
}

/// Returns the ARN of each alarm, with the tokens of the dashboard's variables in its name.
pub(crate) fn arns() -> Vec<String> {
    let prefix = "arn:${Partition}:cloudwatch:${Region}:${AccountId}:alarm";
    let name = |alarm: Alarm| tokens(&full_name(&alarm));
    let arn = |alarm| format!("{prefix}:{}", name(alarm));
    all().into_iter().map(arn).collect()
}

fn full_name(alarm: &Alarm) -> String {
    format!("${{FunctionName}}-${{ModelName}}-{}", alarm.name)
}

/// Replaces the placeholders of names by the tokens that the dashboard's variables replace.
fn tokens(text: &str) -> String {
    names()
        .iter()
        .fold(text.to_owned(), |text, (token, placeholder)| {
            text.replace(placeholder, token)
        })
}

/// Replaces tokens by placeholders: an alarm has one function and one model.
fn placeholders(text: &str) -> String {
    names()
        .iter()
        .fold(text.to_owned(), |text, (token, placeholder)| {
            text.replace(token, placeholder)
        })
}

fn names() -> [(&'static str, &'static str); 3] {
    [
        (dashboard::FUNCTION, "${FunctionName}"),
        (dashboard::ALIAS, "${Alias}"),
        (dashboard::MODEL, "${ModelName}"),
    ]
}

/// Returns the properties of each alarm by its logical id, with the placeholders of [`crate::parameters`].
#[must_use]
pub fn properties() -> Value {
    let each = |alarm: Alarm| (alarm.id.to_owned(), alarm_properties(&alarm));
    Value::Object(all().into_iter().map(each).collect())
}

fn alarm_properties(alarm: &Alarm) -> Value {
    let mut properties = Map::new();
    let mut set = |name: &str, value: Value| properties.insert(name.to_owned(), value);
    set("AlarmName", full_name(alarm).into());
    let description = format!(
        "{} Runbook: docs/troubleshooting.md, alarm {}.",
        alarm.meaning, alarm.name
    );
    set("AlarmDescription", description.into());
    set(
        "ComparisonOperator",
        match alarm.breach {
            Breach::Above => "GreaterThanThreshold",
            Breach::Below => "LessThanThreshold",
        }
        .into(),
    );
    set("Threshold", alarm.threshold_value());
    set("EvaluationPeriods", PERIODS.into());
    set("DatapointsToAlarm", alarm.breaching_periods.into());
    set("TreatMissingData", "notBreaching".into());
    match &alarm.rule {
        Rule::Metric(metric, statistic) => {
            set("Namespace", metric.namespace.into());
            set("MetricName", metric.name.into());
            set("Dimensions", dimensions(metric));
            set("Period", PERIOD.into());
            if is_percentile(statistic) {
                set("ExtendedStatistic", json!(statistic));
                set("EvaluateLowSampleCountPercentile", "ignore".into());
            } else {
                set("Statistic", json!(statistic));
            }
        }
        Rule::Expression {
            expression,
            label,
            metrics,
        } => {
            let operands = metrics.iter().map(|(id, metric, statistic)| {
                json!({
                    "Id": id,
                    "MetricStat": {
                        "Metric": {
                            "Namespace": metric.namespace,
                            "MetricName": metric.name,
                            "Dimensions": dimensions(metric),
                        },
                        "Period": PERIOD,
                        "Stat": statistic,
                    },
                    "ReturnData": false,
                })
            });
            let result = json!({
                "Id": "result", "Expression": expression, "Label": label, "ReturnData": true,
            });
            set("Metrics", operands.chain([result]).collect());
        }
    }
    Value::Object(properties)
}

fn dimensions(metric: &Metric) -> Value {
    let each = metric
        .dimensions
        .iter()
        .map(|(name, value)| json!({"Name": name, "Value": placeholders(value)}));
    each.collect()
}

/// Returns `true` for a statistic such as `p99`, which is an `ExtendedStatistic`.
fn is_percentile(statistic: &str) -> bool {
    statistic.starts_with('p')
}

//! Parameters of the dashboard and the alarms: placeholders `${Name}` in the files, and parameters of the template.

/// Type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text that matches a regular expression.
    Text(&'static str),
    /// Number that is not negative.
    Number,
}

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Name of the placeholder.
    pub name: &'static str,
    /// Type of the value.
    pub kind: Kind,
    /// Default; `None` if a value is required. Numbers are texts, which no tool rounds or writes with an exponent.
    pub default: Option<&'static str>,
    /// Meaning, with the unit.
    pub meaning: &'static str,
}

impl Parameter {
    /// Returns the placeholder of the parameter.
    #[must_use]
    pub fn placeholder(&self) -> String {
        format!("${{{}}}", self.name)
    }
}

const fn text(
    name: &'static str,
    pattern: &'static str,
    default: Option<&'static str>,
    meaning: &'static str,
) -> Parameter {
    Parameter {
        name,
        kind: Kind::Text(pattern),
        default,
        meaning,
    }
}

const fn number(name: &'static str, default: &'static str, meaning: &'static str) -> Parameter {
    Parameter {
        name,
        kind: Kind::Number,
        default: Some(default),
        meaning,
    }
}

/// All parameters, in the order of the template.
pub const ALL: &[Parameter] = &[
    text(
        "FunctionName",
        "[A-Za-z0-9_-]{1,64}",
        None,
        "Name of the function, without alias",
    ),
    text(
        "Alias",
        "[A-Za-z0-9_-]{1,128}",
        Some("live"),
        "Alias of the function, for the metrics of provisioned concurrency",
    ),
    text(
        "ModelName",
        "[A-Za-z0-9._-]{1,255}",
        None,
        "Name of the model: the dimension ModelName of the metrics",
    ),
    text(
        "Namespace",
        "[A-Za-z0-9._/#-]{1,255}",
        Some("ModelSidecar"),
        "Namespace of the sidecar's metrics (MODEL_METRICS_NAMESPACE)",
    ),
    number(
        "MemorySize",
        "1769",
        "Memory size of the function in MB, for cost and for the memory alarm",
    ),
    number(
        "PricePerGbSecond",
        "0.0000166667",
        "Price of a GB-second in dollars; the default is on demand, x86_64, us-east-1",
    ),
    number(
        "PricePerMillionRequests",
        "0.20",
        "Price of a million invocations in dollars",
    ),
    number(
        "ErrorPercent",
        "1",
        "Threshold of the error rate, in percent of inference requests",
    ),
    number(
        "LatencyP99Milliseconds",
        "1000",
        "Threshold of the p99 of the inference latency",
    ),
    number(
        "StalenessSeconds",
        "900",
        "Threshold of the time since the last successful version check",
    ),
    number(
        "VersionLagSeconds",
        "900",
        "Threshold of the time for which an environment serves another version than the wanted one",
    ),
    number(
        "ConfidenceP10",
        "0.5",
        "Threshold below which the p10 of the prediction confidence is an alarm",
    ),
    number(
        "DriftIndex",
        "0.25",
        "Threshold of the population stability index of features and predictions",
    ),
    number(
        "MemoryPercent",
        "80",
        "Threshold of the sidecar's memory, in percent of MemorySize",
    ),
    number(
        "PostRuntimeExtensionsMilliseconds",
        "100",
        "Threshold of the mean time for which extensions hold an invocation open",
    ),
];

/// Placeholders that each tool fills from its context: region, account and partition.
pub const CONTEXT: [(&str, &str); 3] = [
    ("Region", "AWS::Region"),
    ("AccountId", "AWS::AccountId"),
    ("Partition", "AWS::Partition"),
];

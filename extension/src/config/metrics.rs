//! Settings of the metrics: destination and dimensions.

use super::models::ModelSettings;
use super::units::VariableReader;
use super::version_choice;

/// Destination of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsSink {
    /// CloudWatch, with `PutMetricData`.
    CloudWatch,
    /// The log, in Embedded Metric Format, from which CloudWatch creates metrics.
    Emf,
    /// No destination.
    None,
}

/// Dimensions in addition to `FunctionName` and `ModelName`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsDimensions {
    /// Names and values that are the same for all environments of a deployment.
    pub constants: Vec<(String, String)>,
    /// `true` if every metric of a model has the dimension `ModelVersion`.
    pub has_version: bool,
}

/// Dimensions with the variable that has the value.
const OF_ENVIRONMENT: [(&str, &str); 3] = [
    ("FunctionVersion", "AWS_LAMBDA_FUNCTION_VERSION"),
    ("MemorySize", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
    ("Region", "AWS_REGION"),
];
/// Dimension of the version.
const VERSION: &str = "ModelVersion";
/// Names of dimensions and properties that the sidecar sets itself.
const RESERVED: [&str; 6] = [
    "FunctionName",
    "ModelName",
    VERSION,
    "_aws",
    "timestamp",
    "level",
];
/// Maximum number of further dimensions.
const MAX_DIMENSIONS: usize = 5;
/// Maximum length of a name, as CloudWatch has it.
const MAX_NAME: usize = 255;
/// Maximum length of a value, as CloudWatch has it.
const MAX_VALUE: usize = 1024;

/// Reads `MODEL_METRICS`.
pub(super) fn read_sink(reader: &mut VariableReader<'_>) -> MetricsSink {
    let choices = [
        ("cloudwatch", MetricsSink::CloudWatch),
        ("emf", MetricsSink::Emf),
        ("none", MetricsSink::None),
    ];
    let sink = reader.choice("MODEL_METRICS", &choices);
    sink.unwrap_or(MetricsSink::CloudWatch)
}

/// Reads `MODEL_CONFIDENCE_OUTPUT`, and sets the output of each model.
pub(super) fn read_confidence_outputs(
    reader: &mut VariableReader<'_>,
    models: &mut [ModelSettings],
) {
    if models.is_empty() {
        return;
    }
    for (name, output) in version_choice::values(reader, "MODEL_CONFIDENCE_OUTPUT", models) {
        if let Some(model) = models.iter_mut().find(|model| model.name == name) {
            model.confidence_output = Some(output);
        }
    }
}

/// Reads `MODEL_METRICS_DIMENSIONS`.
pub(super) fn read_dimensions(reader: &mut VariableReader<'_>) -> MetricsDimensions {
    let mut dimensions = MetricsDimensions::default();
    let Some(text) = reader.text("MODEL_METRICS_DIMENSIONS") else {
        return dimensions;
    };
    for entry in text.split(',').map(str::trim) {
        if let Err(reason) = add(entry, &mut dimensions, reader) {
            let known = OF_ENVIRONMENT.map(|(name, _)| name).join(", ");
            let allowed = format!(
                "NAME=VALUE, {known} or {VERSION}, at most {MAX_DIMENSIONS}, separated by commas; {entry:?} {reason}"
            );
            reader.wrong("MODEL_METRICS_DIMENSIONS", text, &allowed);
        }
    }
    dimensions
}

/// Adds the dimension of one entry. The error is the reason why it is invalid.
fn add(
    entry: &str,
    dimensions: &mut MetricsDimensions,
    reader: &VariableReader<'_>,
) -> Result<(), &'static str> {
    let count = dimensions.constants.len() + usize::from(dimensions.has_version);
    if count == MAX_DIMENSIONS {
        return Err("is one too many");
    }
    if entry == VERSION {
        if std::mem::replace(&mut dimensions.has_version, true) {
            return Err("is named twice");
        }
        return Ok(());
    }
    let of_environment = OF_ENVIRONMENT.iter().find(|(name, _)| *name == entry);
    let (name, value) = match (entry.split_once('='), of_environment) {
        // Outside Lambda, the variable may be missing.
        (_, Some((name, variable))) => match reader.text(variable) {
            Some(value) => (*name, value),
            None => return Ok(()),
        },
        (Some((name, value)), None) => (name.trim(), value.trim()),
        (None, None) => return Err("has no value, and could have one for each environment"),
    };
    let is_known = OF_ENVIRONMENT.iter().any(|(known, _)| *known == name);
    if RESERVED.contains(&name) || (is_known && of_environment.is_none()) {
        return Err("is set by the sidecar");
    }
    if dimensions.constants.iter().any(|(other, _)| other == name) {
        return Err("is named twice");
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_name) {
        return Err("needs a name of the characters A-Z a-z 0-9 _ - . and /");
    }
    if value.is_empty() || value.len() > MAX_VALUE || !value.is_ascii() {
        return Err("needs a value of 1 to 1024 ASCII characters");
    }
    let constant = (name.to_owned(), value.to_owned());
    dimensions.constants.push(constant);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    fn read(text: &str) -> Result<MetricsDimensions, String> {
        let environment = Environment::of([
            ("MODEL_URI", "s3://b/m.onnx"),
            ("AWS_REGION", "eu-west-1"),
            ("MODEL_METRICS_DIMENSIONS", text),
        ]);
        match Config::read(&environment) {
            Ok(config) => Ok(config.metrics_dimensions),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn constants_and_known_names_are_dimensions() {
        let dimensions = read("Stage=prod, Region,ModelVersion,\nTeam=risk").unwrap();
        let pairs = [("Stage", "prod"), ("Region", "eu-west-1"), ("Team", "risk")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(dimensions.constants, pairs);
        assert!(dimensions.has_version);
        // Outside Lambda.
        assert_eq!(
            read("FunctionVersion").unwrap(),
            MetricsDimensions::default()
        );
    }

    #[test]
    fn names_with_unlimited_values_and_invalid_entries_are_errors() {
        for (text, reason) in [
            ("RequestId", "could have one for each environment"),
            ("Stage=", "1 to 1024"),
            ("=x", "needs a name"),
            ("ModelName=x", "set by the sidecar"),
            ("Region=x", "set by the sidecar"),
            ("A=1,A=2", "named twice"),
            ("A=1,B=1,C=1,D=1,ModelVersion,E=1", "one too many"),
            ("A=1,,B=2", "has no value"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(error.contains("MODEL_METRICS_DIMENSIONS"), "{error}");
        }
    }
}

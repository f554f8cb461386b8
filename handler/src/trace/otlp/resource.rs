//! Resource of the spans: the function and its environment.
//!
//! Source: <https://opentelemetry.io/docs/specs/semconv/resource/faas/>.

use serde::Serialize;

use super::settings::{OtlpSettingError, pair};

/// Name of the service outside Lambda.
const DEFAULT_SERVICE: &str = "model-sidecar";
/// Name of the attribute with the service's name.
const SERVICE: &str = "service.name";

/// Attribute of a span or a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Attribute {
    key: String,
    value: AttributeValue,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum AttributeValue {
    StringValue(String),
    /// Integers of 64 bits are strings in JSON.
    IntValue(String),
}

impl Attribute {
    pub(super) fn text(key: &str, value: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            value: AttributeValue::StringValue(value.into()),
        }
    }

    pub(super) fn number(key: &str, value: u64) -> Self {
        Self {
            key: key.to_owned(),
            value: AttributeValue::IntValue(value.to_string()),
        }
    }
}

/// Returns the attributes: the ones in `OTEL_RESOURCE_ATTRIBUTES`, and the ones of Lambda that are not among them.
pub(super) fn read(
    get: &impl Fn(&str) -> Option<String>,
    errors: &mut Vec<OtlpSettingError>,
) -> Vec<Attribute> {
    let given = get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let entries = given.split(',').filter(|entry| !entry.trim().is_empty());
    let given: Option<Vec<(String, String)>> = entries.map(pair).collect();
    let given = given.unwrap_or_else(|| {
        errors.push(OtlpSettingError::Resource);
        Vec::new()
    });
    let function = get("AWS_LAMBDA_FUNCTION_NAME");
    let mut attributes = Vec::new();
    let mut add = |attribute: Attribute| {
        if attributes
            .iter()
            .all(|known: &Attribute| known.key != attribute.key)
        {
            attributes.push(attribute);
        }
    };
    if let Some(service) = get("OTEL_SERVICE_NAME") {
        add(Attribute::text(SERVICE, service));
    }
    for (key, value) in given {
        add(Attribute::text(&key, value));
    }
    let service = function.clone();
    let service = service.unwrap_or_else(|| DEFAULT_SERVICE.to_owned());
    add(Attribute::text(SERVICE, service));
    if let Some(function) = function {
        add(Attribute::text("faas.name", function));
        add(Attribute::text("cloud.provider", "aws"));
        add(Attribute::text("cloud.platform", "aws_lambda"));
    }
    for (key, variable) in [
        ("faas.version", "AWS_LAMBDA_FUNCTION_VERSION"),
        ("faas.instance", "AWS_LAMBDA_LOG_STREAM_NAME"),
        ("cloud.region", "AWS_REGION"),
    ] {
        if let Some(value) = get(variable) {
            add(Attribute::text(key, value));
        }
    }
    let memory = get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE");
    if let Some(megabytes) = memory.and_then(|text| text.parse::<u64>().ok()) {
        let bytes = megabytes.saturating_mul(1 << 20);
        add(Attribute::number("faas.max_memory", bytes));
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Vec<Attribute>, usize) {
        let mut errors = Vec::new();
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let attributes = super::read(&get, &mut errors);
        (attributes, errors.len())
    }

    #[test]
    fn given_attributes_precede_those_of_lambda() {
        let (attributes, errors) = read(&[
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=shop,deployment.environment.name=a%2Cb,cloud.region=moon",
            ),
            ("AWS_LAMBDA_FUNCTION_NAME", "fraud"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_REGION", "eu-west-1"),
        ]);
        assert_eq!(errors, 0);
        let texts = [
            ("service.name", "shop"),
            ("deployment.environment.name", "a,b"),
            ("cloud.region", "moon"),
            ("faas.name", "fraud"),
            ("cloud.provider", "aws"),
            ("cloud.platform", "aws_lambda"),
        ];
        let mut expected: Vec<_> = texts
            .iter()
            .map(|(key, value)| Attribute::text(key, *value))
            .collect();
        expected.push(Attribute::number("faas.max_memory", 134_217_728));
        assert_eq!(attributes, expected);
    }

    #[test]
    fn the_service_has_a_name() {
        let of = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop");
        let (name, function) = (
            ("OTEL_SERVICE_NAME", "own"),
            ("AWS_LAMBDA_FUNCTION_NAME", "fraud"),
        );
        for (variables, expected) in [
            (&[name, of, function][..], "own"),
            (&[of, function], "shop"),
            (&[function], "fraud"),
            (&[], "model-sidecar"),
        ] {
            let (attributes, _) = read(variables);
            assert_eq!(attributes[0], Attribute::text(SERVICE, expected));
        }
    }

    #[test]
    fn a_malformed_list_is_ignored_as_a_whole() {
        for text in ["a=1,b", "a=%ff", "=1"] {
            let (attributes, errors) = read(&[("OTEL_RESOURCE_ATTRIBUTES", text)]);
            assert_eq!(attributes, [Attribute::text(SERVICE, DEFAULT_SERVICE)]);
            assert_eq!(errors, 1, "{text}");
        }
    }
}

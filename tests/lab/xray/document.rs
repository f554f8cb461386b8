//! Format of an independent subsegment: required fields, their types, forms and limits.
//!
//! Source: <https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html>.

use serde_json::{Map, Value};

/// Limits in characters: of a name, of an annotation's value, and of any other text.
const MAX_NAME: usize = 200;
const MAX_ANNOTATION: usize = 1000;
const MAX_TEXT: usize = 250;
/// Maximum number of annotations.
const MAX_ANNOTATIONS: usize = 50;
/// Symbols of a name, apart from letters, numbers and white space.
const SYMBOLS: &str = r"_.:/%&#=+\-@";

/// Fields of a subsegment, embedded or independent.
const FIELDS: [&str; 17] = [
    "annotations",
    "aws",
    "cause",
    "end_time",
    "error",
    "fault",
    "http",
    "id",
    "in_progress",
    "metadata",
    "name",
    "namespace",
    "precursor_ids",
    "sql",
    "start_time",
    "subsegments",
    "throttle",
];
/// Fields of an independent subsegment alone.
const OF_INDEPENDENT: [&str; 3] = ["parent_id", "trace_id", "type"];

/// Returns the deviations of a document from the format of an independent subsegment; none if it is valid.
#[must_use]
pub fn errors(document: &Value) -> Vec<String> {
    let mut check = Check::default();
    check.subsegment(document, true);
    let mut ids = check.ids;
    ids.sort();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        check.errors.push("an id occurs twice".to_owned());
    }
    check.errors
}

#[derive(Default)]
struct Check {
    errors: Vec<String>,
    ids: Vec<String>,
}

impl Check {
    fn require(&mut self, holds: bool, rule: &str, value: Option<&Value>) {
        if !holds {
            self.errors.push(format!("{rule}: {value:?}"));
        }
    }

    fn subsegment(&mut self, value: &Value, is_independent: bool) {
        let Some(fields) = value.as_object() else {
            return self.require(false, "a subsegment is an object", Some(value));
        };
        for name in fields.keys() {
            let name = name.as_str();
            let is_known =
                FIELDS.contains(&name) || is_independent && OF_INDEPENDENT.contains(&name);
            self.require(is_known, "unknown field", fields.get(name));
        }
        self.name(fields.get("name"));
        self.id("id", fields.get("id"));
        self.ids.extend(string(fields.get("id")).map(str::to_owned));
        if is_independent {
            let kind = fields.get("type");
            self.require(
                string(kind) == Some("subsegment"),
                "type is subsegment",
                kind,
            );
            let trace = fields.get("trace_id");
            let is_trace = string(trace).is_some_and(is_trace_id);
            self.require(is_trace, "trace_id is 1-8-24 hexadecimal digits", trace);
            self.id("parent_id", fields.get("parent_id"));
        }
        self.times(fields);
        for flag in ["error", "throttle", "fault"] {
            let value = fields.get(flag);
            self.require(
                value.is_none_or(Value::is_boolean),
                "a flag is a boolean",
                value,
            );
        }
        let namespace = fields.get("namespace");
        let is_known = namespace.is_none() || matches!(string(namespace), Some("aws" | "remote"));
        self.require(is_known, "namespace is aws or remote", namespace);
        self.http(fields.get("http"));
        self.cause(fields.get("cause"));
        self.annotations(fields.get("annotations"));
        match fields.get("subsegments") {
            None => {}
            Some(Value::Array(inner)) => {
                for one in inner {
                    self.subsegment(one, false);
                }
            }
            other => self.require(false, "subsegments is an array", other),
        }
    }

    fn name(&mut self, value: Option<&Value>) {
        let is_allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || SYMBOLS.contains(c);
        let is_name = string(value).is_some_and(|name| {
            (1..=MAX_NAME).contains(&name.chars().count()) && name.chars().all(is_allowed)
        });
        self.require(is_name, "name has 1 to 200 allowed characters", value);
    }

    fn id(&mut self, field: &str, value: Option<&Value>) {
        let is_id = string(value).is_some_and(|id| is_hex(id, 16));
        self.require(is_id, &format!("{field} is 16 hexadecimal digits"), value);
    }

    /// Both times in seconds since the Unix epoch. A subsegment in progress has no end.
    fn times(&mut self, fields: &Map<String, Value>) {
        let time = |name: &str| fields.get(name).and_then(Value::as_f64);
        let start = time("start_time");
        self.require(
            start.is_some(),
            "start_time is a number",
            fields.get("start_time"),
        );
        let in_progress = fields.get("in_progress") == Some(&Value::Bool(true));
        let end = fields.get("end_time");
        self.require(
            in_progress != end.is_some(),
            "either end_time or in_progress",
            end,
        );
        let end_time = time("end_time");
        self.require(
            end.is_none() || end_time.is_some(),
            "end_time is a number",
            end,
        );
        if let (Some(start), Some(end_time)) = (start, end_time) {
            self.require(start <= end_time, "end_time follows start_time", end);
        }
    }

    fn http(&mut self, http: Option<&Value>) {
        let Some(http) = http else { return };
        let (request, response) = (&http["request"], &http["response"]);
        for field in ["method", "url"] {
            let value = request.get(field);
            self.require(
                value.is_none() || is_text(value),
                "an HTTP field is a text",
                value,
            );
        }
        let url = string(request.get("url"));
        self.require(
            url.is_none_or(|url| url.contains("://")),
            "url is a full URL",
            request.get("url"),
        );
        for field in ["status", "content_length"] {
            let value = response.get(field);
            self.require(
                value.is_none_or(Value::is_u64),
                "an HTTP field is an integer",
                value,
            );
        }
    }

    /// An exception's identifier, or a list of exceptions.
    fn cause(&mut self, cause: Option<&Value>) {
        let Some(cause) = cause else { return };
        if cause.is_string() {
            return self.id("cause", Some(cause));
        }
        let exceptions = cause.get("exceptions").and_then(Value::as_array);
        self.require(
            exceptions.is_some(),
            "cause has a list of exceptions",
            Some(cause),
        );
        for exception in exceptions.into_iter().flatten() {
            self.id("id of an exception", exception.get("id"));
            for field in ["message", "type"] {
                let value = exception.get(field);
                self.require(
                    value.is_none() || is_text(value),
                    "an exception has texts",
                    value,
                );
            }
        }
    }

    fn annotations(&mut self, annotations: Option<&Value>) {
        let Some(annotations) = annotations else {
            return;
        };
        let Some(fields) = annotations.as_object() else {
            return self.require(false, "annotations is an object", Some(annotations));
        };
        self.require(
            fields.len() <= MAX_ANNOTATIONS,
            "50 annotations at most",
            Some(annotations),
        );
        for (key, value) in fields {
            let is_key = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            self.require(
                is_key,
                "a key is letters, digits and underscores",
                Some(value),
            );
            let is_value = match value {
                Value::String(text) => text.chars().count() <= MAX_ANNOTATION,
                Value::Number(_) | Value::Bool(_) => true,
                _ => false,
            };
            self.require(
                is_value,
                "a value is a text, a number or a boolean",
                Some(value),
            );
        }
    }
}

fn string(value: Option<&Value>) -> Option<&str> {
    value?.as_str()
}

fn is_text(value: Option<&Value>) -> bool {
    string(value).is_some_and(|text| text.chars().count() <= MAX_TEXT)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_trace_id(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    matches!(*parts, ["1", time, rest] if is_hex(time, 8) && is_hex(rest, 24))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Example of the developer guide.
    fn example() -> Value {
        json!({
            "name": "api.example.com",
            "id": "53995c3f42cd8ad8",
            "start_time": 1.478_293_361_271E9,
            "end_time": 1.478_293_361_449E9,
            "type": "subsegment",
            "trace_id": "1-581cf771-a006649127e371903a2de979",
            "parent_id": "defdfd9912dc5a56",
            "namespace": "remote",
            "http": {
                "request": {"url": "https://api.example.com/health", "method": "POST", "traced": true},
                "response": {"status": 200, "content_length": 861},
            },
        })
    }

    #[test]
    fn the_guides_example_is_valid() {
        assert_eq!(errors(&example()), [""; 0]);
    }

    #[test]
    fn deviations_are_found() {
        let changes: [(&str, Value); 16] = [
            ("name", json!("a*b")),
            ("name", json!("a".repeat(201))),
            ("id", json!("53995c3f42cd8ad")),
            ("id", Value::Null),
            ("start_time", json!("1.5")),
            ("start_time", json!(1.479E9)),
            ("end_time", Value::Null),
            ("type", json!("segment")),
            ("trace_id", json!("581cf771a006649127e371903a2de979")),
            ("parent_id", json!("x")),
            ("namespace", json!("local")),
            ("fault", json!(1)),
            ("user", json!("a")),
            ("http", json!({"request": {"url": "/health"}})),
            ("annotations", json!({"model-name": "a"})),
            ("cause", json!({"exceptions": [{"id": "1"}]})),
        ];
        for (field, value) in changes {
            let mut document = example();
            document[field] = value.clone();
            assert_eq!(errors(&document).len(), 1, "{field}: {value}");
        }
        for missing in [
            "name",
            "id",
            "start_time",
            "end_time",
            "type",
            "trace_id",
            "parent_id",
        ] {
            let mut document = example();
            document.as_object_mut().unwrap().remove(missing);
            assert_eq!(errors(&document).len(), 1, "{missing}");
        }
        let mut document = example();
        document["subsegments"] =
            json!([{"name": "a", "id": "53995c3f42cd8ad8", "start_time": 1, "end_time": 2}]);
        assert_eq!(errors(&document), ["an id occurs twice"]);
    }
}

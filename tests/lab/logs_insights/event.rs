//! Log events, and the fields that Logs Insights discovers in them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde_json::Value;

use super::number;

/// Values of one row by their fields.
pub type Row = BTreeMap<String, Value>;

/// Line of a log stream.
#[derive(Clone, Debug)]
pub struct LogEvent {
    stream: String,
    line: String,
}

impl LogEvent {
    /// Returns the event of a line.
    #[must_use]
    pub fn new(stream: &str, line: &str) -> Self {
        Self {
            stream: stream.to_owned(),
            line: line.to_owned(),
        }
    }

    /// Fields of the event: `@message`, `@logStream`, and those of a line in JSON, nested ones with a dot. `@timestamp`
    /// is in milliseconds since the Unix epoch, from the field `timestamp`.
    pub(super) fn row(&self) -> Row {
        let mut row = Row::new();
        if let Ok(Value::Object(fields)) = serde_json::from_str(&self.line) {
            for (name, value) in fields {
                discover(name, value, &mut row);
            }
        }
        let timestamp = row.get("timestamp").and_then(Value::as_str);
        let time = timestamp.and_then(|text| DateTime::from_str(text, Format::DateTime).ok());
        if let Some(millis) = time.and_then(|time| time.to_millis().ok()) {
            row.insert("@timestamp".to_owned(), millis.into());
        }
        row.insert("@message".to_owned(), self.line.clone().into());
        row.insert("@logStream".to_owned(), self.stream.clone().into());
        row
    }
}

fn discover(name: String, value: Value, row: &mut Row) {
    match value {
        Value::Object(fields) => {
            for (inner, value) in fields {
                discover(format!("{name}.{inner}"), value, row);
            }
        }
        Value::Array(values) => {
            for (place, value) in values.into_iter().enumerate() {
                discover(format!("{name}.{place}"), value, row);
            }
        }
        Value::Null => {}
        value => {
            row.insert(name, value);
        }
    }
}

/// Order of two values: a missing one first, then numbers, then texts.
pub(super) fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (a, b) => return a.is_some().cmp(&b.is_some()),
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a_number, b_number) => b_number
            .is_some()
            .cmp(&a_number.is_some())
            .then_with(|| text(a).cmp(&text(b))),
    }
}

/// Value as a text, without quotes.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

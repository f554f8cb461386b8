//! SQS messages, which Lambda delivers in batches.
//!
//! The body of each message is like a direct payload. Messages with rows for `/predict` can be
//! combined into one request. The sidecar alone interprets and validates the rows.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::unsupported::Unsupported;
use super::{Call, Envelope, direct};
use crate::failure::Failure;

/// The messages of one event, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Messages, never empty.
    pub messages: Vec<Message>,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its `messageId`, which identifies it in a batch item failure.
    pub id: String,
    /// Message group in a FIFO queue, within which order matters.
    pub group: Option<String>,
    /// The call of this message alone.
    pub call: Result<Call, String>,
    /// Rows that can be combined with other messages.
    pub rows: Option<Rows>,
}

/// Rows of a body for `/predict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Comma-separated rows in JSON.
    pub text: String,
    /// Number of rows.
    pub count: usize,
    /// `true` if each row is an object with columns, and not a list.
    pub by_name: bool,
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow, rename = "eventSource")]
    event_source: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageRecord {
    message_id: String,
    body: String,
    #[serde(default)]
    attributes: Attributes,
    #[serde(default, rename = "eventSourceARN")]
    event_source_arn: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attributes {
    message_group_id: Option<String>,
}

/// Returns `true` if these `Records` are messages of SQS.
pub(super) fn sent(records: &RawValue) -> bool {
    let sources: Vec<Source<'_>> = serde_json::from_str(records.get()).unwrap_or_default();
    sources
        .first()
        .is_some_and(|first| first.event_source.as_deref() == Some("aws:sqs"))
}

/// Parses the messages. A message without an id cannot be reported as failed, so the event fails as
/// a whole.
pub(super) fn batch(records: &RawValue) -> Result<Batch, Failure> {
    let records: Vec<MessageRecord> = serde_json::from_str(records.get())
        .map_err(|error| Failure::BadRequest(format!("event field Records: {error}")))?;
    Ok(Batch {
        messages: records.into_iter().map(message).collect(),
    })
}

fn message(record: MessageRecord) -> Message {
    // A byte order mark, written by tools on Windows, is not part of the JSON.
    let body = record.body.strip_prefix('\u{feff}').unwrap_or(&record.body);
    let envelope = Envelope::of(body);
    let unsupported = if envelope.has_input() {
        None
    } else {
        direct::without_input(body).and_then(|fields| Unsupported::of(&fields))
    };
    let call = match unsupported {
        Some(unsupported) => Err(unsupported.message()),
        None => direct::call(body, &envelope).map_err(|failure| failure.to_string()),
    };
    let is_plain = call
        .as_ref()
        .is_ok_and(|call| !call.target.starts_with("/v2/"));
    Message {
        id: record.message_id,
        // A standard queue may have groups too, for fairness, without order within them.
        group: record.attributes.message_group_id.filter(|_| {
            record
                .event_source_arn
                .rsplit_once('.')
                .is_some_and(|(_, end)| end == "fifo")
        }),
        rows: rows(body).filter(|_| is_plain),
        call,
    }
}

#[derive(Deserialize)]
struct Plain<'a> {
    #[serde(borrow)]
    features: Option<&'a RawValue>,
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
}

type Object<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// The rows of a body, if they are unambiguous. They are a list of numbers or strings, an object of
/// them, or a list of lists or of objects. An object of lists may be columns.
fn rows(body: &str) -> Option<Rows> {
    let plain: Plain<'_> = Some(body)
        .filter(|body| body.trim_ascii_start().starts_with('{'))
        .and_then(|body| serde_json::from_str(body).ok())?;
    let ((Some(given), None) | (None, Some(given))) = (plain.features, plain.instances) else {
        return None;
    };
    let given = given.get();
    let one = |by_name| Rows {
        text: given.to_owned(),
        count: 1,
        by_name,
    };
    if is_object_of_values(given) {
        return Some(one(true));
    }
    let items: Vec<&RawValue> = serde_json::from_str(given).ok()?;
    let all = |holds: fn(&str) -> bool| items.iter().all(|item| holds(item.get()));
    let several = |by_name| Rows {
        text: items
            .iter()
            .map(|item| item.get())
            .collect::<Vec<_>>()
            .join(","),
        count: items.len(),
        by_name,
    };
    if items.is_empty() {
        None
    } else if all(is_value) {
        Some(one(false))
    } else if all(|item| item.starts_with('[')) {
        Some(several(false))
    } else if all(|item| item.starts_with('{')) {
        Some(several(true))
    } else {
        None
    }
}

fn is_value(text: &str) -> bool {
    !text.starts_with(['[', '{'])
}

fn is_object_of_values(text: &str) -> bool {
    text.starts_with('{')
        && serde_json::from_str(text)
            .is_ok_and(|object: Object<'_>| object.values().all(|value| is_value(value.get())))
}

#[cfg(test)]
mod tests;

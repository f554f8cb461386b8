//! From the sidecar's answer to what each kind of event wants back.
//!
//! An HTTP caller gets status, headers and body whole, whatever the status: bodies that are text
//! as they are, all others in base64. A direct caller gets the JSON itself, and a function error
//! when the sidecar refused.

use std::collections::BTreeMap;
use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::event::Kind;
use crate::failure::{Failure, RESPONSE_LIMIT};
use crate::headers::is_hop_by_hop;
use crate::sidecar::Answer;

/// What the function returns.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To a caller over HTTP.
    Http(HttpReply),
    /// To whoever invoked the function directly: the sidecar's JSON, untouched.
    Json(Box<RawValue>),
    /// To SQS: the messages that are to come again.
    Batch(BatchReply),
}

/// What Lambda's `ReportBatchItemFailures` reads.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchReply {
    batch_item_failures: Vec<ItemFailure>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemFailure {
    item_identifier: String,
}

impl BatchReply {
    /// These messages are to come again; all others were answered.
    pub fn failures(ids: impl IntoIterator<Item = String>) -> Self {
        let failures = ids.into_iter();
        Self {
            batch_item_failures: failures
                .map(|item_identifier| ItemFailure { item_identifier })
                .collect(),
        }
    }
}

/// The fields of all HTTP replies; each kind of event leaves out those that it does not know.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpReply {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_headers: Option<BTreeMap<String, Vec<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cookies: Option<Vec<String>>,
    body: String,
    is_base64_encoded: bool,
}

/// The reply that carries this answer to this kind of caller.
pub fn success(kind: Kind, answer: Answer) -> Result<Reply, Failure> {
    if kind.is_http() {
        within_limit(http(kind, answer))
    } else {
        json(answer)
    }
}

/// The reply by which a caller over HTTP learns of a failure.
#[must_use]
pub fn failure(kind: Kind, failure: &Failure) -> Reply {
    let body = serde_json::json!({ "error": failure.to_string() }).to_string();
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Reply::Http(http(
        kind,
        Answer {
            status: failure.status(),
            headers,
            body: body.into(),
        },
    ))
}

/// The failure that the sidecar's answer is, for callers who have no status to look at.
pub(crate) fn refusal(answer: &Answer) -> Option<Failure> {
    let refused = answer.status.is_client_error() || answer.status.is_server_error();
    refused.then(|| Failure::Refused {
        status: answer.status,
        message: message(answer.status, &answer.body),
    })
}

fn json(answer: Answer) -> Result<Reply, Failure> {
    if let Some(refusal) = refusal(&answer) {
        return Err(refusal);
    }
    let text = String::from_utf8(answer.body.into()).map_err(|_| Failure::NotJson)?;
    RawValue::from_string(text)
        .map(Reply::Json)
        .map_err(|_| Failure::NotJson)
}

/// The sidecar's own words, which stand in `{"error": …}`.
fn message(status: StatusCode, body: &Bytes) -> String {
    #[derive(Deserialize)]
    struct Words {
        error: String,
    }
    serde_json::from_slice(body).map_or_else(
        |_| format!("the model sidecar answered {status}"),
        |words: Words| words.error,
    )
}

fn http(kind: Kind, answer: Answer) -> HttpReply {
    let status = answer.status;
    let (body, is_base64_encoded) = body(&answer.headers, answer.body);
    let mut reply = HttpReply {
        status_code: status.as_u16(),
        status_description: None,
        headers: None,
        multi_value_headers: None,
        cookies: None,
        body,
        is_base64_encoded,
    };
    let mut fields = by_name(&answer.headers);
    match kind {
        Kind::Alb { multi } => {
            reply.status_description = Some(
                format!(
                    "{} {}",
                    status.as_str(),
                    status.canonical_reason().unwrap_or_default()
                )
                .trim()
                .to_owned(),
            );
            if multi {
                reply.multi_value_headers = Some(fields);
            } else {
                reply.headers = Some(joined(fields));
            }
        }
        Kind::Http => {
            reply.cookies = fields.remove(header::SET_COOKIE.as_str());
            reply.headers = Some(joined(fields));
        }
        Kind::Rest | Kind::Queue | Kind::Direct => {
            let (single, repeated): (BTreeMap<_, _>, BTreeMap<_, _>) = fields
                .into_iter()
                .partition(|(_, values)| values.len() == 1);
            reply.headers = Some(joined(single));
            reply.multi_value_headers = Some(repeated).filter(|repeated| !repeated.is_empty());
        }
    }
    reply
}

/// The headers that concern the message. Its length and date are the gateway's to say.
fn by_name(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if !is_hop_by_hop(name) && *name != header::CONTENT_LENGTH && *name != header::DATE {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            fields
                .entry(name.as_str().to_owned())
                .or_default()
                .push(value);
        }
    }
    fields
}

fn joined(fields: BTreeMap<String, Vec<String>>) -> BTreeMap<String, String> {
    fields
        .into_iter()
        .map(|(name, values)| (name, values.join(", ")))
        .collect()
}

/// The body as a JSON string can carry it, and whether that is base64.
fn body(headers: &HeaderMap, bytes: Bytes) -> (String, bool) {
    if is_text(headers) {
        match String::from_utf8(bytes.into()) {
            Ok(text) => (text, false),
            Err(error) => (BASE64_STANDARD.encode(error.as_bytes()), true),
        }
    } else {
        (BASE64_STANDARD.encode(&bytes), true)
    }
}

/// Whether the headers promise text. A gateway decodes base64 and compares nothing, so that a body
/// which only looks like text must not be sent as such.
fn is_text(headers: &HeaderMap) -> bool {
    let essence = |value: &HeaderValue| {
        let value = value.to_str().unwrap_or_default();
        value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    };
    let text = headers.get(header::CONTENT_TYPE).is_none_or(|value| {
        let essence = essence(value);
        essence.starts_with("text/") || essence == "application/json" || essence.ends_with("+json")
    });
    // Binary tensors follow the JSON of the Open Inference Protocol under any content type.
    text && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key("inference-header-content-length")
}

fn within_limit(reply: HttpReply) -> Result<Reply, Failure> {
    // Escapes make a byte six at most: only a body near the limit is worth counting.
    if reply.body.len() < RESPONSE_LIMIT / 8 || serialised_len(&reply) <= RESPONSE_LIMIT {
        Ok(Reply::Http(reply))
    } else {
        Err(Failure::TooLarge)
    }
}

fn serialised_len(reply: &HttpReply) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Strings and numbers always serialise; a reply that did not would be refused later anyway.
    if serde_json::to_writer(&mut count, reply).is_err() {
        return usize::MAX;
    }
    count.0
}

#[cfg(test)]
mod tests;

//! Conversion of the sidecar's response to the form of each kind of event.
//!
//! An HTTP caller gets status, headers and body unchanged for every status; a text body as it is,
//! any other in base64. A direct caller gets the JSON itself, or a function error if the sidecar
//! returned an error.

use std::collections::BTreeMap;
use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::event::EventKind;
use crate::failure::Failure;
use crate::headers::is_hop_by_hop;
use crate::limits::MAX_RESPONSE;
use crate::transport::SidecarResponse;

/// Return value of the function.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum FunctionResponse {
    /// Response to an HTTP caller.
    Http(GatewayResponse),
    /// Response to a direct invocation: the sidecar's JSON, unchanged.
    Json(Box<RawValue>),
    /// Response to SQS: the failed messages.
    Batch(BatchResponse),
}

impl FunctionResponse {
    /// Returns the response as JSON, which is serialized once.
    #[must_use]
    pub fn into_json(self) -> Vec<u8> {
        let capacity = match self {
            Self::Json(json) => return Box::<str>::from(json).into_string().into_bytes(),
            // Room for the quotes of a JSON body and for the headers.
            Self::Http(ref reply) => reply.body.len() + reply.body.len() / 8 + 1024,
            Self::Batch(_) => 256,
        };
        let mut body = Vec::with_capacity(capacity);
        // Strings and numbers always serialize.
        let _ = serde_json::to_writer(&mut body, &self);
        body
    }
}

/// Format of Lambda's `ReportBatchItemFailures`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    batch_item_failures: Vec<ItemFailure>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemFailure {
    item_identifier: String,
}

impl BatchResponse {
    /// Reports these messages as failed and all others as processed.
    pub fn failures(ids: impl IntoIterator<Item = String>) -> Self {
        let failures = ids.into_iter();
        Self {
            batch_item_failures: failures
                .map(|item_identifier| ItemFailure { item_identifier })
                .collect(),
        }
    }
}

/// Fields of all HTTP responses; each kind of event omits the fields that its format lacks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayResponse {
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

/// Converts a response of the sidecar for this kind of caller.
pub fn success(kind: EventKind, answer: SidecarResponse) -> Result<FunctionResponse, Failure> {
    if kind.is_http() {
        within_limit(http(kind, answer))
    } else {
        json(answer)
    }
}

/// Converts a failure for an HTTP caller.
#[must_use]
pub fn failure(kind: EventKind, failure: &Failure) -> FunctionResponse {
    let body = serde_json::json!({ "error": failure.to_string() }).to_string();
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    FunctionResponse::Http(http(
        kind,
        SidecarResponse {
            status: failure.status(),
            headers,
            body: body.into(),
        },
    ))
}

/// The error status of a response as a failure, for callers without a status.
pub(crate) fn sidecar_error(answer: &SidecarResponse) -> Option<Failure> {
    let is_error = answer.status.is_client_error() || answer.status.is_server_error();
    is_error.then(|| Failure::SidecarError {
        status: answer.status,
        message: message(answer.status, &answer.body),
    })
}

fn json(answer: SidecarResponse) -> Result<FunctionResponse, Failure> {
    if let Some(sidecar_error) = sidecar_error(&answer) {
        return Err(sidecar_error);
    }
    let text = String::from_utf8(answer.body.into()).map_err(|_| Failure::NotJson)?;
    RawValue::from_string(text)
        .map(FunctionResponse::Json)
        .map_err(|_| Failure::NotJson)
}

/// The sidecar's error message, from `{"error": …}`.
#[must_use]
pub fn message(status: StatusCode, body: &Bytes) -> String {
    #[derive(Deserialize)]
    struct Words {
        error: String,
    }
    serde_json::from_slice(body).map_or_else(
        |_| format!("the model sidecar responded with {status}"),
        |words: Words| words.error,
    )
}

fn http(kind: EventKind, answer: SidecarResponse) -> GatewayResponse {
    let status = answer.status;
    let (body, is_base64_encoded) = body(&answer.headers, answer.body);
    let mut reply = GatewayResponse {
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
        EventKind::Alb { multi } => {
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
        EventKind::Http => {
            reply.cookies = fields.remove(header::SET_COOKIE.as_str());
            reply.headers = Some(joined(fields));
        }
        EventKind::Rest | EventKind::Queue | EventKind::Direct => {
            let (single, repeated): (BTreeMap<_, _>, BTreeMap<_, _>) = fields
                .into_iter()
                .partition(|(_, values)| values.len() == 1);
            reply.headers = Some(joined(single));
            reply.multi_value_headers = Some(repeated).filter(|repeated| !repeated.is_empty());
        }
    }
    reply
}

/// Headers of the message. The gateway sets its length and date.
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

/// The body as a JSON string, and `true` if that is base64.
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

/// Returns `true` if the headers declare text. A gateway decodes base64 without inspection, so a
/// body that only looks like text must not be sent as text.
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
    // In the Open Inference Protocol binary tensors follow the JSON under any content type.
    text && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key("inference-header-content-length")
}

fn within_limit(reply: GatewayResponse) -> Result<FunctionResponse, Failure> {
    // Escapes expand a byte to at most six, so only a body near the limit must be counted.
    if reply.body.len() < MAX_RESPONSE / 8 || serialised_len(&reply) <= MAX_RESPONSE {
        Ok(FunctionResponse::Http(reply))
    } else {
        Err(Failure::TooLarge)
    }
}

fn serialised_len(reply: &GatewayResponse) -> usize {
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
    // Strings and numbers always serialize; a failure would be reported later anyway.
    if serde_json::to_writer(&mut count, reply).is_err() {
        return usize::MAX;
    }
    count.0
}

#[cfg(test)]
mod tests;

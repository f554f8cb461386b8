//! Conversion of an event to a call of the sidecar.
//!
//! An event is JSON whose shape depends on the invoking service. [`read`] determines the
//! [`EventKind`], and converts the event to one [`Call`]: a method, a path with its query, headers,
//! bytes. An event of SQS becomes a [`Batch`] of messages. The event is scanned once without
//! building a tree: the body can be megabytes, and it alone is copied.
//!
//! The field sets are AWS's own and are read tolerantly: a null field counts as missing, and
//! unknown fields are skipped. The types of the crate `aws_lambda_events` are not used. They
//! require fields that hand-written test events lack, copy every body, and depend on a calendar and
//! a query parser.
//!
//! Events of services that send no inference requests are rejected by name ([`unsupported`]), and
//! warm-up events wait for the model ([`warm_up`]). All else is passed to the sidecar as a direct
//! payload; if the sidecar rejects it, [`crate::failure`] makes that a function error.

mod direct;
mod field;
mod gateway;
mod headers;
mod path;
mod queue;
mod target;
mod unsupported;
mod warm_up;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failure::Failure;
pub(crate) use field::excerpt;
pub use path::BasePath;
pub use queue::{Batch, Message, Rows};
use unsupported::{Fields, Unsupported};

/// Kind of the invoking service, which determines the form of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// API Gateway, payload format 1.0: a REST API, or an HTTP API configured for it.
    Rest,
    /// API Gateway HTTP API with payload format 2.0, or a function URL.
    Http,
    /// An Application Load Balancer.
    Alb {
        /// `true` if the target group has multi-value headers enabled, which the response must then
        /// use.
        multi: bool,
    },
    /// SQS: the response lists the failed messages.
    Queue,
    /// All other events: the payload is for the model, and the response is for the invoker.
    Direct,
}

impl EventKind {
    /// Returns `true` if the caller uses HTTP, so that a failure is a status and not a function
    /// error.
    #[must_use]
    pub fn is_http(self) -> bool {
        !matches!(self, Self::Queue | Self::Direct)
    }
}

/// A call of the sidecar.
#[derive(Clone, Debug)]
pub struct Call {
    /// The HTTP method.
    pub method: Method,
    /// Path and query of the request line.
    pub target: String,
    /// Headers of the caller, without those of its own connection.
    pub headers: HeaderMap,
    /// Decoded body.
    pub body: Bytes,
}

/// Content of an event.
#[derive(Clone, Debug)]
pub enum EventContent {
    /// One call, whose response is the event's.
    Call(Call),
    /// Messages that succeed or fail individually.
    Batch(Batch),
}

/// Relevant fields of all kinds of events, each still in its JSON form.
///
/// One struct for all kinds, since the kind is known only after `requestContext`, which may come
/// before or after the body.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Envelope<'a> {
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    http_method: Option<&'a RawValue>,
    #[serde(borrow)]
    path: Option<&'a RawValue>,
    #[serde(borrow)]
    raw_path: Option<&'a RawValue>,
    #[serde(borrow)]
    raw_query_string: Option<&'a RawValue>,
    #[serde(borrow)]
    query_string_parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    multi_value_query_string_parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    headers: Option<&'a RawValue>,
    #[serde(borrow)]
    multi_value_headers: Option<&'a RawValue>,
    #[serde(borrow)]
    cookies: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    is_base64_encoded: Option<&'a RawValue>,
    #[serde(borrow)]
    request_context: Option<&'a RawValue>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow)]
    path_parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    route_key: Option<&'a RawValue>,
    /// Present only in requests to an API Gateway authorizer, by payload format.
    #[serde(borrow)]
    method_arn: Option<&'a RawValue>,
    #[serde(borrow)]
    route_arn: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    features: Option<&'a RawValue>,
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
    #[serde(borrow, rename = "Records")]
    records: Option<&'a RawValue>,
}

/// Part of the event that determines its kind and is not controlled by the caller.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RequestContext<'a> {
    #[serde(borrow)]
    elb: Option<&'a RawValue>,
    #[serde(borrow)]
    http: Option<&'a RawValue>,
    #[serde(borrow)]
    stage: Option<&'a RawValue>,
    #[serde(borrow)]
    path: Option<&'a RawValue>,
    /// Present only for WebSocket APIs.
    #[serde(borrow)]
    connection_id: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Fields of a JSON object; empty for any other JSON text.
    ///
    /// serde would accept an array for a struct, by position, but only an object can be an event of
    /// AWS. An object with a duplicate field is not an event either: it is passed to the model it
    /// names, and the sidecar rejects it.
    fn of(text: &'a str) -> Self {
        if text.trim_ascii_start().starts_with('{') {
            serde_json::from_str(text).unwrap_or_else(|_| Self::with_repeated_fields(text))
        } else {
            Self::default()
        }
    }

    fn with_repeated_fields(text: &'a str) -> Self {
        let fields: Fields = serde_json::from_str(text).unwrap_or_default();
        let get = |name| fields.get(name).copied();
        Self {
            model: get("model"),
            features: get("features"),
            instances: get("instances"),
            inputs: get("inputs"),
            ..Self::default()
        }
    }

    /// Returns `true` if there is an input for a model, as in a direct invocation.
    fn has_input(&self) -> bool {
        self.features.is_some() || self.instances.is_some() || self.inputs.is_some()
    }
}

/// Reads one event, given as JSON text; `base_path` is removed from paths that begin with it.
///
/// The kind is always known, so that a failure has the right form for the caller.
pub fn read(event: &str, base_path: &BasePath) -> (EventKind, Result<EventContent, Failure>) {
    let envelope = Envelope::of(event);
    let context: RequestContext = envelope
        .request_context
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();

    let (kind, call) =
        if envelope.method_arn.or(envelope.route_arn).is_some() && !envelope.has_input() {
            (EventKind::Direct, Err(Unsupported::AUTHORIZER.event()))
        } else if context.connection_id.is_some() {
            (EventKind::Direct, Err(Unsupported::WEB_SOCKET.event()))
        } else if context.elb.is_some() {
            let multi = envelope.multi_value_headers.is_some();
            (EventKind::Alb { multi }, gateway::alb(&envelope, base_path))
        } else if context.http.is_some() || is_bare_http(&envelope) {
            (
                EventKind::Http,
                gateway::http(&envelope, &context, base_path),
            )
        } else if (envelope.request_context.is_some() && envelope.http_method.is_some())
            || is_bare_rest(&envelope)
        {
            (
                EventKind::Rest,
                gateway::rest(&envelope, &context, base_path),
            )
        } else if let Some(records) = envelope.records.filter(|records| queue::sent(records)) {
            return (
                EventKind::Queue,
                queue::batch(records).map(EventContent::Batch),
            );
        } else {
            (EventKind::Direct, direct::read(event, &envelope))
        };
    (kind, call.map(EventContent::Call))
}

/// An event of payload format 1.0 without its context, as in hand-written tests.
fn is_bare_rest(envelope: &Envelope) -> bool {
    envelope.http_method.is_some() && envelope.path.is_some() && !envelope.has_input()
}

/// The same in payload format 2.0.
fn is_bare_http(envelope: &Envelope) -> bool {
    envelope.raw_path.is_some() && !envelope.has_input()
}

#[cfg(test)]
mod tests;

//! From an event to what the sidecar is asked.
//!
//! Lambda hands over JSON whose shape depends on who invoked the function. [`read`] tells the
//! [`Kind`] of event, and makes of it one [`Call`]: a method, a path with its query, headers, bytes;
//! or, of messages from SQS, a [`Batch`] of them.
//! The event is scanned once and not built up as a tree: of an invocation with megabytes of body,
//! the body is the only part worth a copy.
//!
//! The field sets are AWS's own and are read tolerantly: a field that is null is a field that is
//! missing, and fields that nobody asked for are skipped. The types of the crate
//! `aws_lambda_events` were weighed and left out: they refuse events that lack what a hand-written
//! test event lacks, copy every body, and bring a calendar and a query parser.
//!
//! Events of services that send no inference requests are named as such ([`unsupported`]), and those that keep an
//! environment warm wait for the model ([`warm_up`]). All else goes to the sidecar as a direct payload does; where it is
//! not understood there, [`crate::failure`] makes a function error of that.

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

/// Who invoked the function, as far as the form of the answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// API Gateway, payload format 1.0: a REST API, or an HTTP API told to use it.
    Rest,
    /// API Gateway HTTP API with payload format 2.0, or a Function URL.
    Http,
    /// An Application Load Balancer.
    Alb {
        /// The target group has multi-value headers switched on, and wants them in the answer too.
        multi: bool,
    },
    /// SQS: the answer says which messages are to come again.
    Queue,
    /// Everything else: the payload is for the model, and the answer is for whoever sent it.
    Direct,
}

impl Kind {
    /// Whether the caller speaks HTTP, so that a failure is a status and not a function error.
    #[must_use]
    pub fn is_http(self) -> bool {
        !matches!(self, Self::Queue | Self::Direct)
    }
}

/// What the sidecar is asked.
#[derive(Clone, Debug)]
pub struct Call {
    /// The HTTP method.
    pub method: Method,
    /// Path and query, ready for a request line.
    pub target: String,
    /// The caller's headers, without those that are about its own connection.
    pub headers: HeaderMap,
    /// The body, decoded.
    pub body: Bytes,
}

/// What an event asks for.
#[derive(Clone, Debug)]
pub enum Work {
    /// One call, whose answer is the event's.
    Call(Call),
    /// Messages, each of which is answered or comes again.
    Batch(Batch),
}

/// The fields of all kinds of events that matter here, each still in its JSON form.
///
/// One struct for all, since the kind is only known when `requestContext` has been seen, which
/// comes after the body in some and before it in others.
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
    /// Of a request to an API Gateway authorizer alone, by the payload's format.
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

/// What tells the kinds apart: the part of the event that the caller has no hand in.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Context<'a> {
    #[serde(borrow)]
    elb: Option<&'a RawValue>,
    #[serde(borrow)]
    http: Option<&'a RawValue>,
    #[serde(borrow)]
    stage: Option<&'a RawValue>,
    #[serde(borrow)]
    path: Option<&'a RawValue>,
    /// Of a WebSocket API alone.
    #[serde(borrow)]
    connection_id: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// The fields of a JSON text; none of anything but an object.
    ///
    /// serde would take an array for a struct, by position; only an object can be an event of
    /// AWS's. One that names a field twice is none either: it goes to the model that it names, and
    /// the sidecar says what is wrong with it.
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

    /// Returns whether there is something to infer from, as in a direct invocation.
    fn has_input(&self) -> bool {
        self.features.is_some() || self.instances.is_some() || self.inputs.is_some()
    }
}

/// Reads one event, given as JSON text; `base_path` is removed from paths that begin with it.
///
/// The kind is always known, so that a failure reaches the caller in the right form.
pub fn read(event: &str, base_path: &BasePath) -> (Kind, Result<Work, Failure>) {
    let envelope = Envelope::of(event);
    let context: Context = envelope
        .request_context
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();

    let (kind, call) =
        if envelope.method_arn.or(envelope.route_arn).is_some() && !envelope.has_input() {
            (Kind::Direct, Err(Unsupported::AUTHORIZER.event()))
        } else if context.connection_id.is_some() {
            (Kind::Direct, Err(Unsupported::WEB_SOCKET.event()))
        } else if context.elb.is_some() {
            let multi = envelope.multi_value_headers.is_some();
            (Kind::Alb { multi }, gateway::alb(&envelope, base_path))
        } else if context.http.is_some() || is_bare_http(&envelope) {
            (Kind::Http, gateway::http(&envelope, &context, base_path))
        } else if (envelope.request_context.is_some() && envelope.http_method.is_some())
            || is_bare_rest(&envelope)
        {
            (Kind::Rest, gateway::rest(&envelope, &context, base_path))
        } else if let Some(records) = envelope.records.filter(|records| queue::sent(records)) {
            return (Kind::Queue, queue::batch(records).map(Work::Batch));
        } else {
            (Kind::Direct, direct::read(event, &envelope))
        };
    (kind, call.map(Work::Call))
}

/// An event of payload format 1.0 without its context, as tests are written by hand.
fn is_bare_rest(envelope: &Envelope) -> bool {
    envelope.http_method.is_some() && envelope.path.is_some() && !envelope.has_input()
}

/// The same in payload format 2.0.
fn is_bare_http(envelope: &Envelope) -> bool {
    envelope.raw_path.is_some() && !envelope.has_input()
}

#[cfg(test)]
mod tests;

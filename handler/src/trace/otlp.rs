//! OTLP's form of a call: spans, in JSON.
//!
//! The call is a client span of the handler, or a server span of the sidecar. Its stages are spans inside. The steps of
//! a load are spans next to it. Identifiers are hexadecimal, enumerations are numbers, and integers of 64 bits are
//! strings.
//!
//! Format: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>. Names of attributes follow
//! OpenTelemetry's conventions for HTTP and for functions.

mod client;
mod endpoint;
mod exporter;
mod resource;
mod sampler;
mod settings;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::context::SpanContext;
use super::record::{CallOutcome, CallRecord, Side};
use super::stages::Stage;
use super::text::new_id;
pub use exporter::{Exporter, ServedCall};
use resource::Attribute;
pub(super) use sampler::Sampler;
pub use settings::{OtlpSettingError, OtlpSettings};

/// Kinds of spans and statuses, as numbers of the protocol.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
const ERROR: u8 = 2;

/// Request of an export.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportRequest<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans; 1],
}

#[derive(Debug, Serialize)]
struct Resource<'a> {
    attributes: &'a [Attribute],
}

#[derive(Debug, Serialize)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<Span>,
}

#[derive(Debug, Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the name is the protocol's")]
struct Span {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<String>,
    name: &'static str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Debug, Serialize)]
struct Status {
    code: u8,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

/// Returns the body of an export of these calls.
fn body(calls: &[CallRecord], resource: &[Attribute]) -> Vec<u8> {
    let spans = calls.iter().flat_map(spans).collect();
    let scope = Scope {
        name: "model-sidecar",
        version: env!("CARGO_PKG_VERSION"),
    };
    let request = ExportRequest {
        resource_spans: [ResourceSpans {
            resource: Resource {
                attributes: resource,
            },
            scope_spans: [ScopeSpans { scope, spans }],
        }],
    };
    // Maps with text as keys can always be written.
    serde_json::to_vec(&request).unwrap_or_default()
}

/// Returns the spans of a call.
fn spans(record: &CallRecord) -> Vec<Span> {
    let call = &record.call;
    let Some(context) = &call.otlp else {
        return Vec::new();
    };
    let kind = match call.side {
        Side::Client => CLIENT,
        Side::Server => SERVER,
    };
    let mut span = Span::of("model-sidecar", kind, call.started, record.ended, context);
    span.add_text("http.request.method", Some(&call.method));
    span.add_text("url.path", Some(&call.path));
    span.add_text("faas.invocation_id", call.request_id.as_ref());
    match &record.outcome {
        CallOutcome::Response {
            status,
            length,
            model,
            version,
            ..
        } => {
            span.add_number("http.response.status_code", status.as_u16().into());
            if let Some(length) = length {
                span.add_number("http.response.body.size", *length);
            }
            span.add_text("model.name", model.as_ref());
            span.add_text("model.version", version.as_ref());
            // The convention for HTTP: a status 4xx is an error of the client alone.
            let is_client = call.side == Side::Client;
            if status.is_server_error() || (is_client && status.is_client_error()) {
                span.fail(status.as_str(), String::new());
            }
        }
        CallOutcome::Failure {
            error_type,
            message,
        } => span.fail(error_type, message.clone()),
    }
    let within = SpanContext {
        parent_id: Some(span.span_id.clone()),
        ..context.clone()
    };
    let stages = record.stages();
    let mut spans = vec![span];
    let of = |context| {
        move |stage: &Stage| Span::of(stage.name, INTERNAL, stage.started, stage.ended, context)
    };
    spans.extend(stages.request.iter().map(of(&within)));
    spans.extend(stages.load.iter().map(of(context)));
    spans
}

impl Span {
    fn of(
        name: &'static str,
        kind: u8,
        started: SystemTime,
        ended: SystemTime,
        context: &SpanContext,
    ) -> Self {
        Self {
            trace_id: context.trace_id.clone(),
            span_id: new_id(),
            parent_span_id: context.parent_id.clone(),
            trace_state: context.state.clone(),
            name,
            kind,
            start_time_unix_nano: nanoseconds(started),
            end_time_unix_nano: nanoseconds(ended),
            attributes: Vec::new(),
            status: None,
        }
    }

    fn add_text(&mut self, key: &str, value: Option<&String>) {
        let attribute = value.map(|value| Attribute::text(key, value));
        self.attributes.extend(attribute);
    }

    fn add_number(&mut self, key: &str, value: u64) {
        self.attributes.push(Attribute::number(key, value));
    }

    fn fail(&mut self, error_type: &str, message: String) {
        self.attributes
            .push(Attribute::text("error.type", error_type));
        self.status = Some(Status {
            code: ERROR,
            message,
        });
    }
}

/// Time in nanoseconds since the Unix epoch.
fn nanoseconds(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().to_string()
}

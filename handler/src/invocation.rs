//! Metadata of an invocation, and the headers that pass it to the sidecar.
//!
//! The caller's own headers of these names are never forwarded, because callers must not set a
//! deadline or a trace.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::deadline::Deadline;

/// Deadline of the invocation, in milliseconds since the Unix epoch.
pub const DEADLINE: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
/// Id of the invocation, as in Lambda's own log lines.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
/// X-Ray trace.
pub const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// One invocation, as the Runtime API describes it.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Time at which Lambda stops it.
    pub deadline: Deadline,
    /// Id of the invocation.
    pub request_id: String,
    /// X-Ray trace header, if there is one.
    pub trace_id: Option<String>,
}

impl Invocation {
    /// Adds the headers of this invocation; a value that is invalid in a header is omitted.
    pub fn describe(&self, headers: &mut HeaderMap) {
        if self.deadline != Deadline(0) {
            headers.insert(DEADLINE, HeaderValue::from(self.deadline.0));
        }
        if let Ok(value) = HeaderValue::from_str(&self.request_id) {
            headers.insert(REQUEST_ID, value);
        }
        if let Some(Ok(value)) = self.trace_id.as_deref().map(HeaderValue::from_str) {
            headers.insert(TRACE_ID, value);
        }
    }
}

#[cfg(feature = "bootstrap")]
impl From<lambda_runtime::Context> for Invocation {
    fn from(context: lambda_runtime::Context) -> Self {
        Self {
            deadline: Deadline(context.deadline),
            request_id: context.request_id,
            trace_id: context.xray_trace_id,
        }
    }
}

//! What the platform says about one invocation, and the headers by which the sidecar learns of it.
//!
//! The caller's own headers of these names are never passed on: a deadline or a trace that anyone
//! could set would be neither.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use lambda_runtime::Context;

use crate::deadline::Deadline;

/// The invocation's deadline, in milliseconds since the Unix epoch.
pub const DEADLINE: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
/// The invocation's id, as it stands in Lambda's own log lines.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
/// The X-Ray trace.
pub const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// One invocation, as the Runtime API describes it.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// When Lambda stops it.
    pub deadline: Deadline,
    /// Its id.
    pub request_id: String,
    /// The X-Ray trace header, if there is one.
    pub trace_id: Option<String>,
}

impl Invocation {
    /// Adds this invocation's headers; what cannot stand in a header is left out.
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

impl From<Context> for Invocation {
    fn from(context: Context) -> Self {
        Self {
            deadline: Deadline(context.deadline),
            request_id: context.request_id,
            trace_id: context.xray_trace_id,
        }
    }
}

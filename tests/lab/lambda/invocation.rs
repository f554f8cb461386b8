//! Result of an invocation, as Lambda's Invoke API returns it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

pub use crate::rie::FunctionError;

/// Header that marks a failed function.
const FUNCTION_ERROR: &str = "x-amz-function-error";
/// Header with the version that ran.
const EXECUTED_VERSION: &str = "x-amz-executed-version";
/// Header with the type of an error of the Invoke API itself.
const ERROR_TYPE: &str = "x-amzn-errortype";
/// Header with the invocation's id, present in every response.
const REQUEST_ID: &str = "x-amzn-requestid";

/// Result of an invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// 200 for every response of the function, errors included; 413 for an event over the size
    /// limit, 429 if all environments are busy.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Unchanged payload.
    pub body: Bytes,
    /// The payload as JSON, `None` if it is no JSON.
    pub json: Option<Value>,
    /// Id of the invocation.
    pub request_id: String,
}

impl Invocation {
    pub(super) fn answered(request_id: &str, body: Bytes, failed: bool) -> Self {
        let mut invocation = Self::new(StatusCode::OK, request_id, body);
        let headers = &mut invocation.headers;
        headers.insert(EXECUTED_VERSION, HeaderValue::from_static("$LATEST"));
        if failed {
            headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
        }
        invocation
    }

    /// The Invoke API's error for an event over the size limit.
    pub(super) fn too_long(request_id: &str) -> Self {
        let message = format!(
            "Request must be smaller than {} bytes for the InvokeFunction operation",
            super::MAX_REQUEST
        );
        let body = serde_json::json!({"Type": "User", "message": message});
        Self::refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLargeException",
            request_id,
            &body,
        )
    }

    /// The Invoke API's error for an invocation over the concurrency limit.
    pub(super) fn throttled(request_id: &str) -> Self {
        let body = serde_json::json!({
            "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
            "Type": "User",
            "message": "Rate Exceeded.",
        });
        Self::refused(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequestsException",
            request_id,
            &body,
        )
    }

    /// The Invoke API's error if the lab could not create an environment.
    pub(super) fn not_started(request_id: &str, why: &str) -> Self {
        let body = serde_json::json!({"Type": "Service", "message": why});
        Self::refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ServiceException",
            request_id,
            &body,
        )
    }

    fn refused(status: StatusCode, kind: &'static str, request_id: &str, body: &Value) -> Self {
        let mut refused = Self::new(status, request_id, body.to_string().into());
        let kind = HeaderValue::from_static(kind);
        refused.headers.insert(ERROR_TYPE, kind);
        refused
    }

    fn new(status: StatusCode, request_id: &str, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(http::header::CONTENT_TYPE, json);
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        Self {
            status,
            headers,
            json: serde_json::from_slice(&body).ok(),
            body,
            request_id: request_id.to_owned(),
        }
    }

    /// The failure of the function or the platform; `None` if the function succeeded.
    #[must_use]
    pub fn function_error(&self) -> Option<FunctionError> {
        let text = |name| self.json.as_ref()?.get(name)?.as_str().map(str::to_owned);
        let refusal = self.headers.get(ERROR_TYPE);
        if let Some(kind) = refusal {
            return Some(FunctionError {
                error_type: String::from_utf8_lossy(kind.as_bytes()).into_owned(),
                message: text("message").unwrap_or_default(),
            });
        }
        self.headers.get(FUNCTION_ERROR).map(|_| FunctionError {
            error_type: text("errorType").unwrap_or_default(),
            message: text("errorMessage").unwrap_or_else(|| self.text()),
        })
    }

    /// Returns `true` if the invocation exceeded the function's timeout.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.function_error()
            .is_some_and(|error| error.error_type == "Sandbox.Timedout")
    }

    /// The payload as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

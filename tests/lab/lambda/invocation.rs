//! What an invocation brought its caller, as Lambda's Invoke API answers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

pub use crate::rie::FunctionError;

/// The header that tells a failed function's answer from another's.
const FUNCTION_ERROR: &str = "x-amz-function-error";
/// Where the Invoke API names the version that ran.
const EXECUTED_VERSION: &str = "x-amz-executed-version";
/// Where the Invoke API names its own errors.
const ERROR_TYPE: &str = "x-amzn-errortype";
/// Where every answer carries the invocation's id.
const REQUEST_ID: &str = "x-amzn-requestid";

/// An invocation's outcome.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// 200 for whatever the function answers, errors too; 413 for an event that is too long, 429
    /// when all environments are busy.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The payload as it came.
    pub body: Bytes,
    /// The payload as JSON, `None` when it is none.
    pub json: Option<Value>,
    /// The invocation's id.
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

    /// The Invoke API's own refusal of an event that is too long.
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

    /// The Invoke API's own refusal of one invocation too many.
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

    /// The Invoke API's own failure: the lab could not make an environment.
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

    /// The failure, of the function or of the platform; `None` when the function answered.
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

    /// Whether the function's time ran out.
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

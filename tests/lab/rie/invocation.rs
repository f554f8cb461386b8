//! What an invocation brought.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::http::Answer;

/// An invocation's outcome, as RIE gives it.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// RIE's status: 200 for answers and for errors that the function reported, 502 when a
    /// process died.
    pub status: StatusCode,
    /// RIE's headers.
    pub headers: HeaderMap,
    /// The payload as it came.
    pub body: Bytes,
    /// The payload as JSON, `None` when it is none.
    pub json: Option<Value>,
}

/// An invocation that failed: on Lambda, one whose answer carries `X-Amz-Function-Error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionError {
    /// `errorType`, or `Sandbox.Timedout` when the time ran out.
    pub error_type: String,
    /// `errorMessage`.
    pub message: String,
}

impl Invocation {
    pub(super) fn of(answer: Answer) -> Self {
        let json = answer.json().ok();
        Self {
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
            json,
        }
    }

    /// The failure, `None` when the function answered. RIE marks the errors that a function
    /// reports in no way, so an answer that is an object with `errorType` and `errorMessage`
    /// counts as one.
    #[must_use]
    pub fn function_error(&self) -> Option<FunctionError> {
        let text = |name| self.json.as_ref()?.get(name)?.as_str().map(str::to_owned);
        match (text("errorType"), text("errorMessage")) {
            (Some(error_type), Some(message)) => Some(FunctionError {
                error_type,
                message,
            }),
            _ if self.body.starts_with(b"Task timed out after ") => Some(FunctionError {
                error_type: "Sandbox.Timedout".into(),
                message: self.text(),
            }),
            // A process died after the function had answered.
            _ if self.status != StatusCode::OK => Some(FunctionError {
                error_type: self.status.to_string(),
                message: self.text(),
            }),
            _ => None,
        }
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

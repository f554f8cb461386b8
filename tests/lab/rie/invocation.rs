//! Result of an invocation under RIE.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::http::HttpResponse;

/// Result of an invocation, as RIE returns it.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Status of RIE: 200 for responses and for errors that the function reported, 502 if a process
    /// exited.
    pub status: StatusCode,
    /// Headers of RIE.
    pub headers: HeaderMap,
    /// Unchanged payload.
    pub body: Bytes,
    /// The payload as JSON, `None` if it is no JSON.
    pub json: Option<Value>,
}

/// A failed invocation: on Lambda, one whose response has `X-Amz-Function-Error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionError {
    /// `errorType`, or `Sandbox.Timedout` after the timeout.
    pub error_type: String,
    /// `errorMessage`.
    pub message: String,
}

impl Invocation {
    pub(super) fn of(answer: HttpResponse) -> Self {
        let json = answer.json().ok();
        Self {
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
            json,
        }
    }

    /// The failure, `None` if the function succeeded. RIE does not mark the errors that a function
    /// reports, so an object with `errorType` and `errorMessage` counts as one.
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
            // A process exited after the function had responded.
            _ if self.status != StatusCode::OK => Some(FunctionError {
                error_type: self.status.to_string(),
                message: self.text(),
            }),
            _ => None,
        }
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

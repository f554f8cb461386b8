//! Failures of an invocation, and their form for each kind of caller.
//!
//! An HTTP caller gets a status and `{"error": …}`. A direct invocation has no status: a failure,
//! including one of the sidecar, is a *function error*. Lambda's retries, dead-letter queues and
//! error metrics therefore apply, and no failure counts as a success. Messages of a queue fail
//! individually (see [`crate::batch`]).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use tracing::error;

use crate::invocation::Invocation;
use crate::limits::MAX_RESPONSE;

/// Failure of an invocation.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The event cannot be converted to a call.
    #[error("{0}")]
    BadRequest(String),
    /// Nothing listened on the socket during the time available.
    #[error(
        "no model sidecar on {} after {} ms; check that its layer is attached to this function and MODEL_SOCKET is the same for both",
        socket.display(),
        waited.as_millis()
    )]
    Absent {
        /// Path of the socket.
        socket: PathBuf,
        /// Time waited.
        waited: Duration,
    },
    /// The socket exists and connecting fails.
    #[error("cannot connect to the model sidecar on {}: {source}", socket.display())]
    Unreachable {
        /// Path of the socket.
        socket: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The sidecar closed the connection without a response, more than once.
    #[error("the model sidecar closed the connection without a response; see its log")]
    Broken,
    /// The sidecar did not respond within the invocation's time.
    #[error("the model did not respond within the invocation's {} ms; increase the function's timeout if it needs longer", allowed.as_millis())]
    Timeout {
        /// Time left at the start of the invocation.
        allowed: Duration,
    },
    /// The response exceeds Lambda's limit.
    #[error(
        "the response is larger than Lambda's limit of {MAX_RESPONSE} bytes; request fewer rows or fewer outputs"
    )]
    TooLarge,
    /// The response to a direct invocation is not JSON, the only format that such an invocation can
    /// return.
    #[error(
        "the model sidecar's response is not JSON, the only format of a direct invocation; request no binary outputs, or use an HTTP event"
    )]
    NotJson,
    /// The sidecar responded with a status of 400 or above to a caller without a status.
    #[error("{message}")]
    SidecarError {
        /// Status of the sidecar.
        status: StatusCode,
        /// Message of the sidecar.
        message: String,
    },
}

impl Failure {
    /// Logs the failure of this invocation.
    pub fn log(&self, invocation: &Invocation) {
        error!(
            request_id = %invocation.request_id,
            error_type = self.error_type(),
            "{self}"
        );
    }

    /// HTTP status for HTTP callers.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Absent { .. } | Self::Unreachable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken | Self::NotJson => StatusCode::BAD_GATEWAY,
            Self::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SidecarError { status, .. } => *status,
        }
    }

    /// The `errorType` of a function error: stable values for callers and retry rules.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self.status() {
            StatusCode::NOT_FOUND => "Model.NotFound",
            StatusCode::PAYLOAD_TOO_LARGE => "Model.TooLarge",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "Model.UnsupportedMediaType",
            StatusCode::UNPROCESSABLE_ENTITY => "Model.Unprocessable",
            StatusCode::TOO_MANY_REQUESTS => "Model.Busy",
            StatusCode::BAD_GATEWAY => "Model.BadGateway",
            StatusCode::SERVICE_UNAVAILABLE => "Model.NotReady",
            StatusCode::GATEWAY_TIMEOUT => "Model.Timeout",
            status if status.is_client_error() => "Model.BadRequest",
            _ => "Model.Internal",
        }
    }
}

/// Function error, in the format of the Runtime API.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionError {
    /// Type of the error: see [`Failure::error_type`].
    pub error_type: &'static str,
    /// Message of the failure.
    pub error_message: String,
}

impl From<&Failure> for FunctionError {
    fn from(failure: &Failure) -> Self {
        Self {
            error_type: failure.error_type(),
            error_message: failure.to_string(),
        }
    }
}

#[cfg(feature = "bootstrap")]
impl From<Failure> for lambda_runtime::Diagnostic {
    fn from(failure: Failure) -> Self {
        let error = FunctionError::from(&failure);
        Self {
            error_type: error.error_type.to_owned(),
            error_message: error.error_message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_error_carries_a_type_to_match_and_the_sidecars_words() {
        let cases = [
            (400, "Model.BadRequest"),
            (404, "Model.NotFound"),
            (405, "Model.BadRequest"),
            (413, "Model.TooLarge"),
            (415, "Model.UnsupportedMediaType"),
            (422, "Model.Unprocessable"),
            (429, "Model.Busy"),
            (500, "Model.Internal"),
            (503, "Model.NotReady"),
            (504, "Model.Timeout"),
        ];
        for (status, expected) in cases {
            let status = StatusCode::from_u16(status).unwrap();
            let failure = Failure::SidecarError {
                status,
                message: "missing required field: features".into(),
            };
            let error = FunctionError::from(&failure);
            assert_eq!(error.error_type, expected);
            assert_eq!(error.error_message, "missing required field: features");
        }
    }

    #[test]
    fn an_absent_sidecar_error_names_what_to_check() {
        let failure = Failure::Absent {
            socket: "/tmp/a.sock".into(),
            waited: Duration::from_millis(2950),
        };
        let words = failure.to_string();
        assert!(
            words.contains("/tmp/a.sock") && words.contains("2950 ms"),
            "{words}"
        );
        assert!(
            words.contains("layer") && words.contains("MODEL_SOCKET"),
            "{words}"
        );
        assert_eq!(failure.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}

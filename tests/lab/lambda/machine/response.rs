//! Responses of the Runtime and Extensions APIs, word for word as in RIE's `rapi`.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use uuid::Uuid;

use super::super::MAX_RESPONSE;

/// Response to an API call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ApiResponse {
    pub(in super::super) status: StatusCode,
    /// `None` for a response without a content type.
    pub(in super::super) content_type: Option<&'static str>,
    /// Headers other than the content type.
    pub(in super::super) headers: Vec<(&'static str, String)>,
    pub(in super::super) body: Bytes,
}

/// Fields in Go's order.
#[derive(Serialize)]
struct ErrorBody<'a> {
    #[serde(rename = "errorMessage")]
    message: &'a str,
    #[serde(rename = "errorType")]
    kind: &'a str,
}

/// Body of an error that the platform itself returns to a caller.
#[derive(Serialize)]
struct FunctionErrorBody<'a> {
    #[serde(rename = "errorType")]
    kind: &'a str,
    #[serde(rename = "errorMessage")]
    message: &'a str,
}

impl ApiResponse {
    pub(in super::super) fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: Some("application/json"),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Sets the content type that Go's server gives to text without a declared type.
    pub(in super::super) fn plain(mut self) -> Self {
        let text = "text/plain; charset=utf-8";
        self.content_type = Some(text).filter(|_| !self.body.is_empty());
        self
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Serialized as by Go's encoder, with a newline at the end.
    pub(in super::super) fn error(status: StatusCode, kind: &str, message: &str) -> Self {
        let body = ErrorBody { message, kind };
        let mut text = serde_json::to_string(&body).unwrap_or_default();
        text.push('\n');
        Self::new(status, text)
    }

    pub(super) fn forbidden(kind: &str, message: &str) -> Self {
        Self::error(StatusCode::FORBIDDEN, kind, message)
    }

    pub(super) fn accepted() -> Self {
        Self::new(StatusCode::ACCEPTED, "{\"status\":\"OK\"}\n")
    }

    /// Response to `restore/next`.
    pub(super) fn restored() -> Self {
        Self::new(StatusCode::OK, "").plain()
    }

    pub(in super::super) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "404 page not found\n").plain()
    }

    pub(super) fn invalid_request_id() -> Self {
        Self::error(
            StatusCode::BAD_REQUEST,
            "InvalidRequestID",
            "Invalid request ID",
        )
    }

    pub(super) fn invalid_mode() -> Self {
        Self::error(
            StatusCode::BAD_REQUEST,
            "InvalidFunctionResponseMode",
            "Invalid function response mode",
        )
    }

    /// On managed instances: the response arrives after the invocation's timeout.
    pub(super) fn too_late() -> Self {
        Self::error(StatusCode::GONE, "InvokeTimeout", "Invoke timeout")
    }

    pub(super) fn too_long() -> Self {
        let message = format!("Exceeded maximum allowed payload size ({MAX_RESPONSE} bytes).");
        Self::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            &message,
        )
    }

    pub(super) fn internal() -> Self {
        Self::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            "Internal Server Error",
        )
    }

    /// The runtime may not make this call in its state.
    pub(super) fn no_way_for_runtime(from: &str, to: &str) -> Self {
        let message = format!(
            "State transition from {from} to {to} failed for runtime. Error: State transition is \
             not allowed"
        );
        Self::forbidden("InvalidStateTransition", &message)
    }

    /// The extension may not make this call in its state; `name` is the platform's name for the
    /// target state.
    pub(super) fn no_way_for_extension(from: &str, to: &str, name: &str) -> Self {
        let message = format!(
            "State transition from {from} to {to} failed for extension {name}. Error: State \
             transition is not allowed"
        );
        Self::forbidden("Extension.InvalidExtensionState", &message)
    }

    pub(super) fn unknown_extension(identifier: Uuid) -> Self {
        Self::forbidden(
            "Extension.UnknownExtensionIdentifier",
            &format!("Unknown extension {identifier}"),
        )
    }
}

/// Payload for the caller of an invocation that the platform ended.
pub(super) fn function_error(kind: &str, message: &str) -> Bytes {
    let body = FunctionErrorBody { kind, message };
    serde_json::to_vec(&body).unwrap_or_default().into()
}

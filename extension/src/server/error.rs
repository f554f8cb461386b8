//! Errors of the local API, and the only place where an error becomes a status and a response body.

use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode};

use super::decompression::{ACCEPTED_CODINGS, RequestDecompressError, UnsupportedCoding};
use super::limits::{BODY_STALL_TIMEOUT, BODY_TIMEOUT, MAX_BODY};
use super::response::{self, ApiResponse};
use crate::config::Token;
use crate::engine::EngineError;
use crate::excerpt::Excerpt;
use crate::protocol::{BadRequest, DecodeError};
use crate::request_memory::{Over, OverBudget, Stopped};
use crate::scheduler::RunError;

/// Error response to a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error(
        "unknown path {} {}; known paths: {known}",
        Excerpt(.method.as_str()),
        Excerpt(.path)
    )]
    UnknownPath {
        method: Method,
        path: String,
        known: String,
    },
    #[error(
        "unknown call :{}; of TensorFlow Serving's calls, POST /v1/models/{{model}}:predict is supported",
        Excerpt(.verb)
    )]
    UnknownVerb { verb: String },
    #[error(
        "method {} is not allowed for {}; allowed: {allowed}",
        Excerpt(.method.as_str()),
        Excerpt(.path)
    )]
    MethodNotAllowed {
        method: Method,
        path: String,
        allowed: &'static str,
    },
    #[error(
        "statistics and the model repository are not available to callers from outside the function: \
         MODEL_REMOTE_OPERATIONS is not true"
    )]
    RemoteOperation,
    #[error("unknown model {:?}; known models: {known}", Excerpt(.given))]
    UnknownModel { given: String, known: String },
    #[error(
        "the path names no model, and several are loaded; use /models/{{model}}/predict with one of: {known}"
    )]
    ModelNotNamed { known: String },
    #[error("version {:?} of model {model:?} is not active; version {active:?} is active", Excerpt(.given))]
    VersionNotActive {
        model: String,
        given: String,
        active: String,
    },
    #[error(
        "label {:?} of model {model:?} {points_to}; version {active:?} is active (labels are the \
         `version_labels` of the manifest)",
        Excerpt(.given)
    )]
    LabelNotActive {
        model: String,
        given: String,
        points_to: String,
        active: String,
    },
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    #[error("header {name} is {:?}, expected {expected}", Excerpt(.value))]
    InvalidHeader {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error(
        "the body is larger than {MAX_BODY} bytes (64 MiB); through Lambda the maximum is 6 MB, and 4.5 MB for a body \
         in base64"
    )]
    BodyTooLarge,
    #[error(
        "the body arrived too slowly: {} s may pass without a byte of it, and {} s until its end",
        BODY_STALL_TIMEOUT.as_secs(),
        BODY_TIMEOUT.as_secs()
    )]
    BodyTooSlow,
    #[error("header content-encoding is {:?}, expected one of {ACCEPTED_CODINGS}", Excerpt(.given))]
    UnsupportedCoding { given: String },
    #[error("cannot decompress the body as header content-encoding says, {coding}: {problem}")]
    InvalidCompression {
        coding: &'static str,
        problem: String,
    },
    #[error(
        "header {header} {problem}: MODEL_TOKEN=session requires the value of {variables}",
        variables = Token::VARIABLES.join(", or else of ")
    )]
    Unauthorized {
        header: &'static str,
        problem: &'static str,
    },
    #[error(transparent)]
    OverBudget(OverBudget),
    #[error(
        "header host is {:?}, expected localhost, an address of 127.0.0.0/8 or [::1]: over TCP, requests must name \
         this machine, so that websites cannot send any",
        Excerpt(.0)
    )]
    ForeignHost(String),
    #[error("the body ended early: the connection was closed or its framing is invalid")]
    BodyBroken,
    #[error("{0}")]
    NotReady(String),
    #[error("{0}")]
    Forbidden(String),
    #[error("the newest version of model {model:?} is not active: {problem}")]
    NewestNotActive { model: String, problem: String },
    #[error(
        "the deadline passed before the version check of model {model:?} ended; the check continues"
    )]
    CheckUnfinished { model: String },
    #[error("{field}: {reason}")]
    InvalidField { field: String, reason: String },
    #[error("cannot attach the function's process: {0}")]
    NotAttached(&'static str),
    #[error("cannot report a restore: {0}")]
    NotRestored(&'static str),
    #[error("the sidecar is shutting down")]
    ShuttingDown,
    #[error(transparent)]
    Run(RunError),
}

impl From<Stopped> for ApiError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::OverBudget(over) => ApiError::OverBudget(over),
            Stopped::Cancelled => ApiError::Run(RunError::Deadline),
        }
    }
}

impl From<RunError> for ApiError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Stopped(stopped) => stopped.into(),
            error => ApiError::Run(error),
        }
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Invalid(error) => error.into(),
            DecodeError::Stopped(stopped) => stopped.into(),
        }
    }
}

impl From<UnsupportedCoding> for ApiError {
    fn from(coding: UnsupportedCoding) -> Self {
        ApiError::UnsupportedCoding { given: coding.0 }
    }
}

impl From<RequestDecompressError> for ApiError {
    fn from(error: RequestDecompressError) -> Self {
        match error {
            RequestDecompressError::Invalid { coding, problem } => {
                ApiError::InvalidCompression { coding, problem }
            }
            RequestDecompressError::TooLarge => ApiError::BodyTooLarge,
            RequestDecompressError::Stopped(stopped) => stopped.into(),
        }
    }
}

impl ApiError {
    /// Returns the status of the response.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            ApiError::UnknownPath { .. }
            | ApiError::UnknownVerb { .. }
            | ApiError::UnknownModel { .. }
            | ApiError::VersionNotActive { .. }
            | ApiError::LabelNotActive { .. } => StatusCode::NOT_FOUND,
            ApiError::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::OverBudget(OverBudget { over, .. }) => match over {
                Over::Always { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                Over::Now { .. } => StatusCode::SERVICE_UNAVAILABLE,
            },
            ApiError::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            ApiError::UnsupportedCoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ApiError::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            ApiError::BadRequest(_)
            | ApiError::InvalidHeader { .. }
            | ApiError::InvalidField { .. }
            | ApiError::InvalidCompression { .. }
            | ApiError::ModelNotNamed { .. }
            | ApiError::BodyBroken => StatusCode::BAD_REQUEST,
            ApiError::NotReady(_) | ApiError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Forbidden(_) | ApiError::ForeignHost(_) | ApiError::RemoteOperation => {
                StatusCode::FORBIDDEN
            }
            ApiError::NewestNotActive { .. }
            | ApiError::NotAttached(_)
            | ApiError::NotRestored(_) => StatusCode::CONFLICT,
            ApiError::CheckUnfinished { .. } => StatusCode::GATEWAY_TIMEOUT,
            ApiError::Run(error) => run_status(error),
        }
    }

    /// Returns `true` if the request body may not have been read to its end.
    pub(super) fn leaves_body(&self) -> bool {
        matches!(
            self,
            ApiError::UnknownPath { .. }
                | ApiError::UnknownVerb { .. }
                | ApiError::MethodNotAllowed { .. }
                | ApiError::UnknownModel { .. }
                | ApiError::ModelNotNamed { .. }
                | ApiError::InvalidHeader { .. }
                | ApiError::BodyTooLarge
                | ApiError::BodyTooSlow
                | ApiError::OverBudget(_)
                | ApiError::BodyBroken
                | ApiError::UnsupportedCoding { .. }
                | ApiError::Unauthorized { .. }
                | ApiError::Forbidden(_)
                | ApiError::ForeignHost(_)
                | ApiError::RemoteOperation
                | ApiError::NotAttached(_)
                | ApiError::NotRestored(_)
        )
    }

    /// Returns the response: the status, `{"error": …}` and the headers that belong to the status.
    pub(super) fn response(&self) -> ApiResponse {
        let body = serde_json::json!({ "error": self.to_string() });
        let mut response = response::json(self.status(), body.to_string().into_bytes());
        let header = match self {
            ApiError::MethodNotAllowed { allowed, .. } => Some((ALLOW, *allowed)),
            ApiError::Unauthorized { header, .. } => Some((WWW_AUTHENTICATE, *header)),
            _ => match self.status() {
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                    Some((RETRY_AFTER, "1"))
                }
                _ => None,
            },
        };
        if let Some((name, value)) = header {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// Returns the status of a run that failed or was never started.
fn run_status(error: &RunError) -> StatusCode {
    match (error, error.engine()) {
        (RunError::QueueFull { .. }, _) => StatusCode::TOO_MANY_REQUESTS,
        (RunError::Stopped(_), _) => StatusCode::SERVICE_UNAVAILABLE,
        (RunError::Deadline, _) | (_, Some(EngineError::Cancelled)) => StatusCode::GATEWAY_TIMEOUT,
        (_, Some(EngineError::Input(_) | EngineError::Node(_))) => StatusCode::BAD_REQUEST,
        (_, Some(EngineError::Memory(memory))) if memory.exceeds_limit() => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        (_, Some(EngineError::Memory(_))) => StatusCode::SERVICE_UNAVAILABLE,
        (RunError::Engine(_) | RunError::Failed(_), _) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

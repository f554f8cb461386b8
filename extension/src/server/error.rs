//! Every error as a status and `{"error": …}`: the one place where the two meet.

use hyper::{Method, StatusCode};

use super::MOST_BODY;
use super::route::PATHS;
use crate::engine::EngineError;
use crate::protocol::BadRequest;
use crate::schedule::RunError;

/// A request that is not answered as it wished.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("there is no {method} {path} here; there is {PATHS}")]
    NoSuchPath { method: Method, path: String },
    #[error("{path} takes {allowed}, not {method}")]
    Method {
        method: Method,
        path: String,
        allowed: Method,
    },
    #[error("there is no model {given:?} here; there is {known}")]
    NoSuchModel { given: String, known: String },
    #[error(
        "several models are served here: name one, as /models/{{model}}/predict; there is {known}"
    )]
    WhichModel { known: String },
    #[error("model {model:?} has no version {given:?} here; {current} answers")]
    NoSuchVersion {
        model: String,
        given: String,
        current: String,
    },
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    #[error("header {name} is {value:?}, expected {expected}")]
    Header {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("the body is larger than {MOST_BODY} bytes, the most that is taken here")]
    BodyTooLarge,
    #[error("no byte of the body arrived for too long")]
    BodyTooSlow,
    #[error("the body broke off")]
    BodyBroken,
    #[error("{0}")]
    NotReady(String),
    #[error("{0}")]
    Forbidden(String),
    #[error("the newest version of model {model:?} does not answer: {problem}")]
    NotNewest { model: String, problem: String },
    #[error("the deadline passed before the check of model {model:?} had ended; it goes on")]
    CheckGoesOn { model: String },
    #[error("{field}: {reason}")]
    Field { field: String, reason: String },
    #[error("the sidecar is shutting down")]
    Ending,
    #[error(transparent)]
    Run(#[from] RunError),
}

impl ApiError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            ApiError::NoSuchPath { .. }
            | ApiError::NoSuchModel { .. }
            | ApiError::NoSuchVersion { .. } => StatusCode::NOT_FOUND,
            ApiError::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            ApiError::BadRequest(_)
            | ApiError::Header { .. }
            | ApiError::Field { .. }
            | ApiError::WhichModel { .. }
            | ApiError::BodyBroken
            | ApiError::Run(RunError::Engine(EngineError::Input(_) | EngineError::Node(_))) => {
                StatusCode::BAD_REQUEST
            }
            ApiError::NotReady(_) | ApiError::Ending => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Run(RunError::Full { .. }) => StatusCode::TOO_MANY_REQUESTS,
            ApiError::Forbidden(_) => StatusCode::FORBIDDEN,
            ApiError::NotNewest { .. } => StatusCode::CONFLICT,
            ApiError::CheckGoesOn { .. }
            | ApiError::Run(RunError::Deadline | RunError::Engine(EngineError::Cancelled)) => {
                StatusCode::GATEWAY_TIMEOUT
            }
            ApiError::Run(RunError::Engine(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

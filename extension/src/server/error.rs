//! Every error as a status and `{"error": …}`: the one place where the two meet.

use hyper::{Method, StatusCode};

use super::{MAX_BODY, compression};
use crate::config::Token;
use crate::engine::EngineError;
use crate::excerpt::Excerpt;
use crate::protocol::{BadRequest, DecodeError};
use crate::request_memory::{Over, OverBudget, Stopped};
use crate::scheduler::RunError;

/// A request that is not answered as it wished.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error(
        "there is no {} {} here; there is {known}",
        Excerpt(.method.as_str()),
        Excerpt(.path)
    )]
    NoSuchPath {
        method: Method,
        path: String,
        known: String,
    },
    #[error(
        "there is no :{} here; of TensorFlow Serving's calls there is POST /v1/models/{{model}}:predict",
        Excerpt(.verb)
    )]
    NoSuchVerb { verb: String },
    #[error("{} takes {allowed}, not {}", Excerpt(.path), Excerpt(.method.as_str()))]
    Method {
        method: Method,
        path: String,
        allowed: &'static str,
    },
    #[error(
        "statistics and the model repository are not offered to callers from outside the function: \
         MODEL_REMOTE_OPERATIONS is not true"
    )]
    Operation,
    #[error("there is no model {:?} here; there is {known}", Excerpt(.given))]
    NoSuchModel { given: String, known: String },
    #[error(
        "several models are served here: name one, as /models/{{model}}/predict; there is {known}"
    )]
    WhichModel { known: String },
    #[error("model {model:?} has no version {:?} here; version {current:?} is active", Excerpt(.given))]
    NoSuchVersion {
        model: String,
        given: String,
        current: String,
    },
    #[error(
        "label {:?} of model {model:?} {points_to}; version {current:?} is active (labels are the `version_labels` of the \
         manifest)",
        Excerpt(.given)
    )]
    NoSuchLabel {
        model: String,
        given: String,
        points_to: String,
        current: String,
    },
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    #[error("header {name} is {:?}, expected {expected}", Excerpt(.value))]
    Header {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error(
        "the body is larger than {MAX_BODY} bytes (64 MiB), the most that is taken here; through Lambda it is 6 MB, of \
         which base64 leaves 4.5 MB to a body that is not text"
    )]
    BodyTooLarge,
    #[error(
        "the body came too slowly: {} s may pass without a byte of it, and {} s until all of it is here",
        super::BODY_STALL.as_secs(),
        super::BODY_TIME.as_secs()
    )]
    BodyTooSlow,
    #[error(
        "header content-encoding is {:?}, expected one of {}",
        Excerpt(.given),
        compression::TAKEN
    )]
    Coding { given: String },
    #[error("the body is not what header content-encoding says, {coding}: {problem}")]
    NotCoded {
        coding: &'static str,
        problem: String,
    },
    #[error("header {header} {problem}: MODEL_TOKEN=session asks for the value of {variables}", variables = Token::VARIABLES.join(", or else of "))]
    Unauthorized {
        header: &'static str,
        problem: &'static str,
    },
    #[error(transparent)]
    OverBudget(OverBudget),
    #[error(
        "header host is {:?}, expected localhost, an address of 127.0.0.0/8 or [::1]: over TCP this machine alone is \
         served, and no site that a browser shows",
        Excerpt(.0)
    )]
    Host(String),
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

impl ApiError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            ApiError::NoSuchPath { .. }
            | ApiError::NoSuchVerb { .. }
            | ApiError::NoSuchModel { .. }
            | ApiError::NoSuchVersion { .. }
            | ApiError::NoSuchLabel { .. } => StatusCode::NOT_FOUND,
            ApiError::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::OverBudget(OverBudget { over, .. }) => match over {
                Over::Always { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                Over::Now { .. } => StatusCode::SERVICE_UNAVAILABLE,
            },
            ApiError::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            ApiError::Coding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ApiError::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            ApiError::BadRequest(_)
            | ApiError::Header { .. }
            | ApiError::Field { .. }
            | ApiError::NotCoded { .. }
            | ApiError::WhichModel { .. }
            | ApiError::BodyBroken => StatusCode::BAD_REQUEST,
            ApiError::NotReady(_) | ApiError::Ending => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Forbidden(_) | ApiError::Host(_) | ApiError::Operation => {
                StatusCode::FORBIDDEN
            }
            ApiError::NotNewest { .. } => StatusCode::CONFLICT,
            ApiError::CheckGoesOn { .. } => StatusCode::GATEWAY_TIMEOUT,
            ApiError::Run(error) => match (error, error.engine()) {
                (RunError::Full { .. }, _) => StatusCode::TOO_MANY_REQUESTS,
                (RunError::Stopped(_), _) => StatusCode::SERVICE_UNAVAILABLE,
                (RunError::Deadline, _) | (_, Some(EngineError::Cancelled)) => {
                    StatusCode::GATEWAY_TIMEOUT
                }
                (_, Some(EngineError::Input(_) | EngineError::Node(_))) => StatusCode::BAD_REQUEST,
                (_, Some(EngineError::Memory(memory))) => {
                    if memory.is_for_good() {
                        StatusCode::PAYLOAD_TOO_LARGE
                    } else {
                        StatusCode::SERVICE_UNAVAILABLE
                    }
                }
                (RunError::Engine(_) | RunError::Failed(_), _) => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// Whether it may be that the body was not read to its end.
    pub(super) fn leaves_body(&self) -> bool {
        matches!(
            self,
            ApiError::NoSuchPath { .. }
                | ApiError::NoSuchVerb { .. }
                | ApiError::Method { .. }
                | ApiError::NoSuchModel { .. }
                | ApiError::WhichModel { .. }
                | ApiError::Header { .. }
                | ApiError::BodyTooLarge
                | ApiError::BodyTooSlow
                | ApiError::OverBudget(_)
                | ApiError::BodyBroken
                | ApiError::Coding { .. }
                | ApiError::Unauthorized { .. }
                | ApiError::Forbidden(_)
                | ApiError::Host(_)
                | ApiError::Operation
        )
    }
}

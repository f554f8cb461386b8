//! Error responses in `CloudWatch`'s form. The SDKs tell errors apart by the older query protocol's
//! codes, which the header `x-amzn-query-error` carries; the CBOR body names the shape.

use std::fmt::Display;

use http::{HeaderValue, StatusCode, header};

use super::body;
use crate::listener::Body;

#[derive(Clone, Debug)]
pub(super) struct CloudWatchError {
    status: StatusCode,
    code: String,
    message: String,
}

impl CloudWatchError {
    fn new(status: StatusCode, code: &str, message: String) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message,
        }
    }

    pub(super) fn invalid_value(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidParameterValue", message)
    }

    pub(super) fn invalid_combination(message: String) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "InvalidParameterCombination",
            message,
        )
    }

    pub(super) fn missing(parameter: &str) -> Self {
        let message = format!("The parameter {parameter} is required.");
        Self::new(StatusCode::BAD_REQUEST, "MissingParameter", message)
    }

    pub(super) fn malformed(error: &dyn Display) -> Self {
        let message = format!("the request cannot be read: {error}");
        Self::new(StatusCode::BAD_REQUEST, "SerializationException", message)
    }

    pub(super) fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            "the request is larger than 1 MB".into(),
        )
    }

    pub(super) fn unknown_operation(what: &str) -> Self {
        let message = format!("unknown operation: {what}");
        Self::new(StatusCode::NOT_FOUND, "UnknownOperationException", message)
    }

    pub(super) fn unauthorized(code: &str, message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message.to_owned())
    }

    pub(super) fn injected(status: u16, code: &str) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, code, "an injected fault".into())
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn code(&self) -> &str {
        &self.code
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn response(&self) -> http::Response<Body> {
        let shape = match self.code.as_str() {
            "InvalidParameterValue" => "InvalidParameterValueException",
            "InvalidParameterCombination" => "InvalidParameterCombinationException",
            "MissingParameter" => "MissingRequiredParameterException",
            other => other,
        };
        let mut cbor = Vec::new();
        let error = ciborium::Value::Map(vec![
            (
                "__type".into(),
                format!("com.amazonaws.cloudwatch#{shape}").into(),
            ),
            ("message".into(), self.message.as_str().into()),
        ]);
        // Writing to memory cannot fail; if it did, the SDK would use the header.
        let _ = ciborium::into_writer(&error, &mut cbor);
        let side = if self.status.is_server_error() {
            "Receiver"
        } else {
            "Sender"
        };
        let mut response = http::Response::new(body(cbor));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        super::wire::mark(headers);
        if let Ok(value) = HeaderValue::from_str(&format!("{};{side}", self.code)) {
            headers.insert("x-amzn-query-error", value);
        }
        headers.insert(header::CONTENT_TYPE, super::wire::CBOR);
        response
    }
}

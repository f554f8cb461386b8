//! Responses of `lab serve` in JSON.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

pub(crate) type ServerResponse = Response<Full<Bytes>>;

pub(crate) fn json(value: &serde_json::Value) -> ServerResponse {
    Response::new(Full::from(value.to_string()))
}

pub(crate) fn error(status: StatusCode, message: &str) -> ServerResponse {
    let mut response = json(&json!({ "message": message }));
    *response.status_mut() = status;
    response
}

//! Responses of the local API.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};

use super::headers::{HEADER_LENGTH_NAME, MODEL_DIGEST, MODEL_NAME, MODEL_VERSION};
use super::response_body::ResponseBody;
use crate::models::LoadedModel;
use crate::protocol::ServingVersion;
use crate::protocol::v2::Encoded;
use crate::request_memory::{Charge, Stopped};

/// Response of the local API.
pub(super) type ApiResponse = hyper::Response<ResponseBody>;

/// Returns a response of this status with a body in JSON.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> ApiResponse {
    let mut response = ApiResponse::new(ResponseBody::from(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Returns the response to `OPTIONS`: no body, and the methods of the path in `Allow`.
pub(super) fn options(allowed: &'static str) -> ApiResponse {
    let mut response = ApiResponse::new(ResponseBody::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// Returns the response with these encoded outputs, which holds `charge` until it is sent.
pub(super) fn outputs(encoded: Encoded, mut charge: Charge) -> Result<ApiResponse, Stopped> {
    let body = ResponseBody::from(encoded.pieces);
    charge.grow(body.length())?;
    charge.settle();
    let mut response = ApiResponse::new(body.with_charge(charge));
    let headers = response.headers_mut();
    let media_type = match encoded.header_length {
        None => "application/json",
        Some(length) => {
            headers.insert(&HEADER_LENGTH_NAME, length.into());
            "application/octet-stream"
        }
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}

/// Adds the headers that name the model, the version and its digest.
pub(super) fn with_model_headers(mut response: ApiResponse, loaded: &LoadedModel) -> ApiResponse {
    let values = loaded.headers();
    let headers = response.headers_mut();
    for (name, value) in [
        (&MODEL_NAME, &values.name),
        (&MODEL_VERSION, &values.version),
        (&MODEL_DIGEST, &values.digest),
    ] {
        if let Some(value) = value {
            headers.insert(name, value.clone());
        }
    }
    response
}

/// Returns the names of a model and its version, as response bodies show them.
pub(super) fn serving_version(loaded: &LoadedModel) -> ServingVersion<'_> {
    ServingVersion {
        model: loaded.name.as_str(),
        version: loaded.version.as_str(),
    }
}

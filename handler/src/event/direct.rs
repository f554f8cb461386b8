//! A payload that is itself the request: whoever invokes the function directly writes no HTTP.

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::{Call, Envelope, field, target};
use crate::failure::Failure;

/// The payload, unchanged, to where its own words point: `model` names a model, and a list
/// `inputs` beside it is the Open Inference Protocol's form. All else is `/predict`.
pub(super) fn call(event: &str, envelope: &Envelope) -> Result<Call, Failure> {
    // A `model` that is no string is the caller's own business, a feature of that name perhaps.
    let model = envelope.model.filter(|raw| raw.get().starts_with('"'));
    let target = match field::text("model", model)? {
        Some(model) if model.is_empty() => {
            return Err(Failure::BadRequest(
                "field model must name a model, not be empty".into(),
            ));
        }
        Some(model) => {
            let model = target::encode(&model);
            if envelope
                .inputs
                .is_some_and(|raw| raw.get().starts_with('['))
            {
                format!("/v2/models/{model}/infer")
            } else {
                format!("/models/{model}/predict")
            }
        }
        None => "/predict".to_owned(),
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Call {
        method: Method::POST,
        target,
        headers,
        body: Bytes::copy_from_slice(event.as_bytes()),
    })
}

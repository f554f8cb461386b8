//! A payload that is itself the request: whoever invokes the function directly writes no HTTP.

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::unsupported::{Fields, Unsupported};
use super::{Call, Envelope, field, target, warm_up};
use crate::failure::Failure;

/// An event that is neither HTTP nor messages: a warm-up, another service's, or a payload for the model.
pub(super) fn read(event: &str, envelope: &Envelope) -> Result<Call, Failure> {
    // Nearly all that come here are the last, and have been scanned once.
    if !envelope.has_input() {
        if event.trim_ascii_start().starts_with('[') {
            if let Some(unsupported) = Unsupported::of_records(event) {
                return Err(unsupported.event());
            }
        } else if let Some(fields) = without_input(event) {
            if warm_up::is_warm_up(&fields) {
                return Ok(warm_up::call());
            }
            if let Some(unsupported) = Unsupported::of(&fields) {
                return Err(unsupported.event());
            }
        }
    }
    call(event, envelope)
}

/// The fields of an object that has nothing to infer from.
pub(super) fn without_input(text: &str) -> Option<Fields<'_>> {
    let fields: Fields = serde_json::from_str(text).ok()?;
    let has_input = INPUTS.iter().any(|name| fields.contains_key(*name));
    (!has_input).then_some(fields)
}

/// The fields of which a direct invocation has one.
const INPUTS: [&str; 3] = ["features", "instances", "inputs"];

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

//! Direct invocations, whose payload is the request body.

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::unsupported::{Fields, Unsupported};
use super::{Call, Envelope, field, target, warm_up};
use crate::failure::Failure;

/// Reads an event that is neither HTTP nor messages: a warm-up, another service's event, or a
/// payload for the model.
pub(super) fn read(event: &str, envelope: &Envelope) -> Result<Call, Failure> {
    // The common case, decided by the first scan.
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

/// The fields of an object without an input.
pub(super) fn without_input(text: &str) -> Option<Fields<'_>> {
    let fields: Fields = serde_json::from_str(text).ok()?;
    let has_input = INPUTS.iter().any(|name| fields.contains_key(*name));
    (!has_input).then_some(fields)
}

/// Fields of a direct invocation; one of them is present.
const INPUTS: [&str; 3] = ["features", "instances", "inputs"];

/// The unchanged payload with its path. `model` names a model, and `model` with a list `inputs` is
/// the Open Inference Protocol's form. All else goes to `/predict`.
pub(super) fn call(event: &str, envelope: &Envelope) -> Result<Call, Failure> {
    // A `model` that is not a string is data, for example a feature of that name.
    let model = envelope.model.filter(|raw| raw.get().starts_with('"'));
    let target = match field::text("model", model)? {
        Some(model) if model.is_empty() => {
            return Err(Failure::BadRequest("field model must not be empty".into()));
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

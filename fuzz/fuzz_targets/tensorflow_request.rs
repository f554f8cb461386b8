//! Bodies in TensorFlow Serving's form: decoded tensors have the model's datatype and shape, and
//! can be encoded as a response.
//!
//! The first byte selects the signature, the rest is the body.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use model_sidecar::protocol::tfserving;
use model_sidecar::request_memory::Charge;
use model_sidecar::tensor::Signature;

static SIGNATURES: LazyLock<Vec<(String, Signature)>> = LazyLock::new(fuzz::signatures);

fuzz_target!(|input: &[u8]| {
    let Some((&which, body)) = input.split_first() else {
        return;
    };
    let (_, signature) = &SIGNATURES[usize::from(which) % SIGNATURES.len()];
    let Ok((decoded, layout)) = tfserving::decode(body, signature, &mut Charge::unlimited()) else {
        return;
    };
    fuzz::check_inputs(signature, &decoded.inputs);
    if let Ok(answer) = tfserving::encode(layout, &decoded.inputs) {
        serde_json::from_slice::<serde_json::Value>(&answer).expect("JSON");
    }
});

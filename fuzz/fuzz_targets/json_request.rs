//! JSON request bodies: never a panic, and decoded tensors have the model's datatype and shape.
//!
//! The first byte selects the signature, the rest is the body in both forms.

#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use model_sidecar::protocol::{predict, v2};
use model_sidecar::request_memory::Charge;
use model_sidecar::tensor::Signature;

static SIGNATURES: LazyLock<Vec<(String, Signature)>> = LazyLock::new(fuzz::signatures);

fuzz_target!(|input: &[u8]| {
    let Some((&which, body)) = input.split_first() else {
        return;
    };
    let (_, signature) = &SIGNATURES[usize::from(which) % SIGNATURES.len()];
    let whole = Bytes::copy_from_slice(body);
    if let Ok((decoded, _)) = v2::decode(&whole, None, signature, &mut Charge::unlimited()) {
        fuzz::check_inputs(signature, &decoded.inputs);
    }
    if let Ok(decoded) = predict::decode(body, signature, &mut Charge::unlimited()) {
        fuzz::check_inputs(signature, &decoded.inputs);
    }
});

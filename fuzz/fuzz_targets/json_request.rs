//! Bodies of requests in JSON: never a panic, and what is read is of the model's datatype and shape.
//!
//! The first byte picks the signature, the rest is the body in both forms.

#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use model_sidecar::protocol::{predict, v2};
use model_sidecar::request_memory::Charge;
use model_sidecar::tensor::{Kind, Signature, Value};

static SIGNATURES: LazyLock<Vec<(String, Signature)>> = LazyLock::new(fuzz::signatures);

fuzz_target!(|input: &[u8]| {
    let Some((&which, body)) = input.split_first() else {
        return;
    };
    let (_, signature) = &SIGNATURES[usize::from(which) % SIGNATURES.len()];
    let whole = Bytes::copy_from_slice(body);
    if let Ok((decoded, _)) = v2::decode(&whole, None, signature, &mut Charge::unlimited()) {
        check(signature, &decoded.inputs);
    }
    if let Ok(decoded) = predict::decode(body, signature, &mut Charge::unlimited()) {
        check(signature, &decoded.inputs);
    }
});

fn check(signature: &Signature, inputs: &[(String, Value)]) {
    assert_eq!(inputs.len(), signature.inputs.len());
    for (name, value) in inputs {
        let port = signature.input(name).expect("an input of the model");
        let (Kind::Tensor { datatype, shape }, Value::Tensor(tensor)) = (&port.kind, value) else {
            panic!("{name} is no tensor");
        };
        assert_eq!(tensor.data().datatype(), *datatype);
        assert_eq!(
            tensor.data().len(),
            tensor.shape().iter().product::<usize>()
        );
        // A rank that the model leaves open is declared as a scalar's is, and is ONNX Runtime's to check.
        if !shape.is_empty() {
            assert_eq!(tensor.shape().len(), shape.len());
        }
        for (given, declared) in tensor.shape().iter().zip(shape) {
            assert!(declared.is_none_or(|declared| declared == *given));
        }
    }
}

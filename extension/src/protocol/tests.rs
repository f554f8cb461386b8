use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::*;
use crate::tensor::{Data, Datatype, Kind};

mod binary;
mod containers;
mod golden;
mod invalid_bodies;
mod output_formats;
mod prediction_requests;
mod properties;
mod rows;
mod tfserving;

const BY: ServingVersion<'_> = ServingVersion {
    model: "m",
    version: "7",
};

fn port(name: &str, datatype: Datatype, shape: &[Option<usize>]) -> Port {
    Port {
        name: name.to_owned(),
        kind: Kind::Tensor {
            datatype,
            shape: shape.to_vec(),
        },
    }
}

fn one_input(datatype: Datatype, shape: &[Option<usize>]) -> Signature {
    Signature {
        inputs: vec![port("x", datatype, shape)],
        outputs: vec![port("y", datatype, shape)],
    }
}

fn columns() -> Signature {
    let inputs = vec![
        port("age", Datatype::Int64, &[None, Some(1)]),
        port("job", Datatype::Bytes, &[None, Some(1)]),
    ];
    Signature {
        inputs,
        outputs: vec![],
    }
}

fn tensor(shape: &[usize], data: impl Into<Data>) -> Value {
    Value::Tensor(Tensor::new(shape.to_vec(), data).unwrap())
}

/// Decodes a request that is JSON only.
fn v2_decode(
    text: &str,
    signature: &Signature,
) -> Result<(Decoded, v2::ResponseFormat), DecodeError> {
    v2::decode(
        &Bytes::copy_from_slice(text.as_bytes()),
        None,
        signature,
        &mut Charge::unlimited(),
    )
}

/// Encodes a response in the default format.
fn v2_encode(outputs: &[(String, Value)]) -> Vec<u8> {
    let encoded = v2::ResponseFormat::default().encode(BY, outputs.to_vec());
    assert_eq!(encoded.header_length, None);
    encoded.pieces.concat()
}

fn infer(request: &Json, signature: &Signature) -> Result<Vec<(String, Value)>, String> {
    v2_decode(&request.to_string(), signature)
        .map(|(decoded, _)| decoded.inputs)
        .map_err(|error| error.to_string())
}

fn predict(request: &str, signature: &Signature) -> Result<Vec<(String, Value)>, String> {
    predict::decode(request.as_bytes(), signature, &mut Charge::unlimited())
        .map(|decoded| decoded.inputs)
        .map_err(|error| error.to_string())
}

fn input(datatype: &str, shape: &[usize], data: &Json) -> Json {
    json!({ "inputs": [{ "name": "x", "datatype": datatype, "shape": shape, "data": data }] })
}

#[test]
fn nested_and_flat_data_are_the_same() {
    let signature = one_input(Datatype::Fp32, &[None, Some(2)]);
    let expected = vec![(
        "x".to_owned(),
        tensor(&[2, 2], vec![1.0_f32, 2.5, -3.0, 4e10]),
    )];
    for data in [json!([1, 2.5, -3.0, 4e10]), json!([[1, 2.5], [-3.0, 4e10]])] {
        assert_eq!(
            infer(&input("FP32", &[2, 2], &data), &signature).unwrap(),
            expected
        );
    }
}

#[test]
fn errors_name_the_expected_and_the_actual_value() {
    let signature = one_input(Datatype::Int8, &[None, Some(2)]);
    let data = json!([1, 2]);
    let twice = json!({ "inputs": [
        { "name": "x", "datatype": "INT8", "shape": [1, 2], "data": [1, 2] },
        { "name": "x", "datatype": "INT8", "shape": [1, 2], "data": [1, 2] },
    ] });
    let other =
        json!({ "inputs": [{ "name": "z", "datatype": "INT8", "shape": [1, 2], "data": [1, 2] }] });
    let output =
        json!({ "inputs": input("INT8", &[1, 2], &data)["inputs"], "outputs": [{ "name": "q" }] });
    for (request, message) in [
        (
            input("FP32", &[1, 2], &data),
            "inputs[0].datatype is \"FP32\", input \"x\" takes INT8",
        ),
        (
            input("INT8", &[2, 1], &data),
            "inputs[0] has shape [2, 1], input \"x\" takes INT8 [-1, 2]",
        ),
        (
            input("INT8", &[2, 2], &data),
            "shape [2, 2] holds 4 elements, the data has 2",
        ),
        (
            input("INT8", &[1, 2], &json!([1, 128])),
            "inputs[0].data[1] is 128, expected a whole number from -128 to 127",
        ),
        (
            input("INT8", &[1, 2], &json!([1, 1.5])),
            "inputs[0].data[1] is 1.5",
        ),
        (
            input("INT8", &[1, 2], &json!(["a", 1])),
            "inputs[0].data[0] is \"a\"",
        ),
        (
            input("INT8", &[1, 2], &json!([1, { "a": 1 }])),
            "inputs[0].data[1] is an object",
        ),
        (
            input("INT8", &[1, 2], &json!([[1], [2]])),
            "shape is [1, 2], but the data is nested as [2, 1]",
        ),
        (
            input("INT8", &[1, 2], &json!([[1, 2], [3]])),
            "not rectangular",
        ),
        (
            input("INT8", &[1, 2], &json!([[1, 2], 3])),
            "not rectangular",
        ),
        (
            input("INT8", &[1, 2], &json!([3, [1, 2]])),
            "not rectangular",
        ),
        (
            json!({ "inputs": [] }),
            "missing input: \"x\" (INT8 [-1, 2])",
        ),
        (
            json!({ "inputs": [{ "name": "x", "datatype": "INT8", "shape": [1, 2] }] }),
            "inputs[0].data is missing",
        ),
        (
            json!({ "inputs": [{ "name": "x", "datatype": "INT8", "shape": [1, -2], "data": [] }] }),
            "inputs[0].shape is [1,-2], expected an array of whole numbers, 0 or more",
        ),
        (json!({}), "missing field: inputs"),
        (twice, "inputs[1]: input \"x\" is given twice"),
        (
            other,
            "inputs[0]: the model has no input \"z\"; its inputs are \"x\" (INT8 [-1, 2])",
        ),
        (
            output,
            "outputs[0]: the model has no output \"q\"; its outputs are \"y\"",
        ),
    ] {
        let error = infer(&request, &signature).unwrap_err();
        assert!(
            error.contains(message),
            "{request}\nsaid:     {error}\nexpected: {message}"
        );
    }
}

#[test]
fn a_false_shape_reserves_no_memory() {
    let signature = one_input(Datatype::Fp64, &[None]);
    let error = infer(&input("FP64", &[1 << 60], &json!([1])), &signature).unwrap_err();
    assert!(error.contains("the data has 1"), "{error}");
}

#[test]
fn deep_nesting_is_rejected() {
    let signature = one_input(Datatype::Fp32, &[None]);
    let text = format!(
        "{{\"features\":{}{}}}",
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    assert!(
        predict(&text, &signature)
            .unwrap_err()
            .contains("deeper than 32")
    );
}

#[test]
fn numbers_are_exact_to_the_last_bit() {
    let signature = one_input(Datatype::Fp64, &[None]);
    for value in [
        0.1,
        1.0 / 3.0,
        f64::MAX,
        5e-324,
        2.225_073_858_507_201e-308,
        9_007_199_254_740_993.0,
    ] {
        let read = infer(&input("FP64", &[1], &json!([value])), &signature).unwrap();
        assert_eq!(read[0].1, tensor(&[1], vec![value]), "{value:e}");
    }
    let signature = one_input(Datatype::Uint64, &[None]);
    let read = infer(
        &input("UINT64", &[2], &json!([u64::MAX, u64::MAX - 1])),
        &signature,
    )
    .unwrap();
    assert_eq!(read[0].1, tensor(&[2], vec![u64::MAX, u64::MAX - 1]));
}

#[test]
fn nan_and_infinities_have_a_form() {
    let signature = one_input(Datatype::Fp32, &[None]);
    let read = infer(
        &input("FP32", &[4], &json!([null, "NaN", "Infinity", "-Infinity"])),
        &signature,
    )
    .unwrap();
    let Value::Tensor(read) = &read[0].1 else {
        panic!()
    };
    let Data::Fp32(values) = read.data() else {
        panic!()
    };
    assert!(values[0].is_nan() && values[1].is_nan());
    assert_eq!(values[2..], [f32::INFINITY, f32::NEG_INFINITY]);
    let written: Json =
        serde_json::from_slice(&v2_encode(&[("y".to_owned(), Value::Tensor(read.clone()))]))
            .unwrap();
    assert_eq!(
        written["outputs"][0]["data"],
        json!([null, null, "Infinity", "-Infinity"])
    );
    let text = r#"{"features":[1e39]}"#;
    assert!(
        predict(text, &signature)
            .unwrap_err()
            .contains("features[0] is 1e39"),
        "too large for FP32"
    );
}

fn answer(outputs: &[(&str, Value)]) -> Json {
    let outputs: Vec<_> = outputs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let mut json: Json = serde_json::from_slice(&predict::encode(BY, &outputs)).unwrap();
    assert_eq!(json["model"], "m");
    assert_eq!(json["model_version"], "7");
    let fields = json.as_object_mut().unwrap();
    fields.remove("model");
    fields.remove("model_version");
    json
}

fn zip_map() -> Value {
    let row = |values: [f32; 2]| Value::Map {
        keys: vec![0_i64, 1].into(),
        values: values.to_vec().into(),
    };
    Value::Sequence(vec![row([0.25, 0.75]), row([0.5, 0.5])])
}

#[test]
fn an_inference_response_names_its_model_and_has_maps_as_a_dense_tensor() {
    let outputs = [("output_probability".to_owned(), zip_map())];
    let request = r#"{"id":"id-1","inputs":[]}"#;
    let (_, reply) = v2_decode(request, &Signature::default()).unwrap();
    let answer = reply.encode(BY, outputs.to_vec()).pieces.concat();
    let answer: Json = serde_json::from_slice(&answer).unwrap();
    assert_eq!(
        answer,
        json!({
            "model_name": "m",
            "model_version": "7",
            "id": "id-1",
            "outputs": [{
                "name": "output_probability",
                "datatype": "FP32",
                "shape": [2, 2],
                "data": [0.25, 0.75, 0.5, 0.5],
                "parameters": { "labels": [0, 1] },
            }],
        })
    );
}

#[test]
fn json_of_any_depth_does_not_overflow_the_stack() {
    let deep = |open: &str, close: &str| open.repeat(200_000) + &close.repeat(200_000);
    let signature = one_input(Datatype::Fp32, &[None]);
    for value in [
        deep("[", "]"),
        deep("{\"a\":", "}").replace(":}", ":1}"),
        "[".repeat(1_000_000),
    ] {
        for request in [
            format!("{{\"features\": {value}}}"),
            format!("{{\"features\": [1], \"else\": {value}"),
            format!("{{\"inputs\": {value}}}"),
            format!(
                "{{\"inputs\": [{{\"name\": \"x\", \"shape\": [1], \"datatype\": \"FP32\", \"data\": {value}}}]}}"
            ),
            value.clone(),
        ] {
            let body = request.as_bytes();
            assert!(predict::decode(body, &signature, &mut Charge::unlimited()).is_err());
            assert!(
                crate::protocol::tfserving::decode(body, &signature, &mut Charge::unlimited())
                    .is_err()
            );
            assert!(
                v2::decode(
                    &Bytes::copy_from_slice(body),
                    None,
                    &signature,
                    &mut Charge::unlimited()
                )
                .is_err()
            );
        }
    }
}

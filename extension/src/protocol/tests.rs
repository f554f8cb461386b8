use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::*;
use crate::tensor::{Data, Datatype, Kind};

mod binary;
mod containers;
mod invalid_bodies;
mod properties;
mod rows;
mod tfserving;

const BY: AnsweredBy<'_> = AnsweredBy {
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

#[test]
fn rows_and_a_single_row_have_two_field_names() {
    let signature = one_input(Datatype::Fp32, &[None, Some(2)]);
    let two = vec![(
        "x".to_owned(),
        tensor(&[2, 2], vec![1.0_f32, 2.0, 3.0, 4.0]),
    )];
    assert_eq!(
        predict(r#"{"features":[[1,2],[3,4]]}"#, &signature).unwrap(),
        two
    );
    assert_eq!(
        predict(
            r#"{"instances":[[1,2],[3,4]], "unknown": {"a":[]}}"#,
            &signature
        )
        .unwrap(),
        two
    );
    let one = vec![("x".to_owned(), tensor(&[1, 2], vec![1.0_f32, 2.0]))];
    assert_eq!(predict(r#"{"features":[1,2]}"#, &signature).unwrap(), one);
    assert_eq!(
        predict(r#"{"features":{"x":[[1,2]]}}"#, &signature).unwrap(),
        one
    );
}

#[test]
fn columns_and_rows_as_objects_for_a_model_of_several_inputs() {
    let expected = vec![
        ("age".to_owned(), tensor(&[2, 1], vec![39_i64, 50])),
        (
            "job".to_owned(),
            tensor(&[2, 1], vec!["a \"b\"".to_owned(), "ü".to_owned()]),
        ),
    ];
    for text in [
        r#"{"features":{"age":[39,50],"job":["a \"b\"","\u00fc"]}}"#,
        r#"{"features":[{"age":39,"job":"a \"b\""},{"job":"ü","age":50.0}]}"#,
    ] {
        assert_eq!(predict(text, &columns()).unwrap(), expected, "{text}");
    }
    let one = predict(r#"{"features":{"age":39,"job":"x"}}"#, &columns()).unwrap();
    assert_eq!(one[0].1, tensor(&[1, 1], vec![39_i64]));
}

#[test]
fn errors_of_prediction_requests_name_the_reason() {
    let wide = one_input(Datatype::Fp32, &[None, Some(3)]);
    for (text, signature, message) in [
        ("{}", &wide, "missing required field: features"),
        ("[1,2,3]", &wide, "not a prediction request"),
        (r#"{"features":[1,2,3]"#, &wide, "not a prediction request"),
        (
            r#"{"features":[[1,2]]}"#,
            &wide,
            "features has shape [1, 2], input \"x\" takes FP32 [-1, 3]",
        ),
        (
            r#"{"features":7}"#,
            &wide,
            "features has shape [], input \"x\" takes FP32 [-1, 3]",
        ),
        (
            r#"{"features":[[1,2,"3"]]}"#,
            &wide,
            "features[0][2] is \"3\", expected a number",
        ),
        (
            r#"{"features":[[1,2,3]],"instances":[[1,2,3]]}"#,
            &wide,
            "both features and instances",
        ),
        (
            r#"{"features":[[39,"x"]]}"#,
            &columns(),
            "but the model has 2 inputs: send an object with \"age\"",
        ),
        (
            r#"{"features":{"age":39}}"#,
            &columns(),
            "missing input: \"job\" (BYTES [-1, 1])",
        ),
        (
            r#"{"features":{"age":39,"job":"x","pay":1}}"#,
            &columns(),
            "no input \"pay\"",
        ),
        (
            r#"{"features":[{"age":39,"job":"x"},{"age":39}]}"#,
            &columns(),
            "features[1] lacks \"job\"",
        ),
    ] {
        let error = predict(text, signature).unwrap_err();
        assert!(
            error.contains(message),
            "{text}\nsaid:     {error}\nexpected: {message}"
        );
    }
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
fn the_prediction_is_the_label_the_only_output_or_all_by_name() {
    let label = tensor(&[2], vec![1_i64, 0]);
    assert_eq!(
        answer(&[
            ("output_label", label.clone()),
            ("output_probability", zip_map())
        ]),
        json!({ "prediction": [1, 0], "probabilities": [[0.25, 0.75], [0.5, 0.5]], "classes": [0, 1] })
    );
    assert_eq!(
        answer(&[
            ("label", label.clone()),
            ("probabilities", tensor(&[2, 1], vec![0.5_f32, 0.25]))
        ]),
        json!({ "prediction": [1, 0], "probabilities": [[0.5], [0.25]] })
    );
    assert_eq!(
        answer(&[("y", tensor(&[1, 2], vec![0.1_f32, 2.0]))]),
        json!({ "prediction": [[0.1, 2.0]] })
    );
    assert_eq!(
        answer(&[("y", tensor(&[], vec![7_i8]))]),
        json!({ "prediction": [7] })
    );
    assert_eq!(
        answer(&[
            ("a", tensor(&[2, 1], vec![1_u8, 2])),
            ("b", tensor(&[2], vec![true, false]))
        ]),
        json!({ "prediction": [{ "a": [1], "b": true }, { "a": [2], "b": false }] })
    );
    assert_eq!(
        answer(&[
            ("a", tensor(&[2], vec![1_u8, 2])),
            ("b", tensor(&[3], vec![1_u8, 2, 3]))
        ]),
        json!({ "prediction": [{ "a": [1, 2], "b": [1, 2, 3] }] })
    );
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
fn a_golden_example_is_read_as_a_request_with_the_same_inputs() {
    let signature = one_input(Datatype::Fp32, &[None, Some(2)]);
    let cases = [
        (
            json!({"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, null], ["Infinity", 0.1]]}),
            None,
        ),
        (
            json!({"name": "z", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}),
            Some("no input \"z\""),
        ),
        (
            json!({"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}),
            Some("has shape [1, 3]"),
        ),
        (
            json!({"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}),
            Some("takes FP32"),
        ),
        (
            json!({"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, true]}),
            Some("inputs[0].data[1]"),
        ),
    ];
    for (input, wrong) in cases {
        let golden = serde_json::from_str(&input.to_string()).unwrap();
        let read = v2::golden_inputs(&[golden], &signature);
        let body = json!({"inputs": [input]}).to_string();
        let request = v2_decode(&body, &signature);
        match (read, request, wrong) {
            (Ok(read), Ok((request, _)), None) => {
                // NaN is not equal to itself.
                assert_eq!(format!("{read:?}"), format!("{:?}", request.inputs));
            }
            (Err(read), Err(request), Some(wrong)) => {
                assert_eq!(read, request);
                assert!(read.to_string().contains(wrong), "{read}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_array_is_the_single_required_input() {
    let mut signature = one_input(Datatype::Fp32, &[None, Some(2)]);
    let mut optional = port("o", Datatype::Fp32, &[Some(1)]);
    optional.kind = Kind::Optional(Box::new(optional.kind));
    signature.inputs.insert(0, optional);
    let inputs = predict(r#"{"features": [1, 2]}"#, &signature).unwrap();
    assert_eq!(
        inputs,
        [("x".to_owned(), tensor(&[1, 2], vec![1.0_f32, 2.0]))]
    );
    signature.inputs.push(port("z", Datatype::Fp32, &[Some(1)]));
    let error = predict(r#"{"features": [1, 2]}"#, &signature).unwrap_err();
    assert!(error.contains("the model has 3 inputs"), "{error}");
}

#[test]
fn a_golden_output_is_an_output_with_a_tensor_form() {
    let maps = Kind::Sequence(Box::new(Kind::Map {
        key: Datatype::Int64,
        value: Datatype::Fp32,
    }));
    let sequence = Kind::Sequence(Box::new(Kind::Other("tensor".to_owned())));
    let mut signature = one_input(Datatype::Int64, &[None]);
    for (name, kind) in [("p", maps), ("s", sequence)] {
        let name = name.to_owned();
        signature.outputs.push(Port { name, kind });
    }
    let read = |name: &str, datatype: &str, data: Json| {
        let output = json!({"name": name, "shape": [1, 2], "datatype": datatype, "data": data});
        let output = serde_json::from_str(&output.to_string()).unwrap();
        v2::golden_outputs(&[output], &signature).map_err(|error| error.to_string())
    };
    let expected = |name: &str, data: Data| {
        let tensor = Tensor::new(vec![1, 2], data).unwrap();
        Ok(vec![(name.to_owned(), tensor)])
    };
    assert_eq!(
        read("y", "INT64", json!([1, 2])),
        expected("y", vec![1_i64, 2].into())
    );
    assert_eq!(
        read("p", "FP32", json!([[1, null]])).map(|read| read.len()),
        Ok(1)
    );
    for (name, datatype, data, problem) in [
        (
            "q",
            "FP32",
            json!([1, 2]),
            r#"outputs[0]: the model has no output "q"; its outputs are "y""#,
        ),
        (
            "s",
            "FP32",
            json!([1, 2]),
            r#"outputs[0]: output "s" is a sequence of tensor, which cannot be compared"#,
        ),
        (
            "y",
            "INT64",
            json!([1, 2.5]),
            "outputs[0].data[1] is 2.5, expected a whole number",
        ),
        (
            "y",
            "INT64",
            json!([[1], [2]]),
            "outputs[0].shape is [1, 2], but the data is nested as [2, 1]",
        ),
    ] {
        let error = read(name, datatype, data).unwrap_err();
        assert!(error.starts_with(problem), "{error}");
    }
    assert_eq!(v2::as_tensor(zip_map()).unwrap().datatype(), Datatype::Fp32);
    assert_eq!(
        v2::as_tensor(Value::Sequence(vec![tensor(&[1], vec![1_u8])])),
        None
    );
}

#[test]
fn a_duplicate_name_is_not_a_column() {
    for request in [
        r#"{"features": {"age": 1, "age": 2, "job": "x"}}"#,
        r#"{"features": [{"age": 1, "job": "x", "job": "y"}]}"#,
        r#"{"features": {"age": 1, "job": "x"}, "features": {"age": 2, "job": "x"}}"#,
    ] {
        let error = predict(request, &columns()).unwrap_err();
        let is_told = error.contains("is given twice") || error.contains("duplicate field");
        assert!(is_told, "{request}: {error}");
    }
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

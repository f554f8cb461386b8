//! Tests of sequences, maps and optional inputs in requests.

use proptest::prelude::*;

use super::*;
use crate::protocol::tfserving::{Layout, encode};
use crate::tensor::strategies;

fn taking(kind: Kind) -> Signature {
    Signature {
        inputs: vec![Port {
            name: "x".to_owned(),
            kind,
        }],
        outputs: Vec::new(),
    }
}

fn tensors(datatype: Datatype) -> Kind {
    Kind::Tensor {
        datatype,
        shape: vec![None],
    }
}

fn sequence(inner: Kind) -> Kind {
    Kind::Sequence(Box::new(inner))
}

const WORDS: Kind = Kind::Map {
    key: Datatype::Bytes,
    value: Datatype::Fp32,
};

fn words(entries: &[(&str, f32)]) -> Value {
    let (keys, values): (Vec<String>, Vec<f32>) = entries
        .iter()
        .map(|(key, value)| ((*key).to_owned(), *value))
        .unzip();
    Value::Map {
        keys: keys.into(),
        values: values.into(),
    }
}

#[test]
fn sequences_and_maps_have_the_same_form_in_requests_and_responses() {
    let two = Value::Sequence(vec![
        tensor(&[1, 2], vec![1.0_f32, 2.0]),
        tensor(&[2, 1], vec![3.0_f32, 4.0]),
    ]);
    let data = json!([[[1, 2]], [[3.0], [4]]]);
    let signature = taking(sequence(tensors(Datatype::Fp32)));
    let read = infer(&input("SEQUENCE", &[2], &data), &signature).unwrap();
    assert_eq!(read, [("x".to_owned(), two.clone())]);
    for features in [data.clone(), json!({ "x": data }), json!([{ "x": data }])] {
        let request = json!({ "features": features }).to_string();
        assert_eq!(
            predict(&request, &signature).unwrap(),
            [("x".to_owned(), two.clone())]
        );
    }

    let given = words(&[("a", 1.5), ("b \"c\"", f32::INFINITY)]);
    let pairs = json!([{ "key": "a", "value": 1.5 }, { "value": "Infinity", "key": "b \"c\"" }]);
    let object = json!({ "a": 1.5, "b \"c\"": "Infinity" });
    for data in [pairs, object] {
        let read = infer(&input("MAP", &[2], &data), &taking(WORDS)).unwrap();
        assert_eq!(read, [("x".to_owned(), given.clone())]);
        for features in [json!({ "x": data }), json!([{ "x": data }])] {
            let request = json!({ "features": features }).to_string();
            let read = predict(&request, &taking(WORDS)).unwrap();
            assert_eq!(read, [("x".to_owned(), given.clone())]);
        }
    }
    let numbers = Kind::Map {
        key: Datatype::Int64,
        value: Datatype::Int64,
    };
    let read = infer(
        &input("MAP", &[2], &json!({ "-7": 1, "8": 2 })),
        &taking(numbers),
    )
    .unwrap();
    let given = Value::Map {
        keys: vec![-7_i64, 8].into(),
        values: vec![1_i64, 2].into(),
    };
    assert_eq!(read, [("x".to_owned(), given)]);
}

#[test]
fn errors_in_a_sequence_or_map_have_a_path() {
    let rows = || taking(sequence(tensors(Datatype::Int8)));
    for (request, signature, message) in [
        (
            input("INT8", &[1], &json!([1])),
            rows(),
            "inputs[0].datatype is \"INT8\", a sequence of INT8 [-1] is given as SEQUENCE",
        ),
        (
            input("SEQUENCE", &[3], &json!([[1], [2]])),
            rows(),
            "inputs[0].shape is [3], but the data has 2 values: expected [2]",
        ),
        (
            input("SEQUENCE", &[2], &json!([[1], [2, 300]])),
            rows(),
            "inputs[0].data[1][1] is 300, expected a whole number from -128 to 127",
        ),
        (
            input("SEQUENCE", &[1], &json!({ "a": 1 })),
            rows(),
            "inputs[0].data is {\"a\":1}, expected an array",
        ),
        (
            input(
                "MAP",
                &[2],
                &json!([{ "key": "a", "value": 1 }, { "key": "b", "value": true }]),
            ),
            taking(WORDS),
            "inputs[0].data[1].value is true, expected a number",
        ),
        (
            input(
                "MAP",
                &[2],
                &json!([{ "key": "a", "value": 1 }, { "key": "a", "value": 2 }]),
            ),
            taking(WORDS),
            "inputs[0].data: key \"a\" is given twice",
        ),
        (
            input("MAP", &[1], &json!([{ "key": "a", "value": [1] }])),
            taking(WORDS),
            "inputs[0].data[0].value is an array, expected a value",
        ),
        (
            input("MAP", &[1], &json!([{ "key": "a" }])),
            taking(WORDS),
            "inputs[0].data[0]: missing field `value`",
        ),
        (
            input("FP32", &[1], &json!([1])),
            taking(Kind::Other("tensor(complex64)".to_owned())),
            "inputs[0]: a tensor(complex64) cannot be given as JSON",
        ),
    ] {
        let error = infer(&request, &signature).unwrap_err();
        assert!(
            error.contains(message),
            "{request}\nsaid:     {error}\nexpected: {message}"
        );
    }
    let twice = r#"{"features":{"x":{"a":1,"a":2}}}"#;
    let error = predict(twice, &taking(WORDS)).unwrap_err();
    assert!(error.contains("\"a\" is given twice"), "{error}");
    let rows = r#"{"features":[{"x":{"a":1}},{"x":{"a":2}}]}"#;
    let error = predict(rows, &taking(WORDS)).unwrap_err();
    let words =
        "features[1]: input \"x\" is a map from BYTES to FP32, which takes one row per request";
    assert!(error.contains(words), "{error}");
}

#[test]
fn an_optional_input_is_given_as_its_value_or_absent() {
    let mut signature = one_input(Datatype::Fp32, &[None]);
    let kind = Kind::Optional(Box::new(tensors(Datatype::Int64)));
    let name = "bias".to_owned();
    signature.inputs.push(Port { name, kind });
    let x = || ("x".to_owned(), tensor(&[1], vec![1.0_f32]));
    let bias = || ("bias".to_owned(), tensor(&[1], vec![7_i64]));

    let tensor = |name: &str, datatype: &str, data: i64| json!({ "name": name, "datatype": datatype, "shape": [1], "data": [data] });
    let given = json!({ "inputs": [tensor("x", "FP32", 1), tensor("bias", "INT64", 7)] });
    assert_eq!(infer(&given, &signature).unwrap(), [x(), bias()]);
    let left_out = json!({ "inputs": [tensor("x", "FP32", 1)] });
    assert_eq!(infer(&left_out, &signature).unwrap(), [x()]);
    let wrong = json!({ "inputs": [tensor("x", "FP32", 1), tensor("bias", "FP32", 7)] });
    let error = infer(&wrong, &signature).unwrap_err();
    assert!(error.contains("input \"bias\" takes INT64"), "{error}");

    for (request, expected) in [
        (r#"{"features":{"x":[1],"bias":[7]}}"#, vec![x(), bias()]),
        (r#"{"features":{"x":[1],"bias":null}}"#, vec![x()]),
        (r#"{"features":{"x":[1]}}"#, vec![x()]),
        (r#"{"features":[1]}"#, vec![x()]),
    ] {
        assert_eq!(predict(request, &signature).unwrap(), expected, "{request}");
    }
}

/// Any value that responses encode as `SEQUENCE` or `MAP`, with its kind.
fn any_container() -> impl Strategy<Value = (Kind, Value)> {
    let map = (any::<bool>(), 0_usize..5).prop_flat_map(|(texts, count)| {
        let key = if texts {
            Datatype::Bytes
        } else {
            Datatype::Int64
        };
        let keys = strategies::data(key, count, false).prop_filter("a key twice", |keys| {
            crate::protocol::containers::duplicate_key(keys).is_none()
        });
        (keys, strategies::data(Datatype::Fp64, count, false)).prop_map(move |(keys, values)| {
            let value = Datatype::Fp64;
            (Kind::Map { key, value }, Value::Map { keys, values })
        })
    });
    let shapes = prop::collection::vec(prop::collection::vec(1_usize..4, 0..4), 1..4);
    let sequences = (0..Datatype::ALL.len(), shapes).prop_flat_map(|(which, shapes)| {
        let datatype = Datatype::ALL[which];
        let each: Vec<_> = shapes
            .into_iter()
            .map(|shape| {
                let count = shape.iter().product();
                strategies::data(datatype, count, false)
                    .prop_map(move |data| Value::Tensor(Tensor::new(shape.clone(), data).unwrap()))
            })
            .collect();
        let kind = sequence(tensors(datatype));
        each.prop_map(move |values| (kind.clone(), Value::Sequence(values)))
    });
    prop_oneof![map, sequences]
}

proptest! {
    /// A sequence or map of a response can be sent in a request.
    #[test]
    fn encoded_values_are_decoded_unchanged((kind, given) in any_container()) {
        let text = v2_encode(&[("x".to_owned(), given.clone())]);
        let text = String::from_utf8(text).unwrap();
        let output = &text[text.find("\"outputs\":[").unwrap() + 11..text.len() - 2];
        let request = format!(r#"{{"inputs":[{output}]}}"#);
        let (decoded, _) = v2_decode(&request, &taking(kind)).unwrap();
        prop_assert_eq!(&decoded.inputs[0].1, &given);
    }

    /// `Maps` are encoded as a list of separate maps, in every form.
    #[test]
    fn maps_are_encoded_as_separate_maps(
        maps in (1_usize..4).prop_flat_map(strategies::maps),
        classes in prop::option::of(1_usize..3),
        binary in any::<bool>(),
    ) {
        let count = maps.count();
        let forms = [Value::Sequence(maps.to_values()), Value::Maps(maps)];
        let label = tensor(&[count], vec![true; count]);
        let alongside = |name: &str, value: &Value| {
            vec![(name.to_owned(), label.clone()), ("p".to_owned(), value.clone())]
        };
        let answers = forms.map(|value| {
            let alone = vec![("p".to_owned(), value.clone())];
            // The second sequence of maps is not the label's probabilities.
            let several = [alongside("label", &value), alone.clone()].concat();
            let mut answers = Vec::new();
            for outputs in [alone, alongside("label", &value), alongside("y", &value), several] {
                answers.push(predict::encode(BY, &outputs));
                for layout in [Layout::Rows, Layout::Columns] {
                    answers.push(encode(layout, &outputs).unwrap());
                }
            }
            let signature = Signature {
                inputs: Vec::new(),
                outputs: vec![Port { name: "p".to_owned(), kind: sequence(WORDS) }],
            };
            let mut wish = json!({ "binary_data": binary });
            if let Some(classes) = classes {
                wish["classification"] = json!(classes);
            }
            let commands = json!({ "inputs": [], "outputs": [{ "name": "p", "parameters": wish }] });
            let (_, reply) = v2_decode(&commands.to_string(), &signature).unwrap();
            answers.push(reply.encode(BY, vec![("p".to_owned(), value)]).pieces.concat());
            answers
        });
        prop_assert_eq!(&answers[0], &answers[1]);
    }
}

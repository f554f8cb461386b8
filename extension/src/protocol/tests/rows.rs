//! Tests of `/predict`: rows in all forms, and the location of mistakes.

use proptest::prelude::*;

use super::*;
use crate::protocol::json_writer;
use crate::tensor::strategies;

fn of_three() -> Signature {
    let inputs = vec![
        port("age", Datatype::Int64, &[None, Some(1)]),
        port("pay", Datatype::Fp32, &[None]),
        port("point", Datatype::Fp64, &[None, Some(2)]),
    ];
    Signature {
        inputs,
        outputs: vec![],
    }
}

#[test]
fn errors_name_the_row() {
    let wide = one_input(Datatype::Fp32, &[None, Some(3)]);
    let images = one_input(Datatype::Uint8, &[None, Some(2), Some(2)]);
    for (features, signature, message) in [
        (
            json!([[1, 2, 3], [4, "5", 6]]),
            &wide,
            "features[1][1] is \"5\", expected a number",
        ),
        (
            json!([[1, 2, 3], [4, true, 6]]),
            &wide,
            "features[1][1] is true, expected a number",
        ),
        (
            json!([[1, 2, 3], [4, 5]]),
            &wide,
            "features[1] has 2 values, features[0] has 3 values",
        ),
        (
            json!([[1, 2, 3], [4, 5, 6], 7]),
            &wide,
            "features[2] has a single value, features[0] has 3",
        ),
        (
            json!([[1, 2], [3, 4]]),
            &wide,
            "features has shape [2, 2], input \"x\" takes FP32 [-1, 3]",
        ),
        (
            json!([1, [2], 3]),
            &wide,
            "features[1] has 1 value, features[0] has a single value",
        ),
        (
            json!([1, { "a": 2 }, 3]),
            &wide,
            "features[1] is an object, expected a number",
        ),
        (
            json!([[[1, 2], [3, 4]], [[5, 6], [7, 256]]]),
            &images,
            "features[1][1][1] is 256, expected a whole number from 0 to 255",
        ),
        (
            json!([[[1, 2], [3, 4]], [[5, 6], [7]]]),
            &images,
            "features[1][1] has 1 value, features[1][0] has 2 values",
        ),
    ] {
        let request = json!({ "features": features }).to_string();
        let error = predict(&request, signature).unwrap_err();
        assert!(
            error.starts_with(message),
            "{request}\nsaid:     {error}\nexpected: {message}"
        );
    }
}

#[test]
fn errors_in_objects_name_the_row_and_field() {
    let with = |field: &str, value: Json| {
        let good = json!({ "age": 39, "pay": 1.5, "point": [0, 1] });
        let mut row = good.clone();
        row[field] = value;
        json!({ "instances": [good, row] }).to_string()
    };
    for (request, message) in [
        (
            with("age", json!(3.5)),
            "instances[1].age is 3.5, expected a whole number",
        ),
        (
            with("age", json!(null)),
            "instances[1].age is null, expected a whole number",
        ),
        (
            with("age", json!(1e300)),
            "instances[1].age is 1e+300, expected a whole number",
        ),
        (
            with("pay", json!("1.5")),
            "instances[1].pay is \"1.5\", expected a number",
        ),
        (
            with("pay", json!(1e39)),
            "instances[1].pay is 1e+39, expected a number within",
        ),
        (
            with("point", json!([0, "1"])),
            "instances[1].point[1] is \"1\", expected a number",
        ),
        (
            with("point", json!([0])),
            "instances[1].point has 1 value, instances[0].point has 2",
        ),
        (
            with("other", json!(1)),
            "instances[1]: the model has no input \"other\"; its inputs are \"age\" (INT64 [-1, 1])",
        ),
        (
            r#"{"instances":[{"age":1,"age":2,"pay":1,"point":[0,1]}]}"#.to_owned(),
            "instances[0]: \"age\" is given twice",
        ),
        (
            r#"{"instances":{"age":1,"pay":1,"pay":2,"point":[0,1]}}"#.to_owned(),
            "instances: \"pay\" is given twice",
        ),
        (
            r#"{"features":null,"features":[2]}"#.to_owned(),
            "not a prediction request: duplicate field `features`",
        ),
        (
            r#"{"instances":{"age":[1,2.5],"pay":[1,2],"point":[[0,1],[0,1]]}}"#.to_owned(),
            "instances.age[1] is 2.5, expected a whole number",
        ),
    ] {
        let error = predict(&request, &of_three()).unwrap_err();
        assert!(
            error.starts_with(message),
            "{request}\nsaid:     {error}\nexpected: {message}"
        );
    }
}

#[test]
fn numbers_are_converted_without_loss() {
    let request = r#"{"instances":[{"age":3.0,"pay":7,"point":[1e2,-0]},{"age":4e0,"pay":null,"point":["Infinity","-Infinity"]}]}"#;
    let read = predict(request, &of_three()).unwrap();
    assert_eq!(read[0].1, tensor(&[2, 1], vec![3_i64, 4]));
    let Value::Tensor(pay) = &read[1].1 else {
        panic!("{read:?}")
    };
    let Data::Fp32(pay) = pay.data() else {
        panic!("{pay:?}")
    };
    assert!(
        (pay[0] - 7.0).abs() < f32::EPSILON && pay[1].is_nan(),
        "{pay:?}"
    );
    let points = vec![100.0, -0.0, f64::INFINITY, f64::NEG_INFINITY];
    assert_eq!(read[2].1, tensor(&[2, 2], points));
}

#[test]
fn requests_without_rows_or_inputs_are_valid() {
    let wide = one_input(Datatype::Fp32, &[None, Some(3)]);
    let read = predict(r#"{"features":[]}"#, &wide).unwrap();
    assert_eq!(read[0].1, tensor(&[0, 3], Vec::<f32>::new()));
    let none = Signature::default();
    for request in ["{}", r#"{"features":{}}"#, r#"{"instances":{}}"#] {
        assert_eq!(predict(request, &none).unwrap(), []);
    }
    let error = predict(r#"{"features":{"x":1}}"#, &none).unwrap_err();
    assert!(
        error.contains("the model has no input \"x\"; its inputs are none"),
        "{error}"
    );
}

#[test]
fn the_shape_of_an_empty_array_is_the_models() {
    for (features, declared, shape) in [
        ("[[],[]]", &[None, None, Some(4)][..], &[2, 0, 4][..]),
        ("[[],[]]", &[Some(2), Some(0), Some(4)], &[2, 0, 4]),
        (
            "[[[],[]]]",
            &[Some(1), Some(2), None, Some(4)],
            &[1, 2, 0, 4],
        ),
        ("[]", &[None, None, Some(4)], &[0, 0, 4]),
        // A row of two empty items.
        ("[[],[]]", &[None, Some(2), None], &[1, 2, 0]),
        ("[[],[]]", &[None, Some(2), Some(0)], &[1, 2, 0]),
    ] {
        let signature = one_input(Datatype::Fp32, declared);
        let expected = tensor(shape, Vec::<f32>::new());
        for request in [
            format!(r#"{{"features":{features}}}"#),
            format!(r#"{{"features":{{"x":{features}}}}}"#),
        ] {
            let read = predict(&request, &signature).unwrap();
            assert_eq!(read[0].1, expected, "{request} for {declared:?}");
        }
    }
}

#[test]
fn an_array_is_the_only_input_even_if_optional() {
    let mut signature = one_input(Datatype::Fp32, &[None]);
    let given = signature.inputs[0].kind.clone();
    signature.inputs[0].kind = Kind::Optional(Box::new(given));
    let read = predict(r#"{"features":[1,2]}"#, &signature).unwrap();
    assert_eq!(read[0].1, tensor(&[2], vec![1.0_f32, 2.0]));
    assert_eq!(predict("{}", &signature).unwrap(), []);
}

#[test]
fn inputs_of_several_runs_need_equal_numbers_of_rows() {
    let fixed = |batch| Signature {
        inputs: vec![
            port("a", Datatype::Fp32, &[Some(batch), Some(2)]),
            port("b", Datatype::Fp32, &[Some(batch)]),
        ],
        outputs: vec![port("y", Datatype::Fp32, &[Some(batch)])],
    };
    let read = predict(r#"{"features":{"a":[[1,2],[3,4]],"b":[5,6]}}"#, &fixed(1)).unwrap();
    assert_eq!(read[0].1, tensor(&[2, 2], vec![1.0_f32, 2.0, 3.0, 4.0]));
    for (batch, request, message) in [
        (
            1,
            r#"{"features":{"a":[[1,2],[3,4]],"b":[5]}}"#,
            "features: input \"a\" has 2 rows, input \"b\" has 1",
        ),
        (
            2,
            r#"{"features":{"a":[[1,2],[3,4],[5,6]],"b":[5,6,7]}}"#,
            "features.a has 3 rows, but the model takes 2 at a time: send a multiple of 2",
        ),
        (
            2,
            r#"{"features":{"a":[[1,2]],"b":[5]}}"#,
            "features.a has shape [1, 2], input \"a\" takes FP32 [2, 2]",
        ),
        (
            1,
            r#"{"features":{"a":[[1,2,3],[4,5,6]],"b":[5,6]}}"#,
            "features.a has shape [2, 3], input \"a\" takes FP32 [1, 2]",
        ),
    ] {
        let error = predict(request, &fixed(batch)).unwrap_err();
        assert_eq!(error, message);
    }
    // Only rows are split into runs: an output without rows would come from one run.
    let mut whole = fixed(1);
    whole.outputs.push(port("mean", Datatype::Fp32, &[]));
    let error = predict(r#"{"features":{"a":[[1,2],[3,4]],"b":[5,6]}}"#, &whole).unwrap_err();
    assert!(error.contains("has shape [2, 2]"), "{error}");
}

#[test]
fn nan_and_infinities_have_the_same_form_in_both_directions() {
    let special = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let data = json!([null, "Infinity", "-Infinity"]);
    assert_eq!(
        answer(&[("y", tensor(&[3], special.clone()))]),
        json!({ "prediction": data })
    );
    let by_name = [
        ("a", tensor(&[3], special)),
        ("b", tensor(&[3], vec![1_u8, 2, 3])),
    ];
    assert_eq!(
        answer(&by_name)["prediction"][1],
        json!({ "a": "Infinity", "b": 2 })
    );
    for datatype in [
        Datatype::Fp16,
        Datatype::Bf16,
        Datatype::Fp32,
        Datatype::Fp64,
    ] {
        let signature = one_input(datatype, &[None]);
        let read = predict(&json!({ "features": data }).to_string(), &signature).unwrap();
        assert_eq!(
            answer(&[("y", read[0].1.clone())]),
            json!({ "prediction": data })
        );
    }
    for (datatype, bare) in [
        (Datatype::Fp32, "NaN"),
        (Datatype::Fp32, "Infinity"),
        (Datatype::Int8, "null"),
    ] {
        let request = format!(r#"{{"features":[{bare}]}}"#);
        assert!(
            predict(&request, &one_input(datatype, &[None])).is_err(),
            "{bare}"
        );
    }
}

#[test]
fn outputs_other_than_the_label_are_returned_by_name() {
    let given = answer(&[
        ("scores", tensor(&[2, 1], vec![0.5_f32, -0.5])),
        ("label", tensor(&[2, 1], vec![1_i64, -1])),
        ("probabilities", zip_map()),
        ("leaves", tensor(&[2], vec![3_u8, 4])),
    ]);
    assert_eq!(
        given,
        json!({
            "prediction": [1, -1],
            "probabilities": [[0.25, 0.75], [0.5, 0.5]],
            "classes": [0, 1],
            "outputs": { "scores": [[0.5], [-0.5]], "leaves": [3, 4] },
        })
    );
}

/// Rows of one input: datatype, shape and elements.
fn any_rows() -> impl Strategy<Value = Tensor> {
    let shape = prop::collection::vec(1_usize..4, 1..4);
    (shape, 0..Datatype::ALL.len()).prop_flat_map(|(shape, which)| {
        let count = shape.iter().product();
        strategies::data(Datatype::ALL[which], count, false)
            .prop_map(move |data| Tensor::new(shape.clone(), data).unwrap())
    })
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

proptest! {
    /// Rows have the same value in every form: an array, a column, objects, and the other protocol.
    #[test]
    fn every_form_of_the_same_rows_is_equivalent(rows in any_rows()) {
        let free: Vec<_> = rows.shape().iter().map(|_| None).collect();
        let signature = one_input(rows.datatype(), &free);
        let array = text(|out| json_writer::nested(out, rows.shape(), rows.data()));
        let objects = (0..rows.shape()[0]).map(|index| {
            let row = text(|out| json_writer::row(out, &rows, index));
            format!(r#"{{"x":{row}}}"#)
        });
        let objects = objects.collect::<Vec<_>>().join(",");
        let (name, shape) = (rows.datatype().name(), rows.shape());
        let other = format!(r#"{{"inputs":[{{"name":"x","datatype":"{name}","shape":{shape:?},"data":{array}}}]}}"#);
        let expected = v2_decode(&other, &signature).unwrap().0.inputs;
        for request in [
            format!(r#"{{"features":{array}}}"#),
            format!(r#"{{"instances":{{"x":{array}}}}}"#),
            format!(r#"{{"instances":[{objects}]}}"#),
        ] {
            prop_assert_eq!(&predict(&request, &signature).unwrap(), &expected, "{}", request);
        }
        prop_assert_eq!(&expected[0].1, &Value::Tensor(rows));
    }

    /// Any value in place of an element is an element, or an error with row and column.
    #[test]
    fn one_wrong_element_is_found(
        height in 1_usize..5,
        width in 1_usize..5,
        at in any::<prop::sample::Index>(),
        wrong in prop::sample::select(vec!["\"1\"", "1.5", "true", "null", "128", "-129", "1e9"]),
    ) {
        let at = at.index(height * width);
        let rows = (0..height).map(|row| {
            let row = (0..width).map(|column| if row * width + column == at { wrong } else { "7" });
            format!("[{}]", row.collect::<Vec<_>>().join(", "))
        });
        let request = format!("{{\"features\": [{}]}}", rows.collect::<Vec<_>>().join(", "));
        let error = predict(&request, &one_input(Datatype::Int8, &[None, None])).unwrap_err();
        let place = format!("features[{}][{}] is {wrong}, ", at / width, at % width);
        prop_assert!(error.starts_with(&place), "{}: {}", request, error);
    }
}

/// A row of [`of_three`]: its fields as JSON, in any order.
fn any_object() -> impl Strategy<Value = (i64, f32, [f64; 2], String)> {
    let number = prop::num::f32::NORMAL | prop::num::f32::ZERO;
    let wide = prop::num::f64::NORMAL | prop::num::f64::ZERO;
    let space = prop::sample::select(vec!["", " ", "\n\t "]);
    let order = Just(["age", "pay", "point"]).prop_shuffle();
    (any::<i64>(), number, [wide, wide], order, space).prop_map(
        |(age, pay, point, order, space)| {
            let fields = order.map(|name| {
                let value = match name {
                    "age" => json!(age),
                    "pay" => json!(pay),
                    _ => json!(point),
                };
                format!("{space}{}{space}:{space}{value}{space}", json!(name))
            });
            (age, pay, point, format!("{{{}}}", fields.join(",")))
        },
    )
}

proptest! {
    /// Rows as objects are decoded as by serde_json, in any order of fields.
    #[test]
    fn objects_are_decoded_as_by_serde_json(rows in prop::collection::vec(any_object(), 1..6)) {
        let texts: Vec<&str> = rows.iter().map(|(.., text)| text.as_str()).collect();
        let request = format!("{{\"instances\":[{}]}}", texts.join(" ,"));
        let tree: Json = serde_json::from_str(&request).unwrap();
        let tree = tree["instances"].as_array().unwrap();
        let ages: Vec<i64> = tree.iter().map(|row| row["age"].as_i64().unwrap()).collect();
        // serde_json does not round floats exactly.
        let points: Vec<f64> = rows.iter().flat_map(|(_, _, point, _)| *point).collect();
        let pays: Vec<f32> = rows.iter().map(|(_, pay, ..)| *pay).collect();
        let expected = [
            ("age".to_owned(), tensor(&[rows.len(), 1], ages)),
            ("pay".to_owned(), tensor(&[rows.len()], pays)),
            ("point".to_owned(), tensor(&[rows.len(), 2], points)),
        ];
        let (by_tensorflow, _) =
            protocol_tfserving(&request, &of_three()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&by_tensorflow[..], &expected[..]);
        prop_assert_eq!(predict(&request, &of_three()).unwrap(), expected);
    }

    /// Text that serde_json rejects is rejected, wherever the mistake is.
    #[test]
    fn invalid_json_is_rejected(
        rows in prop::collection::vec(any_object(), 1..3),
        at in any::<prop::sample::Index>(),
        byte in prop::sample::select(b"{}[]\",:0-.e \\tx".to_vec()),
        replaces in any::<bool>(),
    ) {
        let texts: Vec<&str> = rows.iter().map(|(.., text)| text.as_str()).collect();
        let request = format!("{{\"instances\":[{}]}}", texts.join(","));
        let mut bytes = request.into_bytes();
        let at = at.index(bytes.len());
        if replaces {
            bytes[at] = byte;
        } else {
            bytes.remove(at);
        }
        let request = String::from_utf8(bytes).unwrap();
        if serde_json::from_str::<serde::de::IgnoredAny>(&request).is_err() {
            prop_assert!(predict(&request, &of_three()).is_err(), "{}", request);
            prop_assert!(protocol_tfserving(&request, &of_three()).is_err(), "{}", request);
        }
    }
}

fn protocol_tfserving(
    request: &str,
    signature: &Signature,
) -> Result<(Vec<(String, Value)>, crate::protocol::tfserving::Layout), DecodeError> {
    let mut charge = Charge::unlimited();
    crate::protocol::tfserving::decode(request.as_bytes(), signature, &mut charge)
        .map(|(decoded, layout)| (decoded.inputs, layout))
}

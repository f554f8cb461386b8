//! Tests of TensorFlow Serving's form with the examples of its documentation.

use super::*;
use crate::protocol::tfserving::{self, Availability, Layout};

fn decode(request: &str, signature: &Signature) -> Result<(Vec<(String, Value)>, Layout), String> {
    tfserving::decode(request.as_bytes(), signature, &mut Charge::unlimited())
        .map(|(decoded, layout)| (decoded.inputs, layout))
        .map_err(|error| error.to_string())
}

fn answer(layout: Layout, outputs: &[(&str, Value)]) -> Json {
    let outputs: Vec<(String, Value)> = outputs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let text = tfserving::encode(layout, &outputs).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The documentation's model of three inputs.
fn sensors() -> Signature {
    Signature {
        inputs: vec![
            port("tag", Datatype::Bytes, &[None]),
            port("signal", Datatype::Int64, &[None, Some(5)]),
            port("sensor", Datatype::Fp32, &[None, Some(2), Some(2)]),
        ],
        outputs: vec![],
    }
}

#[test]
fn one_input_is_given_as_its_values() {
    let half_plus_three = one_input(Datatype::Fp32, &[None]);
    let expected = vec![("x".to_owned(), tensor(&[3], vec![1f32, 2.0, 5.0]))];
    for (request, layout) in [
        (r#"{"instances": [1.0,2.0,5.0]}"#, Layout::Rows),
        (
            r#"{"instances": [{"x": 1.0},{"x": 2},{"x": 5}], "signature_name": "serving_default"}"#,
            Layout::Rows,
        ),
        (
            r#"{"signature_name": "", "inputs": [1.0,2.0,5.0]}"#,
            Layout::Columns,
        ),
        (r#"{"inputs": {"x": [1.0,2.0,5.0]}}"#, Layout::Columns),
    ] {
        let decoded = decode(request, &half_plus_three);
        assert_eq!(decoded, Ok((expected.clone(), layout)), "{request}");
    }
    let matrices = one_input(Datatype::Fp32, &[None, Some(1), Some(2)]);
    let (inputs, _) = decode(r#"{"instances": [ [[1, 2]], [[3, 4]] ]}"#, &matrices).unwrap();
    assert_eq!(inputs[0].1, tensor(&[2, 1, 2], vec![1f32, 2.0, 3.0, 4.0]));
}

#[test]
fn several_inputs_are_given_by_name_in_rows_and_in_columns_alike() {
    let rows = r#"{"instances": [
        {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
        {"tag": "bar", "signal": [3, 4, 1, 2, 5], "sensor": [[4, 5], [6, 8]]}]}"#;
    let columns = r#"{"inputs": {
        "tag": ["foo", "bar"],
        "signal": [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]],
        "sensor": [[[1, 2], [3, 4]], [[4, 5], [6, 8]]]}}"#;
    let (by_row, layout) = decode(rows, &sensors()).unwrap();
    assert_eq!(layout, Layout::Rows);
    let (by_column, layout) = decode(columns, &sensors()).unwrap();
    assert_eq!(layout, Layout::Columns);
    assert_eq!(by_row, by_column);
    let tag = by_row.iter().find(|(name, _)| name == "tag").unwrap();
    let words = vec!["foo".to_owned(), "bar".to_owned()];
    assert_eq!(tag.1, tensor(&[2], words));
}

#[test]
fn strings_may_be_in_base64() {
    let strings = one_input(Datatype::Bytes, &[None]);
    let words = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        vec![("x".to_owned(), tensor(&[words.len()], words))]
    };
    for (request, expected) in [
        (
            r#"{"instances": [{"b64": "aW1hZ2UgYnl0ZXM="}, "b64", { "b64" :"w6k=" }]}"#,
            words(&["image bytes", "b64", "é"]),
        ),
        (
            r#"{"instances": [{"x": {"b64": "aW0="}}, {"x": "im"}]}"#,
            words(&["im", "im"]),
        ),
        (
            r#"{"inputs": {"x": [{"b64": "Pz8\/"}, "{\"b64\": \"x\"}"]}}"#,
            words(&["???", "{\"b64\": \"x\"}"]),
        ),
    ] {
        assert_eq!(decode(request, &strings).unwrap().0, expected, "{request}");
    }
    for (request, hint) in [
        (
            r#"{"instances": [{"b64": "aQ=="}, {"b64": "?"}]}"#,
            "instances[1] is {\"b64\": …}, which is not base64",
        ),
        (r#"{"instances": [{"b64": "/w=="}]}"#, "not UTF-8"),
        (r#"{"instances": [{"b64": 1}]}"#, "no input \"b64\""),
    ] {
        let error = decode(request, &strings).unwrap_err();
        assert!(error.contains(hint), "{request}: {error}");
    }
    let named = Signature {
        inputs: vec![port("b64", Datatype::Bytes, &[None])],
        outputs: vec![],
    };
    let (inputs, _) = decode(r#"{"instances": [{"b64": "aQ=="}]}"#, &named).unwrap();
    assert_eq!(inputs[0].1, tensor(&[1], vec!["aQ==".to_owned()]));
}

#[test]
fn errors_name_the_expected_value() {
    let signature = one_input(Datatype::Fp32, &[None, Some(2)]);
    for (request, hint) in [
        ("{}", "missing required field: instances, or inputs"),
        (
            r#"{"instances": [[1, 2]], "inputs": [[1, 2]]}"#,
            "both instances and inputs",
        ),
        (
            r#"{"instances": {"x": [[1, 2]]}}"#,
            "instances must be a list",
        ),
        (r#"{"instances": [[1, 2, 3]]}"#, "[1, 3]"),
        (r#"{"instances": [{"y": [1, 2]}]}"#, "no input \"y\""),
        (
            r#"{"inputs": {"x": [[1, 2]], "x": [[1, 2]]}}"#,
            "\"x\" is given twice",
        ),
        (r#"{"inputs": [[1, NaN]]}"#, "write null for NaN"),
        ("[]", "expected a JSON object, found an array"),
    ] {
        let error = decode(request, &signature).unwrap_err();
        assert!(error.contains(hint), "{request}: {error}");
    }
}

#[test]
fn a_single_output_has_no_name() {
    let y = || tensor(&[2, 1], vec![3.5f32, 4.0]);
    let label = || tensor(&[2], vec![7i64, 8]);
    for (layout, outputs, expected) in [
        (
            Layout::Rows,
            &[("y", y())][..],
            json!({ "predictions": [[3.5], [4.0]] }),
        ),
        (
            Layout::Columns,
            &[("y", y())],
            json!({ "outputs": [[3.5], [4.0]] }),
        ),
        (
            Layout::Rows,
            &[("y", y()), ("label", label())],
            json!({ "predictions": [{ "y": [3.5], "label": 7 }, { "y": [4.0], "label": 8 }] }),
        ),
        (
            Layout::Columns,
            &[("y", y()), ("label", label())],
            json!({ "outputs": { "y": [[3.5], [4.0]], "label": [7, 8] } }),
        ),
    ] {
        assert_eq!(answer(layout, outputs), expected);
    }
}

#[test]
fn probabilities_are_dense_and_outputs_without_common_rows_are_rejected_in_rows() {
    let row = |yes: f32| Value::Map {
        keys: vec!["no".to_owned(), "yes".to_owned()].into(),
        values: vec![1.0 - yes, yes].into(),
    };
    let outputs = [
        ("label", tensor(&[2], vec![1i64, 0])),
        ("p", Value::Sequence(vec![row(0.75), row(0.25)])),
    ];
    let expected = json!({ "predictions": [
        { "label": 1, "p": [0.25, 0.75] }, { "label": 0, "p": [0.75, 0.25] }] });
    assert_eq!(answer(Layout::Rows, &outputs), expected);

    let outputs = [
        ("y".to_owned(), tensor(&[2], vec![1f32, 2.0])),
        ("loss".to_owned(), tensor(&[], vec![0.5f32])),
    ];
    let error = tfserving::encode(Layout::Rows, &outputs).unwrap_err();
    assert!(
        error.to_string().contains("inputs instead of instances"),
        "{error}"
    );
    let whole = tfserving::encode(Layout::Columns, &outputs).unwrap();
    let whole: Json = serde_json::from_slice(&whole).unwrap();
    assert_eq!(
        whole,
        json!({ "outputs": { "y": [1.0, 2.0], "loss": 0.5 } })
    );
}

#[test]
fn status_and_metadata_are_those_of_the_specification() {
    let status = |availability| -> Json {
        serde_json::from_slice(&tfserving::status(availability)).unwrap()
    };
    let one = |version: &str, state: &str, code: &str, message: &str| {
        let status = json!({ "error_code": code, "error_message": message });
        let one = json!({ "version": version, "state": state, "status": status });
        json!({ "model_version_status": [one] })
    };
    for (availability, expected) in [
        (
            Availability::Available("123"),
            one("123", "AVAILABLE", "OK", ""),
        ),
        (Availability::Loading, one("0", "LOADING", "OK", "")),
        (
            Availability::Failed("gone"),
            one("0", "END", "UNAVAILABLE", "gone"),
        ),
    ] {
        assert_eq!(status(availability), expected);
    }
    let metadata = tfserving::metadata(BY, &one_input(Datatype::Fp16, &[None, Some(2)]));
    let metadata: Json = serde_json::from_slice(&metadata).unwrap();
    let dims = json!([{ "size": "-1", "name": "" }, { "size": "2", "name": "" }]);
    let shape = json!({ "dim": dims, "unknown_rank": false });
    let info = |name: &str| json!({ "dtype": "DT_HALF", "tensor_shape": shape, "name": name });
    let signature = json!({
        "inputs": { "x": info("x") },
        "outputs": { "y": info("y") },
        "method_name": "tensorflow/serving/predict",
    });
    let expected = json!({
        "model_spec": { "name": "m", "signature_name": "", "version": "7" },
        "metadata": { "signature_def": { "signature_def": { "serving_default": signature } } },
    });
    assert_eq!(metadata, expected);
}

#[test]
fn inputs_of_several_runs_need_equal_numbers_of_rows() {
    let one_at_a_time = Signature {
        inputs: vec![
            port("a", Datatype::Fp32, &[Some(1), Some(2)]),
            port("b", Datatype::Fp32, &[Some(1), Some(1)]),
        ],
        outputs: vec![],
    };
    let (inputs, _) = decode(
        r#"{"inputs": {"a": [[1, 2], [3, 4]], "b": [[5], [6]]}}"#,
        &one_at_a_time,
    )
    .unwrap();
    assert_eq!(inputs[1].1, tensor(&[2, 1], vec![5_f32, 6.0]));
    let error = decode(
        r#"{"inputs": {"a": [[1, 2], [3, 4]], "b": [[5]]}}"#,
        &one_at_a_time,
    );
    assert_eq!(
        error.unwrap_err(),
        "inputs: input \"a\" has 2 rows, input \"b\" has 1"
    );
}

//! Prediction requests and responses.

use super::*;

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

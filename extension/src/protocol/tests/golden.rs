//! Golden examples.

use super::*;

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

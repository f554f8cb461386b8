//! Requested formats of outputs: binary, JSON and classes.

use super::*;

/// Returns the response of a request with this output for these elements.
fn classes(kind: Kind, wish: &Json, value: Value) -> Result<Json, String> {
    let name = "y".to_owned();
    let signature = Signature {
        inputs: vec![],
        outputs: vec![Port {
            name: name.clone(),
            kind,
        }],
    };
    let request = json!({ "inputs": [], "outputs": [{ "name": "y", "parameters": wish }] });
    let (_, reply) =
        v2_decode(&request.to_string(), &signature).map_err(|error| error.to_string())?;
    let answer = reply.encode(BY, vec![(name, value)]).pieces.concat();
    let answer: Json = serde_json::from_slice(&answer).unwrap();
    let mut output = answer["outputs"][0].clone();
    output.as_object_mut().unwrap().remove("name");
    Ok(output)
}

#[test]
fn the_highest_classes_have_value_index_and_label() {
    let kind = |datatype, shape: &[Option<usize>]| port("y", datatype, shape).kind;
    let top = |count: usize| json!({ "classification": count });
    let bytes = |shape: &[usize], data: &[&str]| json!({ "datatype": "BYTES", "shape": shape, "data": data });
    // The examples of Triton's specification.
    let plain = kind(Datatype::Int32, &[Some(4)]);
    let given = tensor(&[4], vec![1_i32, 5, 10, 4]);
    assert_eq!(
        classes(plain.clone(), &top(2), given.clone()).unwrap(),
        bytes(&[2], &["10:2", "5:1"])
    );
    assert_eq!(
        classes(plain, &top(9), given).unwrap(),
        bytes(&[4], &["10:2", "5:1", "4:3", "1:0"])
    );
    let rows = kind(Datatype::Fp32, &[None, Some(4)]);
    let given = tensor(
        &[2, 4],
        vec![1.1_f32, 3.3, 0.5, 2.4, f32::NAN, -0.0, 0.0, -1.5],
    );
    assert_eq!(
        classes(rows.clone(), &top(2), given).unwrap(),
        bytes(&[2, 2], &["3.3:1", "2.4:3", "-0:1", "0:2"])
    );
    let none = tensor(&[0, 4], Vec::<f32>::new());
    assert_eq!(classes(rows, &top(2), none).unwrap(), bytes(&[0, 2], &[]));
    // Values that differ by less than the precision of a 64-bit float.
    let wide = kind(Datatype::Uint64, &[None]);
    let given = tensor(&[2], vec![u64::MAX - 1, u64::MAX]);
    assert_eq!(
        classes(wide, &top(1), given).unwrap(),
        bytes(
            &[2, 1],
            &["18446744073709551614:0", "18446744073709551615:0"]
        )
    );
    let maps = Kind::Sequence(Box::new(Kind::Map {
        key: Datatype::Bytes,
        value: Datatype::Fp32,
    }));
    let row = |values: [f32; 2]| Value::Map {
        keys: vec!["no".to_owned(), "yes".to_owned()].into(),
        values: values.to_vec().into(),
    };
    let given = Value::Sequence(vec![row([0.25, 0.75]), row([0.5, 0.5])]);
    assert_eq!(
        classes(maps, &top(1), given).unwrap(),
        bytes(&[2, 1], &["0.75:1:yes", "0.5:0:no"])
    );
    for (datatype, value) in [
        (Datatype::Bool, tensor(&[1], vec![true])),
        (Datatype::Bytes, tensor(&[1], vec![String::new()])),
    ] {
        let error = classes(kind(datatype, &[None]), &top(1), value).unwrap_err();
        let message = format!("output \"y\" is {datatype} [-1], which has no numbers to rank");
        assert!(error.ends_with(&message), "{error}");
    }
}

#[test]
fn each_output_has_the_requested_format() {
    let signature = Signature {
        inputs: vec![],
        outputs: ["a", "b", "c"]
            .map(|name| port(name, Datatype::Fp32, &[None, None]))
            .into(),
    };
    let request = json!({
        "id": "7", "inputs": [], "parameters": { "binary_data_output": true },
        "outputs": [
            { "name": "a" },
            { "name": "b", "parameters": { "binary_data": false } },
            { "name": "c", "parameters": { "classification": 1 } },
        ],
    });
    let (decoded, reply) = v2_decode(&request.to_string(), &signature).unwrap();
    assert_eq!(decoded.outputs, ["a", "b", "c"]);
    let outputs = decoded
        .outputs
        .iter()
        .map(|name| (name.clone(), tensor(&[1, 2], vec![1.0_f32, 2.5])));
    let answer = reply.encode(BY, outputs.collect());
    let header: Json = serde_json::from_slice(&answer.pieces[0]).unwrap();
    assert_eq!(answer.header_length, Some(answer.pieces[0].len()));
    let output = |name: &str, datatype: &str, shape: [usize; 2], more: (&str, Json)| json!({ "name": name, "datatype": datatype, "shape": shape, more.0: more.1 });
    let size = |size: usize| ("parameters", json!({ "binary_data_size": size }));
    assert_eq!(
        header["outputs"],
        json!([
            output("a", "FP32", [1, 2], size(8)),
            output("b", "FP32", [1, 2], ("data", json!([1.0, 2.5]))),
            output("c", "BYTES", [1, 1], size(9)),
        ])
    );
    let expected = [
        1.0_f32.to_le_bytes(),
        2.5_f32.to_le_bytes(),
        5_u32.to_le_bytes(),
    ]
    .concat();
    assert_eq!(
        answer.pieces[1..].concat(),
        [&expected[..], b"2.5:1"].concat()
    );

    let twice = json!({ "inputs": [], "outputs": [{ "name": "a" }, { "name": "a" }] });
    let error = v2_decode(&twice.to_string(), &signature)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "outputs[1]: output \"a\" is requested twice");
}

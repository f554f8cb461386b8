//! Tests of binary tensors, raw bodies and classification.

use super::*;

/// Returns a request's JSON with one input in binary.
pub(super) fn head(datatype: Datatype, shape: &[usize], size: usize) -> String {
    let input = json!({
        "name": "x", "datatype": datatype.name(), "shape": shape,
        "parameters": { "binary_data_size": size },
    });
    json!({ "inputs": [input] }).to_string()
}

/// Returns a tensor's elements in binary.
pub(super) fn tensor_bytes(tensor: Tensor) -> Vec<u8> {
    let asked = r#"{"inputs":[],"parameters":{"binary_data_output":true}}"#;
    let (_, reply) = v2_decode(asked, &Signature::default()).unwrap();
    let outputs = vec![("y".to_owned(), Value::Tensor(tensor))];
    reply.encode(BY, outputs).pieces[1..].concat()
}

/// Returns a body of JSON and binary data, and the length of the JSON.
fn body(text: &str, bytes: &[u8]) -> (Bytes, Option<usize>) {
    ([text.as_bytes(), bytes].concat().into(), Some(text.len()))
}

fn inputs(
    (body, header): (Bytes, Option<usize>),
    signature: &Signature,
) -> Result<Vec<(String, Value)>, String> {
    v2::decode(&body, header, signature, &mut Charge::unlimited())
        .map(|(decoded, _)| decoded.inputs)
        .map_err(|error| error.to_string())
}

#[test]
fn binary_and_json_inputs_may_be_mixed() {
    let ports = [
        ("a", Datatype::Uint16),
        ("b", Datatype::Bytes),
        ("c", Datatype::Bool),
    ];
    let signature = Signature {
        inputs: ports
            .map(|(name, datatype)| port(name, datatype, &[None]))
            .into(),
        outputs: vec![],
    };
    // From Triton's specification: little-endian, with a four-byte length before each string.
    let text = json!({ "inputs": [
        { "name": "c", "datatype": "BOOL", "shape": [3], "parameters": { "binary_data_size": 3, "other": [1] } },
        { "name": "a", "datatype": "UINT16", "shape": [2], "data": [1, 770] },
        { "name": "b", "datatype": "BYTES", "shape": [2], "parameters": { "binary_data_size": 10 } },
    ], "parameters": { "priority": 3, "timeout": "none", "sequence_id": 7 } });
    let bytes = b"\x01\x00\x01\x02\x00\x00\x00\xc3\xbc\x00\x00\x00\x00";
    assert_eq!(
        inputs(body(&text.to_string(), bytes), &signature).unwrap(),
        [
            ("c".to_owned(), tensor(&[3], vec![true, false, true])),
            ("a".to_owned(), tensor(&[2], vec![1_u16, 770])),
            (
                "b".to_owned(),
                tensor(&[2], vec!["ü".to_owned(), String::new()])
            ),
        ]
    );
}

#[test]
fn an_aligned_input_is_used_in_the_body() {
    let signature = one_input(Datatype::Fp32, &[None]);
    let numbers = vec![1.5_f32, -2.0, 3.25];
    let bytes = tensor_bytes(Tensor::new(vec![3], numbers.clone()).unwrap());
    let text = head(Datatype::Fp32, &[3], bytes.len());
    let mut copied = 0;
    for padding in 0..4 {
        let whole = [&vec![b' '; padding], text.as_bytes(), &bytes].concat();
        let whole = Bytes::from(whole);
        let read = inputs((whole.clone(), Some(padding + text.len())), &signature).unwrap();
        let Value::Tensor(read) = &read[0].1 else {
            panic!()
        };
        assert_eq!(read.data(), &numbers.clone().into());
        let lies = whole[padding + text.len()..].as_ptr().addr();
        copied += usize::from(read.data().addresses().start != lies);
    }
    assert_eq!(copied, 3);
}

#[test]
fn a_false_length_is_named_with_its_path_and_the_expected_value() {
    let int16 = one_input(Datatype::Int16, &[None]);
    let text = head(Datatype::Int16, &[2], 4);
    for (bytes, header, message) in [
        (
            &[1, 0, 2][..],
            0,
            "inputs[0].parameters.binary_data_size is 4, but the body has 3 bytes left",
        ),
        (&[1, 0, 2, 0, 9], 0, "the body has 1 bytes more than"),
        (&[1, 0, 2, 0], 5, "is 97, but the body has 96 bytes"),
        (
            &[1, 0, 2, 0],
            -1,
            "not an inference request: invalid JSON at byte",
        ),
    ] {
        let (body, length) = body(&text, bytes);
        let header = length.unwrap().checked_add_signed(header);
        let error = inputs((body, header), &int16).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    let (whole, _) = body(&text, &[1, 0, 2, 0]);
    let error = inputs((whole, None), &int16).unwrap_err();
    assert!(error.contains("invalid JSON"), "{error}");
    let error = v2_decode(&text, &int16).unwrap_err().to_string();
    assert!(
        error.starts_with("inputs[0].parameters.binary_data_size is given, but header inference"),
        "{error}"
    );

    let string = |text: &[u8]| [&u32::try_from(text.len()).unwrap().to_le_bytes(), text].concat();
    for (datatype, shape, bytes, message) in [
        (
            Datatype::Int16,
            &[3][..],
            vec![0; 4],
            "inputs[0] has 4 bytes, but shape [3] of INT16 takes 6",
        ),
        (
            Datatype::Fp64,
            &[usize::MAX],
            vec![0; 8],
            "of FP64 takes more than 2^64",
        ),
        (
            Datatype::Bool,
            &[2],
            vec![1, 2],
            "inputs[0]: element 1 is the byte 2, expected 0 or 1 for BOOL",
        ),
        (
            Datatype::Bytes,
            &[2],
            string(b"a"),
            "inputs[0]: 0 bytes are left for element 1 of 2, expected 4",
        ),
        (
            Datatype::Bytes,
            &[1],
            vec![9, 0, 0, 0, b'a'],
            "element 0 has 9 bytes by its length, but 1 are left",
        ),
        (
            Datatype::Bytes,
            &[1],
            vec![255; 4],
            "element 0 has 4294967295 bytes by its length, but 0 are left",
        ),
        (
            Datatype::Bytes,
            &[1],
            string(b"a\xff"),
            "inputs[0]: element 0 is not UTF-8 from byte 1 on",
        ),
        (
            Datatype::Bytes,
            &[0],
            string(b""),
            "inputs[0]: 4 bytes are left after the 0 elements of its shape",
        ),
        (
            Datatype::Bytes,
            &[usize::MAX, 2],
            string(b""),
            "0 bytes are left for element 1 of",
        ),
    ] {
        let signature = one_input(datatype, &vec![None; shape.len()]);
        let text = head(datatype, shape, bytes.len());
        let error = inputs(body(&text, &bytes), &signature).unwrap_err();
        assert!(error.contains(message), "{error}\nexpected: {message}");
    }
}

#[test]
fn a_known_parameter_of_a_wrong_type_is_named_and_unknown_parameters_are_ignored() {
    let signature = one_input(Datatype::Fp32, &[None, Some(2)]);
    let request = |parameters: Json, input: Json, output: Json| {
        json!({
            "parameters": parameters,
            "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2], "parameters": input }],
            "outputs": [{ "name": "y", "parameters": output }],
        })
    };
    let fine = request(
        json!({ "priority": "x" }),
        json!({ "a": [] }),
        json!({ "b": {} }),
    );
    infer(&fine, &signature).unwrap();
    infer(&request(json!(null), json!(null), json!(null)), &signature).unwrap();
    for (request, message) in [
        (
            request(json!({ "binary_data_output": 1 }), json!({}), json!({})),
            "parameters.binary_data_output is 1, expected true or false",
        ),
        (
            request(json!([]), json!({}), json!({})),
            "parameters is [], expected an object",
        ),
        (
            request(json!({}), json!({ "binary_data_size": -1 }), json!({})),
            "inputs[0].parameters.binary_data_size is -1, expected a whole number of bytes",
        ),
        (
            request(json!({}), json!({ "binary_data_size": 8 }), json!({})),
            "inputs[0] has both data and parameters.binary_data_size (8): send one of them",
        ),
        (
            request(json!({}), json!({}), json!({ "binary_data": "yes" })),
            "outputs[0].parameters.binary_data is \"yes\", expected true or false",
        ),
        (
            request(json!({}), json!({}), json!({ "classification": 0 })),
            "outputs[0].parameters.classification is 0, expected a whole number, 1 or more",
        ),
        (
            json!({ "id": 5, "inputs": [] }),
            "id is 5, expected a string",
        ),
        (json!({ "inputs": {} }), "inputs is {}, expected an array"),
        (
            json!({ "inputs": [7] }),
            "inputs[0] is 7, expected an object",
        ),
    ] {
        let error = v2::decode(
            &request.to_string().into(),
            None,
            &signature,
            &mut Charge::unlimited(),
        )
        .err()
        .map(|error| error.to_string());
        let error = error.unwrap_or_default();
        assert!(error.starts_with(message), "{error}\nexpected: {message}");
    }
}

#[test]
fn deep_json_is_an_error_in_any_field() {
    let signature = one_input(Datatype::Fp32, &[None]);
    let deep = format!("{}{}", "[".repeat(300_000), "]".repeat(300_000));
    let ok = r#""name":"x","datatype":"FP32","shape":[1]"#;
    for (text, message) in [
        (
            format!(r#"{{"inputs":[{{{ok},"data":{deep}}}]}}"#),
            "nested deeper than 32 levels",
        ),
        (
            format!(r#"{{"inputs":[{{{ok},"data":[1],"parameters":{deep}}}]}}"#),
            "inputs[0].parameters is [[",
        ),
        (
            format!(r#"{{"inputs":[{{"name":{deep}}}]}}"#),
            "inputs[0].name is [[",
        ),
        (format!(r#"{{"inputs":{deep}}}"#), "inputs[0] is [["),
        (deep.clone(), "expected a JSON object"),
        (
            format!(
                r#"{{"inputs":[{{{ok},"data":[1]}}],"x":{}}}"#,
                "[".repeat(300_000)
            ),
            "invalid JSON",
        ),
        (
            format!(r#"{{"inputs":[{{{ok},"data":[1]}}],"x":[}}]}}"#),
            "x is [}, expected valid JSON",
        ),
    ] {
        let error = v2_decode(&text, &signature).unwrap_err().to_string();
        assert!(
            error.contains(message),
            "{}",
            &error[..error.len().min(200)]
        );
    }
    // Unknown fields may have any depth.
    let text = format!(r#"{{"x":{deep},"inputs":[{{{ok},"data":[1],"y":{{"z":[]}}}}]}}"#);
    v2_decode(&text, &signature).unwrap();
}

#[test]
fn invalid_json_is_named_with_its_path_and_its_byte() {
    let signature = one_input(Datatype::Fp32, &[None]);
    // `^` marks the mistake.
    for (marked, place, expected) in [
        (r#"{"inputs" ^[]}"#, "not an inference request", "a colon"),
        (
            r#" {"inputs": [{"name": "x", "shape": [1] ^"data": [1]}]}"#,
            "inputs[0]",
            "a comma or a closing bracket",
        ),
        (
            r#"{"inputs": [{"parameters": {"a": 1,^}}]}"#,
            "inputs[0].parameters",
            "a name",
        ),
        (r#"{"outputs": [{"name": "y"},^]}"#, "outputs[1]", "a value"),
        (
            r#"{"inputs": [{"name": "x", "data": ^[1, 2"#,
            "inputs[0].data",
            "a value",
        ),
        (
            r#"{"inputs": []} ^x"#,
            "not an inference request",
            "the end",
        ),
    ] {
        let byte = marked.find('^').unwrap();
        let error = v2_decode(&marked.replacen('^', "", 1), &signature)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            format!("{place}: invalid JSON at byte {byte} of the request, expected {expected}")
        );
    }
}

#[test]
fn a_body_without_json_is_the_single_input() {
    let raw = |datatype, shape: &[Option<usize>], bytes: &[u8]| {
        let signature = one_input(datatype, shape);
        let body = Bytes::copy_from_slice(bytes);
        let read = v2::decode(&body, Some(0), &signature, &mut Charge::unlimited())
            .map_err(|error| error.to_string())?;
        let outputs = vec![("y".to_owned(), tensor(&[1], vec![1_u8]))];
        let answer = read.1.encode(BY, outputs);
        assert_eq!(&answer.pieces[1..], [&[1_u8][..]]);
        Ok::<_, String>(read.0.inputs.into_iter().next().unwrap().1)
    };
    let (free, two) = (None, Some(2));
    let numbers = vec![1_i16, 2, 3, 4];
    let bytes = [1, 0, 2, 0, 3, 0, 4, 0];
    for (declared, shape) in [
        (&[two, two][..], [2, 2]),
        (&[free, two], [2, 2]),
        (&[two, free], [2, 2]),
        (&[free, free], [1, 4]),
    ] {
        let read = raw(Datatype::Int16, declared, &bytes).unwrap();
        assert_eq!(read, tensor(&shape, numbers.clone()), "{declared:?}");
    }
    let words = "grüße \0".to_owned();
    for declared in [&[Some(1)][..], &[free], &[free, Some(1)], &[]] {
        let read = raw(Datatype::Bytes, declared, words.as_bytes()).unwrap();
        assert_eq!(read, tensor(&vec![1; declared.len()], vec![words.clone()]));
    }
    for (datatype, declared, bytes, message) in [
        (
            Datatype::Int16,
            &[free, two][..],
            &bytes[..6],
            "the body has 6 bytes, but input \"x\" takes INT16 [-1, 2], which is a multiple of 4 bytes",
        ),
        (
            Datatype::Int16,
            &[two],
            &bytes,
            "takes INT16 [2], which is 4 bytes",
        ),
        (
            Datatype::Int16,
            &[two],
            &[],
            "the body is empty, but header",
        ),
        (
            Datatype::Int16,
            &[Some(0), free],
            &bytes,
            "a multiple of 0 bytes",
        ),
        (
            Datatype::Int16,
            &[two, free, free],
            &bytes,
            "cannot derive the shape of a body without JSON: input \"x\" takes INT16 [2, -1, -1]",
        ),
        (
            Datatype::Bool,
            &[two],
            &[1, 7],
            "the body: element 1 is the byte 7",
        ),
        (
            Datatype::Bytes,
            &[two],
            b"a",
            "is a single string, but input \"x\" takes BYTES [2], with a dimension of length 2",
        ),
        (
            Datatype::Bytes,
            &[free],
            b"\xff",
            "the body is not UTF-8 from byte 0 on",
        ),
    ] {
        let error = raw(datatype, declared, bytes).unwrap_err();
        assert!(error.contains(message), "{error}\nexpected: {message}");
    }
    let error =
        v2::decode(&Bytes::new(), Some(0), &columns(), &mut Charge::unlimited()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("requires a model with one input, but this model's inputs are \"age\"")
    );
}

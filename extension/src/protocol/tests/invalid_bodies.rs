//! Tests of bodies that are not requests: each form names the format, and echoes little of the body.

use super::*;
use crate::protocol::tfserving;

/// Returns a request with an FP32 input in each form; `data` are its elements.
fn in_each_form(data: &str) -> [(&'static str, String); 3] {
    let tensor = r#""name":"x","datatype":"FP32","shape":[2]"#;
    [
        ("predict", format!(r#"{{"features":{data}}}"#)),
        ("tensorflow", format!(r#"{{"instances":{data}}}"#)),
        (
            "infer",
            format!(r#"{{"inputs":[{{{tensor},"data":{data}}}]}}"#),
        ),
    ]
}

fn decode(form: &str, body: &[u8], signature: &Signature) -> Result<Decoded, String> {
    let mut charge = Charge::unlimited();
    let read = match form {
        "predict" => predict::decode(body, signature, &mut charge),
        "tensorflow" => tfserving::decode(body, signature, &mut charge).map(|(decoded, _)| decoded),
        _ => {
            let body = Bytes::copy_from_slice(body);
            v2::decode(&body, None, signature, &mut charge).map(|(decoded, _)| decoded)
        }
    };
    read.map_err(|error| error.to_string())
}

#[test]
fn a_byte_order_mark_is_skipped_only_before_a_request() {
    let signature = one_input(Datatype::Fp32, &[None]);
    for (form, text) in in_each_form("[1,2]") {
        for before in ["\u{feff}", "\u{feff} \r\n"] {
            let body = format!("{before}{text}");
            let read = decode(form, body.as_bytes(), &signature).unwrap();
            assert_eq!(read.inputs[0].1, tensor(&[2], vec![1_f32, 2.0]), "{form}");
        }
        let within = text.replace("[1,2]", "\u{feff}[1,2]");
        for body in [
            format!("\u{feff}\u{feff}{text}"),
            format!("{text}\u{feff}"),
            within,
        ] {
            assert!(
                decode(form, body.as_bytes(), &signature).is_err(),
                "{form}: {body:?}"
            );
        }
    }
}

#[test]
fn non_json_tokens_are_named_in_each_form() {
    let signature = one_input(Datatype::Fp32, &[None]);
    for (token, words) in [
        ("NaN", "NaN is not JSON; write null for NaN"),
        ("-Infinity", "Infinity is not JSON; write null for NaN"),
        ("None", "None is not JSON; write null"),
        ("\"\0\"", "control character"),
    ] {
        for (form, text) in in_each_form(&format!("[1,{token}]")) {
            for body in [text.clone(), format!("\u{feff}{text}")] {
                let error = decode(form, body.as_bytes(), &signature).unwrap_err();
                assert!(error.contains(words), "{form}: {error}");
            }
        }
    }
}

#[test]
fn a_body_that_is_not_an_object_is_named_in_each_form() {
    let signature = one_input(Datatype::Fp32, &[None]);
    for form in ["predict", "tensorflow", "infer"] {
        for (body, words) in [
            (&b""[..], "the body is empty"),
            (b"1,2\n3,4\n", "CSV (text/csv)"),
            (b"\x93NUMPY\x01\0v\0{'descr'", "a NumPy file (.npy)"),
            (b"[[1,2]]", "an array"),
            (b"\xff\xfe{\0}\0", "UTF-16"),
            (b"{'a': 1}", "double quotes"),
            (b"{} {}", "another JSON value follows"),
            (b"{}\0", "a NUL character"),
        ] {
            let error = decode(form, body, &signature).unwrap_err();
            assert!(error.contains(words), "{form}, {body:?}: {error}");
        }
    }
}

#[test]
fn errors_of_a_request_without_values_name_the_fields() {
    let signature = one_input(Datatype::Fp32, &[None]);
    for (form, fields) in [
        ("predict", "features, or instances"),
        ("tensorflow", "instances, or inputs"),
    ] {
        let missing = format!("missing required field: {fields}");
        let error = decode(form, b"{}", &signature).unwrap_err();
        assert_eq!(error, missing);
        let error = decode(form, br#"{"data": [1]}"#, &signature).unwrap_err();
        assert_eq!(
            error,
            format!("{missing}; the request has \"data\", which is ignored")
        );
    }
}

#[test]
fn a_long_name_or_value_is_truncated() {
    let signature = one_input(Datatype::Bytes, &[None]);
    let long = "z".repeat(10_000);
    let input = |name: &str, datatype: &str| {
        format!(
            r#"{{"inputs":[{{"name":"{name}","datatype":"{datatype}","shape":[1],"data":["a"]}}]}}"#
        )
    };
    for (form, body) in [
        ("predict", long.clone()),
        ("predict", format!(r#"{{"{long}":1}}"#)),
        ("predict", format!(r#"{{"features":{{"{long}":1}}}}"#)),
        ("tensorflow", format!(r#"{{"instances":[{{"{long}":1}}]}}"#)),
        ("infer", input(&long, "BYTES")),
        ("infer", input("x", &long)),
        ("infer", format!(r#"{{"{long}":{long}}}"#)),
        ("infer", format!(r#"{{"inputs":[{{"{long}":{long}}}]}}"#)),
    ] {
        let error = decode(form, body.as_bytes(), &signature).unwrap_err();
        assert!(error.len() < 400, "{form}: {} bytes", error.len());
    }
}

#[test]
fn an_array_file_is_not_a_raw_tensor() {
    let file: Vec<u8> = [&b"\x93NUMPY\x01\0v\0"[..], &[b' '; 118], &[0; 8]].concat();
    let file = Bytes::from(file);
    for (datatype, shape) in [
        (Datatype::Fp32, &[None, Some(2)][..]),
        (Datatype::Uint8, &[None]),
    ] {
        let signature = one_input(datatype, shape);
        let raw = |body: Bytes| v2::decode(&body, Some(0), &signature, &mut Charge::unlimited());
        let error = raw(file.clone()).unwrap_err().to_string();
        assert!(error.contains("a NumPy file (.npy)"), "{error}");
        assert!(raw(file.slice(128..)).is_ok());
    }
}

#[test]
fn a_shape_has_at_most_32_dimensions() {
    let signature = one_input(Datatype::Fp32, &[]);
    let of = |rank: usize| infer(&input("FP32", &vec![1; rank], &json!([1])), &signature);
    assert!(of(32).is_ok());
    assert_eq!(
        of(33).unwrap_err(),
        "inputs[0].shape has more than 32 dimensions"
    );
}

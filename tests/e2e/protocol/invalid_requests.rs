//! Invalid requests: errors name the received and the expected input, and no part of a request is processed.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use lab::http::{HttpResponse, request};
use lab::s3::S3Server;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::support::{Alone, error, s3_with, to_end};

const PREDICT: &str = "/predict";
const INFER: &str = "/v2/models/wine/infer";
const TENSORFLOW: &str = "/v1/models/wine:predict";
const FORMS: [&str; 3] = [PREDICT, INFER, TENSORFLOW];

async fn serving(file: &str) -> (S3Server, Alone) {
    let s3 = s3_with(file).await;
    let alone = Alone::ready(&s3, &[]).await;
    (s3, alone)
}

async fn send(alone: &Alone, path: &str, headers: &[(&str, &str)], body: &[u8]) -> HttpResponse {
    let mut request = request("POST".parse().unwrap(), path, body.to_vec()).unwrap();
    for (name, value) in headers {
        let name = http::HeaderName::try_from(*name).unwrap();
        let value = HeaderValue::try_from(*value).unwrap();
        request.headers_mut().insert(name, value);
    }
    alone.client().send(request).await.unwrap()
}

/// Returns the message of a 400 response.
fn bad_request(answer: &HttpResponse) -> String {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    error(&answer.json().unwrap()).to_owned()
}

/// Request of the Open Inference Protocol with two FP32 inputs.
fn tensors(shapes: [&[usize]; 2]) -> Value {
    let tensor = |name: &str, shape: &[usize]| {
        let data = vec![1; shape.iter().product()];
        json!({ "name": name, "datatype": "FP32", "shape": shape, "data": data })
    };
    json!({ "inputs": [tensor("a", shapes[0]), tensor("b", shapes[1])] })
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_with_different_sizes_of_a_shared_dimension_are_named() {
    let (_s3, alone) = serving("add-two-inputs.onnx").await;
    let columns = |a: usize, b: usize| json!({ "a": vec![[1, 1]; a], "b": vec![[1, 1]; b] });
    let post =
        async |path: &str, body: Value| send(&alone, path, &[], body.to_string().as_bytes()).await;
    for (a, b) in [(2, 3), (3, 2), (0, 2)] {
        for (path, body) in [
            (INFER, tensors([&[a, 2], &[b, 2]])),
            (PREDICT, json!({ "features": columns(a, b) })),
            (PREDICT, json!({ "instances": columns(a, b) })),
            (TENSORFLOW, json!({ "inputs": columns(a, b) })),
        ] {
            let said = bad_request(&post(path, body).await);
            for words in [
                "inputs \"a\" and \"b\" share the dimension \"N\"".to_owned(),
                format!("{a} in \"a\""),
                format!("{b} in \"b\""),
            ] {
                assert!(said.contains(&words), "{path}, {a} and {b}: {said}");
            }
        }
    }
    // The same in binary.
    let mut head = tensors([&[2, 2], &[3, 2]]);
    for (index, size) in [(0, 16), (1, 24)] {
        let input = head["inputs"][index].as_object_mut().unwrap();
        input.remove("data");
        input.insert("parameters".into(), json!({ "binary_data_size": size }));
    }
    let head = head.to_string();
    let body = [head.as_bytes(), &[0; 40]].concat();
    let length = head.len().to_string();
    let headers = [("inference-header-content-length", length.as_str())];
    let said = bad_request(&send(&alone, INFER, &headers, &body).await);
    assert!(said.contains("share the dimension \"N\""), "{said}");

    // A size of 1 broadcasts in requests with shapes, and is an error in requests with rows.
    let answer = post(INFER, tensors([&[1, 2], &[3, 2]])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer: Value = answer.json().unwrap();
    assert_eq!(answer["outputs"][0]["shape"], json!([3, 2]));
    for (path, body) in [
        (PREDICT, json!({ "features": columns(1, 3) })),
        (TENSORFLOW, json!({ "inputs": columns(1, 3) })),
    ] {
        let said = bad_request(&post(path, body).await);
        assert!(said.contains("1 in \"a\" and 3 in \"b\""), "{said}");
    }
    // A shape of another rank names the expected shape.
    let said = bad_request(&post(INFER, tensors([&[2], &[2]])).await);
    assert_eq!(
        said,
        "inputs[0] has shape [2], input \"a\" takes FP32 [-1, 2]"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_formats_than_json_are_named() {
    let (_s3, alone) = serving("wine-v1.onnx").await;
    for path in FORMS {
        for (media_type, body, came) in [
            ("application/json", &b""[..], "the body is empty"),
            ("text/csv", b"1,2\r\n3,4\r\n", "CSV"),
            ("text/csv", b"1,2", "header content-type is \"text/csv\""),
            ("text/csv", b"5.1", "header content-type is \"text/csv\""),
            ("text/csv", b"a,b\n1,2\n", "expected application/json"),
            ("application/x-www-form-urlencoded", b"features=1", "a form"),
            ("application/xml", b"<features/>", "XML"),
            ("multipart/form-data; boundary=x", b"--x\r\n", "multipart"),
            ("application/x-npy", b"\x93NUMPY\x01\0v\0{'descr'", "NumPy"),
            ("application/x-pickle", b"\x80\x04]\x94.", "pickle"),
            ("application/json", b"\xff\xfe{\0}\0", "UTF-16"),
            ("application/json", b"{features: [[1]]}", "double quotes"),
            ("application/json", b"{'features': [[1]]}", "double quotes"),
            ("application/json", b"[[1, 2]]", "an array"),
        ] {
            let answer = send(&alone, path, &[("content-type", media_type)], body).await;
            let said = bad_request(&answer);
            assert!(said.contains(came), "{path}, {body:?}: {said}");
            for no_word in ["expected struct", "Request {", "EOF while parsing a value"] {
                assert!(!said.contains(no_word), "{path}, {body:?}: {said}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_cause() {
    let (_s3, alone) = serving("wine-v1.onnx").await;
    let depth = 1_000_000;
    let deep = format!(
        "{{\"features\":{}{}}}",
        "[".repeat(depth),
        "]".repeat(depth)
    );
    for (path, body, hint) in [
        ("/predict", "", "not a prediction request"),
        ("/predict", "{\"features\":", "not a prediction request"),
        ("/predict", "\u{0}\u{1}\u{2}", "not a prediction request"),
        ("/predict", "{\"features\":[[1,2]]}", "13"),
        ("/predict", "{\"features\":[[1],[2,3]]}", "features"),
        (
            "/predict",
            "[[[1,2,3,4,5,6,7,8,9,10,11,12,13]],null]",
            "expected a JSON object",
        ),
        ("/predict", "{\"features\":[[NaN]]}", "write null for NaN"),
        ("/predict", "{\"features\":[[-Infinity]]}", "\"-Infinity\""),
        (
            "/predict",
            "{\"features\":null,\"features\":[2]}",
            "duplicate field `features`",
        ),
        (
            "/predict",
            "{\"features\":{\"X\":[1,2,3,4,5,6,7,8,9,10,11,12,13],\"X\":[2]}}",
            "\"X\" is given twice",
        ),
        ("/predict", &deep, "nested deeper"),
        ("/v2/models/wine/infer", "[]", "not an inference request"),
        ("/v2/models/wine/infer", "{\"inputs\":[]}", "X"),
    ] {
        let said = bad_request(&send(&alone, path, &[], body.as_bytes()).await);
        assert!(said.contains(hint), "{body}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_utf8_is_reported_with_its_offset() {
    let (_s3, alone) = serving("wine-v1.onnx").await;
    for path in FORMS {
        let said = bad_request(&send(&alone, path, &[], b"{\"features\": \"\xff\"}").await);
        assert!(said.contains("byte 14 (0xff) is not valid UTF-8"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailing_data_is_an_error() {
    let (_s3, alone) = serving("identity-float.onnx").await;
    let whole = |path| match path {
        PREDICT => r#"{"features":[[1,2]]}"#,
        TENSORFLOW => r#"{"instances":[[1,2]]}"#,
        _ => r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#,
    };
    for path in FORMS {
        let body = whole(path);
        for (before, behind) in [("\u{feff}", ""), ("\r\n\t ", "\r\n"), ("\u{feff}\n", " ")] {
            let body = format!("{before}{body}{behind}");
            let answer = send(&alone, path, &[], body.as_bytes()).await;
            assert_eq!(answer.status, 200, "{path}, {body:?}: {}", answer.text());
        }
        for (behind, hint) in [
            ("\0", "NUL"),
            (&format!("\n{body}\n"), "JSON Lines"),
            (body, "another JSON value"),
            ("x", ""),
            ("\u{feff}", ""),
        ] {
            let body = format!("{body}{behind}");
            let said = bad_request(&send(&alone, path, &[], body.as_bytes()).await);
            assert!(said.contains(hint), "{path}, {body:?}: {said}");
        }
        // Errors of tokens that are not JSON name the alternative.
        for token in ["NaN", "-Infinity", "Infinity"] {
            let (before, behind) = body.rsplit_once("1,2]").unwrap();
            let body = format!("{before}1,{token}]{behind}");
            let said = bad_request(&send(&alone, path, &[], body.as_bytes()).await);
            assert!(said.contains("write null for NaN"), "{path}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_table_layouts_name_the_expected_one() {
    let (_s3, alone) = serving("add-two-inputs.onnx").await;
    let table = json!({ "columns": ["a", "b"], "index": [0], "data": [[[1, 1], [2, 2]]] });
    let by_index = json!({ "0": { "a": [1, 1], "b": [2, 2] } });
    let by_column = json!({ "a": { "0": [1, 1] }, "b": { "0": [2, 2] } });
    for (body, words) in [
        (json!({ "dataframe_split": &table }), "features"),
        (json!({ "dataframe_records": [{ "a": 1 }] }), "features"),
        (
            json!({ "inputs": { "a": [[1, 1]], "b": [[1, 1]] } }),
            "instances",
        ),
        (json!({ "data": [[1, 2]] }), "features, or instances"),
        (
            table.clone(),
            "features, or instances; the request has \"columns\"",
        ),
        (json!({ "features": &table }), "no input \"columns\""),
        (json!({ "instances": &table }), "no input \"columns\""),
        (json!({ "features": &by_index }), "no input \"0\""),
        (json!({ "features": &by_column }), "features.a is an object"),
        (
            json!({ "features": [[[1, 1], [2, 2]]] }),
            "send an object with \"a\"",
        ),
        (json!({ "features": "1,1" }), "features"),
        (json!({ "features": [by_index] }), "no input \"0\""),
        (
            json!({ "features": null }),
            "missing required field: features",
        ),
        (json!({}), "missing required field: features"),
    ] {
        let said = bad_request(&send(&alone, PREDICT, &[], body.to_string().as_bytes()).await);
        assert!(said.contains(words), "{body}: {said}");
    }
    let body = json!({ "predict": [[1, 2]] }).to_string();
    let said = bad_request(&send(&alone, TENSORFLOW, &[], body.as_bytes()).await);
    assert!(
        said.contains("instances, or inputs; the request has \"predict\""),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_numpy_file_is_not_a_raw_tensor() {
    let (_s3, alone) = serving("identity-float.onnx").await;
    let header =
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }";
    let mut file = header.to_vec();
    file.resize(127, b' ');
    file.push(b'\n');
    file.extend(1_f32.to_le_bytes());
    file.extend(2_f32.to_le_bytes());
    let raw = [("inference-header-content-length", "0")];
    let said = bad_request(&send(&alone, INFER, &raw, &file).await);
    assert!(said.contains("a NumPy file (.npy)"), "{said}");
    let json = b"{\"inputs\": [{\"name\": 1}]}   ";
    assert_eq!(json.len() % 4, 0, "the length of a tensor");
    let said = bad_request(&send(&alone, INFER, &raw, json).await);
    assert!(said.contains("found JSON"), "{said}");
    let answer = send(&alone, INFER, &raw, &file[128..]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_calls_of_tensorflow_serving_name_predict() {
    let (_s3, alone) = serving("wine-v1.onnx").await;
    for verb in ["classify", "regress", "explain"] {
        for path in [
            format!("/v1/models/wine:{verb}"),
            format!("/v1/models/wine/versions/1:{verb}"),
        ] {
            let answer = send(&alone, &path, &[], b"{\"examples\": []}").await;
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
            let said = answer.json().unwrap();
            let said = error(&said);
            for words in [&format!(":{verb}"), "POST /v1/models/{model}:predict"] {
                assert!(said.contains(words), "{said}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_characters_in_strings_are_named() {
    let (_s3, alone) = serving("strings.onnx").await;
    for (path, body) in [
        (PREDICT, r#"{"features": ["a", "b\u0000c"]}"#),
        (TENSORFLOW, r#"{"instances": ["a", "b\u0000c"]}"#),
        (
            INFER,
            r#"{"inputs": [{"name": "x", "datatype": "BYTES", "shape": [2], "data": ["a", "b\u0000c"]}]}"#,
        ),
    ] {
        let body = body.replace("\\u0000", "\0");
        let said = bad_request(&send(&alone, path, &[], body.as_bytes()).await);
        assert!(said.contains("control character"), "{path}: {said}");
    }
}

/// Length of the longest run of the letter z, which only the request contains.
fn longest_echo(text: &str) -> usize {
    let runs = text.split(|c: char| c != 'z').map(str::len);
    runs.max().unwrap_or_default()
}

#[expect(clippy::too_many_lines, reason = "one table of requests")]
#[tokio::test(flavor = "multi_thread")]
async fn errors_echo_little_of_the_request() {
    let (_s3, alone) = serving("identity-string.onnx").await;
    let long = "z".repeat(50_000);
    let tensor = |field: &str| {
        let (mut name, mut datatype) = ("x", "BYTES");
        let mut data = json!(["a", "b"]);
        match field {
            "name" => name = &long,
            "datatype" => datatype = &long,
            _ => data = json!([["a"], &long]),
        }
        json!({ "inputs": [{ "name": name, "datatype": datatype, "shape": [1, 2], "data": data }] })
    };
    let deep = format!("[{}]", vec!["1"; 20_000].join(","));
    let shape = |text: &str| {
        format!(r#"{{"inputs":[{{"name":"x","datatype":"BYTES","shape":{text},"data":["a"]}}]}}"#)
    };
    let mut bodies = vec![
        (PREDICT, long.clone()),
        (PREDICT, format!("{{{long}: 1}}")),
        (PREDICT, format!("{{\"{long}\": 1}}")),
        (PREDICT, format!("{{\"features\": {{\"{long}\": 1}}}}")),
        (PREDICT, format!("{{\"features\": [{{\"{long}\": 1}}]}}")),
        (
            PREDICT,
            format!("{{\"features\": [{{\"x\": 1}}, {{\"{long}\": 1}}]}}"),
        ),
        (
            PREDICT,
            format!("{{\"features\": [{{\"x\": 1}}, \"{long}\"]}}"),
        ),
        (PREDICT, format!("{{\"features\": {long}}}")),
        (PREDICT, format!("{{\"features\": [\"{long}\", 1]}}")),
        (
            PREDICT,
            format!("{{\"features\": {{\"{long}\": 1, \"{long}\": 2}}}}"),
        ),
        (
            TENSORFLOW,
            format!("{{\"instances\": [{{\"b64\": \"{long}\"}}]}}"),
        ),
        (TENSORFLOW, format!("{{\"{long}\": 1}}")),
        (INFER, long.clone()),
        (INFER, format!("{{\"{long}\": {long}}}")),
        (INFER, format!("{{\"id\": [\"{long}\"]}}")),
        (INFER, format!("{{\"parameters\": {{\"{long}\": {long}}}}}")),
        (INFER, format!("{{\"inputs\": [{{\"{long}\": {long}}}]}}")),
        (INFER, shape(&deep)),
        (INFER, shape("[1,2,3,4,5,6,7,8,9,10,11,12]")),
    ];
    for field in ["name", "datatype", "data"] {
        bodies.push((INFER, tensor(field).to_string()));
    }
    let outputs = format!(",\"outputs\":[{{\"name\":\"{long}\"}}]}}");
    let wanted = shape("[1,1]");
    bodies.push((
        INFER,
        wanted.strip_suffix('}').unwrap().to_owned() + &outputs,
    ));
    for (path, body) in bodies {
        let said = bad_request(&send(&alone, path, &[], body.as_bytes()).await);
        let begins = &body[..body.len().min(60)];
        assert!(longest_echo(&said) <= 200, "{path}, {begins}: {said}");
        assert!(said.len() < 700, "{path}, {begins}: {} bytes", said.len());
    }
    for (path, headers) in [
        (format!("/{long}"), vec![]),
        (format!("/models/{long}/predict"), vec![]),
        (format!("/v1/models/x:{long}"), vec![]),
        (format!("/v2/models/wine/versions/{long}/infer"), vec![]),
        (
            PREDICT.to_owned(),
            vec![("content-encoding", long.as_str())],
        ),
        (PREDICT.to_owned(), vec![("content-type", long.as_str())]),
        (
            PREDICT.to_owned(),
            vec![("lambda-runtime-deadline-ms", long.as_str())],
        ),
        (
            INFER.to_owned(),
            vec![("inference-header-content-length", long.as_str())],
        ),
    ] {
        let body = if path.ends_with("/infer") {
            shape("[1,1]")
        } else {
            "[]".to_owned()
        };
        let answer = send(&alone, &path, &headers, body.as_bytes()).await;
        assert!(answer.status.is_client_error(), "{}", answer.status);
        let said = answer.text();
        assert!(
            longest_echo(&said) <= 200,
            "{}: {said}",
            &path[..20.min(path.len())]
        );
    }
    let request = format!("{long} /predict HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut stream = UnixStream::connect(alone.socket()).await.unwrap();
    stream
        .write_all(request.replace('z', "Z").as_bytes())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let answer = to_end(&mut stream).await;
    assert!(longest_echo(&answer.to_lowercase()) <= 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_content_type_of_a_json_body_is_ignored() {
    let (_s3, alone) = serving("identity-float.onnx").await;
    for media_type in [
        "text/csv",
        "application/x-www-form-urlencoded",
        "text/plain",
        "",
    ] {
        let headers = [(CONTENT_TYPE.as_str(), media_type)];
        let answer = send(&alone, PREDICT, &headers, br#"{"features": [[1, 2]]}"#).await;
        assert_eq!(answer.status, 200, "{media_type}: {}", answer.text());
        // Errors in the body do not mention the header.
        let said =
            bad_request(&send(&alone, PREDICT, &headers, br#"{"features": [["a", 2]]}"#).await);
        assert!(!said.contains("content-type"), "{media_type}: {said}");
    }
}

use super::*;

/// Returns the error of a prediction request.
fn of(body: impl AsRef<[u8]>) -> String {
    let body = body.as_ref();
    match check_object(body, "a prediction request") {
        Err(error) => error.0,
        Ok(text) => {
            let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
            message(text, &error)
        }
    }
}

#[test]
fn errors_for_non_json_tokens_name_a_replacement() {
    for (body, expected) in [
        (
            "{\"features\": [1, NaN]}",
            "NaN is not JSON; write null for NaN",
        ),
        ("{\"features\":\n [1,\n-Infinity]}", "write null for NaN"),
        ("{\"a\":[Infinity]}", "Infinity is not JSON"),
        ("{\"a\":[nan]}", "nan is not JSON"),
        ("{\"a\":[-inf, 1]}", "inf is not JSON"),
        ("{\"a\": None}", "None is not JSON; write null"),
        ("{\"a\": [True]}", "True is not JSON; write true"),
        ("{\"a\": undefined}", "write null"),
    ] {
        let error = of(body);
        assert!(error.contains(expected), "{body}: {error}");
    }
    for body in [
        "{\"a\":[1, x]}",
        "{\"a\":[1 2]}",
        "{\"NaN\": }",
        "{\"a\":[",
        "{\"a\":[-]}",
        "{\"a\":Nano}",
    ] {
        let error = of(body);
        assert!(
            !error.contains("NaN") && !error.contains("write"),
            "{body}: {error}"
        );
    }
}

#[test]
fn a_byte_that_is_not_utf8_is_named_with_its_position() {
    for (body, message) in [
        (
            &b"{\"a\": \"\xe9t\xe9\"}"[..],
            "byte 7 (0xe9) is not valid UTF-8",
        ),
        (b"\xef\xbb\xbf{\xff", "byte 4 (0xff) is not valid UTF-8"),
    ] {
        assert_eq!(of(body), format!("not a prediction request: {message}"));
    }
}

#[test]
fn a_byte_order_mark_is_skipped_and_those_of_other_encodings_are_named() {
    assert_eq!(check_object(b"\xef\xbb\xbf {}", "a request"), Ok(" {}"));
    for (body, message) in [
        (&b"\xff\xfe{\0}\0"[..], "UTF-16"),
        (b"\xfe\xff\0{\0}", "UTF-16"),
        (b"\xff\xfe\0\0{\0\0\0", "UTF-32"),
        (b"\0\0\xfe\xff\0\0\0{", "UTF-32"),
        (b"\0{\0}", "UTF-16"),
    ] {
        let error = of(body);
        assert!(error.contains(message), "{body:?}: {error}");
        assert!(error.contains("JSON is UTF-8"), "{body:?}: {error}");
    }
    let error = of(b"{\0\"\0a\0\"\0");
    assert!(error.contains("NUL"), "{error}");
}

#[test]
fn the_format_of_another_body_is_named() {
    let form = "a form (";
    for (body, expected) in [
        ("", "the body is empty"),
        (" \r\n", "the body is empty"),
        ("\u{feff}", "the body is empty"),
        ("[[1, 2]]", "an array"),
        ("5.1", "a number"),
        ("-3", "a number"),
        ("\"features\"", "a string"),
        ("\"{\\\"features\\\": [1]}\"", "encoded twice"),
        ("null", "null"),
        ("true", "a boolean"),
        ("'{\"features\": [1]}'", "single quote"),
        ("b'{\"features\": [1]}'", "Python's bytes"),
        ("1,2", "CSV"),
        ("1,2\r\n3,4\r\n", "CSV"),
        ("5.1 3.5 1.4", "CSV"),
        ("a,b\n1,2\n", "CSV"),
        ("a;b\n1;2\n", "CSV"),
        ("a\tb\n1\t2\n", "CSV"),
        ("features=1&b=2", form),
        ("features[]=1", form),
        ("features=%5B1%5D", form),
        ("%7B%22features%22%3A1%7D", "URL escapes"),
        ("eyJmZWF0dXJlcyI6IFsxXX0=", "base64"),
        ("features: [1, 2]", "YAML"),
        ("features:\n- 1", "YAML"),
        ("<features>1</features>", "XML"),
        ("--x\r\nContent-Disposition: form-data", "multipart"),
        ("@request.json", "the name of a file"),
        ("hello", "begins with \"hello\""),
    ] {
        let error = of(body);
        assert!(
            error.starts_with("not a prediction request: expected a JSON object, "),
            "{body}: {error}"
        );
        assert!(error.contains(expected), "{body}: {error}");
    }
    for (body, expected) in [
        (&b"\x93NUMPY\x01\0v\0{'descr'"[..], "NumPy"),
        (b"PK\x03\x04....", "ZIP"),
        (b"\x80\x04]\x94(K\x01K\x02e.", "pickle"),
        (b"\x1f\x8b\x08\0", "content-encoding: gzip"),
        (b"\x28\xb5\x2f\xfd..", "zstd"),
        (b"PAR1....", "Parquet"),
        (b"\x89PNG\r\n", "image"),
        (b"\0\0\x80\x3f", "binary data"),
    ] {
        let error = of(body);
        assert!(error.contains(expected), "{body:?}: {error}");
    }
    // Only the beginning is echoed.
    let long = "x".repeat(100_000);
    assert!(of(&long).len() < 300);
}

#[test]
fn errors_for_nearly_valid_json_have_a_remedy() {
    for (body, hint) in [
        ("{features: [[1, 2]]}", "which a shell removes"),
        ("{'features': [[1, 2]]}", "double quotes"),
        ("{\"features\": [[1, 2]]}\n{\"features\": 1}", "JSON Lines"),
        (
            "{\"features\": [[1, 2]]}{\"features\": 1}",
            "another JSON value",
        ),
        ("{\"features\": [[1, 2]]}\0", "NUL"),
        ("{\"features\": \0}", "NUL"),
        (
            "{\"features\": [[1, 2]",
            "ends before the JSON value is complete",
        ),
    ] {
        let error = of(body);
        assert!(error.contains(hint), "{body}: {error}");
    }
}

#[test]
fn array_files_are_not_elements() {
    let numpy = b"\x93NUMPY\x01\0v\0{'descr'";
    for size in [None, Some(1), Some(4), Some(8)] {
        assert!(in_place_of_elements(numpy, size).is_some(), "{size:?}");
        assert_eq!(in_place_of_elements(b"\0\0\x80\x3f", size), None);
    }
    for file in [&b"PK\x03\x04...."[..], b"{\"inputs\": []}", b"PAR1...."] {
        assert!(in_place_of_elements(file, Some(4)).is_some(), "{file:?}");
        // A model may take whole files.
        assert_eq!(in_place_of_elements(file, Some(1)), None, "{file:?}");
        assert_eq!(in_place_of_elements(file, None), None, "{file:?}");
    }
    assert_eq!(in_place_of_elements(b"{\"in", Some(4)), None);
}

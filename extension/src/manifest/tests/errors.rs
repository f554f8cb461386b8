//! Rejected manifests, and the texts of their errors.

use serde_json::{Map, Value, json};

use super::super::{MAX_BYTES, Manifest};
use super::fixtures::{file, tensor, whole, with, without};

/// Invalid variant of [`whole`], with the beginning of its error.
pub(super) struct RejectedManifest {
    pub(super) manifest: Value,
    pub(super) error: &'static str,
}

/// Returns manifests that both the schema and the parser reject.
pub(super) fn by_both() -> Vec<RejectedManifest> {
    let mut cases = cases(include_str!("rejected_by_both.txt"));
    cases.extend(too_many());
    cases
}

/// Returns manifests that only the parser rejects.
pub(super) fn by_the_parser_alone() -> Vec<RejectedManifest> {
    let mut cases = cases(include_str!("rejected_by_the_parser.txt"));
    let long = format!("{}x", "a/".repeat(507));
    let histograms = |side: &str| -> Value {
        let histogram = |n: usize| json!({side: format!("{n}"), "edges": [0, 1], "counts": [1]});
        (0..257).map(histogram).collect()
    };
    cases.push(RejectedManifest {
        manifest: with("/versions/7/baseline", histograms("input")),
        error: "the manifest's versions.7.baseline: there are 257 histograms of inputs; the maximum is 256",
    });
    cases.push(RejectedManifest {
        manifest: with("/versions/7/baseline", histograms("output")),
        error: "the manifest's versions.7.baseline: there are 257 histograms of outputs; the maximum is 256",
    });
    cases.push(RejectedManifest {
        manifest: with("/versions/7/files/1/path", long.into()),
        error: "the manifest's versions.7.files[1].path: \"a/a/a",
    });
    cases
}

/// Reads cases of two lines: `POINTER = JSON` or `POINTER = (left out)`, and the error.
fn cases(text: &'static str) -> Vec<RejectedManifest> {
    let lines: Vec<&str> = text.lines().collect();
    let case = |lines: &[&'static str]| {
        let (place, value) = lines[0].split_once(" = ").unwrap();
        let manifest = match value {
            "(left out)" => without(place),
            json => with(place, serde_json::from_str(json).unwrap()),
        };
        let error = lines[1].trim();
        assert!(error.starts_with("the manifest"), "below {place}: {error}");
        RejectedManifest { manifest, error }
    };
    lines.chunks(2).map(case).collect()
}

/// Returns manifests that exceed a limit by one.
fn too_many() -> [RejectedManifest; 5] {
    let files: Value = (0..1_001).map(|n| file(&format!("f{n}"))).collect();
    let golden: Value = (0..101)
        .map(|_| json!({"inputs": [], "outputs": [tensor("y")]}))
        .collect();
    let version = |n| (format!("v{n}"), json!({"files": [file("model.onnx")]}));
    let versions: Map<_, _> = (0..101).map(version).collect();
    let labels: Map<_, _> = (0..101).map(|n| (format!("l{n}"), json!("7"))).collect();
    [
        RejectedManifest {
            manifest: json!([]),
            error: "the manifest: invalid type: sequence, expected an object",
        },
        RejectedManifest {
            manifest: with("/versions", versions.into()),
            error: "the manifest's versions: there are more than 100 versions; the maximum is 100",
        },
        RejectedManifest {
            manifest: with("/version_labels", labels.into()),
            error: "the manifest's version_labels: there are more than 100 labels; the maximum is 100",
        },
        RejectedManifest {
            manifest: with("/versions/6.1", json!({"model": "f0", "files": files})),
            error: "the manifest's versions.6.1.files: there are 1001 files; the maximum is 1000",
        },
        RejectedManifest {
            manifest: with("/versions/7/golden", golden),
            error: "the manifest's versions.7.golden: there are 101 golden examples; the maximum is 100",
        },
    ]
}

fn rejection(json: &[u8]) -> String {
    Manifest::parse(json).expect_err("it is wrong").to_string()
}

fn named(place: &str) -> String {
    match place {
        "" => "the manifest: ".to_owned(),
        place => format!("the manifest's {place}: "),
    }
}

#[test]
fn an_error_names_the_field_the_value_and_what_is_allowed() {
    for case in by_both().into_iter().chain(by_the_parser_alone()) {
        let error = rejection(case.manifest.to_string().as_bytes());
        assert!(
            error.starts_with(case.error),
            "{error}\nand not\n{}",
            case.error
        );
    }
}

#[test]
fn syntax_errors_name_their_field() {
    let text = whole().to_string();
    let file = r#""path":"data/weights.bin""#;
    for (json, place, words) in [
        (
            text.replace(file, &format!("{file},{file}")),
            "versions.7.files[1]",
            "duplicate field `path`",
        ),
        (
            text.replacen(r#""7":{"#, r#""6.1":{"#, 1),
            "versions",
            "version \"6.1\" is defined twice",
        ),
        (
            text.replacen(r#""current":"7""#, r#""current":"7","current":"6.1""#, 1),
            "",
            "duplicate field `current`",
        ),
        (
            text.replace(r#""latest":"7""#, r#""stable":"7""#),
            "version_labels",
            "label \"stable\" is defined twice",
        ),
        (
            text.replace(r#""relative":0.25"#, r#""relative":NaN"#),
            "versions.7.golden[0].tolerance.relative",
            "expected value",
        ),
        (
            text.replace(r#""relative":0.25"#, r#""relative":1e999"#),
            "versions.7.golden[0].tolerance.relative",
            "number out of range",
        ),
        (
            text.replace(r#""relative":0.25"#, r#""relative":0.25,"#),
            "versions.7.golden[0].tolerance",
            "trailing comma",
        ),
        (
            text[..text.find("weights").unwrap()].to_owned(),
            "versions.7.files[1].path",
            "the text ends early",
        ),
        (format!("{text} {{}}"), "", "trailing characters"),
        ("null".to_owned(), "", "expected an object"),
        ("model".to_owned(), "", "expected value"),
    ] {
        assert_ne!(json, text, "{words}");
        let error = rejection(json.as_bytes());
        assert!(error.starts_with(&named(place)), "{place}: {error}");
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn other_kinds_of_files_are_recognized() {
    let text = whole().to_string();
    let utf16 =
        |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let marked = |mark: &[u8], text: Vec<u8>| [mark, &text].concat();
    for (bytes, words) in [
        (vec![], "it is empty"),
        (b" \n".to_vec(), "it is empty"),
        (
            marked(b"\xEF\xBB\xBF", text.clone().into_bytes()),
            "byte order mark",
        ),
        (utf16(u16::to_le_bytes), "UTF-16"),
        (utf16(u16::to_be_bytes), "UTF-16"),
        (marked(b"\xFF\xFE", utf16(u16::to_le_bytes)), "UTF-16"),
        (marked(b"\xFE\xFF", utf16(u16::to_be_bytes)), "UTF-16"),
        (b"\n<!DOCTYPE html><html>".to_vec(), "HTML"),
        (b"\x1F\x8B\x08\0".to_vec(), "gzip"),
        (b"\x28\xB5\x2F\xFD\x04".to_vec(), "Zstandard"),
        (
            b"{\"format\": \"\xFF\"}".to_vec(),
            "byte 12 is 0xFF, which is not UTF-8",
        ),
    ] {
        let error = rejection(&bytes);
        assert!(
            error.starts_with("the manifest is not JSON text: "),
            "{error}"
        );
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_mebibyte_is_the_maximum() {
    let mut text = whole().to_string().into_bytes();
    text.resize(MAX_BYTES, b' ');
    assert!(Manifest::parse(&text).is_ok());
    text.push(b' ');
    assert_eq!(
        rejection(&text),
        "the manifest has 1048577 bytes; the maximum is 1048576"
    );
}

#[test]
fn an_error_is_always_one_short_line() {
    let long = format!("a\n\u{1b}[31m{}", "y".repeat(100_000));
    for manifest in [
        with("/current", long.clone().into()),
        with("/versions/7/files/0/size", long.clone().into()),
        with(&format!("/versions/{long}"), json!({})),
        with(&format!("/{long}"), json!({})),
        with("/versions/7/model", long.clone().into()),
        with("/versions/7/files/0/path", long.clone().into()),
    ] {
        let error = rejection(manifest.to_string().as_bytes());
        assert!(error.chars().count() < 1_500, "{} characters", error.len());
        assert!(!error.contains(char::is_control), "{error}");
    }
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = "[".repeat(500_000);
    let closed = format!("{deep}{}", "]".repeat(500_000));
    for data in [&deep, &closed] {
        let text = whole().to_string().replace("[[0.5],[null]]", data);
        let text = &text[..text.len().min(MAX_BYTES)];
        rejection(text.as_bytes());
        rejection(format!("{{\"x\":{data}}}").as_bytes());
        rejection(data.as_bytes());
    }
    let nested = format!("{}1{}", "[".repeat(400), "]".repeat(400));
    let text = whole().to_string().replacen("[[0.5],[null]]", &nested, 1);
    let error = rejection(text.as_bytes());
    assert!(
        error.contains("golden[0].inputs[0].data: recursion limit"),
        "{error}"
    );
}

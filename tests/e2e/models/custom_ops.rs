//! Operators beside ONNX Runtime's own: those of the `PyPI` package onnxruntime-extensions, a tokenizer among them.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Alone, model, s3_with};

const MODEL: &str = "custom-ops/tokenizer.onnx";

/// What `make custom-ops` leaves.
fn library() -> String {
    let library = lab::artifacts::workspace().join("target/custom-ops/libortextensions.so");
    assert!(library.is_file(), "run `make custom-ops`");
    library.to_str().unwrap().to_owned()
}

/// A text, and what the operators make of it in Python.
#[derive(Deserialize)]
struct Case {
    text: String,
    outputs: Value,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tokenizer_inside_the_model_gives_what_it_gives_in_python() {
    let s3 = s3_with(MODEL).await;
    let alone = Alone::ready(&s3, &[("MODEL_CUSTOM_OPS", &library())]).await;
    let cases: Vec<Case> = serde_json::from_slice(&model("custom-ops/tokenizer.json")).unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let request = json!({ "features": [case.text] });
        let answer = alone.client().post("/predict", &request).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer: Value = answer.json().unwrap();
        assert_eq!(answer["prediction"], json!([case.outputs]), "{}", case.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_library_the_model_is_refused_with_the_operator_that_is_missing() {
    let s3 = s3_with(MODEL).await;
    let alone = Alone::start(&s3, &[]);
    let line = alone
        .process
        .wait_for("cannot load the model")
        .await
        .unwrap();
    assert!(line.contains("ai.onnx.contrib"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_that_cannot_be_used_is_told_at_the_start() {
    let s3 = s3_with("wine-v1.onnx").await;
    // A library, but not of operators; and no library.
    let stubs = lab::artifacts::workspace().join("target/custom-ops/libpython.so");
    let text = lab::artifacts::workspace().join("README.md");
    for (file, reason) in [(stubs, "RegisterCustomOps"), (text, "invalid ELF header")] {
        let file = file.to_str().unwrap();
        let list = format!("{}:{file}", library());
        let variables = [
            ("MODEL_CUSTOM_OPS", list.as_str()),
            ("MODEL_REQUIRED", "true"),
        ];
        let alone = Alone::start(&s3, &variables);
        assert_eq!(alone.process.wait().await.unwrap().code(), Some(1));
        let log = alone.process.log().text();
        let words = format!("cannot load the operators of {file} (MODEL_CUSTOM_OPS): ");
        let told = log.split(&words).nth(1).unwrap_or_else(|| panic!("{log}"));
        assert!(told.lines().next().unwrap().contains(reason), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_a_wrong_configuration() {
    let s3 = s3_with("wine-v1.onnx").await;
    for (value, words) in [
        ("ops.so", "\"ops.so\" is none"),
        ("/opt/no-such.so", "there is no file \"/opt/no-such.so\""),
    ] {
        let alone = Alone::start(&s3, &[("MODEL_CUSTOM_OPS", value)]);
        assert_eq!(alone.process.wait().await.unwrap().code(), Some(64));
        let log = alone.process.log().text();
        let start =
            format!("MODEL_CUSTOM_OPS={value:?} is not allowed: expected absolute paths of files");
        assert!(log.contains(&start) && log.contains(words), "{log}");
    }
}

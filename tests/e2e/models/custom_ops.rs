//! Custom operators, with the tokenizer of the `PyPI` package onnxruntime-extensions.

use std::path::Path;

use lab::lambda::Function;
use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::support::operators::{Text, answers_a_text_and_a_photo, texts};
use crate::support::{Alone, on_platform, s3_with};

const MODEL: &str = "custom-ops/tokenizer.onnx";

/// Path of the library that `make custom-ops` builds.
fn library() -> String {
    let library = lab::artifacts::workspace().join("target/custom-ops/libortextensions.so");
    assert!(library.is_file(), "run `make custom-ops`");
    library.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tokenizer_has_the_outputs_of_python() {
    let s3 = s3_with(MODEL).await;
    let alone = Alone::ready(&s3, &[("MODEL_CUSTOM_OPS", &library())]).await;
    for Text { text, outputs } in texts() {
        let request = json!({ "features": [text] });
        let answer = alone.client().post("/predict", &request).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer: Value = answer.json().unwrap();
        assert_eq!(answer["prediction"], json!([outputs]), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_layer_adds_the_operators_of_a_text_and_a_photo() {
    let s3 = S3Server::start().await.unwrap();
    // Lambda merges the layers of a function in /opt. Hard links need a folder in the same file system.
    let layer = lab::artifacts::layer().unwrap();
    let merged = tempfile::tempdir_in(layer.parent().unwrap()).unwrap();
    let link = |from: &Path, to: &str| {
        let to = merged.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::hard_link(from, to).unwrap();
    };
    for file in [
        "extensions/model-sidecar",
        "model-sidecar/lib/libonnxruntime.so.1.28.0",
    ] {
        link(&layer.join(file), file);
    }
    for file in std::fs::read_dir(Path::new(&library()).parent().unwrap()).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        link(&file.path(), &format!("model-sidecar/operators/{name}"));
    }
    let function = Function::of(merged.path(), lab::artifacts::function().unwrap());
    answers_a_text_and_a_photo(&s3, on_platform(function, &s3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_library_the_error_names_the_operator() {
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
async fn an_invalid_library_is_an_error_at_the_start() {
    let s3 = s3_with("wine-v1.onnx").await;
    // A library without operators, and a text file.
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
async fn a_missing_file_is_a_configuration_error() {
    let s3 = S3Server::start().await.unwrap();
    for (value, words) in [
        ("ops.so", "\"ops.so\" is not absolute"),
        (
            "/opt/no-such.so",
            "the file \"/opt/no-such.so\" does not exist",
        ),
    ] {
        let alone = Alone::start(&s3, &[("MODEL_CUSTOM_OPS", value)]);
        assert_eq!(alone.process.wait().await.unwrap().code(), Some(64));
        let log = alone.process.log().text();
        let start =
            format!("MODEL_CUSTOM_OPS={value:?} is not allowed: expected absolute paths of files");
        assert!(log.contains(&start) && log.contains(words), "{log}");
    }
}

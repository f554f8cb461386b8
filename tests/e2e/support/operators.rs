//! Models with operators of the `PyPI` package onnxruntime-extensions, and their outputs in Python.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lab::lambda::{Builder, Function};
use lab::reference::{distance, numbers};
use lab::s3::S3Server;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{BUCKET, http_event, model};

/// Path of the library in a function with the layer of operators.
const LIBRARY: &str = "/opt/model-sidecar/operators/libortextensions.so";

/// A text, and the outputs of the tokenizer.
#[derive(Deserialize)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) outputs: Value,
}

/// Outputs for the bytes of `photo.jpg`.
#[derive(Deserialize)]
struct Photo {
    size: Vec<i64>,
    mean: Vec<f64>,
}

/// Reads the texts.
pub(crate) fn texts() -> Vec<Text> {
    let texts: Vec<Text> = serde_json::from_slice(&model("custom-ops/tokenizer.json")).unwrap();
    assert!(!texts.is_empty());
    texts
}

/// Asserts that a function with the layer of operators answers plain texts and a JPEG as Python does.
pub(crate) async fn answers_a_text_and_a_photo(s3: &S3Server, function: Builder) {
    s3.put(BUCKET, "text", model("custom-ops/tokenizer.onnx"));
    s3.put(BUCKET, "photo", model("custom-ops/image.onnx"));
    let models = ["text", "photo"].map(|name| format!("{name}=s3://{BUCKET}/{name}"));
    let function = function
        .env("MODEL_URI", "")
        .env("MODEL_NAME", "")
        .env("MODELS", models.join(","))
        .env("MODEL_CUSTOM_OPS", LIBRARY);
    let function = function.start().await.unwrap();
    for Text { text, outputs } in texts() {
        let event = json!({ "model": "text", "features": [text] });
        let answer = function.answer(&event).await.unwrap();
        assert_eq!(answer["prediction"], json!([outputs]), "{text}");
    }
    photo(&function).await;
}

/// Sends the file as it is, as a function URL passes it on.
async fn photo(function: &Function) {
    let mut event = http_event("POST", "/v2/models/photo/infer", &Value::Null);
    event["headers"]["content-type"] = "image/jpeg".into();
    event["headers"]["inference-header-content-length"] = "0".into();
    event["body"] = BASE64_STANDARD.encode(model("custom-ops/photo.jpg")).into();
    event["isBase64Encoded"] = true.into();
    let reply = function.answer(&event).await.unwrap();
    assert_eq!(reply["statusCode"], 200, "{reply}");

    let body = BASE64_STANDARD.decode(reply["body"].as_str().unwrap());
    let body = body.unwrap();
    let header = &reply["headers"]["inference-header-content-length"];
    let json: usize = header.as_str().unwrap().parse().unwrap();
    let (size, mean) = body[json..].split_at(3 * size_of::<i64>());
    let size = size.as_chunks().0.iter().copied().map(i64::from_le_bytes);
    let mean = mean.as_chunks().0.iter().copied().map(f32::from_le_bytes);
    let expected: Photo = serde_json::from_slice(&model("custom-ops/image.json")).unwrap();
    assert_eq!(size.collect::<Vec<_>>(), expected.size);
    let mean = numbers(&mean.collect::<Value>());
    assert_eq!(distance(&mean, &expected.mean), None);
}

//! A model that is a file: mounted, in the function or in another layer.

use std::path::Path;

use serde_json::Value;

use crate::reference::WINE;
use crate::support::{Alone, model, s3_with};

/// Puts a model in place as a copying tool does: beside it, and then under its name.
fn put(path: &Path, file: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, model(file)).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[tokio::test]
async fn a_file_is_served_and_followed_without_s3() {
    let mut s3 = s3_with("wine-v1.onnx").await;
    s3.down().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wine.onnx");
    put(&path, "wine-v1.onnx");
    let uri = format!("file://{}", path.display());
    let settings = [
        ("MODEL_URI", uri.as_str()),
        ("MODEL_REFRESH_INTERVAL", "100ms"),
    ];
    let alone = Alone::ready(&s3, &settings).await;
    let answer: Value = alone.predict(9).await.json().unwrap();
    WINE.v1.check(&answer, 0..9);

    put(&path, "wine-v2.onnx");
    let swapped = "another version answers from now on";
    alone.process.wait_for(swapped).await.unwrap();
    let answer: Value = alone.predict(9).await.json().unwrap();
    WINE.v2.check(&answer, 0..9);

    // Truncated in place, as a mapped file must not be: the model that answers is a copy.
    std::fs::File::create(&path).unwrap();
    let stays = "the version that answers stays";
    alone.process.wait_for(stays).await.unwrap();
    let answer: Value = alone.predict(9).await.json().unwrap();
    WINE.v2.check(&answer, 0..9);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let s3 = s3_with("wine-v1.onnx").await;
    let settings = [("MODEL_URI", "file:///nowhere/wine.onnx")];
    let alone = Alone::start(&s3, &settings);
    let line = alone.process.wait_for("nothing is loaded").await.unwrap();
    assert!(line.contains("file:///nowhere/wine.onnx"), "{line}");
    assert!(line.contains("there is no such file"), "{line}");
}

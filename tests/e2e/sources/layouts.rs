//! Layouts of a source: manifest, repository, compressed object, model with external data.

use std::path::Path;

use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::support::layout::{BUCKET, answer, manifest, serve, swap_after};
use crate::support::{Alone, model};
use lab::reference::WINE;

#[tokio::test]
async fn an_invalid_manifest_keeps_the_active_version() {
    let s3 = S3Server::start().await.unwrap();
    let versions = [("1", "wine-v1.onnx"), ("2", "wine-v2.onnx")];
    for (name, file) in versions {
        s3.put(BUCKET, &format!("wine/{name}/model.onnx"), model(file));
    }
    let publish = |bytes| s3.put(BUCKET, "wine/manifest.json", bytes);
    publish(manifest("1", &versions));
    let alone = serve(&s3, "s3://forms/wine/manifest.json", &[]).await;
    WINE.v1.check(&answer(&alone).await, 0..9);
    swap_after(&alone, || publish(manifest("2", &versions))).await;
    WINE.v2.check(&answer(&alone).await, 0..9);
    swap_after(&alone, || publish(manifest("1", &versions))).await;
    WINE.v1.check(&answer(&alone).await, 0..9);

    publish(b"{\"format\": \"model-sidecar/1\", \"curent\": \"2\"}".to_vec());
    let line = alone.process.wait_for("curent").await.unwrap();
    assert!(line.contains("s3://forms/wine/manifest.json"), "{line}");
    WINE.v1.check(&answer(&alone).await, 0..9);
}

#[tokio::test]
async fn the_highest_folder_of_a_repository_is_served() {
    let s3 = S3Server::start().await.unwrap();
    s3.put(
        BUCKET,
        "repository/wine/9/model.onnx",
        model("wine-v1.onnx"),
    );
    s3.put(BUCKET, "repository/other/99/model.onnx", "no model");
    let name = [("MODEL_NAME", "wine")];
    let alone = serve(&s3, "s3://forms/repository/", &name).await;
    WINE.v1.check(&answer(&alone).await, 0..9);
    let ten = "repository/wine/10/model.onnx";
    swap_after(&alone, || s3.put(BUCKET, ten, model("wine-v2.onnx"))).await;
    WINE.v2.check(&answer(&alone).await, 0..9);
}

#[tokio::test]
async fn a_compressed_model_is_served_and_reloaded() {
    let s3 = S3Server::start().await.unwrap();
    let put = |file| {
        let plain = model(file);
        let mut packed = vec![0; zstd_safe::compress_bound(plain.len())];
        let length = zstd_safe::compress(&mut packed[..], &plain, 3).unwrap();
        packed.truncate(length);
        s3.put(BUCKET, "wine.onnx.zst", packed);
    };
    put("wine-v1.onnx");
    let alone = serve(&s3, "s3://forms/wine.onnx.zst", &[]).await;
    WINE.v1.check(&answer(&alone).await, 0..9);
    swap_after(&alone, || put("wine-v2.onnx")).await;
    WINE.v2.check(&answer(&alone).await, 0..9);
}

/// File of a model in `tests/models/external`.
fn external(file: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/external");
    std::fs::read(folder.join(file)).unwrap()
}

#[tokio::test]
async fn a_change_of_the_weights_is_a_new_version() {
    let s3 = S3Server::start().await.unwrap();
    for file in ["one-file.onnx", "one.bin"] {
        s3.put(BUCKET, &format!("sum/{file}"), external(file));
    }
    let alone = serve(&s3, "s3://forms/sum/one-file.onnx", &[]).await;
    let before = sum(&alone).await;
    let mut weights = external("one.bin");
    let last = weights.len() - 4;
    weights[last..].copy_from_slice(&1000_f32.to_le_bytes());
    swap_after(&alone, || s3.put(BUCKET, "sum/one.bin", weights)).await;
    assert_ne!(sum(&alone).await, before);
    s3.delete(BUCKET, "sum/one.bin");
    let line = alone
        .process
        .wait_for("there is no object sum/one.bin")
        .await
        .unwrap();
    assert!(line.contains("keeping the active version"), "{line}");
}

/// Output for four ones.
async fn sum(alone: &Alone) -> Value {
    let input =
        json!({"inputs": [{"name": "x", "shape": [4], "datatype": "FP32", "data": [1, 1, 1, 1]}]});
    let path = "/v2/models/wine/infer";
    let answer = alone.client().post(path, &input).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer: Value = answer.json().unwrap();
    answer["outputs"][0]["data"].clone()
}

//! Models at `file://`: on a mounted file system, in the function or in another layer.

use std::path::Path;

use lab::s3::S3Server;
use model_sidecar::ids::Digest;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::{Alone, model};
use lab::reference::WINE;

/// Replaces a file atomically, by a rename.
fn put(path: &Path, file: &str) {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, model(file)).unwrap();
    std::fs::rename(temporary, path).unwrap();
}

/// SHA-256 of a model.
fn digest(file: &str) -> Digest {
    Digest::of(Sha256::new().chain_update(model(file)))
}

#[tokio::test]
async fn a_file_is_served_and_reloaded_without_s3() {
    let mut s3 = S3Server::start().await.unwrap();
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
    let swapped = "a new version is active";
    alone.process.wait_for(swapped).await.unwrap();
    let answer: Value = alone.predict(9).await.json().unwrap();
    WINE.v2.check(&answer, 0..9);

    // Truncating the file in place would break a memory-mapped model: the active version uses a copy.
    std::fs::File::create(&path).unwrap();
    let stays = "keeping the active version";
    alone.process.wait_for(stays).await.unwrap();
    let answer: Value = alone.predict(9).await.json().unwrap();
    WINE.v2.check(&answer, 0..9);
}

#[tokio::test]
async fn a_file_named_by_its_digest_is_not_copied() {
    let s3 = S3Server::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let name = format!("{}.onnx", digest("wine-v1.onnx"));
    let path = folder.path().join(&name);
    put(&path, "wine-v1.onnx");
    let uri = format!("file://{}", path.display());
    let alone = Alone::ready(&s3, &[("MODEL_URI", &uri)]).await;
    let answer: Value = alone.predict(9).await.json().unwrap();
    WINE.v1.check(&answer, 0..9);
    let kept = alone.cache().join("files").join(&name);
    assert_eq!(std::fs::read_link(kept).unwrap(), path);

    // A file whose bytes do not match the digest in its name is copied like any other.
    drop(alone);
    put(&path, "wine-v2.onnx");
    let alone = Alone::ready(&s3, &[("MODEL_URI", &uri)]).await;
    let answer: Value = alone.predict(9).await.json().unwrap();
    WINE.v2.check(&answer, 0..9);
    let copy = format!("{}.onnx", digest("wine-v2.onnx"));
    let kept = alone.cache().join("files").join(copy);
    assert!(kept.symlink_metadata().unwrap().is_file());
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let s3 = S3Server::start().await.unwrap();
    let settings = [("MODEL_URI", "file:///nowhere/wine.onnx")];
    let alone = Alone::start(&s3, &settings);
    let line = alone
        .process
        .wait_for("no version is loaded")
        .await
        .unwrap();
    assert!(line.contains("file:///nowhere/wine.onnx"), "{line}");
    assert!(line.contains("there is no such file"), "{line}");
}

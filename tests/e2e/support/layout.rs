//! Manifests, and sidecars for models in a bucket with its own layout.

use lab::s3::S3Server;
use model_sidecar::ids::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Alone, model};

/// Bucket of the tests with a layout of their own.
pub(crate) const BUCKET: &str = "forms";

/// Starts a sidecar for a model of this bucket, which polls every 100 ms.
pub(crate) async fn serve(s3: &S3Server, uri: &str, more: &[(&str, &str)]) -> Alone {
    let settings = [("MODEL_URI", uri), ("MODEL_REFRESH_INTERVAL", "100ms")];
    Alone::ready(s3, &[&settings[..], more].concat()).await
}

/// Response to the first rows.
pub(crate) async fn answer(alone: &Alone) -> Value {
    alone.predict(9).await.json().unwrap()
}

/// Changes the source, and waits for the swap.
pub(crate) async fn swap_after<T>(alone: &Alone, change: impl FnOnce() -> T) {
    let swapped = "a new version is active";
    let log = alone.process.log();
    let mark = log.mark();
    change();
    let is_it = |line: &str| line.contains(swapped);
    log.wait_for_line_after(mark, swapped, is_it).await.unwrap();
}

/// Manifest of these versions, each with one file of `tests/models`.
pub(crate) fn manifest(current: &str, versions: &[(&str, &str)]) -> Vec<u8> {
    let versions = versions.iter().map(|(name, file)| {
        let bytes = model(file);
        let digest = Digest::of(Sha256::new().chain_update(&bytes));
        let file = json!({"path": "model.onnx", "size": bytes.len(), "sha256": digest.as_str()});
        ((*name).to_owned(), json!({"files": [file]}))
    });
    let manifest = json!({
        "format": "model-sidecar/1",
        "current": current,
        "versions": versions.collect::<Value>(),
    });
    manifest.to_string().into_bytes()
}

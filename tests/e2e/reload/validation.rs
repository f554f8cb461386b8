//! Validation of candidate versions: signature and golden examples.

use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::support::layout::{BUCKET, answer, manifest, serve, swap_after};
use crate::support::{Alone, model};
use lab::reference::WINE;

const MANIFEST: &str = "s3://forms/wine/manifest.json";
const VERSIONS: [(&str, &str); 2] = [("1", "wine-v1.onnx"), ("2", "wine-v2.onnx")];

/// Starts an S3 server with the files of these versions.
async fn s3_with(versions: &[(&str, &str)]) -> S3Server {
    let s3 = S3Server::start().await.unwrap();
    for (name, file) in versions {
        s3.put(BUCKET, &format!("wine/{name}/model.onnx"), model(file));
    }
    s3
}

fn publish(s3: &S3Server, manifest: &Value) {
    s3.put(BUCKET, "wine/manifest.json", manifest.to_string());
}

/// Manifest of these versions.
fn plain(current: &str, versions: &[(&str, &str)]) -> Value {
    serde_json::from_slice(&manifest(current, versions)).unwrap()
}

/// Manifest of these versions with an additional field in one of them.
fn with(current: &str, versions: &[(&str, &str)], version: &str, field: (&str, &Value)) -> Value {
    let mut manifest = plain(current, versions);
    manifest["versions"][version][field.0] = field.1.clone();
    manifest
}

/// Golden example from the active version's outputs for ten rows.
async fn golden(alone: &Alone) -> Value {
    let rows = &WINE.rows[80..90];
    let inputs = json!([{"name": "X", "shape": [10, 13], "datatype": "FP32", "data": rows}]);
    let request = json!({ "inputs": inputs });
    let answer = alone
        .client()
        .post("/v2/models/wine/infer", &request)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut answer: Value = answer.json().unwrap();
    for output in answer["outputs"].as_array_mut().unwrap() {
        output.as_object_mut().unwrap().remove("parameters");
    }
    json!([{"inputs": inputs, "outputs": answer["outputs"]}])
}

/// Signature for a manifest, from `GET /v2/models/wine`.
async fn signature(alone: &Alone) -> Value {
    let metadata = alone.client().get("/v2/models/wine").await.unwrap();
    let metadata: Value = metadata.json().unwrap();
    json!({"inputs": metadata["inputs"], "outputs": metadata["outputs"]})
}

/// Problem in the readiness response of a model with an active version.
async fn problem(alone: &Alone) -> String {
    let ready = alone.client().get("/v2/models/wine/ready").await.unwrap();
    assert_eq!(ready.status, 200, "{}", ready.text());
    let ready: Value = ready.json().unwrap();
    ready["parameters"]["problem"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Waits until the candidate is rejected for this reason; asserts that the previous version serves.
async fn rejected(alone: &Alone, reason: &str) {
    let line = alone.process.wait_for(reason).await.unwrap();
    assert!(
        line.contains("WARN") && line.contains("keeping the active version"),
        "{line}"
    );
    let told = async {
        while !problem(alone).await.contains(reason) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, told).await.unwrap();
    WINE.v1.check(&answer(alone).await, 0..9);
}

#[tokio::test]
async fn a_failed_golden_example_keeps_the_active_version() {
    let s3 = s3_with(&VERSIONS).await;
    publish(&s3, &plain("1", &VERSIONS));
    let alone = serve(&s3, MANIFEST, &[]).await;
    let first = golden(&alone).await;
    publish(&s3, &with("2", &VERSIONS, "2", ("golden", &first)));
    rejected(&alone, "golden[0] is not met: output \"output_").await;
    let loads = |alone: &Alone| {
        let lines = alone.process.log().lines();
        lines
            .iter()
            .filter(|line| line.contains("golden[0] is not met"))
            .count()
    };
    assert_eq!(loads(&alone), 1, "logged once");
    // Without the example the version is valid, and meets an example of its own outputs.
    swap_after(&alone, || publish(&s3, &plain("2", &VERSIONS))).await;
    WINE.v2.check(&answer(&alone).await, 0..9);
    assert_eq!(problem(&alone).await, "");
    let second = golden(&alone).await;
    publish(&s3, &with("2", &VERSIONS, "2", ("golden", &second)));
    let again = serve(&s3, MANIFEST, &[]).await;
    let ready = again.process.wait_for(" ready ").await.unwrap();
    assert!(ready.contains("warm_up_ms="), "{ready}");
    WINE.v2.check(&answer(&again).await, 0..9);
}

#[tokio::test]
async fn a_failed_golden_example_at_a_cold_start_falls_back_to_the_previous_version() {
    let s3 = s3_with(&VERSIONS).await;
    publish(&s3, &plain("1", &VERSIONS));
    let first = golden(&serve(&s3, MANIFEST, &[]).await).await;
    let mut bad = with("2", &VERSIONS, "2", ("golden", &first));
    bad["versions"]["1"]["golden"] = first;
    bad["previous"] = "1".into();
    publish(&s3, &bad);
    let alone = serve(&s3, MANIFEST, &[]).await;
    WINE.v1.check(&answer(&alone).await, 0..9);
    let reason = "golden[0] is not met: output \"output_";
    assert!(problem(&alone).await.contains(reason));
    assert!(alone.process.log().text().contains(reason));
}

#[tokio::test]
async fn a_changed_signature_is_rejected() {
    let s3 = S3Server::start().await.unwrap();
    let put = |file| s3.put(BUCKET, "wine.onnx", model(file));
    put("wine-v1.onnx");
    let alone = serve(&s3, "s3://forms/wine.onnx", &[]).await;
    for (file, reason) in [
        (
            "add-two-inputs.onnx",
            "input \"X\" is missing, expected FP32 [-1, 13]",
        ),
        (
            "wine-names.onnx",
            "output \"output_label\" is BYTES [-1], expected INT64 [-1]",
        ),
    ] {
        put(file);
        rejected(&alone, reason).await;
    }
    assert!(
        problem(&alone)
            .await
            .contains("declare the new `signature` in the manifest")
    );
    swap_after(&alone, || put("wine-v2.onnx")).await;
    WINE.v2.check(&answer(&alone).await, 0..9);
}

#[tokio::test]
async fn a_changed_signature_that_the_manifest_declares_is_valid() {
    let versions = [VERSIONS[0], ("2", "wine-names.onnx")];
    let s3 = s3_with(&versions).await;
    publish(&s3, &plain("2", &versions));
    let names = signature(&serve(&s3, MANIFEST, &[]).await).await;
    publish(&s3, &plain("1", &versions));
    let alone = serve(&s3, MANIFEST, &[]).await;
    publish(&s3, &plain("2", &versions));
    rejected(
        &alone,
        "output \"output_label\" is BYTES [-1], expected INT64 [-1]",
    )
    .await;
    let mut wrong = names.clone();
    wrong["inputs"][0]["name"] = "features".into();
    publish(&s3, &with("2", &versions, "2", ("signature", &wrong)));
    rejected(
        &alone,
        "differs from the manifest's `signature`: input \"features\" is missing",
    )
    .await;
    let declared = with("2", &versions, "2", ("signature", &names));
    swap_after(&alone, || publish(&s3, &declared)).await;
    WINE.names.check(&answer(&alone).await, 0..9);
    assert_eq!(problem(&alone).await, "");
}

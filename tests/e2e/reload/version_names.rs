//! Public names of versions, labels, and renames of unchanged content.

use std::sync::atomic::{AtomicBool, Ordering};

use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::support::layout::{BUCKET, manifest, serve, swap_after};
use crate::support::{Alone, error, features, model};
use lab::reference::WINE;

const ONE: (&str, &str) = ("2026-11-a", "wine-v1.onnx");
const TWO: (&str, &str) = ("2", "wine-v2.onnx");
/// Content of [`ONE`] under another name.
const AGAIN: (&str, &str) = ("7", "wine-v1.onnx");
const RENAMED: &str = "the active version has a new name";
const SWAPPED: &str = "a new version is active";

/// Starts an S3 server with all versions and their manifest.
async fn s3(current: &str, labels: &Value) -> S3Server {
    let s3 = S3Server::start().await.unwrap();
    for (name, file) in [ONE, TWO, AGAIN] {
        s3.put(BUCKET, &format!("wine/{name}/model.onnx"), model(file));
    }
    publish(&s3, current, labels);
    s3
}

fn publish(s3: &S3Server, current: &str, labels: &Value) {
    let mut text: Value = serde_json::from_slice(&manifest(current, &[ONE, TWO, AGAIN])).unwrap();
    text["version_labels"] = labels.clone();
    s3.put(BUCKET, "wine/manifest.json", text.to_string());
}

async fn get(alone: &Alone, path: &str) -> (u16, Value) {
    let answer = alone.client().get(path).await.unwrap();
    (answer.status.as_u16(), answer.json().unwrap())
}

async fn predict(alone: &Alone, target: &str) -> (u16, Value) {
    let path = format!("/v1/models/wine/{target}:predict");
    let rows = json!({ "instances": WINE.rows[..2] });
    let answer = alone.client().post(&path, &rows).await.unwrap();
    (answer.status.as_u16(), answer.json().unwrap())
}

/// Asserts a 404 response that names the requested and the active version.
fn assert_names((status, answer): &(u16, Value), asked: &str, active: &str) {
    assert_eq!(*status, 404, "{answer}");
    for name in [asked, active] {
        let quoted = format!("{name:?}");
        assert!(error(answer).contains(&quoted), "{quoted}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_the_manifest_is_used_in_paths_and_responses() {
    let s3 = s3("2026-11-a", &json!({})).await;
    let alone = serve(&s3, "s3://forms/wine/manifest.json", &[]).await;
    let answer = alone.predict(1).await;
    assert_eq!(answer.header("x-model-version"), Some("2026-11-a"));
    assert_eq!(answer.json().unwrap()["model_version"], "2026-11-a");
    // In every path, percent-encoded or not.
    for name in ["2026-11-a", "2026%2d11%2Da"] {
        for path in [
            format!("/v2/models/wine/versions/{name}"),
            format!("/v2/models/wine/versions/{name}/ready"),
            format!("/v2/models/wine/versions/{name}/config"),
            format!("/v2/models/wine/versions/{name}/stats"),
            format!("/v1/models/wine/versions/{name}"),
            format!("/v1/models/wine/versions/{name}/metadata"),
        ] {
            assert_eq!(get(&alone, &path).await.0, 200, "{path}");
        }
        let infer = predict(&alone, &format!("versions/{name}")).await;
        assert_eq!(infer.0, 200, "{}", infer.1);
    }
    let (_, status) = get(&alone, "/v1/models/wine").await;
    assert_eq!(status["model_version_status"][0]["version"], "2026-11-a");
    for path in [
        "/v2/models/wine/versions/2",
        "/v2/models/wine/versions/2/stats",
        "/v1/models/wine/versions/2",
    ] {
        assert_names(&get(&alone, path).await, "2", "2026-11-a");
    }
    assert_names(&predict(&alone, "versions/2").await, "2", "2026-11-a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_resolves_while_it_names_the_active_version() {
    let labels = json!({"stable": "2026-11-a", "beta": "2"});
    let s3 = s3("2026-11-a", &labels).await;
    let alone = serve(&s3, "s3://forms/wine/manifest.json", &[]).await;
    let plain = predict(&alone, "versions/2026-11-a").await;
    assert_eq!(predict(&alone, "labels/stable").await, plain);
    let (status, answer) = get(&alone, "/v1/models/wine/labels/stable").await;
    let version = &answer["model_version_status"][0]["version"];
    assert_eq!((status, version), (200, &json!("2026-11-a")));
    let (status, answer) = get(&alone, "/v1/models/wine/labels/stable/metadata").await;
    let version = &answer["model_spec"]["version"];
    assert_eq!((status, version), (200, &json!("2026-11-a")));

    let beta = predict(&alone, "labels/beta").await;
    assert_names(&beta, "beta", "2026-11-a");
    assert_names(&beta, "2", "2026-11-a");
    for path in ["labels/alpha", "labels/beta", "labels/beta/metadata"] {
        let answer = get(&alone, &format!("/v1/models/wine/{path}")).await;
        let label = path.split('/').nth(1).unwrap();
        assert_names(&answer, label, "2026-11-a");
    }

    // The label is available throughout a release that moves it together with the version.
    let log = alone.process.log();
    let mark = log.mark();
    publish(&s3, "2", &json!({"stable": "2"}));
    let release = log.wait_for_line_after(mark, SWAPPED, |line| line.contains(SWAPPED));
    let released = AtomicBool::new(false);
    let callers = async {
        while !released.load(Ordering::SeqCst) {
            let (status, answer) = predict(&alone, "labels/stable").await;
            assert_eq!(status, 200, "{answer}");
        }
    };
    let release = async {
        release.await.unwrap();
        released.store(true, Ordering::SeqCst);
    };
    tokio::join!(callers, release);
    let (status, answer) = predict(&alone, "labels/stable").await;
    assert_eq!(status, 200, "{answer}");
    assert_names(&predict(&alone, "labels/beta").await, "beta", "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_content_is_renamed_without_a_load() {
    let s3 = s3("2026-11-a", &json!({})).await;
    let alone = serve(&s3, "s3://forms/wine/manifest.json", &[]).await;
    let before = alone.predict(1).await;
    let digest = before.header("x-model-digest").unwrap().to_owned();
    let log = alone.process.log();
    let mark = log.mark();
    publish(&s3, "7", &json!({}));
    let renamed = AtomicBool::new(false);
    let callers = async {
        while !renamed.load(Ordering::SeqCst) {
            let answer = alone.client().post("/predict", &features(9)).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            let body = answer.json().unwrap();
            WINE.v1.check(&body, 0..9);
            // A response is consistent: body and header name the same version.
            let name = body["model_version"].as_str();
            assert_eq!(answer.header("x-model-version"), name);
            assert!(matches!(name, Some("2026-11-a" | "7")), "{name:?}");
            assert_eq!(answer.header("x-model-digest"), Some(&*digest));
        }
    };
    let rename = async {
        let line = log.wait_for_line_after(mark, RENAMED, |line| line.contains(RENAMED));
        let line = line.await.unwrap();
        for word in ["2026-11-a", "7", &digest] {
            assert!(line.contains(word), "{word}: {line}");
        }
        renamed.store(true, Ordering::SeqCst);
    };
    tokio::join!(callers, rename);

    let answer = alone.predict(1).await;
    assert_eq!(answer.header("x-model-version"), Some("7"));
    let (_, ready) = get(&alone, "/v2/models/wine/versions/7/ready").await;
    assert_eq!(ready["version"], "7");
    assert_eq!(ready["parameters"]["digest"], digest);
    let (_, before) = get(&alone, "/v2/models/wine/versions/2026-11-a/ready").await;
    assert!(error(&before).contains("\"7\""), "{before}");
    // Statistics continue, since the model was not loaded again.
    let (_, stats) = get(&alone, "/v2/models/wine/stats").await;
    let stats = &stats["model_stats"][0];
    assert_eq!(stats["version"], "7");
    assert!(stats["execution_count"].as_u64().unwrap() >= 2, "{stats}");
    assert!(!log.text().contains(SWAPPED), "{}", log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_folder_renames_and_an_overwritten_one_reloads() {
    let s3 = S3Server::start().await.unwrap();
    let put = |folder: &str, file: &str| {
        s3.put(
            BUCKET,
            &format!("repository/wine/{folder}/model.onnx"),
            model(file),
        )
    };
    put("7", "wine-v1.onnx");
    let alone = serve(&s3, "s3://forms/repository/", &[("MODEL_NAME", "wine")]).await;
    let named = async || {
        let answer = alone.predict(1).await;
        let header = |name: &str| answer.header(name).unwrap().to_owned();
        (header("x-model-version"), header("x-model-digest"))
    };
    let first = named().await;
    assert_eq!(first.0, "7");
    put("8", "wine-v1.onnx");
    alone.process.wait_for(RENAMED).await.unwrap();
    assert_eq!(named().await, ("8".to_owned(), first.1.clone()));
    swap_after(&alone, || put("8", "wine-v2.onnx")).await;
    let second = named().await;
    assert_eq!(second.0, "8");
    assert_ne!(second.1, first.1);
}

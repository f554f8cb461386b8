//! Selection of the version: pinned, by label, as a canary; fallback versions at a cold start.

use lab::lambda::{ShutdownReason, State};
use lab::s3::{Rule, S3Server};
use serde_json::{Value, json};

use crate::support::any_s3::{AnyS3, with_every_s3};
use crate::support::download::bucket;
use crate::support::layout::manifest;
use crate::support::{Alone, BUCKET, KEY, Store as _, features, lambda, model, platform};
use lab::reference::WINE;

with_every_s3!(
    a_cold_start_on_a_bad_version_falls_back_to_the_previous_one,
    a_cold_start_after_a_delete_falls_back_to_the_last_version,
    a_pinned_object_version_ignores_overwrites,
);

const MANIFEST: &str = "wine/manifest.json";
const URI: (&str, &str) = ("MODEL_URI", "s3://models/wine/manifest.json");
const OFTEN: (&str, &str) = ("MODEL_REFRESH_INTERVAL", "100ms");
const GOOD: [(&str, &str); 2] = [("1", "wine-v1.onnx"), ("2", "wine-v2.onnx")];

/// Starts an S3 server with these versions and a manifest with version 1 as current and more fields.
async fn published(versions: &[(&str, &str)], more: &Value) -> S3Server {
    let s3 = S3Server::start().await.unwrap();
    for (name, file) in versions {
        s3.put(BUCKET, &format!("wine/{name}/model.onnx"), model(file));
    }
    publish(&s3, versions, more);
    s3
}

/// Uploads the manifest with more fields.
fn publish(s3: &S3Server, versions: &[(&str, &str)], more: &Value) {
    let mut manifest: Value = serde_json::from_slice(&manifest("1", versions)).unwrap();
    for (field, value) in more.as_object().unwrap() {
        manifest[field] = value.clone();
    }
    s3.put(BUCKET, MANIFEST, manifest.to_string());
}

async fn serve(s3: &S3Server, more: &[(&str, &str)]) -> Alone {
    Alone::ready(s3, &[&[URI, OFTEN], more].concat()).await
}

async fn answer(alone: &Alone) -> Value {
    alone.predict(9).await.json().unwrap()
}

/// Publishes a manifest, and waits until the sidecar has selected this version.
async fn publish_for(alone: &Alone, version: &str, publish: impl FnOnce()) {
    let log = alone.process.log();
    let mark = log.mark();
    publish();
    let wanted = format!("selected the manifest's version {version}");
    let is_it = |line: &str| line.contains(&wanted);
    log.wait_for_line_after(mark, &wanted, is_it).await.unwrap();
}

/// Changes the source, and waits for the swap.
async fn swap_after(alone: &Alone, change: impl FnOnce()) {
    let log = alone.process.log();
    let mark = log.mark();
    change();
    let swapped = "a new version is active";
    let is_it = |line: &str| line.contains(swapped);
    log.wait_for_line_after(mark, swapped, is_it).await.unwrap();
}

#[tokio::test]
async fn a_pinned_version_ignores_the_manifest() {
    let s3 = published(&GOOD, &json!({"current": "2"})).await;
    let alone = serve(&s3, &[("MODEL_VERSION", "1")]).await;
    WINE.v1.check(&answer(&alone).await, 0..9);
    let canary = json!({"current": "2", "canary": {"version": "2", "percent": 100}});
    publish_for(&alone, "1", || publish(&s3, &GOOD, &canary)).await;
    WINE.v1.check(&answer(&alone).await, 0..9);
}

#[tokio::test]
async fn labels_are_followed_independently() {
    let labels = |production: &str, staging: &str| json!({"version_labels": {"production": production, "staging": staging}});
    let s3 = published(&GOOD, &labels("1", "1")).await;
    let production = serve(&s3, &[("MODEL_LABEL", "production")]).await;
    let staging = serve(&s3, &[("MODEL_LABEL", "staging")]).await;
    WINE.v1.check(&answer(&production).await, 0..9);
    WINE.v1.check(&answer(&staging).await, 0..9);

    let mark = production.process.log().mark();
    swap_after(&staging, || publish(&s3, &GOOD, &labels("1", "2"))).await;
    WINE.v2.check(&answer(&staging).await, 0..9);
    // The other sidecar has read the manifest, too, and keeps its version.
    let stays = |line: &str| line.contains("selected the manifest's version 1");
    let log = production.process.log();
    log.wait_for_line_after(mark, "the same version", stays)
        .await
        .unwrap();
    WINE.v1.check(&answer(&production).await, 0..9);

    swap_after(&production, || publish(&s3, &GOOD, &labels("2", "2"))).await;
    WINE.v2.check(&answer(&production).await, 0..9);
}

#[tokio::test]
async fn a_missing_label_or_version_is_named() {
    let s3 = published(&GOOD, &json!({})).await;
    for (variable, words) in [
        (
            ("MODEL_LABEL", "stable"),
            "MODEL_LABEL=\"stable\" cannot be run: the manifest has no label \"stable\"",
        ),
        (
            ("MODEL_VERSION", "3"),
            "MODEL_VERSION=\"3\" cannot be run: the manifest has no version \"3\"",
        ),
    ] {
        let alone = Alone::start(&s3, &[URI, variable]);
        let said = alone.process.wait_for("cannot be run").await.unwrap();
        assert!(said.contains(words), "{said}");
        let answer = alone.predict(1).await;
        assert_eq!(answer.status, 503);
        let told = "cannot apply the manifest";
        assert!(answer.text().contains(told), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_canary_of_0_percent_runs_nowhere_and_of_100_everywhere() {
    let canary = |percent: u8| json!({"canary": {"version": "2", "percent": percent}});
    let s3 = published(&GOOD, &canary(0)).await;
    let alone = serve(&s3, &[]).await;
    WINE.v1.check(&answer(&alone).await, 0..9);
    swap_after(&alone, || publish(&s3, &GOOD, &canary(100))).await;
    WINE.v2.check(&answer(&alone).await, 0..9);
    let why = alone.process.wait_for("why=canary").await.unwrap();
    assert!(why.contains("version 2"), "{why}");
    swap_after(&alone, || publish(&s3, &GOOD, &json!({}))).await;
    WINE.v1.check(&answer(&alone).await, 0..9);
}

#[tokio::test]
async fn a_bad_canary_falls_back_to_the_current_version() {
    let versions = [GOOD[0], ("2", "garbage.onnx")];
    let canary = json!({"canary": {"version": "2", "percent": 100}});
    let s3 = published(&versions, &canary).await;
    let alone = serve(&s3, &[]).await;
    WINE.v1.check(&answer(&alone).await, 0..9);
    let line = alone.process.wait_for("keeping the active version");
    let line = line.await.unwrap();
    assert!(line.contains("Protobuf parsing failed"), "{line}");
}

#[tokio::test]
async fn the_rollout_position_survives_resets() {
    const RESETS: usize = 6;
    let half = |note: usize| {
        json!({
            "canary": {"version": "2", "percent": 50},
            // Changes the manifest, so that it is read again.
            "version_labels": {format!("note-{note}"): "1"},
        })
    };
    let s3 = published(&GOOD, &half(0)).await;
    let function = platform(&s3).env(URI.0, URI.1).start().await.unwrap();
    let version = async || {
        let answer = function.answer(&features(1)).await.unwrap();
        answer["model_version"].as_str().unwrap().to_owned()
    };
    let first = version().await;
    for reset in 1..=RESETS {
        let environment = function.environment().unwrap();
        environment.wait_until_frozen().await.unwrap();
        environment.reset(ShutdownReason::Failure).await.unwrap();
        environment.wait_until(State::Empty).await.unwrap();
        publish(&s3, &GOOD, &half(reset));
        assert_eq!(version().await, first, "after {reset} resets");
    }
    let reads = function
        .log()
        .text()
        .matches("selected the manifest's version")
        .count();
    assert_eq!(reads, 1 + RESETS);
}

async fn a_cold_start_on_a_bad_version_falls_back_to_the_previous_one(s3: AnyS3) {
    s3.keep_versions().await;
    let s3 = s3.holds("wine-v1.onnx").await;
    let before = answer(&Alone::ready(&s3, &[]).await).await;
    s3.put(KEY, model("garbage.onnx")).await;

    let cold = Alone::ready(&s3, &[OFTEN]).await;
    let fallback = answer(&cold).await;
    WINE.v1.check(&fallback, 0..9);
    assert_eq!(fallback["model_version"], before["model_version"]);
    cold.process
        .wait_for("falling back to an earlier version")
        .await
        .unwrap();
    upload_and_wait_for_swap(&cold, &s3, "wine-v2.onnx").await;
    WINE.v2.check(&answer(&cold).await, 0..9);
}

async fn a_cold_start_after_a_delete_falls_back_to_the_last_version(s3: AnyS3) {
    s3.keep_versions().await;
    let s3 = s3.holds("wine-v2.onnx").await;
    s3.put(KEY, model("wine-v1.onnx")).await;
    let delete = s3.client().delete_object().bucket(s3.bucket()).key(KEY);
    delete.send().await.unwrap();

    let cold = Alone::ready(&s3, &[OFTEN]).await;
    WINE.v1.check(&answer(&cold).await, 0..9);
    upload_and_wait_for_swap(&cold, &s3, "wine-v2.onnx").await;
    WINE.v2.check(&answer(&cold).await, 0..9);
}

async fn upload_and_wait_for_swap(alone: &Alone, s3: &AnyS3, file: &str) {
    let log = alone.process.log();
    let mark = log.mark();
    s3.put(KEY, model(file)).await;
    let swapped = "a new version is active";
    let is_it = |line: &str| line.contains(swapped);
    log.wait_for_line_after(mark, swapped, is_it).await.unwrap();
}

async fn a_pinned_object_version_ignores_overwrites(s3: AnyS3) {
    s3.keep_versions().await;
    let pinned = s3.put(KEY, model("wine-v1.onnx")).await.unwrap();
    s3.put(KEY, model("wine-v2.onnx")).await;
    let lambda = lambda(&s3).env("MODEL_VERSION", &pinned);
    let lambda = lambda
        .env("MODEL_REFRESH_INTERVAL", "0")
        .start()
        .await
        .unwrap();
    for file in ["wine-v2.onnx", "garbage.onnx", "wine-v1.onnx"] {
        s3.put(KEY, model(file)).await;
        let answer = lambda.answer(&features(9)).await.unwrap();
        WINE.v1.check(&answer, 0..9);
    }
    // Polls send no request: a pinned version never changes.
    assert_eq!((s3.transfers(1).await, s3.gets(304, 0).await), (1, 0));
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, KEY, model("wine-v1.onnx"));
    s3.put(BUCKET, KEY, model("garbage.onnx"));
    s3.list_permission(false);
    let alone = Alone::start(&s3, &[]);
    let line = alone
        .process
        .wait_for("cannot fall back to an earlier version")
        .await
        .unwrap();
    assert!(
        line.contains("needs s3:ListBucketVersions on the bucket"),
        "{line}"
    );

    let bucket = bucket(&s3.url(), BUCKET);
    let path = model_sidecar::ids::FilePath::parse(KEY).unwrap();
    let version = model_sidecar::source::ModelFolder::version(&bucket, &path, "removed").unwrap();
    s3.list_permission(true);
    let error = version.open(None).await.err().unwrap().to_string();
    let words = "cannot read s3://models/wine/model.onnx?versionId=removed: there is no version removed of the object";
    assert!(error.starts_with(words), "{error}");
    s3.fail(Rule::any().status(403, "AccessDenied"));
    let error = version.open(None).await.err().unwrap().to_string();
    assert!(
        error.contains("s3:GetObjectVersion on the object"),
        "{error}"
    );
}

//! S3 is down, slow or denies access.

use std::time::Duration;

use lab::gate::Gate;
use lab::s3::{Rule, S3Server};
use serde_json::Value;

use crate::support::any_s3::{AnyS3, with_every_s3};
use crate::support::{
    Alone, BUCKET, KEY, Store, body, error, features, http_event, lambda, model, s3_with, transfers,
};
use lab::reference::WINE;

with_every_s3!(
    missing_objects_and_wrong_credentials_are_named,
    a_second_start_downloads_nothing,
);

#[tokio::test(flavor = "multi_thread")]
async fn requests_get_the_reason_until_s3_is_up() {
    let mut s3 = s3_with("wine-v1.onnx").await;
    s3.down().await;
    let lambda = lambda(&s3).start().await.unwrap();

    let over_http = http_event("POST", "/predict", &features(2));
    let reply = lambda.answer(&over_http).await.unwrap();
    assert_eq!(reply["statusCode"], 503, "{reply}");
    assert_is_the_reason(error(&body(&reply)));
    assert_eq!(reply["headers"]["retry-after"], "1");

    let direct = lambda.invoke(&features(2)).await.unwrap();
    let failure = direct.function_error().unwrap();
    assert_eq!(failure.error_type, "Model.NotReady");
    assert_is_the_reason(&failure.message);

    let sidecar = lambda.processes("model-sidecar");
    s3.up().await.unwrap();
    let recovery = async {
        loop {
            let reply = lambda.answer(&over_http).await.unwrap();
            let answer = body(&reply);
            if reply["statusCode"] == 200 {
                return answer;
            }
            assert_eq!(reply["statusCode"], 503, "{reply}");
            assert_is_the_reason(error(&answer));
        }
    };
    let answer = tokio::time::timeout(lab::WAIT_LIMIT, recovery)
        .await
        .unwrap();
    WINE.v1.check(&answer, 0..2);
    WINE.v1
        .check(&lambda.answer(&features(2)).await.unwrap(), 0..2);
    assert_eq!(lambda.processes("model-sidecar"), sidecar, "no restart");
}

fn assert_is_the_reason(message: &str) {
    for words in [
        "model \"wine\" is not loaded",
        "no connection to S3",
        "the log has the details",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_active_version_serves_while_s3_is_unavailable() {
    let mut s3 = s3_with("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[("MODEL_REFRESH_INTERVAL", "100ms")]).await;
    s3.down().await;
    alone
        .process
        .wait_for("keeping the active version")
        .await
        .unwrap();
    WINE.v1.check(&alone.predict(9).await.json().unwrap(), 0..9);

    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    s3.up().await.unwrap();
    alone
        .process
        .wait_for("a new version is active")
        .await
        .unwrap();
    WINE.v2.check(&alone.predict(9).await.json().unwrap(), 0..9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_a_slow_first_byte() {
    let s3 = s3_with("wine-v1.onnx").await;
    s3.fail(Rule::on("GET").latency(Duration::from_millis(300)));
    let lambda = lambda(&s3).env("MODEL_INIT_BUDGET", "1ms");
    let lambda = lambda.start().await.unwrap();
    let answer = lambda.answer(&features(2)).await.unwrap();
    WINE.v1.check(&answer, 0..2);
    lambda
        .wait_for("MODEL_INIT_BUDGET has passed")
        .await
        .unwrap();
    assert_eq!(transfers(&s3).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_objects_and_permissions_are_named_with_a_remedy() {
    let empty = S3Server::start().await.unwrap();
    let no_bucket = ("S3 has no such bucket (404)", "there is no bucket models");
    expect(&empty, no_bucket).await;

    empty.create_bucket(BUCKET);
    let no_object = "there is no object wine/model.onnx in the bucket";
    expect(&empty, ("S3 has no such object (404)", no_object)).await;

    let denied = ("access denied by S3 (403)", "needs s3:GetObject");
    empty.list_permission(false);
    expect(&empty, denied).await;

    let s3 = s3_with("wine-v1.onnx").await;
    s3.fail(Rule::any().status(403, "AccessDenied"));
    expect(&s3, denied).await;
}

async fn missing_objects_and_wrong_credentials_are_named(s3: AnyS3) {
    let s3 = s3.holds("wine-v1.onnx").await;
    let nowhere = [("MODEL_URI", "s3://no-such-bucket/wine/model.onnx")];
    let no_bucket = (
        "S3 has no such bucket (404)",
        "there is no bucket no-such-bucket",
    );
    expect_of(&s3, &nowhere, no_bucket).await;

    let missing = format!("s3://{}/no/such.onnx", s3.bucket());
    let missing = [("MODEL_URI", missing.as_str())];
    let no_object = (
        "S3 has no such object (404)",
        "there is no object no/such.onnx",
    );
    expect_of(&s3, &missing, no_object).await;

    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7OTHER"),
        ("AWS_SECRET_ACCESS_KEY", "a secret of somebody else's"),
    ] {
        let refused = "S3 rejected the credentials";
        expect_of(&s3, &[(name, value)], (refused, refused)).await;
    }
}

/// Asserts words in the response to a request, and words in the log.
async fn expect(s3: &S3Server, words: (&str, &str)) {
    expect_of(s3, &[], words).await;
}

async fn expect_of(s3: &impl Store, variables: &[(&str, &str)], (told, logged): (&str, &str)) {
    let alone = Alone::start(s3, variables);
    let said = reason(&alone).await;
    assert!(said.contains(told), "{told}: {said}");
    alone.process.wait_for(logged).await.unwrap();
}

/// Error of a request after the first failed attempt to load the model.
async fn reason(alone: &Alone) -> String {
    alone
        .process
        .wait_for("not every model is loaded")
        .await
        .unwrap();
    let answer = alone.predict(1).await;
    assert_eq!(answer.status, 503);
    let answer: Value = answer.json().unwrap();
    error(&answer).to_owned()
}

async fn a_second_start_downloads_nothing(s3: AnyS3) {
    let s3 = s3.holds("wine-v1.onnx").await;
    let first = lambda(&s3).start().await.unwrap();
    first.answer(&features(1)).await.unwrap();
    let tmp = first.keep_tmp();
    first.shutdown().await.unwrap();

    let second = lambda(&s3).tmp(tmp).start().await.unwrap();
    let all = WINE.rows.len();
    WINE.v1
        .check(&second.answer(&features(all)).await.unwrap(), 0..all);
    assert_eq!((s3.gets(304, 1).await, s3.transfers(1).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_loads_the_new_version_or_without_s3_the_last_one() {
    let mut s3 = s3_with("wine-v1.onnx").await;
    let first = lambda(&s3).start().await.unwrap();
    first.answer(&features(1)).await.unwrap();
    let tmp = first.keep_tmp();
    first.shutdown().await.unwrap();

    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    let second = lambda(&s3).tmp(tmp).start().await.unwrap();
    WINE.v2
        .check(&second.answer(&features(9)).await.unwrap(), 0..9);
    let tmp = second.keep_tmp();
    second.shutdown().await.unwrap();

    s3.down().await;
    let third = lambda(&s3).tmp(tmp).start().await.unwrap();
    WINE.v2
        .check(&third.answer(&features(9)).await.unwrap(), 0..9);
    third.wait_for("keeping the active version").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_s3_serves_models_of_any_name() {
    for name in ["partial-wine", "partial-a1B2c3", "origins", "a.json"] {
        let mut s3 = s3_with("wine-v1.onnx").await;
        let cache = tempfile::tempdir().unwrap();
        let cache_dir = cache.path().to_str().unwrap();
        let variables = [("MODEL_NAME", name), ("MODEL_CACHE_DIR", cache_dir)];
        let first = Alone::ready(&s3, &variables).await;
        first.process.terminate().await.unwrap();
        s3.down().await;
        let second = Alone::ready(&s3, &variables).await;
        WINE.v1
            .check(&second.predict(9).await.json().unwrap(), 0..9);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_with_a_dead_connection_is_retried() {
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, "wine/1/model.onnx", model("wine-v1.onnx"));
    let variables = [
        ("MODEL_URI", "s3://models/"),
        ("MODEL_REFRESH_INTERVAL", "100ms"),
    ];
    let alone = Alone::ready(&s3, &variables).await;
    let dead = Gate::new();
    s3.fail(Rule::on("GET").key("").first(1).stall_after(20, &dead));
    dead.reached(1).await.unwrap();
    s3.put(BUCKET, "wine/2/model.onnx", model("wine-v2.onnx"));
    alone
        .process
        .wait_for("a new version is active")
        .await
        .unwrap();
    WINE.v2.check(&alone.predict(9).await.json().unwrap(), 0..9);
}

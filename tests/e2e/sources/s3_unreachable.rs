//! A VPC without a route to S3 or `CloudWatch`: connection attempts get no response.

use std::time::Duration;

use lab::lambda::{Builder, ShutdownReason, State};
use lab::link::{Link, Unroutable};
use lab::s3::S3Server;
use serde_json::Value;

use crate::support::{
    BUCKET, KEY, alive, body, error, features, http_event, model, platform, s3_with,
};
use lab::reference::WINE;

/// Function without a route to S3 and `CloudWatch`.
async fn function(nowhere: &Unroutable) -> Builder {
    let s3 = S3Server::start().await.unwrap();
    platform(&s3)
        .env("AWS_ENDPOINT_URL_S3", nowhere.url())
        .env("AWS_ENDPOINT_URL_CLOUDWATCH", nowhere.url())
        .env("MODEL_METRICS", "cloudwatch")
        .timeout(Duration::from_secs(3))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cause_is_reported_within_init() {
    let nowhere = Link::unroutable().await.unwrap();
    let function = function(&nowhere).await.start().await.unwrap();
    let predict = http_event("POST", "/predict", &features(2));
    let ready = http_event("GET", "/v2/health/ready", &Value::Null);
    let host = nowhere.url().replace("http://", "");
    // A prediction waits for another attempt until its deadline; a readiness check does not wait.
    for event in [predict, ready] {
        let answer = function.answer(&event).await.unwrap();
        assert_eq!(answer["statusCode"], 503, "{answer}");
        let answer = body(&answer);
        for part in [
            "model \"wine\" is not loaded",
            "no connection to S3",
            "the log has the details",
        ] {
            assert!(error(&answer).contains(part), "{part}: {answer}");
        }
        assert!(!error(&answer).contains(&host), "{answer}");
    }
    let log = function.log().text();
    for part in [
        "s3://models/wine/model.onnx",
        &format!("no connection to {host}"),
        "check AWS_ENDPOINT_URL, and that the endpoint is running",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(!log.contains("MODEL_INIT_BUDGET has passed"), "{log}");
    assert_eq!(log.matches("INIT_START").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_ends_with_its_budget_and_metrics_go_to_the_log() {
    let nowhere = Link::unroutable().await.unwrap();
    let function = function(&nowhere)
        .await
        .env("MODEL_INIT_BUDGET", "200ms")
        .start()
        .await
        .unwrap();
    alive(&function).await;
    let log = function.log();
    log.wait_for("MODEL_INIT_BUDGET has passed").await.unwrap();
    let log = function.shutdown().await.text();
    assert_eq!(log.matches("INIT_START").count(), 1, "{log}");
    assert!(log.contains("writing them to the log"), "{log}");
    assert!(log.contains("\"ColdStarts\":[1"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn start_after_a_reset_uses_the_cache_and_reloads_later() {
    let s3 = s3_with("wine-v1.onnx").await;
    let link = Link::to_s3(&s3).await.unwrap();
    // Shorter than the read timeout of the S3 client.
    let function = platform(&s3)
        .env("AWS_ENDPOINT_URL_S3", link.url())
        .env("MODEL_REFRESH_INTERVAL", "24h")
        .timeout(Duration::from_millis(4_500))
        .freeze_when_idle(false);
    let function = function.start().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let environment = function.environment().unwrap();
    environment.reset(ShutdownReason::Failure).await.unwrap();
    environment.wait_until(State::Empty).await.unwrap();
    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    link.black_hole(true);
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let log = function.log();
    log.wait_for("has not responded within 1000 ms")
        .await
        .unwrap();
    link.black_hole(false);
    log.wait_for("a new version is active").await.unwrap();
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
}

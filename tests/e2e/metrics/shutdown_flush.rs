//! SHUTDOWN: pending metrics are sent within Lambda's limit of 2 s, or written to the log.

use std::collections::BTreeSet;

use lab::cloudwatch::{CloudWatch, Datapoint, Filter};
use lab::gate::Gate;
use lab::log_capture::LogCapture;
use lab::rie::ExecutionEnvironment;
use lab::s3::S3Server;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{features, lambda, model, s3_with};

/// Numbers of valid and invalid requests.
const GOOD: u32 = 6;
const BAD: u32 = 2;

/// Environment that has recorded these requests and sent no metrics.
async fn observed(cloudwatch: &CloudWatch) -> (S3Server, ExecutionEnvironment) {
    let s3 = s3_with("wine-v1.onnx").await;
    let lambda = lambda(&s3)
        .envs(cloudwatch.env())
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_INTERVAL", "1h");
    let lambda = lambda.start().await.unwrap();
    for _ in 0..GOOD {
        lambda.answer(&features(1)).await.unwrap();
    }
    for _ in 0..BAD {
        let refused = lambda.invoke(&json!({ "features": "none" })).await.unwrap();
        assert!(refused.function_error().is_some());
    }
    assert!(cloudwatch.requests().is_empty(), "no flush is due");
    (s3, lambda)
}

/// Asserts that the emulator has not killed the extension; the last test below triggers the log line.
fn assert_not_killed(log: &LogCapture) {
    assert!(!log.text().contains(KILLED), "{}", log.text());
}

const KILLED: &str = "Sending SIGKILL";

#[tokio::test(flavor = "multi_thread")]
async fn pending_metrics_are_sent() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let (_s3, lambda) = observed(&cloudwatch).await;
    let log = lambda.shutdown().await.unwrap();
    assert_not_killed(&log);
    assert!(emf(&log).is_empty(), "nothing is sent twice");

    let of_model = |metric: &str| {
        Filter::metric(metric)
            .namespace("ModelSidecar")
            .dimension("FunctionName", "lab")
            .dimension("ModelName", "wine")
    };
    let bytes = model("wine-v1.onnx").len();
    let bytes = f64::from(u32::try_from(bytes).unwrap());
    for (metric, sum, unit) in [
        ("Inferences", f64::from(GOOD), "Count"),
        ("RejectedRequests", f64::from(BAD), "Count"),
        ("ModelFetchBytes", bytes, "Bytes"),
    ] {
        let filter = of_model(metric);
        assert_same(cloudwatch.sum(&filter), sum, metric);
        assert!(
            cloudwatch
                .datapoints(&filter)
                .iter()
                .all(|one| has_unit(one, unit))
        );
    }
    for (metric, count, unit) in [
        ("InferenceLatency", f64::from(GOOD), "Milliseconds"),
        ("QueueTime", f64::from(GOOD), "Milliseconds"),
        ("ModelFetchTime", 1.0, "Milliseconds"),
        ("ModelLoadTime", 1.0, "Milliseconds"),
        ("ModelAge", 1.0, "Seconds"),
    ] {
        let filter = of_model(metric);
        assert_same(cloudwatch.count(&filter), count, metric);
        assert!(
            cloudwatch
                .datapoints(&filter)
                .iter()
                .all(|one| has_unit(one, unit))
        );
    }
    assert!(
        cloudwatch
            .percentile(&of_model("InferenceLatency"), 99.0)
            .unwrap()
            > 0.0
    );
    for (metric, unit) in [("ColdStarts", "Count"), ("SidecarMemory", "Bytes")] {
        let [one] = cloudwatch
            .datapoints(&Filter::metric(metric))
            .try_into()
            .unwrap();
        let dimensions: Vec<_> = one.dimensions.keys().collect();
        assert_eq!(dimensions, ["FunctionName"], "{metric}");
        assert!(has_unit(&one, unit));
    }
    assert_same(
        cloudwatch.sum(&Filter::metric("ColdStarts")),
        1.0,
        "ColdStarts",
    );
    for one in cloudwatch.datapoints(&Filter::all()) {
        let time = one.timestamp.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(
            time.as_millis() % 60_000,
            0,
            "the start of a minute: {one:?}"
        );
        assert_eq!(one.storage_resolution, 60);
    }
    let refused = cloudwatch
        .requests()
        .into_iter()
        .filter(|one| one.error.is_some());
    assert_eq!(refused.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_go_to_the_log_if_cloudwatch_stalls() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let (_s3, lambda) = observed(&cloudwatch).await;
    let gate = Gate::new();
    cloudwatch.stall(&gate);
    let log = lambda.shutdown().await.unwrap();
    gate.reached(1).await.unwrap();
    assert_logged(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_go_to_the_log_if_cloudwatch_is_down() {
    let mut cloudwatch = CloudWatch::start().await.unwrap();
    let (_s3, lambda) = observed(&cloudwatch).await;
    cloudwatch.down().await;
    let log = lambda.shutdown().await.unwrap();
    assert_logged(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_go_to_the_log_if_cloudwatch_denies_access() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let (_s3, lambda) = observed(&cloudwatch).await;
    cloudwatch.fail_next(10, 403, "AccessDenied");
    let log = lambda.shutdown().await.unwrap();
    assert_logged(&log);
    assert!(
        log.text().contains("cloudwatch:PutMetricData"),
        "{}",
        log.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_sent_at_invocations() {
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let lambda = lambda(&s3)
        .envs(cloudwatch.env())
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_NAMESPACE", "Wine/Shop")
        .env("MODEL_METRICS_SET", "default")
        .env("MODEL_METRICS_DIMENSIONS", "Stage=test")
        .env("MODEL_METRICS_INTERVAL", "0");
    let lambda = lambda.start().await.unwrap();
    // The flush runs in parallel with the request, and sends what was recorded before.
    for _ in 0..=GOOD {
        lambda.answer(&features(1)).await.unwrap();
    }
    let inferences = Filter::metric("Inferences").namespace("Wine/Shop");
    let arrived = |all: &[Datapoint]| all.iter().any(|one| inferences.matches(one));
    cloudwatch
        .wait_until("inferences while it runs", arrived)
        .await
        .unwrap();
    lambda.shutdown().await.unwrap();
    assert_same(
        cloudwatch.sum(&inferences),
        f64::from(GOOD + 1),
        "Inferences",
    );
    assert_default_set(&cloudwatch.datapoints(&Filter::all()));
}

/// Asserts that the metrics of one version, each with its dimensions, are at most 12.
fn assert_default_set(datapoints: &[Datapoint]) {
    let metrics: BTreeSet<(&str, Vec<&str>)> = datapoints
        .iter()
        .map(|one| {
            let names = one.dimensions.keys().map(String::as_str);
            (one.name.as_str(), names.collect())
        })
        .collect();
    assert!(metrics.len() <= 12, "{metrics:?}");
    for (name, dimensions) in [
        ("SidecarMemory", vec!["FunctionName", "Stage"]),
        ("Inferences", vec!["FunctionName", "ModelName", "Stage"]),
        (
            "ActiveVersion",
            vec!["FunctionName", "ModelName", "ModelVersion", "Stage"],
        ),
    ] {
        assert!(metrics.contains(&(name, dimensions)), "{name}: {metrics:?}");
    }
    let active = datapoints.iter().filter(|one| one.name == "ActiveVersion");
    let minutes: BTreeSet<_> = active.clone().map(|one| one.timestamp).collect();
    assert_eq!(active.count(), minutes.len(), "once in a minute");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_emulator_logs_the_kill_of_a_hanging_extension() {
    let s3 = s3_with("wine-v1.onnx").await;
    let lambda = lambda(&s3).start().await.unwrap();
    lambda.answer(&features(1)).await.unwrap();
    lambda.kill("model-sidecar", Signal::SIGSTOP).unwrap();
    let log = lambda.shutdown().await.unwrap();
    assert!(log.text().contains(KILLED), "{}", log.text());
}

/// Asserts that the log has every metric once, in Embedded Metric Format, and no SIGKILL.
fn assert_logged(log: &LogCapture) {
    assert_not_killed(log);
    let lines = emf(log);
    let values = |metric: &str| -> Vec<f64> {
        let of_one = |line: &Value| {
            let values = line[metric].as_array().cloned().unwrap_or_default();
            values.into_iter().filter_map(|value| value.as_f64())
        };
        lines.iter().flat_map(of_one).collect()
    };
    assert_same(
        values("Inferences").iter().sum(),
        f64::from(GOOD),
        "Inferences",
    );
    assert_same(
        values("RejectedRequests").iter().sum(),
        f64::from(BAD),
        "RejectedRequests",
    );
    assert_eq!(values("InferenceLatency").len(), GOOD as usize);
    assert_eq!(values("ColdStarts"), [1.0]);
    for line in &lines {
        assert_eq!(line["FunctionName"], "lab");
        let about = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(about["Namespace"], "ModelSidecar");
        let minute = line["_aws"]["Timestamp"].as_u64().unwrap();
        assert_eq!(minute % 60_000, 0);
        if !line["Inferences"].is_null() {
            assert_eq!(line["ModelName"], "wine");
            assert_eq!(about["Dimensions"], json!([["FunctionName", "ModelName"]]));
            let unit = json!({ "Name": "Inferences", "Unit": "Count" });
            assert!(
                about["Metrics"].as_array().unwrap().contains(&unit),
                "{line}"
            );
        }
    }
}

/// Log lines in Embedded Metric Format.
fn emf(log: &LogCapture) -> Vec<Value> {
    let lines = log.lines().into_iter();
    lines
        .filter_map(|line| serde_json::from_str(&line).ok())
        .filter(|line: &Value| line["_aws"].is_object())
        .collect()
}

fn has_unit(one: &Datapoint, unit: &str) -> bool {
    one.unit.as_deref() == Some(unit)
}

/// Compares whole numbers, which 64-bit floats represent exactly.
fn assert_same(given: f64, expected: f64, metric: &str) {
    assert!(
        (given - expected).abs() < f64::EPSILON,
        "{metric}: {given}, and not {expected}"
    );
}

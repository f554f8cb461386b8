//! SHUTDOWN: what was observed and not yet sent is sent within Lambda's 2 s, or left in the log.

use lab::cloudwatch::{CloudWatch, Datapoint, Filter};
use lab::gate::Gate;
use lab::log_capture::LogCapture;
use lab::rie::ExecutionEnvironment;
use lab::s3::S3Server;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{features, lambda, model, s3_with};

/// Requests that the model answers, and requests that are refused.
const GOOD: u32 = 6;
const BAD: u32 = 2;

/// An environment that has observed all of them, and sent nothing.
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
    assert!(cloudwatch.requests().is_empty(), "nothing is sent yet");
    (s3, lambda)
}

/// The emulator says so when it has to kill an extension: a test below shows the words.
fn assert_nobody_was_killed(log: &LogCapture) {
    assert!(!log.text().contains(KILLED), "{}", log.text());
}

const KILLED: &str = "Sending SIGKILL";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sent_yet_arrives_at_cloudwatch() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let (_s3, lambda) = observed(&cloudwatch).await;
    let log = lambda.shutdown().await.unwrap();
    assert_nobody_was_killed(&log);
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
        ("ValidationErrors", f64::from(BAD), "Count"),
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
async fn what_a_stalled_cloudwatch_does_not_take_is_in_the_log() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let (_s3, lambda) = observed(&cloudwatch).await;
    let gate = Gate::new();
    cloudwatch.stall(&gate);
    let log = lambda.shutdown().await.unwrap();
    gate.reached(1).await.unwrap();
    assert_all_is_in(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_absent_cloudwatch_does_not_take_is_in_the_log() {
    let mut cloudwatch = CloudWatch::start().await.unwrap();
    let (_s3, lambda) = observed(&cloudwatch).await;
    cloudwatch.down().await;
    let log = lambda.shutdown().await.unwrap();
    assert_all_is_in(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cloudwatch_refuses_is_in_the_log() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let (_s3, lambda) = observed(&cloudwatch).await;
    cloudwatch.fail_next(10, 403, "AccessDenied");
    let log = lambda.shutdown().await.unwrap();
    assert_all_is_in(&log);
    assert!(
        log.text().contains("cloudwatch:PutMetricData"),
        "{}",
        log.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_sent_at_invocations_when_they_are_due() {
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let lambda = lambda(&s3)
        .envs(cloudwatch.env())
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_NAMESPACE", "Wine/Shop")
        .env("MODEL_METRICS_INTERVAL", "0");
    let lambda = lambda.start().await.unwrap();
    // The flush at an invocation runs beside the request: it takes what was observed before it.
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
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_does_not_end_is_killed_and_the_emulator_says_so() {
    let s3 = s3_with("wine-v1.onnx").await;
    let lambda = lambda(&s3).start().await.unwrap();
    lambda.answer(&features(1)).await.unwrap();
    lambda.kill("model-sidecar", Signal::SIGSTOP).unwrap();
    let log = lambda.shutdown().await.unwrap();
    assert!(log.text().contains(KILLED), "{}", log.text());
}

/// Expects every observation in the log, once, in Embedded Metric Format, and no SIGKILL.
fn assert_all_is_in(log: &LogCapture) {
    assert_nobody_was_killed(log);
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
        values("ValidationErrors").iter().sum(),
        f64::from(BAD),
        "ValidationErrors",
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

/// The lines that CloudWatch would make metrics of.
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

/// Whole numbers, which 64-bit floats hold exactly.
fn assert_same(given: f64, expected: f64, metric: &str) {
    assert!(
        (given - expected).abs() < f64::EPSILON,
        "{metric}: {given}, and not {expected}"
    );
}

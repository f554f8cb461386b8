//! Delivery of the metrics that alarms depend on, with failing starts, loads and requests to `CloudWatch`.

use lab::cloudwatch::{CloudWatch, Filter};
use lab::lambda::{Builder, Clock};
use lab::s3::{Rule, S3Server};
use serde_json::Value;

use crate::support::{Alone, LONG, features, freeze, platform, s3_with, with_both_clocks};
use lab::reference::WINE;

with_both_clocks!(model_age_is_measured_after_the_poll_of_the_same_invocation,);

/// Function that sends metrics at every invocation.
fn measured(s3: &S3Server, cloudwatch: &CloudWatch) -> Builder {
    platform(s3)
        .envs(cloudwatch.env())
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_INTERVAL", "0")
}

/// Lines of Embedded Metric Format in a log.
fn emf(log: &str) -> Vec<Value> {
    let lines = log
        .lines()
        .filter_map(|line| line.find("{\"").map(|at| &line[at..]));
    let values = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    values.filter(|line| line.get("_aws").is_some()).collect()
}

async fn model_age_is_measured_after_the_poll_of_the_same_invocation(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let function = measured(&s3, &cloudwatch)
        .env("MODEL_TAIL_BUDGET", "30s")
        .clock(clock);
    let function = function.start().await.unwrap();
    for _ in 0..3 {
        function.answer(&features(1)).await.unwrap();
        freeze(&function, &s3).await;
        cloudwatch.let_pass(LONG);
    }
    function.answer(&features(1)).await.unwrap();
    function.shutdown().await;
    let ages = cloudwatch.datapoints(&Filter::metric("ModelAge"));
    assert!(ages.len() >= 3, "{ages:?}");
    let oldest = cloudwatch.percentile(&Filter::metric("ModelAge"), 100.0);
    assert!(oldest.unwrap() < 600.0, "{ages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_is_counted() {
    let s3 = s3_with("wine-v1.onnx").await;
    s3.fail(Rule::on("GET").status(403, "AccessDenied"));
    let cloudwatch = CloudWatch::start().await.unwrap();
    let function = measured(&s3, &cloudwatch).env("MODEL_REQUIRED", "true");
    let function = function.start().await.unwrap();
    let refused = function.invoke(&features(1)).await;
    assert!(refused.function_error().is_some());
    assert!(cloudwatch.sum(&Filter::metric("InitFailures")) >= 1.0);
    assert!(cloudwatch.sum(&Filter::metric("ModelCheckFailures")) >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_time_is_recorded_when_the_model_loads_after_init() {
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let function = measured(&s3, &cloudwatch).env("MODEL_INIT_BUDGET", "1ms");
    let function = function.start().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    function.shutdown().await;
    let count = |metric| cloudwatch.count(&Filter::metric(metric));
    assert!((count("InitTime") - 1.0).abs() < 1e-9);
    assert!((count("InitBudgetExceeded") - 1.0).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_cloudwatch_attempts_back_off_and_metrics_go_to_the_log() {
    const INVOCATIONS: u32 = 40;
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    cloudwatch.fail_next(1_000, 403, "AccessDenied");
    let function = measured(&s3, &cloudwatch)
        .env("MODEL_REFRESH_INTERVAL", "24h")
        .env("MODEL_TAIL_BUDGET", "30s")
        .clock(Clock::Jumps);
    let function = function.start().await.unwrap();
    for _ in 0..INVOCATIONS {
        function.answer(&features(1)).await.unwrap();
    }
    let requests = cloudwatch.requests().len();
    assert!(
        requests <= 5,
        "{requests} requests in {INVOCATIONS} invocations"
    );
    for _ in 0..6 {
        freeze(&function, &s3).await;
        function.answer(&features(1)).await.unwrap();
    }
    let log = function.shutdown().await.text();
    let told = log.matches("writing metrics to the log until").count();
    assert_eq!(told, 1, "{log}");
    let lines = emf(&log);
    let inferences = lines
        .iter()
        .filter_map(|line| line["Inferences"].as_array());
    let counted: f64 = inferences.flatten().filter_map(Value::as_f64).sum();
    assert!((counted - f64::from(INVOCATIONS + 6)).abs() < 1e-9, "{log}");
    for line in &lines {
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_datum_is_dropped_and_the_others_arrive() {
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    cloudwatch.fail_next(1, 400, "InvalidParameterValue");
    let alone = Alone::observed(&s3, &cloudwatch).await;
    alone.predict(1).await;
    let arrived = cloudwatch.wait_until("the inference and the start", |datapoints| {
        let has = |name: &str| datapoints.iter().any(|one| one.name == name);
        has("Inferences") && has("ColdStarts")
    });
    arrived.await.unwrap();
    assert!((cloudwatch.sum(&Filter::metric("ColdStarts")) - 1.0).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread")]
async fn predictions_of_a_classifier_are_in_cloudwatch_and_on_the_metrics_page() {
    const ROWS: usize = 3;
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let alone = Alone::observed(&s3, &cloudwatch).await;
    let answer = alone.predict(ROWS).await.json().unwrap();
    let of_model = |metric: &str| Filter::metric(metric).dimension("ModelName", "wine");
    let confidence = of_model("PredictionConfidence");
    let observed = |_: &[_]| cloudwatch.count(&confidence) >= 3.0;
    cloudwatch
        .wait_until("the confidence of each row", observed)
        .await
        .unwrap();
    let probabilities = answer["probabilities"].as_array().unwrap();
    let highest = probabilities.iter().map(|row| {
        let row = row.as_array().unwrap().iter();
        row.filter_map(Value::as_f64).fold(0.0, f64::max)
    });
    let lowest = highest.fold(1.0, f64::min);
    let p10 = cloudwatch.percentile(&confidence, 10.0).unwrap();
    assert!((p10 - lowest).abs() <= 0.02 * lowest, "{p10}: {answer}");
    assert!((cloudwatch.count(&of_model("PredictedClass")) - 3.0).abs() < 1e-9);
    assert!(cloudwatch.sum(&of_model("NullFeatureShare")).abs() < 1e-9);

    let client = alone.client();
    let page = client.get("/metrics").await.unwrap();
    assert_eq!(page.status, 200);
    let media_type = page.header("content-type").unwrap();
    assert_eq!(media_type, "text/plain; version=0.0.4; charset=utf-8");
    let page = page.text();
    for sample in [
        "model_sidecar_inferences_total{model=\"wine\"} 1",
        "model_sidecar_prediction_confidence_count{model=\"wine\"} 3",
        "model_sidecar_inference_latency_seconds_bucket{model=\"wine\",le=\"+Inf\"} 1",
        "model_sidecar_cold_starts_total 1",
        "model_sidecar_model_loads_total{model=\"wine\"} 1",
    ] {
        assert!(page.lines().any(|line| line == sample), "{sample}: {page}");
    }
    for state in [
        "threads",
        "file_descriptors",
        "cache_bytes",
        "tmp_free_bytes",
    ] {
        let name = format!("model_sidecar_{state} ");
        let line = page.lines().find(|line| line.starts_with(&name)).unwrap();
        let value: f64 = line[name.len()..].parse().unwrap();
        assert!(value > 0.0, "{line}");
    }
}

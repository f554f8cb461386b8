//! Dashboard of `layer/deploy` on the metrics of real runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::cloudwatch::{CloudWatch, Datapoint, Filter};
use lab::lambda::{Function, ShutdownReason};
use lab::monitoring::{Dashboard, TimeRange, WidgetKind};
use lab::s3::{Rule, S3Server};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::monitored::{ROLLED_BACK, URI, deployed, invoke_until, measured, parameters, publish};
use crate::support::{alive, body, features, http_event, s3_with};
use lab::reference::WINE;

/// Series that need provisioned concurrency, which the lab does not have.
const NOT_IN_THE_LAB: [&str; 2] = ["spillover", "used share"];

/// Golden example of the first row, from the model's own outputs.
async fn golden(function: &Function) -> Value {
    let inputs =
        json!([{"name": "X", "shape": [1, 13], "datatype": "FP32", "data": [WINE.rows[0]]}]);
    let event = http_event(
        "POST",
        "/v2/models/wine/infer",
        &json!({ "inputs": inputs }),
    );
    let mut outputs = body(&function.answer(&event).await.unwrap())["outputs"].clone();
    for output in outputs.as_array_mut().unwrap() {
        output.as_object_mut().unwrap().remove("parameters");
    }
    json!({ "inputs": inputs, "outputs": outputs })
}

/// Lets the poll interval pass while the environment is frozen.
async fn let_poll_be_due(function: &Function, cloudwatch: &CloudWatch) {
    pass(function, cloudwatch, Duration::from_secs(2)).await;
}

async fn pass(function: &Function, cloudwatch: &CloudWatch, time: Duration) {
    let environment = function.environment().unwrap();
    environment.wait_until_frozen().await.unwrap();
    environment.let_pass(time).await.unwrap();
    cloudwatch.let_pass(time);
}

/// A function whose model goes through everything that has a metric.
async fn eventful(cloudwatch: &CloudWatch) -> Vec<Datapoint> {
    let s3 = S3Server::start().await.unwrap();
    let first = [("1", "wine-v1.onnx")];
    publish(&s3, "1", &first, None);
    let function = measured(&s3, cloudwatch).env("MODEL_URI", URI);
    let function = function.start().await.unwrap();
    let golden = golden(&function).await;
    // Enough rows for the drift of three bins.
    function.answer(&features(178)).await.unwrap();
    let wrong = http_event("POST", "/v2/models/wine/infer", &json!({ "inputs": [] }));
    assert_eq!(function.answer(&wrong).await.unwrap()["statusCode"], 400);

    let swapped = "a new version is active";
    for (current, version, words, count) in [
        ("2", ("2", "wine-v2.onnx"), swapped, 1),
        ("1", ("2", "wine-v2.onnx"), swapped, 2),
        ("3", ("3", "garbage.onnx"), "keeping the active version", 1),
        ("4", ("4", "wine-fails.onnx"), ROLLED_BACK, 1),
    ] {
        let_poll_be_due(&function, cloudwatch).await;
        publish(&s3, current, &[first[0], version], Some(&golden));
        invoke_until(&function, words, |log| log.matches(words).count() >= count).await;
    }

    let_poll_be_due(&function, cloudwatch).await;
    s3.fail(Rule::on("GET").status(403, "AccessDenied"));
    alive(&function).await;
    s3.heal();
    publish(&s3, "1", &first, None);
    let environment = function.environment().unwrap();
    environment.reset(ShutdownReason::Failure).await.unwrap();
    alive(&function).await;
    environment.kill("model-sidecar", Signal::SIGKILL).unwrap();
    // The invocation that finds the sidecar gone fails, and the next one begins with an Init.
    invoke_until(&function, "a third start", |log| {
        log.matches("INIT_START").count() >= 3
    })
    .await;
    function.shutdown().await;
    function.metrics()
}

/// A function that cannot load its model during Init.
async fn failing_start(cloudwatch: &CloudWatch) {
    let s3 = s3_with("wine-v1.onnx").await;
    s3.fail(Rule::on("GET").status(403, "AccessDenied"));
    let function = measured(&s3, cloudwatch).env("MODEL_REQUIRED", "true");
    let function = function.start().await.unwrap();
    assert!(
        function
            .invoke(&features(1))
            .await
            .function_error()
            .is_some()
    );
    function.shutdown().await;
}

/// A function whose Init ends before its model is active.
async fn slow_start(cloudwatch: &CloudWatch) {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = measured(&s3, cloudwatch).env("MODEL_INIT_BUDGET", "1ms");
    let function = function.start().await.unwrap();
    function.answer(&features(1)).await.unwrap();
    function.shutdown().await;
}

/// A managed instance with more concurrent requests than its queue takes.
async fn full_queue(cloudwatch: &CloudWatch) {
    let s3 = s3_with("slow.onnx").await;
    let function = measured(&s3, cloudwatch)
        .env("MODEL_THREADS", "256")
        .env("MODEL_QUEUE", "1")
        .managed_instances(8);
    let function = function.start().await.unwrap();
    let input = json!({"name": "trips", "datatype": "INT64", "shape": [1], "data": [20_000]});
    let event = http_event(
        "POST",
        "/v2/models/wine/infer",
        &json!({ "inputs": [input] }),
    );
    let full = async {
        loop {
            let answers = (0..8).map(|_| function.answer(&event));
            let answers = futures_util::future::try_join_all(answers).await.unwrap();
            if answers.iter().any(|answer| answer["statusCode"] == 429) {
                return;
            }
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, full).await.unwrap();
    function.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_series_of_the_dashboard_has_values_of_a_real_run() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let (of_lambda, (), (), ()) = tokio::join!(
        eventful(&cloudwatch),
        failing_start(&cloudwatch),
        slow_start(&cloudwatch),
        full_queue(&cloudwatch),
    );
    let mut data = cloudwatch.datapoints(&Filter::all());
    data.extend(of_lambda);
    let refused = cloudwatch
        .requests()
        .into_iter()
        .find(|one| one.status != 200);
    assert!(refused.is_none(), "{refused:?}");

    let dashboard = Dashboard::read(&deployed("dashboard.json"), &parameters(&[])).unwrap();
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let times = || data.iter().map(|one| seconds(one.timestamp));
    let range = TimeRange {
        start: times().min().unwrap() / 300 * 300,
        end: times().max().unwrap() + 300,
        period: 300,
    };
    let mut empty = Vec::new();
    for widget in &dashboard.widgets {
        let (WidgetKind::Chart { series, .. } | WidgetKind::Numbers(series)) = &widget.kind else {
            continue;
        };
        let lines = widget.evaluate(&data, range).unwrap().lines;
        for label in series
            .iter()
            .filter_map(lab::monitoring::Series::visible_label)
        {
            // A search has no label, and the values of its dimension as those of its lines.
            let has_values = lines
                .iter()
                .any(|line| line.label == label || label.is_empty());
            if !has_values && !NOT_IN_THE_LAB.contains(&label.as_str()) {
                empty.push(format!("{}: {label}", widget.title));
            }
        }
    }
    assert!(empty.is_empty(), "no values for {empty:#?}");
}

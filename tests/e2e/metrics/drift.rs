//! Drift of served rows against the baseline of a manifest.

use lab::cloudwatch::{CloudWatch, Filter};
use lab::lambda::Clock;
use lab::reference::WINE;
use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::support::layout::manifest;
use crate::support::{Alone, BUCKET, features, freeze, model, platform};

pub(super) const MANIFEST: &str = "wine/manifest.json";
pub(super) const URI: &str = "s3://models/wine/manifest.json";
pub(super) const VERSION: &str = "2026-11-a";
/// Column of the rows that drifts.
const PROLINE: usize = 12;

/// Histogram of three bins with a third of the training rows each.
fn histogram(column: usize) -> Value {
    // The model's numbers have single precision.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "as the request's decoder does"
    )]
    let single = |row: &Vec<f64>| f64::from(row[column] as f32);
    let mut values: Vec<f64> = WINE.rows.iter().map(single).collect();
    values.sort_by(f64::total_cmp);
    let (least, most) = (values[0], values[values.len() - 1]);
    let edges = [least, values[59], values[118], most];
    let counts = [
        (edges[0], edges[1]),
        (edges[1], edges[2]),
        (edges[2], f64::INFINITY),
    ];
    let counts = counts.map(|(from, to)| {
        values
            .iter()
            .filter(|value| (from..to).contains(*value))
            .count()
    });
    json!({"input": "X", "column": column, "edges": edges, "counts": counts})
}

/// Starts an S3 server with a version whose manifest has a baseline of the training rows.
pub(super) async fn published() -> S3Server {
    let s3 = S3Server::start().await.unwrap();
    let file = "wine-v1.onnx";
    s3.put(BUCKET, &format!("wine/{VERSION}/model.onnx"), model(file));
    let mut manifest: Value =
        serde_json::from_slice(&manifest(VERSION, &[(VERSION, file)])).unwrap();
    let mut baseline: Vec<Value> = (0..13).map(histogram).collect();
    // The classes of the training set.
    baseline.push(json!({"output": "output_label", "edges": [0, 1, 2, 3], "counts": [59, 71, 48]}));
    manifest["versions"][VERSION]["baseline"] = baseline.into();
    s3.put(BUCKET, MANIFEST, manifest.to_string());
    s3
}

/// Waits for the `number`th value of a metric, and returns the largest of them all.
async fn largest(cloudwatch: &CloudWatch, metric: &str, number: f64) -> f64 {
    let filter = Filter::metric(metric).dimension("ModelName", "wine");
    let arrived = cloudwatch.wait_until(metric, |_| cloudwatch.count(&filter) >= number);
    arrived.await.unwrap();
    cloudwatch.percentile(&filter, 100.0).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn drifted_rows_raise_the_index_and_training_rows_do_not() {
    let s3 = published().await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let mut variables = cloudwatch.env();
    for (name, value) in [
        ("MODEL_URI", URI),
        ("MODEL_METRICS", "cloudwatch"),
        ("MODEL_METRICS_INTERVAL", "100ms"),
        ("MODEL_DRIFT_SAMPLE", "1000"),
    ] {
        variables.push((name.into(), value.into()));
    }
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let alone = Alone::ready(&s3, &variables).await;

    assert_eq!(alone.predict(WINE.rows.len()).await.status, 200);
    let features = largest(&cloudwatch, "FeatureDriftWorst", 1.0).await;
    assert!(features < 1e-6, "{features}");
    let predictions = largest(&cloudwatch, "PredictionDrift", 1.0).await;
    assert!(predictions < 0.05, "{predictions}");

    let mut drifted = WINE.rows.clone();
    for row in &mut drifted {
        row[PROLINE] *= 3.0;
    }
    let body = json!({ "features": drifted });
    let answer = alone.client().post("/predict", &body).await.unwrap();
    assert_eq!(answer.status, 200);
    let features = largest(&cloudwatch, "FeatureDriftWorst", 2.0).await;
    assert!(features > 1.0, "{features}");
    let predictions = largest(&cloudwatch, "PredictionDrift", 2.0).await;
    assert!(predictions > 0.25, "{predictions}");
    let line = alone.process.wait_for("features=\"X[12]=").await.unwrap();
    assert!(
        line.contains(&format!("version={VERSION} rows=178 ")),
        "{line}"
    );
    assert!(line.contains("predictions=\"output_label="), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_spans_a_freeze() {
    let s3 = published().await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let function = platform(&s3)
        .envs(cloudwatch.env())
        .env("MODEL_URI", URI)
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_INTERVAL", "0")
        .env("MODEL_DRIFT_SAMPLE", "100")
        .clock(Clock::Jumps);
    let function = function.start().await.unwrap();
    // Three bins need 150 rows.
    function.answer(&features(100)).await.unwrap();
    freeze(&function, &s3).await;
    cloudwatch.let_pass(crate::support::LONG);
    function.answer(&features(100)).await.unwrap();
    let log = function.shutdown().await.text();
    let reports: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("measured the drift"))
        .collect();
    assert!(
        matches!(reports[..], [report] if report.contains("rows=200 ")),
        "{log}"
    );
    let count = cloudwatch.count(&Filter::metric("FeatureDriftWorst"));
    assert!((count - 1.0).abs() < 1e-9, "{count}");
}

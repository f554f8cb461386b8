//! Functions whose metrics the dashboard and the alarms of `layer/deploy` show.

use lab::cloudwatch::CloudWatch;
use lab::lambda::{Builder, Clock, Function};
use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::support::layout::manifest;
use crate::support::{BUCKET, features, model, platform};
use lab::reference::WINE;

const MANIFEST: &str = "wine/manifest.json";
/// Location of the manifest that [`publish`] writes.
pub(super) const URI: &str = "s3://models/wine/manifest.json";
/// Log line of a rollback.
pub(super) const ROLLED_BACK: &str = "rollback: the previous version is active";

/// Function that sends all metrics at every invocation, and completes its reloads in it.
pub(super) fn measured(s3: &S3Server, cloudwatch: &CloudWatch) -> Builder {
    platform(s3)
        .envs(cloudwatch.env())
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_SET", "all")
        .env("MODEL_METRICS_INTERVAL", "0")
        .env("MODEL_REFRESH_INTERVAL", "1s")
        .env("MODEL_TAIL_BUDGET", "30s")
        .env("MODEL_DRIFT_SAMPLE", "1000")
        .clock(Clock::Jumps)
}

/// Placeholders of the generated files, with thresholds that differ from the defaults.
pub(super) fn parameters(thresholds: &[(&str, f64)]) -> Vec<(String, String)> {
    let path = lab::artifacts::workspace().join("layer/deploy/monitoring.template.json");
    let template: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut parameters: Vec<(String, String)> = template["Parameters"]
        .as_object()
        .unwrap()
        .iter()
        .filter_map(|(name, one)| Some((name.clone(), one["Default"].as_str()?.to_owned())))
        .filter(|(name, _)| thresholds.iter().all(|(other, _)| name != other))
        .collect();
    for (name, value) in [("FunctionName", "lab"), ("ModelName", "wine")] {
        parameters.push((name.to_owned(), value.to_owned()));
    }
    for (name, value) in thresholds {
        parameters.push(((*name).to_owned(), value.to_string()));
    }
    parameters
}

pub(super) fn deployed(name: &str) -> String {
    let path = lab::artifacts::workspace().join("layer/deploy").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// Publishes `current` of these versions, all with a baseline from the rows, and version 1 with a golden example.
pub(super) fn publish(
    s3: &S3Server,
    current: &str,
    versions: &[(&str, &str)],
    golden: Option<&Value>,
) {
    for (name, file) in versions {
        s3.put(BUCKET, &format!("wine/{name}/model.onnx"), model(file));
    }
    let mut manifest: Value = serde_json::from_slice(&manifest(current, versions)).unwrap();
    for (name, _) in versions {
        manifest["versions"][*name]["baseline"] = baseline();
    }
    if let Some(golden) = golden {
        manifest["versions"][versions[0].0]["golden"] = json!([golden]);
    }
    s3.put(BUCKET, MANIFEST, manifest.to_string());
}

/// Histograms of the first feature and of the label over all rows.
fn baseline() -> Value {
    let edges = [11.0, 12.5, 13.5, 15.0];
    let mut counts = [0; 3];
    for row in &WINE.rows {
        counts[usize::from(row[0] >= edges[1]) + usize::from(row[0] >= edges[2])] += 1;
    }
    json!([
        {"input": "X", "column": 0, "edges": edges, "counts": counts},
        {"output": "output_label", "edges": [0, 1, 2, 3], "counts": [59, 71, 48]},
    ])
}

/// Invokes with a row until the log meets a condition.
pub(super) async fn invoke_until(function: &Function, wanted: &str, holds: impl Fn(&str) -> bool) {
    let invoking = async {
        while !holds(&function.log().text()) {
            function.invoke(&features(1)).await;
        }
    };
    let met = tokio::time::timeout(lab::WAIT_LIMIT, invoking).await;
    assert!(met.is_ok(), "{wanted}:\n{}", function.log().text());
}

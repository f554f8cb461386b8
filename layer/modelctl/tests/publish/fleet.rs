//! `modelctl status --function`: what a fleet reports, on the lab's CloudWatch. The sidecar's own sink sends the
//! metrics.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use lab::cloudwatch::CloudWatch;
use lab::credentials::{ACCESS_KEY, REGION, SECRET_KEY};
use model_sidecar::clock::Timestamp;
use model_sidecar::config::MetricsDimensions;
use model_sidecar::metrics::defs::{self, find};
use model_sidecar::metrics::{CloudWatchSink, Datum, DeliveryProgress, Dimensions, Sink as _};
use serde_json::json;

use crate::support::{Store, model};

/// Start of the current minute, in milliseconds since 1970.
fn minute() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs() / 60 * 60_000
}

fn datum(metric: &str, version: Option<&str>, minute: u64, value: f64) -> Datum {
    Datum {
        metric: find(metric).unwrap(),
        model: Some("fraud".to_owned()),
        version: version.map(str::to_owned),
        minute: Timestamp(minute),
        values: vec![(value, 1.0)],
    }
}

/// Sends the data as the environments of the function `fraud` in the stage `prod` do.
async fn report(cloudwatch: &CloudWatch, data: &[Datum]) {
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "lab");
    let aws = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(lab::http::sdk_client())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(Region::new(REGION))
        .endpoint_url(cloudwatch.url())
        .build();
    let added = MetricsDimensions {
        constants: vec![("Stage".to_owned(), "prod".to_owned())],
        has_version: false,
    };
    let dimensions = Dimensions::new(Some("fraud".to_owned()), added);
    let sink = CloudWatchSink::new(&aws, "ModelSidecar".to_owned(), dimensions);
    let progress = DeliveryProgress::default();
    sink.send(data, &progress).await.unwrap();
    assert_eq!(progress.settled(), data.len());
    assert!(progress.take_rejected().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_versions_of_a_fleet_are_compared_with_the_manifest() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let mut store = Store::lab().await;
    store.variables = cloudwatch.env();
    let uri = store.uri();
    for version in ["wine-v1.onnx", "wine-v2.onnx"] {
        let publish = ["publish", &model(version), &uri, "--no-load"];
        store.ok(&publish).await;
    }
    let error = store
        .fails(1, &["status", &uri, "--function", "fraud"])
        .await;
    assert!(
        error.contains("cannot find metrics of function \"fraud\""),
        "{error}"
    );

    let now = minute();
    let datum = |metric, version, minutes_ago: u64, value| {
        datum(metric, version, now - 60_000 * minutes_ago, value)
    };
    let version = |version, minutes_ago, environments| {
        datum(
            defs::ACTIVE_VERSION,
            Some(version),
            minutes_ago,
            environments,
        )
    };
    report(
        &cloudwatch,
        &[
            version("1", 3, 4.0),
            version("1", 2, 1.0),
            // Two reports of the same minute.
            version("0", 2, 2.0),
            version("0", 2, 1.0),
            datum(defs::MODEL_RELOAD_FAILURES, None, 3, 2.0),
            datum(defs::MODEL_RELOAD_FAILURES, None, 2, 1.0),
            datum(defs::MODEL_AGE, None, 3, 70.0),
            datum(defs::MODEL_AGE, None, 2, 12.0),
            datum(defs::MODEL_VERSION_LAG, None, 2, 300.0),
            // Outside of the range.
            version("1", 30, 9.0),
            datum(defs::MODEL_ROLLBACKS, None, 30, 1.0),
        ],
    )
    .await;
    let status = store.ok(&["status", &uri, "--function", "fraud"]).await;
    let fleet = &status["fleet"];
    let found = &fleet["models"][0];
    let versions: Vec<_> = found["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| {
            json!([
                version["version"],
                version["roles"],
                version["environments"],
                version["max_environments"]
            ])
        })
        .collect();
    assert_eq!(
        versions,
        [
            json!(["0", [], 3.0, 3.0]),
            json!(["1", ["previous"], 1.0, 4.0])
        ]
    );
    assert_eq!(found["reload_failures"], json!(3.0));
    assert_eq!(found["rollbacks"], json!(0.0));
    assert_eq!(found["age_seconds"], json!(12.0));
    assert_eq!(found["version_lag_seconds"], json!(300.0));
    let notes = fleet["notes"].to_string();
    assert!(
        notes.contains("no environment reports version 2"),
        "{notes}"
    );
    assert!(notes.contains("environments report version 0"), "{notes}");

    let longer = ["status", &uri, "--function", "fraud", "--minutes", "60"];
    let status = store.ok(&longer).await;
    let found = &status["fleet"]["models"][0];
    assert_eq!(found["versions"][1]["max_environments"], json!(9.0));
    assert_eq!(found["rollbacks"], json!(1.0));
    let text = store.text(&longer).await;
    assert!(text.contains("rollbacks 1;"), "{text}");

    let other = ["status", &uri, "--function", "fraud", "--model", "wine"];
    assert_eq!(store.ok(&other).await["fleet"]["models"], json!([]));

    cloudwatch.fail_next(1, 403, "AccessDenied");
    let error = store
        .fails(1, &["status", &uri, "--function", "fraud"])
        .await;
    assert!(error.contains("grant cloudwatch:ListMetrics"), "{error}");
}

//! The arm64 release, under qemu on a machine of another architecture.
//!
//! `make test-arm64` builds and unpacks it, and runs these tests. `unpack.py` puts a script in place of each program,
//! which executes qemu with the program. The platform, S3 and the clients are those of all other tests.

use std::time::Duration;

use lab::lambda::{Builder, Function};
use lab::s3::S3Server;
use serde_json::Value;

use crate::support::any_s3::AnyS3;
use crate::support::magika::Magika;
use crate::support::operators::answers_a_text_and_a_photo;
use crate::support::{BUCKET, KEY, Store, features, model, on_platform};
use lab::reference::{WINE, numbers};

/// Maximum time of an Init and of an invocation: qemu translates every program anew.
const LIMIT: Duration = Duration::from_secs(50);

/// The unpacked release on the lab's platform.
fn emulated(s3: &impl Store) -> Builder {
    let folder = lab::artifacts::workspace().join("target/arm64");
    assert!(folder.join("layer").is_dir(), "run `make test-arm64`");
    let function = Function::of(folder.join("layer"), folder.join("function"));
    on_platform(function, s3)
        .env("MODEL_REFRESH_INTERVAL", "1s")
        .env("MODEL_METRICS", "emf")
        .env("MODEL_METRICS_INTERVAL", "1h")
        .init_limit(LIMIT)
        .timeout(LIMIT)
}

/// Compares answers of one version, then of the next, and shuts the environment down.
async fn reloads_and_shuts_down(function: Function, s3: &AnyS3) {
    let answer = async || function.answer(&features(9)).await.unwrap();
    WINE.v1.check(&answer().await, 0..9);
    let environment = function.environment().unwrap();
    let programs = environment.processes("qemu-aarch64");
    assert_eq!(programs.len(), 2, "sidecar and handler run under qemu");

    s3.put(KEY, model("wine-v2.onnx")).await;
    let mut inferences = 2;
    let reloaded = async {
        while let answer = answer().await
            && WINE.v2.differs(&answer, 0..9).is_some()
        {
            WINE.v1.check(&answer, 0..9);
            inferences += 1;
        }
    };
    let reloaded = tokio::time::timeout(lab::WAIT_LIMIT, reloaded).await;
    reloaded.expect("the new version answers");

    environment.wait_until_frozen().await.unwrap();
    let log = function.shutdown().await.text();
    let (before, after) = log.split_once("shutting down reason=\"spindown\"").unwrap();
    assert!(!log.contains("ERROR"), "{log}");
    assert!(
        !before.contains("_aws"),
        "metrics are due in an hour: {log}"
    );
    let metrics = after
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let counts = metrics.flat_map(|line: Value| numbers(&line["Inferences"]));
    let sent: f64 = counts.sum();
    assert!(
        (sent - f64::from(inferences)).abs() < 0.5,
        "{inferences} inferences: {log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the arm64 release and qemu: `make test-arm64`"]
async fn the_handler_forwards() {
    let s3 = AnyS3::lab().await.holds("wine-v1.onnx").await;
    let function = emulated(&s3).start().await.unwrap();
    reloads_and_shuts_down(function, &s3).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the arm64 release and qemu: `make test-arm64`"]
async fn the_sidecar_is_the_runtime() {
    let s3 = AnyS3::seaweedfs().await.holds("wine-v1.onnx").await;
    let function = emulated(&s3).env("MODEL_HANDLER", "attach");
    let function = function.start().await.unwrap();
    reloads_and_shuts_down(function, &s3).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the arm64 release and qemu: `make test-arm64`"]
async fn magika_classifies_files_as_in_python() {
    let magika = Magika::read();
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, "magika", Magika::network());
    let function = emulated(&s3).env("MODEL_URI", format!("s3://{BUCKET}/magika"));
    let function = function.env("MODEL_NAME", "magika").start().await.unwrap();
    for case in magika.cases() {
        let reply: Value = function.answer(&case.event()).await.unwrap();
        magika.check(case, &reply);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the arm64 release and qemu: `make test-arm64`"]
async fn the_layer_of_operators_decodes_a_text_and_a_photo() {
    let s3 = S3Server::start().await.unwrap();
    answers_a_text_and_a_photo(&s3, emulated(&s3)).await;
}

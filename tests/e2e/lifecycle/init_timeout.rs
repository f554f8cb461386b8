//! An Init that is shorter than the download.
//!
//! No byte is downloaded twice, whether the platform times out, `MODEL_INIT_BUDGET` ends or the environment freezes.

use std::time::Duration;

use lab::gate::Gate;
use lab::lambda::{Clock, Function};
use lab::s3::{Rule, S3Server};

use crate::support::{
    assert_only_kept, cached, downloads, features, freeze, model, platform, s3_with, until,
    with_both_clocks,
};
use lab::reference::WINE;

with_both_clocks!(provisioned_init_without_the_model_resumes_the_download_after_a_freeze,);

/// Bytes of the model that arrive before the download stalls.
const ARRIVED: u64 = 500;

/// S3 server whose first response stalls after [`ARRIVED`] bytes until the gate opens.
async fn stalling_s3() -> (S3Server, Gate) {
    let s3 = s3_with("wine-v1.onnx").await;
    let stopped = Gate::new();
    s3.fail(Rule::on("GET").first(1).stall_after(ARRIVED, &stopped));
    (s3, stopped)
}

/// Asserts that the second request asked for the missing range only.
fn assert_each_byte_once(s3: &S3Server) {
    let size = model("wine-v1.onnx").len() as u64;
    let rest = format!("bytes={ARRIVED}-{}", size - 1);
    assert_eq!(
        downloads(s3),
        [(Some(200), None), (Some(206), Some(rest))],
        "each byte is requested once"
    );
    let sent: u64 = s3.requests().iter().map(|one| one.sent).sum();
    assert_eq!(sent, size);
}

/// Number of Inits that the platform has started.
fn inits(function: &Function) -> usize {
    function.log().text().matches("INIT_START").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn init_budget_below_the_limit_prevents_a_timeout() {
    let (s3, stopped) = stalling_s3().await;
    let function = platform(&s3)
        .init_limit(Duration::from_secs(10))
        .env("MODEL_INIT_BUDGET", "1ms");
    let function = function.start().await.unwrap();
    let event = features(9);
    let (answer, ()) = tokio::join!(function.answer(&event), async {
        stopped.reached(1).await.unwrap();
        let log = function.log();
        let over = "MODEL_INIT_BUDGET has passed before all models are active";
        log.wait_for(over).await.unwrap();
        // The function has received the request, which waits for the model.
        log.wait_for("START RequestId").await.unwrap();
        stopped.open();
    });
    WINE.v1.check(&answer.unwrap(), 0..9);
    assert_eq!(inits(&function), 1);
    assert_eq!(downloads(&s3), [(Some(200), None)], "one transfer");
    let [report] = function
        .wait_for_reports(1)
        .await
        .unwrap()
        .try_into()
        .unwrap();
    assert!(report.init.is_some(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_after_a_timeout_resumes_the_download() {
    let (s3, _stopped) = stalling_s3().await;
    let function = platform(&s3)
        .init_limit(Duration::from_secs(2))
        .env("MODEL_INIT_BUDGET", "20s");
    let function = function.start().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let log = function.log().text();
    assert!(log.contains("Phase: init\tStatus: timeout"), "{log}");
    assert_eq!(inits(&function), 2);
    assert_each_byte_once(&s3);
    let environment = function.environment().unwrap();
    assert_only_kept(&environment, &[&model("wine-v1.onnx")], &["wine"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_after_a_required_model_was_missing_resumes_the_download() {
    let (s3, _stopped) = stalling_s3().await;
    let function = platform(&s3)
        .env("MODEL_REQUIRED", "true")
        .env("MODEL_INIT_BUDGET", "2s");
    let function = function.start().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);

    let environment = function.environment().unwrap();
    let trace = environment.trace();
    let errors = trace
        .iter()
        .filter(|call| call.path.ends_with("/init/error"));
    let [error] = errors.collect::<Vec<_>>().try_into().unwrap();
    let said: serde_json::Value = serde_json::from_str(&error.request).unwrap();
    assert_eq!(said["errorType"], "Extension.ModelRequired");
    let words = said["errorMessage"].as_str().unwrap();
    for part in [
        "MODEL_REQUIRED=true",
        "model \"wine\" is still being loaded",
        "MODEL_INIT_BUDGET (2000 ms) has passed",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert_eq!(inits(&function), 2);
    assert_each_byte_once(&s3);
}

async fn provisioned_init_without_the_model_resumes_the_download_after_a_freeze(clock: Clock) {
    let (s3, stopped) = stalling_s3().await;
    let function = platform(&s3)
        .initialization_type("provisioned-concurrency")
        .env("MODEL_INIT_BUDGET", "1ms")
        .clock(clock);
    let function = function.start().await.unwrap();
    let environment = function.environment().unwrap();
    environment.wait_until_frozen().await.unwrap();
    // Let the download reach its middle, however short Init was.
    environment.thaw().await.unwrap();
    stopped.reached(1).await.unwrap();
    until("the bytes that arrived, in the cache", || {
        cached(&environment)
            .values()
            .any(|&length| length == ARRIVED)
    })
    .await;
    environment.freeze().await.unwrap();
    freeze(&function, &s3).await;
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    assert_eq!(inits(&function), 1);
    assert_each_byte_once(&s3);
}

//! A process that dies is started again, and finds the model where it was.

use lab::rie::ExecutionEnvironment;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{features, lambda, s3_with, transfers};
use lab::reference::WINE;

/// Rows of a request.
const ROWS: usize = 9;

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_crashes_takes_the_extension_along_and_both_come_back() {
    comes_back_after_the_death_of("bootstrap").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_crashes_comes_back() {
    comes_back_after_the_death_of("model-sidecar").await;
}

async fn comes_back_after_the_death_of(name: &str) {
    let s3 = s3_with("wine-v1.onnx").await;
    let lambda = lambda(&s3).start().await.unwrap();
    let before = lambda.answer(&features(ROWS)).await.unwrap();
    let processes = lambda.processes("model-sidecar");
    lambda.kill(name, Signal::SIGKILL).unwrap();

    let after = tokio::time::timeout(lab::WAIT_LIMIT, answered_again(&lambda))
        .await
        .unwrap();
    WINE.v1.check(&after, 0..ROWS);
    assert_eq!(after["model_version"], before["model_version"]);
    for _ in 0..3 {
        WINE.v1
            .check(&lambda.answer(&features(ROWS)).await.unwrap(), 0..ROWS);
    }
    assert_ne!(
        lambda.processes("model-sidecar"),
        processes,
        "started again"
    );
    let ready = |line: &String| line.contains(" ready ");
    assert_eq!(
        lambda
            .log()
            .lines()
            .iter()
            .filter(|line| ready(line))
            .count(),
        2
    );
    assert_eq!(
        transfers(&s3).len(),
        1,
        "the second start has the model in its cache"
    );
    let [_, check] = s3.requests().try_into().unwrap();
    assert_eq!((check.status, check.sent), (Some(304), 0), "{check:?}");
}

/// Invokes until there is an answer. The emulator finds the death at the first invocation after
/// it, which then fails; the platform starts all again at the next.
async fn answered_again(lambda: &ExecutionEnvironment) -> Value {
    loop {
        let invocation = lambda.invoke(&features(ROWS)).await.unwrap();
        // The other process may answer once more before the emulator notices.
        let starts = lambda.log().text().matches(" ready ").count();
        if let Some(answer) = invocation.json
            && answer["prediction"].is_array()
            && starts == 2
        {
            return answer;
        }
    }
}

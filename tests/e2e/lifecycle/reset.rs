//! A reset of the environment, which keeps `/tmp`: the next start loads the model from its cache.

use lab::lambda::{Clock, Function, ShutdownReason, State};
use lab::s3::S3Server;
use nix::sys::signal::Signal;

use crate::support::{
    alive, assert_only_kept, features, freeze, model, platform, s3_with, transfers, until,
    with_both_clocks,
};
use lab::reference::WINE;

with_both_clocks!(
    start_after_a_reset_uses_the_cache,
    start_after_a_crash_of_the_function_uses_the_cache,
    start_after_a_crash_of_the_sidecar_uses_the_cache,
);

/// Function that has served a request and has been frozen for an hour since.
async fn frozen(clock: Clock) -> (S3Server, Function) {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = platform(&s3).clock(clock).start().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    freeze(&function, &s3).await;
    (s3, function)
}

/// Asserts that the next start serves after one conditional request and no download. `starts` includes it.
async fn assert_uses_the_cache(s3: &S3Server, function: &Function, starts: usize) {
    let environment = function.environment().unwrap();
    environment.wait_until(State::Empty).await.unwrap();
    let before = s3.requests().len();
    let all = WINE.rows.len();
    let answer = function.answer(&features(all)).await.unwrap();
    WINE.v1.check(&answer, 0..all);
    let [check] = s3.requests().split_off(before).try_into().unwrap();
    assert!(check.if_none_match.is_some(), "{check:?}");
    assert_eq!((check.status, check.sent), (Some(304), 0), "{check:?}");
    assert_eq!(transfers(s3).len(), 1, "{:?}", s3.requests());
    // The environment may have frozen before the log line of the start.
    alive(function).await;
    let ready = || function.log().text().matches(" ready ").count();
    until("the last start", || ready() == starts).await;
    assert_only_kept(&environment, &[&model("wine-v1.onnx")], &["wine"]).await;
}

async fn start_after_a_reset_uses_the_cache(clock: Clock) {
    let (s3, function) = frozen(clock).await;
    let environment = function.environment().unwrap();
    environment.reset(ShutdownReason::Failure).await.unwrap();
    assert_uses_the_cache(&s3, &function, 2).await;
}

async fn start_after_a_crash_of_the_function_uses_the_cache(clock: Clock) {
    let (s3, function) = frozen(clock).await;
    crash("bootstrap", "Runtime.ExitError", &function).await;
    let log = function.log();
    log.wait_for("shutting down reason=\"failure\"")
        .await
        .unwrap();
    assert_uses_the_cache(&s3, &function, 2).await;
}

async fn start_after_a_crash_of_the_sidecar_uses_the_cache(clock: Clock) {
    let (s3, function) = frozen(clock).await;
    crash("model-sidecar", "Extension.Crash", &function).await;
    assert_uses_the_cache(&s3, &function, 2).await;
}

/// Kills a process; asserts that the next invocation fails with this type of error.
async fn crash(name: &str, kind: &str, function: &Function) {
    let environment = function.environment().unwrap();
    environment.kill(name, Signal::SIGKILL).unwrap();
    until("its end", || environment.processes(name).is_empty()).await;
    let failed = function.invoke(&features(1)).await;
    assert_eq!(failed.function_error().unwrap().error_type, kind);
}

//! A `/tmp` without enough space: the error names sizes and remedy, and the active version keeps serving.
//!
//! Limiting the size of `/tmp` needs root; the tests are skipped for other users.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use lab::lambda::{Builder, Clock, Function, ShutdownReason};
use lab::s3::S3Server;
use serde_json::Value;

use crate::support::{
    BUCKET, KEY, assert_only_kept, body, error, features, freeze, http_event, invoke_until_logged,
    model, padded, platform, s3_with, with_both_clocks,
};
use lab::reference::WINE;

with_both_clocks!(
    a_version_without_space_loads_once_there_is_space,
    a_model_larger_than_tmp_is_an_error_with_a_remedy,
    a_full_disk_keeps_the_active_version,
    the_active_version_is_evicted_where_two_do_not_fit,
    an_unwritable_cache_directory_is_replaced_by_the_default,
);

/// Size of `/tmp`.
const TMP_MB: u32 = 8;
const MB: usize = 1024 * 1024;

/// Starts a function with a `/tmp` of [`TMP_MB`]; returns `None` without root.
async fn start(builder: Builder) -> Option<Function> {
    let function = builder.tmp_mb(TMP_MB).start().await.unwrap();
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        let refused = function.invoke(&features(1)).await.text();
        assert!(refused.contains("takes root"), "{refused}");
        return None;
    }
    Some(function)
}

/// As [`start`], with version 1 active and a poll at every invocation.
async fn with_version_1(s3: &S3Server, clock: Clock) -> Option<Function> {
    let function = platform(s3)
        .env("MODEL_REFRESH_INTERVAL", "0")
        .env("MODEL_TAIL_BUDGET", "30s")
        .clock(clock);
    let function = start(function).await?;
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    Some(function)
}

/// Writes a file of this size to `/tmp`, as a function might.
fn fill(function: &Function, bytes: usize) -> PathBuf {
    let environment = function.environment().unwrap();
    let file = environment.tmp().join("of-the-function");
    fs::write(&file, vec![0; bytes]).unwrap();
    file
}

fn assert_says_what_to_do(words: &str, needs: usize) {
    for part in [
        "not enough cache space for the model",
        &format!("{needs} bytes are required"),
        "bytes are available in MODEL_CACHE_DIR",
        "raise the function's ephemeral storage",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
}

async fn a_version_without_space_loads_once_there_is_space(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let Some(function) = with_version_1(&s3, clock).await else {
        return;
    };
    let in_the_way = fill(&function, 5 * MB);
    let large = padded("wine-v2.onnx", 4 * MB);
    s3.put(BUCKET, KEY, large.clone());
    for _ in 0..2 {
        freeze(&function, &s3).await;
        WINE.v1
            .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    }
    let stays = "keeping the active version: not enough cache space";
    let words = function.log().wait_for(stays).await.unwrap();
    assert_says_what_to_do(&words, large.len());

    // The next start behaves the same.
    let environment = function.environment().unwrap();
    environment.reset(ShutdownReason::Failure).await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    assert_only_kept(&environment, &[&model("wine-v1.onnx")], &["wine"]).await;

    fs::remove_file(in_the_way).unwrap();
    // Failed polls have increased the interval.
    invoke_until_logged(&function, "a new version is active").await;
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    assert_only_kept(&environment, &[&large], &["wine"]).await;
}

async fn a_model_larger_than_tmp_is_an_error_with_a_remedy(clock: Clock) {
    let s3 = S3Server::start().await.unwrap();
    let large = padded("wine-v1.onnx", 9 * MB);
    s3.put(BUCKET, KEY, large.clone());
    let function = platform(&s3).clock(clock);
    let Some(function) = start(function).await else {
        return;
    };
    let event = http_event("POST", "/predict", &features(2));
    for _ in 0..2 {
        let answer = function.answer(&event).await.unwrap();
        assert_eq!(answer["statusCode"], 503, "{answer}");
        assert_says_what_to_do(error(&body(&answer)), large.len());
        freeze(&function, &s3).await;
    }
    let environment = function.environment().unwrap();
    assert_only_kept(&environment, &[], &[]).await;
    s3.put(BUCKET, KEY, model("wine-v1.onnx"));
    let ready = http_event("GET", "/v2/health/live", &Value::Null);
    function.answer(&ready).await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
}

async fn a_full_disk_keeps_the_active_version(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = platform(&s3).clock(clock);
    let Some(function) = start(function).await else {
        return;
    };
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    // No byte is left for a journal, a load marker or a socket.
    let environment = function.environment().unwrap();
    let free = nix::sys::statvfs::statvfs(environment.tmp()).unwrap();
    let free = usize::try_from(free.blocks_available() * free.fragment_size()).unwrap();
    let in_the_way = fill(&function, free);
    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    freeze(&function, &s3).await;
    environment.reset(ShutdownReason::Failure).await.unwrap();
    let log = function.log();
    let answer = function.answer(&features(9)).await.unwrap();
    WINE.v1.check(&answer, 0..9);
    log.wait_for("keeping the active version: not enough cache space")
        .await
        .unwrap();

    fs::remove_file(in_the_way).unwrap();
    freeze(&function, &s3).await;
    invoke_until_logged(&function, "a new version is active").await;
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let kept = ["wine-v1.onnx", "wine-v2.onnx"].map(model);
    assert_only_kept(&environment, &[&kept[0], &kept[1]], &["wine"]).await;
}

async fn the_active_version_is_evicted_where_two_do_not_fit(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    s3.put(BUCKET, KEY, padded("wine-v1.onnx", 5 * MB));
    let Some(function) = with_version_1(&s3, clock).await else {
        return;
    };
    s3.put(BUCKET, KEY, padded("wine-v2.onnx", 5 * MB));
    freeze(&function, &s3).await;
    function.answer(&features(9)).await.unwrap();
    let swapped = "a new version is active";
    function.log().wait_for(swapped).await.unwrap();
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let said = function.log().text();
    assert!(
        said.contains("the disk has no space for two versions"),
        "{said}"
    );
}

async fn an_unwritable_cache_directory_is_replaced_by_the_default(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = platform(&s3)
        .env("MODEL_CACHE_DIR", "/opt/cache")
        .clock(clock)
        .start()
        .await
        .unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let said = function.log().text();
    for part in [
        "/opt/cache",
        "set MODEL_CACHE_DIR to a directory that this process can write",
        "using /tmp/model-sidecar instead",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

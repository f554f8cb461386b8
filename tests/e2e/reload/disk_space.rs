//! A `/tmp` that is too small. The reason names the sizes and what to do about it, what answers goes on
//! answering, and nothing that was left behind is in the way once there is room.
//!
//! To give `/tmp` a size takes root; anyone else is told so, and nothing is tried.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use lab::lambda::{Builder, Clock, Function, ShutdownReason};
use lab::s3::S3Server;
use serde_json::Value;

use crate::support::{
    BUCKET, KEY, assert_only_kept, body, error, features, freeze, http_event, model, padded,
    platform, s3_with, with_both_clocks,
};
use lab::reference::WINE;

with_both_clocks!(
    a_new_version_that_has_no_room_changes_nothing_and_is_taken_once_there_is,
    a_model_that_never_fits_is_refused_in_words_that_help,
    a_full_disk_is_no_obstacle_once_it_is_empty,
    where_two_versions_have_no_room_the_file_of_the_one_that_answers_goes,
    a_cache_directory_that_cannot_be_written_keeps_no_model_from_answering,
);

/// The size of `/tmp`.
const TMP_MB: u32 = 8;
const MB: usize = 1024 * 1024;

/// The function with a `/tmp` of [`TMP_MB`]; `None` for whoever may not mount one.
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

/// The same with a check at every invocation, and version 1 answering.
async fn answering(s3: &S3Server, clock: Clock) -> Option<Function> {
    let function = platform(s3)
        .env("MODEL_REFRESH_INTERVAL", "0")
        .env("MODEL_TAIL_BUDGET", "30s")
        .clock(clock);
    let function = start(function).await?;
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    Some(function)
}

/// Fills so much of `/tmp`, as a function's own files do.
fn fill(function: &Function, bytes: usize) -> PathBuf {
    let environment = function.environment().unwrap();
    let file = environment.tmp().join("of-the-function");
    fs::write(&file, vec![0; bytes]).unwrap();
    file
}

fn assert_says_what_to_do(words: &str, needs: usize) {
    for part in [
        "no room for the model",
        &format!("it needs {needs} bytes"),
        "MODEL_CACHE_DIR has ",
        "raise the function's ephemeral storage",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
}

async fn a_new_version_that_has_no_room_changes_nothing_and_is_taken_once_there_is(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let Some(function) = answering(&s3, clock).await else {
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
    let stays = "the version that answers stays: no room";
    let words = function.log().wait_for(stays).await.unwrap();
    assert_says_what_to_do(&words, large.len());

    // Neither for the next start.
    let environment = function.environment().unwrap();
    environment.reset(ShutdownReason::Failure).await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    assert_only_kept(&environment, &[&model("wine-v1.onnx")], &["wine"]).await;

    fs::remove_file(in_the_way).unwrap();
    // Checks that failed have made the next ones rarer.
    let log = function.log();
    while !log.text().contains("another version answers from now on") {
        function.answer(&features(1)).await.unwrap();
    }
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    assert_only_kept(&environment, &[&large], &["wine"]).await;
}

async fn a_model_that_never_fits_is_refused_in_words_that_help(clock: Clock) {
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

async fn a_full_disk_is_no_obstacle_once_it_is_empty(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = platform(&s3).clock(clock);
    let Some(function) = start(function).await else {
        return;
    };
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    // Not a byte is left, for a journal, a mark or a socket.
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
    log.wait_for("the version that answers stays: no room")
        .await
        .unwrap();

    fs::remove_file(in_the_way).unwrap();
    freeze(&function, &s3).await;
    function.answer(&features(1)).await.unwrap();
    log.wait_for("another version answers from now on")
        .await
        .unwrap();
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let kept = ["wine-v1.onnx", "wine-v2.onnx"].map(model);
    assert_only_kept(&environment, &[&kept[0], &kept[1]], &["wine"]).await;
}

async fn where_two_versions_have_no_room_the_file_of_the_one_that_answers_goes(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    s3.put(BUCKET, KEY, padded("wine-v1.onnx", 5 * MB));
    let Some(function) = answering(&s3, clock).await else {
        return;
    };
    s3.put(BUCKET, KEY, padded("wine-v2.onnx", 5 * MB));
    freeze(&function, &s3).await;
    function.answer(&features(9)).await.unwrap();
    let swapped = "another version answers from now on";
    function.log().wait_for(swapped).await.unwrap();
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let said = function.log().text();
    assert!(said.contains("there is no room for two versions"), "{said}");
}

async fn a_cache_directory_that_cannot_be_written_keeps_no_model_from_answering(clock: Clock) {
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
        "MODEL_CACHE_DIR must be a directory that this process can write",
        "model files go to /tmp/model-sidecar meanwhile",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

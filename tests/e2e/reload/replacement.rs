//! Reloads without enough memory for two versions: the new version replaces the active one, and requests wait.
//!
//! The models are the wine models with a comment of 60 MB. ONNX Runtime keeps it twice: a load needs 180 MB, and a
//! loaded model 120 MB.

use std::sync::Arc;

use lab::lambda::{Builder, Clock, Function, Limits, Status};
use lab::s3::S3Server;
use tokio::sync::watch;

use crate::support::any_s3::{AnyS3, with_every_s3};
use crate::support::load_client::{ENOUGH, LoadClient, check, version};
use crate::support::{
    Alone, BUCKET, KEY, features, freeze, http_event, model, padded, platform, s3_with, transfers,
};
use lab::reference::WINE;

with_every_s3!(with_replace_requests_wait_and_none_fails);

/// Enough memory to load one version, not enough for a second one.
const MEMORY_MB: u32 = 288;
const MODEL_BYTES: usize = 60 << 20;
/// Logged when a version replaces the active one.
const REPLACES: &str = "replacing the active version";
const SWAPPED: &str = "a new version is active";

async fn with_replace_requests_wait_and_none_fails(s3: AnyS3) {
    let s3 = s3.holds("wine-v1.onnx").await;
    let variables = [
        ("MODEL_REFRESH_INTERVAL", "100ms"),
        ("MODEL_RELOAD", "replace"),
    ];
    let alone = Alone::ready(&s3, &variables).await;
    let v1 = version(&alone.predict(1).await.json().unwrap());
    let stop = Arc::new(watch::Sender::new(false));
    let mut clients: Vec<LoadClient> = (0..4)
        .map(|_| LoadClient::start(&alone.client(), Arc::clone(&stop)))
        .collect();
    for client in &mut clients {
        client.more(ENOUGH).await;
    }
    s3.put(KEY, model("wine-v2.onnx")).await;
    alone.process.wait_for(REPLACES).await.unwrap();
    for client in &mut clients {
        client.more(ENOUGH).await;
    }
    alone.process.wait_for(SWAPPED).await.unwrap();
    for client in &mut clients {
        client.more(ENOUGH).await;
    }
    stop.send_replace(true);
    let v2 = version(&alone.predict(1).await.json().unwrap());
    for client in clients {
        check(&client.task.await.unwrap(), &v1, &v2);
    }
    let said = alone.process.log().text();
    assert!(said.contains("MODEL_RELOAD is replace"), "{said}");
}

/// Function with little memory and version 1 active.
async fn with_version_1(s3: &S3Server, builder: Builder) -> Function {
    s3.put(BUCKET, KEY, padded("wine-v1.onnx", MODEL_BYTES));
    let function = builder
        .memory_mb(MEMORY_MB)
        .limit_resources(true)
        .clock(Clock::Jumps)
        .timeout(lab::WAIT_LIMIT)
        .env("MODEL_REFRESH_INTERVAL", "0")
        .start();
    let function = function.await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    freeze(&function, s3).await;
    function
}

/// Statuses of `count` invocations after the first `known`.
async fn statuses(function: &Function, known: usize, count: usize) -> Vec<Status> {
    let reports = function.wait_for_reports(known + count).await.unwrap();
    let reports = reports.into_iter().skip(known);
    reports.map(|report| report.status).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_for_two_versions_invocations_wait_and_none_fails() {
    let s3 = s3_with("wine-v1.onnx").await;
    // No tail budget: the load runs during the invocations that wait for it.
    let builder = platform(&s3).env("MODEL_TAIL_BUDGET", "0");
    let function = with_version_1(&s3, builder).await;
    let v1 = version(&function.answer(&features(1)).await.unwrap());
    s3.put(BUCKET, KEY, padded("wine-v2.onnx", MODEL_BYTES));
    let swap = async {
        loop {
            let answer = function.answer(&features(9)).await.unwrap();
            if version(&answer) != v1 {
                return answer;
            }
            WINE.v1.check(&answer, 0..9);
        }
    };
    let answer = tokio::time::timeout(lab::WAIT_LIMIT, swap).await.unwrap();
    WINE.v2.check(&answer, 0..9);
    let said = function.log().text();
    let why = said.lines().find(|line| line.contains(REPLACES)).unwrap();
    assert!(why.contains("MB, and"), "{why}");
    assert!(why.contains("MB are free"), "{why}");
    let reports = function.reports();
    let failed = reports
        .iter()
        .filter(|report| report.status != Status::Success);
    assert_eq!(failed.count(), 0, "{reports:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_replacement_restores_the_previous_version() {
    let s3 = s3_with("wine-v1.onnx").await;
    let builder = platform(&s3)
        .clock(Clock::StandsStill)
        .env("MODEL_RELOAD", "replace")
        .env("MODEL_TAIL_BUDGET", "0")
        .env("MODEL_REFRESH_INTERVAL", "0");
    let function = builder.start().await.unwrap();
    let v1 = version(&function.answer(&features(1)).await.unwrap());
    for (bad, file) in ["garbage.onnx", "truncated.onnx"].into_iter().enumerate() {
        s3.put(BUCKET, KEY, model(file));
        let log = function.log();
        let refused = || log.text().matches("keeping the active version").count() > bad;
        let swap = async {
            while !refused() {
                let answer = function.answer(&features(9)).await.unwrap();
                assert_eq!(version(&answer), v1);
                WINE.v1.check(&answer, 0..9);
            }
        };
        tokio::time::timeout(lab::WAIT_LIMIT, swap).await.unwrap();
        freeze(&function, &s3).await;
        let ready = http_event("GET", "/v2/health/ready", &serde_json::Value::Null);
        assert_eq!(function.answer(&ready).await.unwrap()["statusCode"], 200);
    }
    // Not the transfers: a thaw adds an attempt to a request in flight.
    let log = function.log().text();
    let refusals = log.matches("keeping the active version").count();
    assert_eq!(refusals, 2, "each is tried once: {log}");
    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    let swap = async { while version(&function.answer(&features(1)).await.unwrap()) == v1 {} };
    tokio::time::timeout(lab::WAIT_LIMIT, swap).await.unwrap();
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_during_a_reload_keeps_the_last_good_version() {
    if let Err(why) = Limits::for_memory(MEMORY_MB) {
        // Needs the kernel's out-of-memory kill. Deaths during a load in general are tested in `out_of_memory`.
        eprintln!("skipped: {why}");
        return;
    }
    let s3 = s3_with("wine-v1.onnx").await;
    let builder = platform(&s3)
        .env("MODEL_RELOAD", "overlap")
        .env("MODEL_TAIL_BUDGET", "60s");
    let function = with_version_1(&s3, builder).await;
    let large = padded("wine-v2.onnx", MODEL_BYTES);
    s3.put(BUCKET, KEY, large);
    let crash = Status::Error("Extension.Crash".to_owned());
    let _ = function.invoke(&features(9)).await;
    assert_eq!(statuses(&function, 1, 1).await, [crash]);
    let fetched = transfers(&s3).len();

    for _ in 0..3 {
        WINE.v1
            .check(&function.answer(&features(9)).await.unwrap(), 0..9);
        freeze(&function, &s3).await;
    }
    let success = [const { Status::Success }; 3];
    assert_eq!(statuses(&function, 2, 3).await, success);
    assert_eq!(transfers(&s3).len(), fetched, "it is not tried again");
    let said = function.log().text();
    assert!(
        said.contains("the process ended while it loaded this version"),
        "{said}"
    );

    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    function.answer(&features(1)).await.unwrap();
    function.log().wait_for(SWAPPED).await.unwrap();
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
}

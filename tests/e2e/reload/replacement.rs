//! A new version where memory bears one and not two: it takes the place of the old one, and requests wait.
//!
//! The models are the wine ones with a comment of 60 MB, which ONNX Runtime keeps, twice: loading one takes 180 MB, and
//! leaves 120.

use std::sync::Arc;

use lab::lambda::{Builder, Clock, Function, Limits, Status};
use lab::s3::S3Server;
use tokio::sync::watch;

use crate::reload::under_load::{Caller, ENOUGH, check, version};
use crate::support::any_s3::{AnyS3, with_every_s3};
use crate::support::{
    Alone, BUCKET, KEY, features, freeze, http_event, model, padded, platform, s3_with, transfers,
};
use lab::reference::WINE;

with_every_s3!(callers_wait_for_the_new_version_and_none_fails);

/// Room for one version while it is loaded, and not for another beside it.
const MEMORY_MB: u32 = 288;
const MODEL_BYTES: usize = 60 << 20;
/// What is said when a version takes the place of another.
const REPLACES: &str = "the new version replaces the one that answers";
const SWAPPED: &str = "another version answers from now on";

async fn callers_wait_for_the_new_version_and_none_fails(s3: AnyS3) {
    let s3 = s3.holds("wine-v1.onnx").await;
    let variables = [
        ("MODEL_REFRESH_INTERVAL", "100ms"),
        ("MODEL_RELOAD", "replace"),
    ];
    let alone = Alone::ready(&s3, &variables).await;
    let v1 = version(&alone.predict(1).await.json().unwrap());
    let stop = Arc::new(watch::Sender::new(false));
    let mut callers: Vec<Caller> = (0..4)
        .map(|_| Caller::start(&alone.client(), Arc::clone(&stop)))
        .collect();
    for caller in &mut callers {
        caller.more(ENOUGH).await;
    }
    s3.put(KEY, model("wine-v2.onnx")).await;
    alone.process.wait_for(REPLACES).await.unwrap();
    for caller in &mut callers {
        caller.more(ENOUGH).await;
    }
    alone.process.wait_for(SWAPPED).await.unwrap();
    for caller in &mut callers {
        caller.more(ENOUGH).await;
    }
    stop.send_replace(true);
    let v2 = version(&alone.predict(1).await.json().unwrap());
    for caller in callers {
        check(&caller.task.await.unwrap(), &v1, &v2);
    }
    let said = alone.process.log().text();
    assert!(said.contains("MODEL_RELOAD is replace"), "{said}");
}

/// A function with little memory, of which version 1 answers.
async fn answering(s3: &S3Server, builder: Builder) -> Function {
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

/// How the last invocations ended, behind the first `known`.
async fn statuses(function: &Function, known: usize, count: usize) -> Vec<Status> {
    let reports = function.wait_for_reports(known + count).await.unwrap();
    let reports = reports.into_iter().skip(known);
    reports.map(|report| report.status).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_memory_bears_one_version_invocations_wait_and_none_fails() {
    let s3 = s3_with("wine-v1.onnx").await;
    // Nothing is held back: the load goes on beside the invocations that wait for it.
    let builder = platform(&s3).env("MODEL_TAIL_BUDGET", "0");
    let function = answering(&s3, builder).await;
    let v1 = version(&function.answer(&features(1)).await.unwrap());
    s3.put(BUCKET, KEY, padded("wine-v2.onnx", MODEL_BYTES));
    let bump = async {
        loop {
            let answer = function.answer(&features(9)).await.unwrap();
            if version(&answer) != v1 {
                return answer;
            }
            WINE.v1.check(&answer, 0..9);
        }
    };
    let answer = tokio::time::timeout(lab::WAIT_LIMIT, bump).await.unwrap();
    WINE.v2.check(&answer, 0..9);
    let said = function.log().text();
    let why = said.lines().find(|line| line.contains(REPLACES)).unwrap();
    assert!(why.contains("MB beside the one that answers, and"), "{why}");
    assert!(why.contains("MB are free"), "{why}");
    let reports = function.reports();
    let failed = reports
        .iter()
        .filter(|report| report.status != Status::Success);
    assert_eq!(failed.count(), 0, "{reports:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_in_its_place_brings_the_old_one_back() {
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
        let refused = || log.text().matches("the version that answers stays").count() > bad;
        let bump = async {
            while !refused() {
                let answer = function.answer(&features(9)).await.unwrap();
                assert_eq!(version(&answer), v1);
                WINE.v1.check(&answer, 0..9);
            }
        };
        tokio::time::timeout(lab::WAIT_LIMIT, bump).await.unwrap();
        freeze(&function, &s3).await;
        let ready = http_event("GET", "/v2/health/ready", &serde_json::Value::Null);
        assert_eq!(function.answer(&ready).await.unwrap()["statusCode"], 200);
    }
    assert_eq!(transfers(&s3).len(), 3, "each was fetched once");
    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    let bump = async { while version(&function.answer(&features(1)).await.unwrap()) == v1 {} };
    tokio::time::timeout(lab::WAIT_LIMIT, bump).await.unwrap();
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_in_a_reload_leaves_the_last_good_version_until_there_is_another() {
    if let Err(why) = Limits::for_memory(MEMORY_MB) {
        // What kills is the kernel. That a death in a load is noted, by whatever, is shown in `memory`.
        eprintln!("nothing is tried: {why}");
        return;
    }
    let s3 = s3_with("wine-v1.onnx").await;
    let builder = platform(&s3)
        .env("MODEL_RELOAD", "overlap")
        .env("MODEL_TAIL_BUDGET", "60s");
    let function = answering(&s3, builder).await;
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
    assert!(said.contains("died while it loaded this version"), "{said}");

    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    function.answer(&features(1)).await.unwrap();
    function.log().wait_for(SWAPPED).await.unwrap();
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
}

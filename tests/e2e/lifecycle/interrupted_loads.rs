//! A version is rejected only for its own failures.
//!
//! A load that a shutdown interrupts, the load of another model and a short Init reject no version.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use lab::cloudwatch::CloudWatch;
use lab::gate::Gate;
use lab::lambda::{Environment, Function, ShutdownReason, State};
use lab::s3::{Rule, S3Server};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::adder_function::{environment, hasty, invoke, s3, stalls_after};
use crate::support::{
    BUCKET, KEY, alive, cached, features, http_event, model, padded, platform, s3_with, until,
};
use lab::reference::WINE;

/// Name of the sidecar's process.
const SIDECAR: &str = "model-sidecar";
/// Bytes of a download that arrive before it stalls.
const ARRIVED: u64 = 100;

/// Models with a load marker in the environment.
fn markers(environment: &Environment) -> Vec<String> {
    let cached = cached(environment).into_keys();
    let markers = cached.filter_map(|path| Some(path.strip_prefix("loading/")?.to_owned()));
    markers.collect()
}

/// Asserts that the journal of a model records no failed version.
fn assert_none_rejected(environment: &Environment, name: &str) {
    let path = environment
        .tmp()
        .join(format!("model-sidecar/journals/{name}.json"));
    let journal: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let history = &journal["history"];
    assert_eq!(history["interrupted_loads"], json!({}), "{journal}");
    assert_eq!(history["rejected"], json!([]), "{journal}");
}

async fn reset(function: &Function) {
    let environment = environment(function);
    environment.reset(ShutdownReason::Failure).await.unwrap();
    environment.wait_until(State::Empty).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_during_shutdown_starts_no_load() {
    let s3 = s3().await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let function = hasty(&s3)
        .envs(cloudwatch.env())
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_INTERVAL", "24h");
    let function = function.start().await.unwrap();
    assert_eq!(invoke(&function).await, 0);
    let environment = environment(&function);
    environment.wait_until_frozen().await.unwrap();
    // A small file whose load takes longer than the shutdown.
    s3.put(BUCKET, KEY, model("hungry.onnx"));
    let transfer = stalls_after(&s3, ARRIVED);
    while !cached(&environment)
        .values()
        .any(|length| *length == ARRIVED)
    {
        assert_eq!(invoke(&function).await, 0);
    }
    environment.wait_until_frozen().await.unwrap();
    let flush = Gate::new();
    cloudwatch.stall(&flush);
    let tmp = environment.keep_tmp();
    let (log, ()) = tokio::join!(function.shutdown(), async {
        // The process is shutting down, and the download could continue.
        flush.reached(1).await.unwrap();
        transfer.open();
    });
    let log = log.text();
    assert!(log.contains("writing them to the log"), "{log}");
    let markers = std::fs::read_dir(tmp.path().join("model-sidecar/loading")).unwrap();
    assert_eq!(markers.count(), 0, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn start_after_a_reset_calls_next_at_once_and_requests_wait() {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = platform(&s3).env("MODEL_INIT_BUDGET", "10m");
    let function = function.start().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    reset(&function).await;
    let stopped = Gate::new();
    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    s3.fail(Rule::on("GET").stall_after(ARRIVED, &stopped));
    let (log, event) = (function.log(), features(9));
    let mark = log.mark();
    let (answer, ()) = tokio::join!(function.answer(&event), async {
        stopped.reached(1).await.unwrap();
        let started = |line: &str| line.contains("START RequestId");
        log.wait_for_line_after(mark, "an invocation that has begun", started)
            .await
            .unwrap();
        stopped.open();
    });
    WINE.v2.check(&answer.unwrap(), 0..9);
    // The environment may have frozen before the log line.
    alive(&function).await;
    let ready = || log.text().matches(" ready ").count();
    until("a log line of each start", || ready() == 2).await;
    assert_none_rejected(&environment(&function), "wine");
}

/// Scheduling policy and nice value of the sidecar's load thread, from `/proc/PID/task/TID/stat`.
fn loading_thread(environment: &Environment) -> Option<(String, String)> {
    let [pid] = environment.processes(SIDECAR).try_into().ok()?;
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let stats = tasks.flatten().filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        stat.contains("(load-model)").then(|| priority(&stat))?
    });
    stats.last()
}

/// Scheduling policy and nice value in the contents of a `stat` file.
fn priority(stat: &str) -> Option<(String, String)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let figure = |place: usize| {
        let mut figures = after_name.split_ascii_whitespace();
        figures.nth(place - 3).map(str::to_owned)
    };
    Some((figure(41)?, figure(19)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn load_after_a_reset_has_normal_priority() {
    let s3 = s3_with("hungry.onnx").await;
    let function = platform(&s3).start().await.unwrap();
    let event = http_event("POST", "/predict", &json!({ "features": [[1.0]] }));
    function.answer(&event).await.unwrap();
    reset(&function).await;
    let environment = environment(&function);
    let mut answer = pin!(function.answer(&event));
    let mut priorities = BTreeSet::new();
    let answer = loop {
        tokio::select! {
            answer = &mut answer => break answer.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(1)) => {
                priorities.extend(loading_thread(&environment));
            }
        }
    };
    assert_eq!(answer["statusCode"], 200);
    // The load was seen with the priority that the environment inherits from this process.
    let own = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    assert_eq!(priorities, BTreeSet::from([priority(&own).unwrap()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_required_model_after_a_reset_is_an_exit_error() {
    let mut s3 = s3_with("wine-v1.onnx").await;
    let function = platform(&s3)
        .env("MODEL_REQUIRED", "true")
        .env("MODEL_TAIL_BUDGET", "30s");
    let function = function.start().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    reset(&function).await;
    let environment = environment(&function);
    std::fs::remove_dir_all(environment.tmp().join("model-sidecar/files")).unwrap();
    s3.down().await;
    let failed = function.invoke(&features(1)).await;
    assert!(failed.function_error().is_some(), "{}", failed.text());
    // The handler's response may come before the sidecar exits.
    let errors = || {
        let mut trace = environment.trace();
        trace.retain(|call| call.path.ends_with("/error") && call.path.contains("/extension/"));
        trace
    };
    until("an error of the extension", || !errors().is_empty()).await;
    let [error] = errors().try_into().unwrap();
    assert!(error.path.ends_with("/exit/error"), "{error:?}");
    let said: Value = serde_json::from_str(&error.request).unwrap();
    assert_eq!(said["errorType"], "Extension.ModelRequired");
    let words = said["errorMessage"].as_str().unwrap();
    assert!(words.contains("no connection"), "{words}");

    s3.up().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_during_two_loads_rejects_none_and_serializes_the_next_loads() {
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, "a.onnx", model("hungry.onnx"));
    s3.put(BUCKET, "b.onnx", padded("hungry.onnx", 400));
    let models = format!("a=s3://{BUCKET}/a.onnx,b=s3://{BUCKET}/b.onnx");
    let function = platform(&s3)
        .env("MODEL_URI", "")
        .env("MODEL_NAME", "")
        .env("MODELS", models);
    let function = Arc::new(function.start().await.unwrap());
    let event = |model: &str| {
        let path = format!("/models/{model}/predict");
        http_event("POST", &path, &json!({ "features": [[1.0]] }))
    };
    let first = tokio::spawn({
        let (function, event) = (Arc::clone(&function), event("a"));
        async move { function.answer(&event).await }
    });
    until("an environment", || function.environment().is_some()).await;
    let environment = environment(&function);
    until("both loads", || markers(&environment).len() == 2).await;
    environment.freeze().await.unwrap();
    assert_eq!(markers(&environment).len(), 2, "a load ended too early");
    environment.kill(SIDECAR, Signal::SIGKILL).unwrap();
    environment.thaw().await.unwrap();

    let log = function.log();
    log.wait_for("no version is rejected").await.unwrap();
    // The environment may freeze after the first response: the other load continues in the next invocation.
    until("the first model", || {
        assert!(markers(&environment).len() < 2, "each is loaded alone");
        log.text().contains("the model is loaded")
    })
    .await;
    assert_eq!(first.await.unwrap().unwrap()["statusCode"], 200);
    let answer = function.answer(&event("b")).await.unwrap();
    assert_eq!(answer["statusCode"], 200, "{answer}");
    assert_eq!(log.text().matches("the model is loaded").count(), 2);
    environment.wait_until_frozen().await.unwrap();
    for name in ["a", "b"] {
        assert_none_rejected(&environment, name);
    }
}

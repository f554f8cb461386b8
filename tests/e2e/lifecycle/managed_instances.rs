//! Lambda managed instances: concurrent invocations, no INVOKE events for the sidecar, no freeze.

use std::ops::Range;

use futures_util::future::join_all;
use lab::cloudwatch::{CloudWatch, Filter};
use lab::gate::Gate;
use lab::lambda::{ApiCall, Function};
use lab::s3::Rule;
use serde_json::{Value, json};

use crate::support::{BUCKET, KEY, model, platform, s3_with};
use lab::reference::WINE;

/// Concurrent invocations.
const AT_ONCE: usize = 8;
/// Rows per request.
const ROWS: usize = 9;

/// Rows of one caller; no two callers share a row.
fn rows(caller: usize) -> Range<usize> {
    caller * ROWS..(caller + 1) * ROWS
}

fn event(caller: usize) -> Value {
    json!({ "features": WINE.rows[rows(caller)] })
}

/// Sends one concurrent request per caller, and returns the responses.
async fn responses(function: &Function) -> Vec<Value> {
    let asks = (0..AT_ONCE).map(|caller| async move {
        let event = event(caller);
        function.answer(&event).await.unwrap()
    });
    join_all(asks).await
}

/// Calls of `next` by the runtime that returned an event.
fn deliveries(calls: &[ApiCall]) -> impl Iterator<Item = &ApiCall> {
    let next = |call: &&ApiCall| call.path.ends_with("/runtime/invocation/next");
    calls
        .iter()
        .filter(next)
        .filter(|call| call.status.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_invocations_are_served_and_reloads_need_none() {
    let s3 = s3_with("wine-v1.onnx").await;
    let stopped = Gate::new();
    s3.fail(Rule::on("GET").first(1).stall_after(500, &stopped));
    let cloudwatch = CloudWatch::start().await.unwrap();
    let function = platform(&s3)
        .envs(cloudwatch.env())
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_INTERVAL", "200ms")
        .env("MODEL_REFRESH_INTERVAL", "200ms")
        .env("MODEL_INIT_BUDGET", "1ms")
        .managed_instances(8);
    let function = function.start().await.unwrap();
    let environment = function.environment().unwrap();

    // The function receives all events before the model is loaded.
    let (first, ()) = tokio::join!(responses(&function), async {
        let all = |calls: &[ApiCall]| deliveries(calls).count() == AT_ONCE;
        environment.wait_for_trace("all events", all).await.unwrap();
        let answered = environment.trace();
        let answered = answered.iter().any(|call| call.path.ends_with("/response"));
        assert!(!answered, "a response before the model is loaded");
        stopped.reached(1).await.unwrap();
        stopped.open();
    });
    let mut all = first;
    for _ in 0..5 {
        all.extend(responses(&function).await);
    }
    for (place, answer) in all.iter().enumerate() {
        WINE.v1.check(answer, rows(place % AT_ONCE));
    }

    // Polls and metric flushes need no invocation.
    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    let log = function.log();
    log.wait_for("a new version is active").await.unwrap();
    let inferences = Filter::metric("Inferences").dimension("ModelName", "wine");
    let sum = || cloudwatch.sum(&inferences);
    let sent = as_float(all.len());
    cloudwatch
        .wait_until("the metrics so far", |_| sum() >= sent)
        .await
        .unwrap();
    for (caller, answer) in responses(&function).await.iter().enumerate() {
        WINE.v2.check(answer, rows(caller));
    }
    assert!(!environment.is_frozen());

    let log = function.shutdown().await.text();
    assert!((sum() - sent - as_float(AT_ONCE)).abs() < 0.5, "{}", sum());
    assert!(log.contains("shutting down reason=\"spindown\""), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
    let trace = environment.trace();
    let register = trace.iter().find(|call| call.path.ends_with("/register"));
    let register: Value = serde_json::from_str(&register.unwrap().request).unwrap();
    assert_eq!(register["events"], json!(["SHUTDOWN"]));
    let events = trace
        .iter()
        .filter(|call| call.path.ends_with("/event/next"));
    let events: Vec<_> = events.filter_map(ApiCall::event).collect();
    assert_eq!(events, ["SHUTDOWN"]);
}

fn as_float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

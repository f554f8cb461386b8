//! A function that times out during an inference.

use std::time::Duration;

use lab::http::Client;
use lab::lambda::{Clock, State, Status};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    alive, assert_only_kept, freeze, http_event, model, platform, s3_with, transfers, until,
    with_both_clocks,
};

with_both_clocks!(
    a_run_is_cancelled_before_the_function_times_out,
    a_function_timeout_rejects_no_version,
);

/// Lambda's default, long enough for an Init within an invocation on any machine.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Matrix products of a run that takes longer than any wait in the tests.
const ENDLESS: u32 = 2_000_000_000;

/// Request for a run of `trips` matrix products.
fn trips(trips: u32) -> Value {
    json!({ "inputs": [{ "name": "trips", "datatype": "INT64", "shape": [1], "data": [trips] }] })
}

/// Event with such a request.
fn run(count: u32) -> Value {
    http_event("POST", "/v2/models/wine/infer", &trips(count))
}

async fn a_run_is_cancelled_before_the_function_times_out(clock: Clock) {
    let s3 = s3_with("slow.onnx").await;
    let function = platform(&s3).timeout(TIMEOUT / 2).clock(clock);
    let function = function.start().await.unwrap();
    alive(&function).await;
    freeze(&function, &s3).await;
    let late = function.invoke(&run(ENDLESS)).await;
    let log = function.log();
    log.wait_for("the deadline passed before the run ended")
        .await
        .unwrap();
    // The response takes less than the margin of 100 ms, except on an overloaded machine.
    if !late.timed_out() {
        let late = late.json.unwrap();
        assert_eq!(late["statusCode"], 504, "{late}");
        let starts = log.text().matches("INIT_START").count();
        assert_eq!(starts, 1, "nothing was reset");
    }
    let next = function.answer(&run(1)).await.unwrap();
    assert_eq!(next["statusCode"], 200, "{next}");
}

async fn a_function_timeout_rejects_no_version(clock: Clock) {
    let s3 = s3_with("slow.onnx").await;
    let function = platform(&s3).timeout(TIMEOUT).clock(clock);
    let function = function.start().await.unwrap();
    alive(&function).await;
    freeze(&function, &s3).await;

    // The function hangs during its invocation, and a run with a later deadline continues.
    let environment = function.environment().unwrap();
    let socket = environment.tmp().join("model-sidecar.sock");
    let client = Client::unix(&socket);
    let event = run(ENDLESS);
    let (timed_out, other_client) = tokio::join!(function.invoke(&event), async {
        until("the invocation", || {
            let trace = environment.trace();
            let events = trace.iter().filter(|call| call.event().is_some());
            events.count() == 2
        })
        .await;
        environment.kill("bootstrap", Signal::SIGSTOP).unwrap();
        let mut request = lab::http::post("/v2/models/wine/infer", &trips(ENDLESS)).unwrap();
        let deadline = u64::MAX.to_string().parse().unwrap();
        let headers = request.headers_mut();
        headers.insert("lambda-runtime-deadline-ms", deadline);
        client.send(request).await
    });
    assert!(timed_out.timed_out(), "{}", timed_out.text());
    if let Ok(answer) = other_client {
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
    let log = function.log();
    log.wait_for("shutting down reason=\"timeout\"")
        .await
        .unwrap();
    environment.wait_until(State::Empty).await.unwrap();
    assert!(!socket.exists(), "the sidecar exited and was not killed");

    let next = function.answer(&run(1)).await.unwrap();
    assert_eq!(next["statusCode"], 200, "{next}");
    assert_eq!(transfers(&s3).len(), 1, "the next start uses the cache");
    assert_eq!(s3.requests().last().unwrap().status, Some(304));
    let statuses: Vec<Status> = function
        .wait_for_reports(3)
        .await
        .unwrap()
        .into_iter()
        .map(|report| report.status)
        .collect();
    assert_eq!(
        statuses,
        [Status::Success, Status::Timeout, Status::Success]
    );
    assert_only_kept(&environment, &[&model("slow.onnx")], &["wine"]).await;
    let journal = std::fs::read(environment.tmp().join("model-sidecar/journals/wine.json"));
    let journal: Value = serde_json::from_slice(&journal.unwrap()).unwrap();
    let history = &journal["history"];
    assert_eq!(
        history["interrupted_loads"],
        serde_json::json!({}),
        "{journal}"
    );
    assert_eq!(history["rejected"], serde_json::json!([]), "{journal}");
}

//! A function whose time runs out in the middle of an inference.

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
    the_caller_is_told_before_lambda_would_end_everything,
    a_function_that_does_not_give_up_is_reset_and_nothing_is_held_against_the_model,
);

/// Lambda's default, and enough for an Init within an invocation on any machine.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Far more than any test waits for.
const ENDLESS: u32 = 2_000_000_000;

/// The body of a request that takes so many trips.
fn trips(trips: u32) -> Value {
    json!({ "inputs": [{ "name": "trips", "datatype": "INT64", "shape": [1], "data": [trips] }] })
}

/// The same as an event.
fn run(count: u32) -> Value {
    http_event("POST", "/v2/models/wine/infer", &trips(count))
}

async fn the_caller_is_told_before_lambda_would_end_everything(clock: Clock) {
    let s3 = s3_with("slow.onnx").await;
    let function = platform(&s3).timeout(TIMEOUT / 2).clock(clock);
    let function = function.start().await.unwrap();
    alive(&function).await;
    freeze(&function, &s3).await;
    let late = function.invoke(&run(ENDLESS)).await;
    let log = function.log();
    log.wait_for("the deadline passed before the model had answered")
        .await
        .unwrap();
    // A tenth of a second is enough for the answer, but on a machine that is busier than any Lambda.
    if !late.timed_out() {
        let late = late.json.unwrap();
        assert_eq!(late["statusCode"], 504, "{late}");
        let starts = log.text().matches("INIT_START").count();
        assert_eq!(starts, 1, "nothing was reset");
    }
    let next = function.answer(&run(1)).await.unwrap();
    assert_eq!(next["statusCode"], 200, "{next}");
}

async fn a_function_that_does_not_give_up_is_reset_and_nothing_is_held_against_the_model(
    clock: Clock,
) {
    let s3 = s3_with("slow.onnx").await;
    let function = platform(&s3).timeout(TIMEOUT).clock(clock);
    let function = function.start().await.unwrap();
    alive(&function).await;
    freeze(&function, &s3).await;

    // The function hangs in the middle of its invocation, and a run with more time than that goes on.
    let environment = function.environment().unwrap();
    let socket = environment.tmp().join("model-sidecar.sock");
    let client = Client::unix(&socket);
    let event = run(ENDLESS);
    let (timed_out, left_behind) = tokio::join!(function.invoke(&event), async {
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
    if let Ok(answer) = left_behind {
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
    let log = function.log();
    log.wait_for("shutting down reason=\"timeout\"")
        .await
        .unwrap();
    environment.wait_until(State::Empty).await.unwrap();
    assert!(
        !socket.exists(),
        "it came to its own end, and was not killed"
    );

    let next = function.answer(&run(1)).await.unwrap();
    assert_eq!(next["statusCode"], 200, "{next}");
    assert_eq!(transfers(&s3).len(), 1, "the next start has it");
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
    assert_eq!(history["deaths"], serde_json::json!({}), "{journal}");
    assert_eq!(history["refused"], serde_json::json!([]), "{journal}");
}

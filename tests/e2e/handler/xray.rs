//! X-Ray: subsegments of sampled invocations.

use std::time::{SystemTime, UNIX_EPOCH};

use lab::lambda::{Function, Invocation};
use lab::xray::{Datagram, XRayDaemon};
use serde_json::{Value, json};

use crate::support::{features, http_event, platform, s3_with};

/// Segment of each invocation.
const PARENT: &str = "53995c3f42cd8ad8";

/// Trace of an invocation by its number.
fn trace_id(number: u32) -> String {
    format!("1-581cf771-{number:024x}")
}

async fn invoke(function: &Function, event: &Value, number: u32, sampled: u8) -> Invocation {
    let root = trace_id(number);
    let header = format!("Root={root};Parent={PARENT};Sampled={sampled};Lineage=1:a87bd80c:0");
    function
        .invoke_with(event.to_string(), Some(header), None)
        .await
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs_f64()
}

fn times(document: &Value) -> (f64, f64) {
    let time = |name: &str| document[name].as_f64().unwrap();
    (time("start_time"), time("end_time"))
}

fn names(datagrams: &[Datagram]) -> Vec<&str> {
    datagrams.iter().map(Datagram::name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_traces_sampled_invocations() {
    check("forward").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sidecar_as_the_runtime_traces_sampled_invocations() {
    check("attach").await;
}

async fn check(handler: &str) {
    let s3 = s3_with("wine-v1.onnx").await;
    let daemon = XRayDaemon::start().await.unwrap();
    let function = platform(&s3)
        .env("MODEL_HANDLER", handler)
        .xray_daemon(daemon.address());
    let function = function.start().await.unwrap();
    let began = now();
    invoke(&function, &features(2), 1, 1).await;
    let wanted = "the call, and the load that it waited for";
    let first = daemon.wait_until(wanted, |all| all.len() >= 3).await;
    check_cold_start(&first.unwrap(), began);

    invoke(&function, &features(2), 2, 0).await;
    let invalid = http_event("POST", "/predict", &json!({ "features": "none" }));
    let answer = invoke(&function, &invalid, 3, 1).await;
    assert_eq!(answer.json.unwrap()["statusCode"], 400);
    invoke(&function, &features(2), 4, 1).await;
    let of_last = |all: &[Datagram]| {
        let last = all.last().map(|last| &last.document["trace_id"]);
        last.is_some_and(|last| *last == trace_id(4))
    };
    let all = daemon.wait_until("the last invocation", of_last).await;
    let later = &all.unwrap()[3..];
    assert_eq!(names(later), ["model-sidecar", "model-sidecar"]);
    assert_eq!(later[0].document["trace_id"], trace_id(3));
    assert_eq!(later[0].document["error"], true);
    assert_eq!(later[0].document["http"]["response"]["status"], 400);
    assert!(later[0].document.get("subsegments").is_none());
    assert!(later[1].document.get("error").is_none());
    for datagram in daemon.datagrams() {
        assert_eq!(datagram.errors, [""; 0], "{}", datagram.document);
        assert_eq!(datagram.document["parent_id"], PARENT);
    }
}

/// Checks the first invocation: the call with its stages, and the steps of the load before it.
fn check_cold_start(datagrams: &[Datagram], began: f64) {
    assert_eq!(names(datagrams), ["model-sidecar", "fetch", "load"]);
    let call = &datagrams[0].document;
    assert_eq!(call["trace_id"], trace_id(1));
    assert_eq!(call["annotations"]["model"], "wine");
    assert!(call["annotations"]["model_version"].is_string());
    assert_eq!(call["http"]["response"]["status"], 200);
    let (started, ended) = times(call);
    assert!(began <= started && ended <= now(), "{call}");
    let stages = call["subsegments"].as_array().unwrap();
    let stage_names: Vec<_> = stages.iter().map(|stage| &stage["name"]).collect();
    assert_eq!(stage_names, ["decode", "queue", "infer", "encode"]);
    let mut last = started;
    for stage in stages {
        let (start, end) = times(stage);
        assert!(last <= start && start <= end && end <= ended, "{call}");
        last = start;
    }
    // The sidecar's times of the load have a resolution of a millisecond.
    let (fetch, load) = (times(&datagrams[1].document), times(&datagrams[2].document));
    assert!(began <= fetch.0 + 0.002, "{fetch:?}");
    assert!(fetch.1 <= load.0 + 0.002, "{fetch:?} {load:?}");
    assert!(load.1 <= ended + 0.002, "{load:?}");
}

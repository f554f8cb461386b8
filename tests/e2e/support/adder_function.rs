//! A function with a model whose versions each add a different number, so that a response identifies its version.

use lab::gate::Gate;
use lab::lambda::{Builder, Environment, Function};
use lab::s3::{Rule, S3Server};
use serde_json::{Value, json};

use std::sync::Arc;

use crate::support::{BUCKET, KEY, body, http_event, platform, until};
use lab::soak::adder::{self, Size};

/// Logged when a reload activates a version.
pub(crate) const SWAPPED: &str = "a new version is active";

/// Returns the model that adds `number`.
pub(crate) fn version(number: u16) -> Vec<u8> {
    adder::adder(Size::SMALL, number)
}

/// Starts an S3 server with version 0.
pub(crate) async fn s3() -> S3Server {
    let s3 = S3Server::start().await.unwrap();
    put(&s3, 0);
    s3
}

/// Uploads version `number`.
pub(crate) fn put(s3: &S3Server, number: u16) {
    s3.put(BUCKET, KEY, version(number));
}

/// Function that polls S3 at every invocation; `MODEL_TAIL_BUDGET` is long enough for a whole reload.
pub(crate) fn patient(s3: &S3Server) -> Builder {
    platform(s3)
        .env("MODEL_REFRESH_INTERVAL", "0")
        .env("MODEL_TAIL_BUDGET", "30s")
}

/// Function that polls S3 at every invocation and never delays `next`.
pub(crate) fn hasty(s3: &S3Server) -> Builder {
    patient(s3).env("MODEL_TAIL_BUDGET", "0")
}

/// Event with an inference request for the input 7.
pub(crate) fn event() -> Value {
    let input = json!({"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [7]});
    http_event(
        "POST",
        "/v2/models/wine/infer",
        &json!({ "inputs": [input] }),
    )
}

/// Returns the version that served this response.
pub(crate) fn added(answer: &Value) -> u32 {
    assert_eq!(answer["statusCode"], 200, "{answer}");
    let y = body(answer)["outputs"][0]["data"][0].as_f64().unwrap();
    adder::added(7.0, y).unwrap()
}

/// Invokes the function, and returns the version that served the request.
pub(crate) async fn invoke(function: &Function) -> u32 {
    added(&function.answer(&event()).await.unwrap())
}

/// Invokes until version `to` serves; version `from` must serve until then. Returns the number of invocations that
/// `from` served.
pub(crate) async fn moves(function: &Function, from: u32, to: u32) -> usize {
    let mut before = 0;
    let moved = async {
        loop {
            let number = invoke(function).await;
            if number == to {
                return;
            }
            assert_eq!(number, from, "after {before} invocations");
            before += 1;
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, moved).await.unwrap();
    before
}

/// Returns the function's only environment.
pub(crate) fn environment(function: &Function) -> Arc<Environment> {
    function.environment().unwrap()
}

/// Stalls every download after `bytes` bytes until the gate opens.
pub(crate) fn stalls_after(s3: &S3Server, bytes: u64) -> Gate {
    let gate = Gate::new();
    s3.fail(Rule::on("GET").stall_after(bytes, &gate));
    gate
}

/// Waits until a partial download in the cache has `bytes` bytes.
pub(crate) async fn arrived(environment: &Environment, bytes: u64) {
    until("the bytes that arrived", || {
        let cached = crate::support::cached(environment);
        let mut partials = cached
            .iter()
            .filter(|(path, _)| path.starts_with("partials/"));
        partials.any(|(_, length)| *length == bytes)
    })
    .await;
}

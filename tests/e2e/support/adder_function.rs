//! A function whose model's versions are told apart by their answers: each adds a number of its own.

use lab::gate::Gate;
use lab::lambda::{Builder, Environment, Function};
use lab::s3::{Rule, S3Server};
use serde_json::{Value, json};

use std::sync::Arc;

use crate::support::{BUCKET, KEY, body, http_event, platform, until};
use lab::soak::adder::{self, Size};

/// What a log line says when a version that was not the first begins to answer.
pub(crate) const SWAPPED: &str = "another version answers from now on";

/// The bytes of the version that adds this.
pub(crate) fn version(number: u16) -> Vec<u8> {
    adder::adder(Size::SMALL, number)
}

/// An S3 with the version that adds nothing.
pub(crate) async fn s3() -> S3Server {
    let s3 = S3Server::start().await.unwrap();
    put(&s3, 0);
    s3
}

/// The version that adds this is the newest from now on.
pub(crate) fn put(s3: &S3Server, number: u16) {
    s3.put(BUCKET, KEY, version(number));
}

/// A function that asks S3 at every invocation, and may hold each back for as long as a reload takes.
pub(crate) fn patient(s3: &S3Server) -> Builder {
    platform(s3)
        .env("MODEL_REFRESH_INTERVAL", "0")
        .env("MODEL_TAIL_BUDGET", "30s")
}

/// A function that asks S3 at every invocation, and holds none of them back.
pub(crate) fn hasty(s3: &S3Server) -> Builder {
    patient(s3).env("MODEL_TAIL_BUDGET", "0")
}

/// An event that asks for 7 and what the version adds to it.
pub(crate) fn event() -> Value {
    let input = json!({"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [7]});
    http_event(
        "POST",
        "/v2/models/wine/infer",
        &json!({ "inputs": [input] }),
    )
}

/// What the version adds that gave this answer.
pub(crate) fn added(answer: &Value) -> u32 {
    assert_eq!(answer["statusCode"], 200, "{answer}");
    let y = body(answer)["outputs"][0]["data"][0].as_f64().unwrap();
    adder::added(7.0, y).unwrap()
}

/// What the version adds that answers an invocation.
pub(crate) async fn invoke(function: &Function) -> u32 {
    added(&function.answer(&event()).await.unwrap())
}

/// Invokes until the version answers that adds `to`; up to then it must be the one that adds `from`. Gives how many
/// invocations that one still answered.
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

/// The only environment.
pub(crate) fn environment(function: &Function) -> Arc<Environment> {
    function.environment().unwrap()
}

/// The next transfer stops in its middle, after so many bytes, until the gate opens.
pub(crate) fn stalls_after(s3: &S3Server, bytes: u64) -> Gate {
    let gate = Gate::new();
    s3.fail(Rule::on("GET").stall_after(bytes, &gate));
    gate
}

/// Waits until so many bytes of a transfer have come to the cache.
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

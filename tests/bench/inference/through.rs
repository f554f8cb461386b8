//! Latency through the handler and the Runtime API, on the lab's platform. It is the time from the
//! platform's response to `next` until the call with the function's response.
//!
//! Contenders:
//! - the handler with the layer,
//! - a handler that does nothing, on the same runtime and without a layer,
//! - the handler with a socket that has a prepared response, which shows the share that is not the
//!   sidecar's,
//! - a handler with the model in its process, which shows a run with cold caches,
//! - the tutorials' Python function.
//!
//! Nothing is frozen in between.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::lambda::{Builder, Function};
use lab::s3::S3Server;
use serde_json::{Value, json};

use super::contenders::InferenceArtifacts;
use super::echo::{Echo, SOCKET};
use super::{HANDLER, HANDLER_ECHO, NOTHING, PYTHON, Times, WITHIN};
use lab::reference::WINE;

/// Invocations per turn; contenders take turns, so that disturbances of the machine affect them
/// equally.
const TURN: usize = 50;
const BUCKET: &str = "models";

/// `run` is the duration of a run of the model alone.
pub(super) async fn measure(
    artifacts: &InferenceArtifacts,
    invocations: usize,
    run: Duration,
) -> Result<Vec<Times>> {
    let s3 = S3Server::start().await?;
    let model = artifacts.models().join("small.onnx");
    s3.put(BUCKET, "small.onnx", std::fs::read(model)?);
    let empty = artifacts.empty()?;
    let start = async |builder: Builder| {
        let builder = builder.timeout(Duration::from_secs(60)).memory_mb(1_769);
        builder
            .max_environments(1)
            .freeze_when_idle(false)
            .start()
            .await
    };
    let of = |layer: &Path, function: &Path| Function::of(layer, function).envs(s3.env());
    let handler = of(&artifacts.layer(), &artifacts.handler())
        .env("MODEL_URI", format!("s3://{BUCKET}/small.onnx"))
        .env("MODEL_PORT", "0")
        .env("MODEL_METRICS", "emf")
        // Longer than the bench, so that no poll is due.
        .env("MODEL_REFRESH_INTERVAL", "1h")
        .env("MODEL_METRICS_INTERVAL", "1h");
    let nothing = of(&empty, &artifacts.nothing());
    let python = of(&empty, &artifacts.python_function())
        .env("MODEL_BUCKET", BUCKET)
        .env("MODEL_KEY", "small.onnx");
    let echo = Echo::start(br#"{"prediction":[0]}"#, run)?;
    let bootstrap = "bootstrap";
    std::fs::copy(
        artifacts.handler().join(bootstrap),
        echo.folder().join(bootstrap),
    )?;
    let alone = of(&empty, echo.folder()).env("MODEL_SOCKET", format!("/var/task/{SOCKET}"));
    let functions = [
        (HANDLER, start(handler).await?),
        (HANDLER_ECHO, start(alone).await?),
        (WITHIN, start(of(&empty, &artifacts.within())).await?),
        (NOTHING, start(nothing).await?),
        (PYTHON, start(python).await?),
    ];
    let event = json!({ "features": WINE.rows[0] });
    // The first invocation includes an Init.
    for (name, function) in &functions {
        invoke(name, function, &event).await?;
    }
    for from in (0..invocations).step_by(TURN) {
        for (name, function) in &functions {
            for _ in from..invocations.min(from + TURN) {
                invoke(name, function, &event).await?;
            }
        }
    }
    let mut times = Vec::new();
    for (name, function) in &functions {
        let held = held(function)?;
        ensure!(held.len() > invocations, "{name}: {} events", held.len());
        times.push(Times {
            subject: "small",
            contender: name,
            microseconds: held[1..].to_vec(),
        });
    }
    Ok(times)
}

async fn invoke(name: &str, function: &Function, event: &Value) -> Result<()> {
    let answer = function.answer(event).await?;
    ensure!(answer["prediction"] == json!([0]), "{name}: {answer}");
    Ok(())
}

/// Time for which the function had each event, in microseconds.
fn held(function: &Function) -> Result<Vec<f64>> {
    let environment = function.environment().context("no environment")?;
    let mut given = None;
    let mut held = Vec::new();
    for call in environment.trace() {
        if call.path.ends_with("/invocation/next") {
            given = call.answered;
        } else if call.path.ends_with("/response") {
            let given = given.take().context("a response without an event")?;
            held.push(call.asked.saturating_sub(given).as_secs_f64() * 1e6);
        }
    }
    Ok(held)
}

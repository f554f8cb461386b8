//! Latency through the handler and the Runtime API, on the lab's platform. It is the time from the
//! platform's response to `next` until the call with the function's response.
//!
//! Contenders:
//! - the handler with the layer,
//! - the layer as the runtime, to which the handler is attached (`MODEL_HANDLER=attach`),
//! - a handler that does nothing, on the same runtime and without a layer,
//! - the handler with a socket that has a prepared response, which shows the share that is not the
//!   sidecar's,
//! - a handler with the model in its process, which shows a run with cold caches,
//! - the tutorials' Python function.
//!
//! The first, second and fifth also receive the image, as an HTTP event with a body in base64.
//! Nothing is frozen in between.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lab::lambda::{Builder, Function};
use lab::s3::S3Server;
use serde_json::{Value, json};

use super::contenders::InferenceArtifacts;
use super::echo::{Echo, SOCKET};
use super::subject::Subject;
use super::{ATTACHED, HANDLER, HANDLER_ECHO, NOTHING, PYTHON, Subjects, Times, WITHIN};
use lab::reference::WINE;

/// Invocations per turn; contenders take turns, so that disturbances of the machine affect them
/// equally.
const TURN: usize = 50;
/// Invocations with the image, which take longer, for each one with the small model.
const IMAGE_SHARE: usize = 4;
const BUCKET: &str = "models";

/// `run` is the duration of a run of the small model alone.
pub(super) async fn measure(
    artifacts: &InferenceArtifacts,
    subjects: &Subjects,
    invocations: usize,
    run: Duration,
) -> Result<Vec<Times>> {
    let s3 = S3Server::start().await?;
    let mut times = small(artifacts, &s3, invocations, run).await?;
    times.extend(image(artifacts, &s3, &subjects.image, invocations / IMAGE_SHARE).await?);
    Ok(times)
}

async fn small(
    artifacts: &InferenceArtifacts,
    s3: &S3Server,
    invocations: usize,
    run: Duration,
) -> Result<Vec<Times>> {
    let served = || of_layer(artifacts, s3, "small");
    let empty = artifacts.empty()?;
    let of = |function: &Path| Function::of(&empty, function).envs(s3.env());
    let python = of(&artifacts.python_function())
        .env("MODEL_BUCKET", BUCKET)
        .env("MODEL_KEY", "small.onnx");
    let echo = Echo::start(br#"{"prediction":[0]}"#, run)?;
    let bootstrap = "bootstrap";
    std::fs::copy(
        artifacts.handler().join(bootstrap),
        echo.folder().join(bootstrap),
    )?;
    let alone = of(echo.folder()).env("MODEL_SOCKET", format!("/var/task/{SOCKET}"));
    let functions = [
        (HANDLER, start(served()?).await?),
        (ATTACHED, start(attached(served()?)).await?),
        (HANDLER_ECHO, start(alone).await?),
        (WITHIN, start(of(&artifacts.within())).await?),
        (NOTHING, start(of(&artifacts.nothing())).await?),
        (PYTHON, start(python).await?),
    ];
    let event = json!({ "features": WINE.rows[0] });
    let check = |answer: &Value| {
        ensure!(answer["prediction"] == json!([0]), "{answer}");
        Ok(())
    };
    take_turns("small", &functions, invocations, &event, &check).await
}

async fn image(
    artifacts: &InferenceArtifacts,
    s3: &S3Server,
    subject: &Subject,
    invocations: usize,
) -> Result<Vec<Times>> {
    let served = || of_layer(artifacts, s3, "image");
    let within = Function::of(artifacts.empty()?, artifacts.within_image());
    let sidecars = [
        (HANDLER, start(served()?).await?),
        (ATTACHED, start(attached(served()?)).await?),
    ];
    let (path, headers, body) = subject.binary_parts(1);
    let event = json!({
        "version": "2.0",
        "rawPath": path,
        "requestContext": { "http": { "method": "POST", "path": path } },
        "headers": headers,
        "body": BASE64_STANDARD.encode(&body),
        "isBase64Encoded": true,
    });
    let check = |answer: &Value| {
        let body = answer["body"].as_str().context("no body")?;
        subject.check(body.as_bytes())
    };
    let mut times = take_turns("image", &sidecars, invocations, &event, &check).await?;
    // Without the protocol's JSON before the numbers.
    let event = json!({ "body": BASE64_STANDARD.encode(subject.bytes()), "isBase64Encoded": true });
    let check = |answer: &Value| subject.check(answer.to_string().as_bytes());
    let within = [(WITHIN, start(within).await?)];
    times.extend(take_turns("image", &within, invocations, &event, &check).await?);
    Ok(times)
}

/// The handler with the layer and one model.
fn of_layer(artifacts: &InferenceArtifacts, s3: &S3Server, model: &str) -> Result<Builder> {
    let key = format!("{model}.onnx");
    let path: PathBuf = artifacts.models().join(&key);
    s3.put(BUCKET, &key, std::fs::read(path)?);
    Ok(Function::of(artifacts.layer(), artifacts.handler())
        .envs(s3.env())
        .env("MODEL_URI", format!("s3://{BUCKET}/{key}"))
        .env("MODEL_PORT", "0")
        .env("MODEL_METRICS", "emf")
        // Longer than the bench, so that no poll is due.
        .env("MODEL_REFRESH_INTERVAL", "1h")
        .env("MODEL_METRICS_INTERVAL", "1h"))
}

fn attached(builder: Builder) -> Builder {
    builder.env("MODEL_HANDLER", "attach")
}

async fn start(builder: Builder) -> Result<Function> {
    let builder = builder.timeout(Duration::from_secs(60)).memory_mb(1_769);
    let builder = builder.max_environments(1).freeze_when_idle(false);
    Ok(builder.start().await?)
}

async fn take_turns(
    subject: &'static str,
    functions: &[(&'static str, Function)],
    invocations: usize,
    event: &Value,
    check: &dyn Fn(&Value) -> Result<()>,
) -> Result<Vec<Times>> {
    let invoke = async |name: &str, function: &Function| {
        let answer = function.answer(event).await?;
        check(&answer).with_context(|| name.to_owned())
    };
    // The first invocation includes an Init.
    for (name, function) in functions {
        invoke(name, function).await?;
    }
    for from in (0..invocations).step_by(TURN) {
        for (name, function) in functions {
            for _ in from..invocations.min(from + TURN) {
                invoke(name, function).await?;
            }
        }
    }
    let times = functions.iter().map(|(contender, function)| {
        let held = held(function)?;
        ensure!(
            held.len() > invocations,
            "{contender}: {} events",
            held.len()
        );
        Ok(Times {
            subject,
            contender,
            microseconds: held[1..].to_vec(),
        })
    });
    times.collect()
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

//! A function with the model in its own process, on the handler's runtime, for `make
//! bench-inference`. It is the baseline for handler and sidecar.
//!
//! `model.onnx` and ONNX Runtime are in the same folder. Sessions are created like those of the
//! sidecar's engine.

mod engine;
mod function;

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, anyhow};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use ort::session::Session;
use serde_json::Value;

fn main() -> Result<(), Error> {
    let environment = function::open(1)?;
    let model = std::env::current_exe()?.with_file_name("model.onnx");
    let builder = Session::builder(&environment);
    let session = builder.and_then(|mut builder| builder.commit_from_file(&model));
    let session = session.with_context(|| format!("cannot load {}", model.display()))?;
    let session = Arc::new(Mutex::new(session));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let answer = service_fn(move |event: LambdaEvent<Value>| {
        let session = Arc::clone(&session);
        async move {
            let mut session = session.lock().map_err(|_| anyhow!("a run panicked"))?;
            Ok::<_, Error>(function::predict(&mut session, &event.payload)?)
        }
    });
    runtime.block_on(lambda_runtime::run(answer))
}

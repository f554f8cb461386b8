//! A function that runs the model within itself: where it finds ONNX Runtime, and how it answers an event.

use anyhow::{Context as _, Result};
use ort::environment::Environment;
use ort::session::Session;
use ort::value::{DynValue, Tensor};
use serde_json::{Value, json};

use crate::engine;

/// The library beside this program. First of all: the bindings would open whatever library the system has.
pub(crate) fn open(threads: usize) -> Result<Environment> {
    let own = std::env::current_exe()?;
    engine::open(&own.with_file_name("libonnxruntime.so.1.28.0"), threads)
}

/// The answer to `{"features": [numbers]}`: the model's first output.
pub(crate) fn predict(session: &mut Session, event: &Value) -> Result<Value> {
    let features = event.get("features").and_then(Value::as_array);
    let features = features.context("no features")?.iter();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the models calculate in single precision"
    )]
    let row: Vec<f32> = features
        .map(|number| number.as_f64().unwrap_or(f64::NAN) as f32)
        .collect();
    let input = session.inputs().first().context("no input")?;
    let name = input.name().to_owned();
    let row: DynValue = Tensor::from_array(([1, row.len()], row))?.into_dyn();
    let outputs = session.run(vec![(name, row)])?;
    let (_, first) = outputs.iter().next().context("no output")?;
    let prediction = match first.try_extract_tensor::<f32>() {
        Ok((_, numbers)) => json!([numbers]),
        Err(_) => json!(first.try_extract_tensor::<i64>()?.1),
    };
    Ok(json!({ "prediction": prediction }))
}

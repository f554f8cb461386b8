//! A function that runs the model in its own process: location of ONNX Runtime, and handling of an
//! event.

use anyhow::{Context as _, Result};
use ort::environment::Environment;
use ort::session::Session;
use ort::value::{DynValue, Tensor};
use serde_json::{Value, json};

use crate::engine;

/// The library next to this program. Must be opened first: the bindings would otherwise open the
/// system's library.
pub(crate) fn open(threads: usize) -> Result<Environment> {
    let own = std::env::current_exe()?;
    engine::open(&own.with_file_name("libonnxruntime.so.1.28.0"), threads)
}

/// The response to `{"features": [numbers]}`: the model's first output.
pub(crate) fn predict(session: &mut Session, event: &Value) -> Result<Value> {
    let features = event.get("features").and_then(Value::as_array);
    let features = features.context("no features")?.iter();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the models compute in single precision"
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

//! A function that runs the model in its own process: location of ONNX Runtime, and handling of an
//! event.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
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

/// The response to `{"features": [numbers]}`, or to an HTTP event whose body is the numbers as bytes in base64: the
/// model's first output.
pub(crate) fn predict(session: &mut Session, event: &Value) -> Result<Value> {
    let numbers = match event.get("body").and_then(Value::as_str) {
        Some(body) => numbers_in_base64(body)?,
        None => features(event)?,
    };
    let input = session.inputs().first().context("no input")?;
    let name = input.name().to_owned();
    let shape = input.dtype().tensor_shape().context("not a tensor")?;
    // The batch is one row.
    let shape: Vec<i64> = shape.iter().map(|length| (*length).max(1)).collect();
    let shape = if shape.iter().product::<i64>() == i64::try_from(numbers.len())? {
        shape
    } else {
        vec![1, i64::try_from(numbers.len())?]
    };
    let input: DynValue = Tensor::from_array((shape, numbers))?.into_dyn();
    let outputs = session.run(vec![(name, input)])?;
    let (_, first) = outputs.iter().next().context("no output")?;
    let prediction = match first.try_extract_tensor::<f32>() {
        Ok((_, numbers)) => json!([numbers]),
        Err(_) => json!(first.try_extract_tensor::<i64>()?.1),
    };
    Ok(json!({ "prediction": prediction }))
}

fn features(event: &Value) -> Result<Vec<f32>> {
    let features = event.get("features").and_then(Value::as_array);
    let features = features.context("no features")?.iter();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the models compute in single precision"
    )]
    let row = features.map(|number| number.as_f64().unwrap_or(f64::NAN) as f32);
    Ok(row.collect())
}

fn numbers_in_base64(body: &str) -> Result<Vec<f32>> {
    let bytes = BASE64_STANDARD.decode(body)?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    ensure!(rest.is_empty(), "{} bytes are no numbers", bytes.len());
    Ok(numbers
        .iter()
        .map(|four| f32::from_le_bytes(*four))
        .collect())
}

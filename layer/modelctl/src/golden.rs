//! `modelctl golden`: examples of inputs and outputs, which every environment checks before it
//! activates the version.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use model_sidecar::engine::{Cancel, Engine as _};
use model_sidecar::manifest::{GoldenTensor, MAX_GOLDEN, Tolerance};
use model_sidecar::protocol::{ServingVersion, v2};
use model_sidecar::tensor::{Datatype, Value};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use crate::compare::compare;
use crate::console::Console;
use crate::context::Context;
use crate::data::{DataOptions, Rows};
use crate::failure::rejected;
use crate::json_list;
use crate::library;

/// Tolerance of outputs in half precision.
const HALF: Tolerance = Tolerance {
    absolute: 1e-3,
    relative: 1e-2,
};

/// Make golden examples: rows with the outputs that the model has for them
///
/// Give the file to `publish --golden`. An environment activates a version only if it returns these
/// outputs, within the tolerance.
#[derive(clap::Args)]
#[command(after_help = "Example:
  modelctl golden model.onnx --data rows.csv -o golden.json")]
pub(crate) struct Arguments {
    /// The model's file
    model: PathBuf,
    #[command(flatten)]
    data: DataOptions,
    /// The file to write
    #[arg(short, long, value_name = "FILE", default_value = "golden.json")]
    output: PathBuf,
    /// Number of rows, from the first one
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    rows: usize,
    /// Allowed absolute difference [default: 1e-5; 1e-3 for half precision]
    #[arg(long, value_name = "NUMBER")]
    absolute: Option<f64>,
    /// Allowed difference relative to the number [default: 1e-4; 1e-2 for half precision]
    #[arg(long, value_name = "NUMBER")]
    relative: Option<f64>,
    #[command(flatten)]
    library: library::Library,
}

/// Makes the examples.
pub(crate) fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Json> {
    let engine = context.engine(&arguments.library.find()?)?;
    let session = engine.load(&arguments.model, None);
    let session = session.with_context(|| format!("cannot load {}", arguments.model.display()))?;
    let mut rows = Rows::read(&arguments.data.data, session.signature())?;
    rows.truncate(
        arguments
            .rows
            .min(MAX_GOLDEN * session.signature().fixed_batch().unwrap_or(1)),
    );
    let mut examples = Vec::new();
    for inputs in rows.batches(session.signature(), 1)? {
        let run = || session.run(&inputs, &[], &Cancel::default());
        let failed = || format!("cannot run the model on row {}", examples.len());
        let outputs = run().with_context(failed)?;
        let again = run().with_context(failed)?;
        let tolerance = tolerance(arguments, &outputs);
        let mut expected = Vec::new();
        for ((name, output), (_, again)) in outputs.into_iter().zip(again) {
            let difference = compare(&output, &again, Some(tolerance.relative.max(1e-12)));
            if difference.map_or(true, |difference| difference.of_allowed > 1.0) {
                return Err(rejected(format!(
                    "cannot make examples: output {name:?} differs between two runs on the same row; the model is \
                     random"
                )));
            }
            // Sequences and maps cannot be compared, except a sequence of maps, which is a tensor.
            if let Some(tensor) = v2::as_tensor(output) {
                expected.push((name, Value::Tensor(tensor)));
            }
        }
        if expected.is_empty() {
            bail!("cannot make examples: the model has no output that is a tensor");
        }
        let Tolerance { absolute, relative } = tolerance;
        examples.push(format!(
            "{{\"inputs\": {}, \"outputs\": {}, \"tolerance\": {}}}",
            encode(inputs)?,
            encode(expected)?,
            json!({"absolute": absolute, "relative": relative})
        ));
    }
    json_list::write(&arguments.output, &examples, "example", console)?;
    Ok(json!({"file": arguments.output, "examples": examples.len()}))
}

fn tolerance(arguments: &Arguments, outputs: &[(String, Value)]) -> Tolerance {
    let is_half = |value: &Value| {
        matches!(value, Value::Tensor(tensor)
            if matches!(tensor.datatype(), Datatype::Fp16 | Datatype::Bf16))
    };
    let default = if outputs.iter().any(|(_, value)| is_half(value)) {
        HALF
    } else {
        Tolerance::default()
    };
    Tolerance {
        absolute: arguments.absolute.unwrap_or(default.absolute),
        relative: arguments.relative.unwrap_or(default.relative),
    }
}

/// Encodes tensors as a response of the sidecar does, to the digit.
fn encode(values: Vec<(String, Value)>) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Response {
        outputs: Vec<Tensor>,
    }
    #[derive(Deserialize)]
    struct Tensor {
        name: String,
        shape: Vec<usize>,
        datatype: Datatype,
        data: Box<RawValue>,
    }
    let nobody = ServingVersion {
        model: "",
        version: "",
    };
    let encoded = v2::ResponseFormat::default().encode(nobody, values);
    let response: Response = serde_json::from_slice(&encoded.pieces.concat())
        .context("cannot write an input that is a sequence or a map into an example")?;
    let tensors = response.outputs.into_iter().map(|tensor| GoldenTensor {
        name: tensor.name,
        shape: tensor.shape,
        datatype: tensor.datatype,
        data: tensor.data.get().to_owned(),
    });
    Ok(serde_json::to_string(&tensors.collect::<Vec<_>>())?)
}

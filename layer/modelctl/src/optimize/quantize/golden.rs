//! Golden examples of a quantized model: outputs of the original model, with the tolerance that the
//! measured difference needs.

use std::path::Path;

use model_sidecar::tensor::{Tensor, Value};
use serde_json::{Value as Json, json};

use super::{Outputs, rows_of};
use crate::deviation::{Deviation, labels};
use crate::inputs::{self, Inputs};

/// Maximum number of examples, and of elements of an example's tensor.
const MAX_EXAMPLES: usize = 4;
const MAX_ELEMENTS: usize = 4096;

/// Margin of the absolute tolerance over the largest difference: other CPUs add in another order.
const MARGIN: f64 = 2.0;
/// The sidecar's defaults, which stay the least.
const MIN_ABSOLUTE: f64 = 1e-5;
const RELATIVE: f64 = 1e-4;

/// Returns the first row of each of the first runs as an example. Rows whose label changed and
/// values that JSON cannot hold are no examples.
pub(super) fn examples(
    runs: &[Inputs],
    outputs: &Outputs,
    deviations: &[(String, Deviation)],
) -> Vec<Json> {
    let largest = deviations.iter().map(|(_, deviation)| deviation.largest);
    let absolute = largest.fold(0.0, f64::max) * MARGIN;
    let tolerance = json!({"absolute": absolute.max(MIN_ABSOLUTE), "relative": RELATIVE});
    let pairs = outputs.before.iter().zip(&outputs.after);
    let example = |(inputs, (before, after)): (&Inputs, (&Inputs, &Inputs))| {
        let rows = rows_of(before)? == rows_of(inputs)?;
        let first = |values: &Inputs| {
            if rows {
                first_rows(values)
            } else {
                Some(values.clone())
            }
        };
        let (inputs, before, after) = (first(inputs)?, first(before)?, first(after)?);
        let kept = before
            .iter()
            .zip(&after)
            .all(|((_, before), (_, after))| labels(before) == labels(after));
        let inputs = tensors(&inputs)?;
        let outputs = tensors(&before)?;
        (kept && absolute.is_finite())
            .then(|| json!({"inputs": inputs, "outputs": outputs, "tolerance": tolerance}))
    };
    runs.iter()
        .zip(pairs)
        .filter_map(example)
        .take(MAX_EXAMPLES)
        .collect()
}

/// The first row of each tensor.
fn first_rows(values: &Inputs) -> Option<Inputs> {
    let first = |(name, value): &(String, Value)| match value {
        Value::Tensor(tensor) => Some((name.clone(), Value::Tensor(tensor.rows(0..1)?))),
        _ => None,
    };
    values.iter().map(first).collect()
}

/// Tensors in the form of a manifest; `None` if one is too large, or holds a number that is not
/// finite.
fn tensors(values: &Inputs) -> Option<Vec<Json>> {
    let encode = |(name, value): &(String, Value)| match value {
        Value::Tensor(tensor) if tensor.data().len() <= MAX_ELEMENTS => tensor_of(name, tensor),
        _ => None,
    };
    values.iter().map(encode).collect()
}

fn tensor_of(name: &str, tensor: &Tensor) -> Option<Json> {
    let json = inputs::tensor(name, tensor);
    let data = json.get("data")?.as_array()?;
    (!data.iter().any(Json::is_null)).then_some(json)
}

/// Writes the examples, as the `golden` of a manifest's version has them.
pub(super) fn write(file: &Path, examples: &[Json]) -> anyhow::Result<()> {
    if !examples.is_empty() {
        std::fs::write(file, serde_json::to_vec(examples)?)?;
    }
    Ok(())
}

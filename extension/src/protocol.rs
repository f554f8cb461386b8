//! Codecs between bytes and tensors: the Open Inference Protocol, TensorFlow Serving's form, and the plain `/predict`
//! form.
//!
//! Everything that a caller sends is checked here, against the model's signature, before the model sees it. A
//! mistake names the field, what came and what was expected. Numbers are read exactly: a decimal text becomes
//! the nearest value of the model's datatype, and one that has no such value is an error with its place.

mod array;
mod columns;
mod containers;
mod dense;
mod json;
mod locate;
mod malformed;
mod number;
pub mod predict;
pub mod tfserving;
pub mod v2;
mod write;

use serde::Deserialize;

use crate::request_memory::Stopped;
use crate::tensor::{Kind, Port, Signature, Tensor, Value};

/// What is wrong with a request, in words for its sender.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRequest(pub String);

/// Why there are no inputs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The request is wrong.
    #[error(transparent)]
    Invalid(#[from] BadRequest),
    /// Memory or time is over.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Inputs for a model, and which outputs are wanted (all, when none is named).
#[derive(Debug)]
pub struct Decoded {
    /// The inputs, by name.
    pub inputs: Vec<(String, Value)>,
    /// The outputs that are wanted.
    pub outputs: Vec<String>,
}

impl Decoded {
    /// How many rows are asked about: as many as the inputs have, where the model leaves the first dimension of each of
    /// them free, else one.
    #[must_use]
    pub fn rows(&self, signature: &Signature) -> usize {
        let has_rows = |port: &Port| matches!(&port.kind, Kind::Tensor { shape, .. } if shape.first() == Some(&None));
        match self.inputs.first() {
            Some((_, Value::Tensor(tensor))) if signature.inputs.iter().all(has_rows) => {
                tensor.shape().first().copied().unwrap_or(1)
            }
            _ => 1,
        }
    }
}

/// Which model and version an answer comes from.
#[derive(Clone, Copy, Debug)]
pub struct AnsweredBy<'a> {
    /// The model's name.
    pub model: &'a str,
    /// Its version.
    pub version: &'a str,
}

/// Reads a request's JSON object; `what` names the kind of request, for the error. serde would take an array for
/// a struct as well, field by field.
fn object<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, BadRequest> {
    let wrong = |problem: String| BadRequest(format!("not {what} request: {problem}"));
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(wrong("an object is expected, not an array".to_owned()));
    }
    // All of it, also what is skipped.
    let text = std::str::from_utf8(body).map_err(|error| wrong(malformed::no_text(body, error)))?;
    serde_json::from_str(text).map_err(|error| wrong(malformed::words(text, &error)))
}

/// Reads JSON text that stands at `place`.
fn parse<'a, T: Deserialize<'a>>(text: &'a str, place: &str) -> Result<T, BadRequest> {
    serde_json::from_str(text).map_err(|error| BadRequest(format!("{place}: {error}")))
}

/// The input of this name, or an error that lists those that there are.
fn input_port<'a>(
    signature: &'a Signature,
    name: &str,
    place: &str,
) -> Result<&'a Port, BadRequest> {
    signature.input(name).ok_or_else(|| {
        BadRequest(format!(
            "{place}: the model has no input {name:?}; its inputs are {}",
            names(&signature.inputs)
        ))
    })
}

/// The output of this name, or an error that lists those that there are.
fn output_port<'a>(
    signature: &'a Signature,
    name: &str,
    place: &str,
) -> Result<&'a Port, BadRequest> {
    let port = signature.outputs.iter().find(|port| port.name == name);
    port.ok_or_else(|| {
        BadRequest(format!(
            "{place}: the model has no output {name:?}; its outputs are {}",
            names(&signature.outputs)
        ))
    })
}

fn names(ports: &[Port]) -> String {
    let names: Vec<String> = ports
        .iter()
        .map(|port| format!("{:?} ({})", port.name, port.kind))
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Holds a tensor's shape against what the model declares; `place` is the field that it came from.
fn check_shape(
    port: &Port,
    declared: &[Option<usize>],
    tensor: &Tensor,
    place: &str,
) -> Result<(), BadRequest> {
    let shape = tensor.shape();
    // A rank that the model leaves open is declared as a scalar's is: ONNX Runtime tells them apart.
    if declared.is_empty() {
        return Ok(());
    }
    let fits = shape.len() == declared.len()
        && shape
            .iter()
            .zip(declared)
            .all(|(&given, &fixed)| fixed.is_none_or(|fixed| fixed == given));
    if fits {
        return Ok(());
    }
    Err(BadRequest(format!(
        "{place} has shape {shape:?}, input {:?} takes {}",
        port.name, port.kind
    )))
}

/// Makes sure that no input is missing.
fn check_complete(signature: &Signature, inputs: &[(String, Value)]) -> Result<(), BadRequest> {
    let missing: Vec<Port> = signature
        .required()
        .filter(|port| inputs.iter().all(|(name, _)| *name != port.name))
        .cloned()
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(BadRequest(format!("missing input: {}", names(&missing))))
    }
}

#[cfg(test)]
mod tests;

//! Codecs between bytes and tensors: the Open Inference Protocol, TensorFlow Serving's form, and the plain `/predict`
//! form.
//!
//! Every request is checked here against the model's signature before the model runs. Errors name the field, the value
//! and the expected value. Numbers are exact: a decimal becomes the nearest value of the model's datatype, and a number
//! without such a value is an error.

mod array;
mod base64_string;
mod containers;
mod envelope;
mod error_location;
mod json_reader;
mod json_writer;
mod malformed;
mod named_inputs;
mod number;
pub mod predict;
mod row_objects;
mod rows;
pub mod tfserving;
pub mod v2;
mod zipmap;

use std::fmt::Display;

use serde::Deserialize;

use crate::excerpt::{Dimensions, Excerpt};
use crate::request_memory::{Charge, Stopped};
use crate::tensor::{Datatype, Kind, Port, Signature, Tensor, Value, element_count};

/// An invalid request, with a message for its sender.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRequest(pub String);

/// Reason why a request was not decoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The request is invalid.
    #[error(transparent)]
    Invalid(#[from] BadRequest),
    /// The memory budget or the deadline is exceeded.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// State of the decoding of a request's values.
struct Decoding<'a> {
    /// Charge for the memory of the values.
    charge: &'a mut Charge,
    /// `true` if a string may be given as `{"b64": "…"}`.
    takes_base64: bool,
    /// `true` once invalid JSON was found.
    is_malformed: bool,
}

impl<'a> Decoding<'a> {
    fn new(charge: &'a mut Charge) -> Self {
        Self {
            charge,
            takes_base64: false,
            is_malformed: false,
        }
    }
}

/// Inputs for a model, and the requested outputs.
#[derive(Debug)]
pub struct Decoded {
    /// Inputs by name.
    pub inputs: Vec<(String, Value)>,
    /// Names of the requested outputs; empty for all outputs.
    pub outputs: Vec<String>,
}

impl Decoded {
    /// Returns the number of rows: the length of the inputs' first dimension if the model leaves it free in each input,
    /// else 1.
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

/// Model and version that served a request.
#[derive(Clone, Copy, Debug)]
pub struct ServingVersion<'a> {
    /// Name of the model.
    pub model: &'a str,
    /// Name of the version.
    pub version: &'a str,
}

/// Charges a tensor without elements as if each dimension of length zero had length one. A model may create that many
/// elements from it, for example by a reduction over such a dimension.
fn charge_empty(shape: &[usize], datatype: Datatype, charge: &mut Charge) -> Result<(), Stopped> {
    if element_count(shape) != Some(0) {
        return Ok(());
    }
    let count = shape.iter().map(|&length| length.max(1));
    let count = count.fold(1, usize::saturating_mul);
    charge.grow(count.saturating_mul(datatype.memory()))
}

/// Returns `true` if a body may hold a JSON object, valid or not. A byte order mark may precede it.
#[must_use]
pub fn begins_object(body: &[u8]) -> bool {
    let text = malformed::without_byte_order_mark(body);
    text.trim_ascii_start().starts_with(b"{")
}

/// Reads a request that is a small JSON object. `what` names the request in errors, as in "a repository request".
pub fn object<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, BadRequest> {
    let text = malformed::check_object(body, what)?;
    serde_json::from_str(text).map_err(|error| malformed::error(what, text, &error))
}

/// Returns the input with this name, or an error that lists the inputs.
fn input_port<'a>(
    signature: &'a Signature,
    name: &str,
    path: impl Display,
) -> Result<&'a Port, BadRequest> {
    let port = signature.input(name);
    port.ok_or_else(|| no_input(signature, name, &path))
}

#[cold]
fn no_input(signature: &Signature, name: &str, path: &dyn Display) -> BadRequest {
    BadRequest(format!(
        "{path}: the model has no input {:?}; its inputs are {}",
        Excerpt(name),
        names(&signature.inputs)
    ))
}

/// Returns the output with this name, or an error that lists the outputs.
fn output_port<'a>(
    signature: &'a Signature,
    name: &str,
    path: impl Display,
) -> Result<&'a Port, BadRequest> {
    let port = signature.outputs.iter().find(|port| port.name == name);
    port.ok_or_else(|| {
        BadRequest(format!(
            "{path}: the model has no output {:?}; its outputs are {}",
            Excerpt(name),
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

/// Checks a tensor's shape against the declared shape; `path` is the field of the tensor.
fn check_shape(
    port: &Port,
    declared: &[Option<usize>],
    tensor: &Tensor,
    path: &dyn Display,
) -> Result<(), BadRequest> {
    let shape = tensor.shape();
    // A free rank is declared like a scalar's; ONNX Runtime distinguishes the two.
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
        "{path} has shape {:?}, input {:?} takes {}",
        Dimensions(shape),
        port.name,
        port.kind
    )))
}

/// Checks that no required input is missing.
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

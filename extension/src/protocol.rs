//! Codecs between bytes and tensors: the Open Inference Protocol, TensorFlow Serving's form, and the plain `/predict`
//! form.
//!
//! Everything that a caller sends is checked here, against the model's signature, before the model sees it. A
//! mistake names the field, what came and what was expected. Numbers are read exactly: a decimal text becomes
//! the nearest value of the model's datatype, and one that has no such value is an error with its place.

mod array;
mod containers;
mod dense;
mod envelope;
mod inputs;
mod json;
mod locate;
mod malformed;
mod number;
mod objects;
pub mod predict;
pub mod tfserving;
pub mod v2;
mod write;

use serde::Deserialize;

use crate::excerpt::{Dimensions, Excerpt};
use crate::request_memory::{Charge, Stopped};
use crate::tensor::{Datatype, Kind, Port, Signature, Tensor, Value, element_count};

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

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// A request's values as they are decoded.
struct Decoding<'a> {
    /// The memory that is taken for them.
    charge: &'a mut Charge,
    /// A string may come as `{"b64": "…"}`.
    takes_base64: bool,
    /// Set once something was met that is not JSON.
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

/// Charges a tensor without elements as if each dimension of no length had one: a model may make as many elements of it,
/// as a reduction over such a dimension does.
fn charge_empty(shape: &[usize], datatype: Datatype, charge: &mut Charge) -> Result<(), Stopped> {
    if element_count(shape) != Some(0) {
        return Ok(());
    }
    let count = shape.iter().map(|&length| length.max(1));
    let count = count.fold(1, usize::saturating_mul);
    charge.grow(count.saturating_mul(datatype.memory()))
}

/// Returns true if a body may hold a JSON object, whatever is wrong with it. A byte order mark may precede it.
#[must_use]
pub fn begins_object(body: &[u8]) -> bool {
    let text = malformed::without_mark(body);
    text.trim_ascii_start().starts_with(b"{")
}

/// Reads a request that is a small JSON object, as a tree; `what` is the request, as in "a repository request".
pub fn object<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, BadRequest> {
    let text = malformed::check_object(body, what)?;
    serde_json::from_str(text).map_err(|error| malformed::error(what, text, &error))
}

/// The input of this name, or an error that lists those that there are.
fn input_port<'a>(
    signature: &'a Signature,
    name: &str,
    place: &str,
) -> Result<&'a Port, BadRequest> {
    let port = signature.input(name);
    port.ok_or_else(|| no_input(signature, name, place))
}

#[cold]
fn no_input(signature: &Signature, name: &str, place: &str) -> BadRequest {
    BadRequest(format!(
        "{place}: the model has no input {:?}; its inputs are {}",
        Excerpt(name),
        names(&signature.inputs)
    ))
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
            "{place}: the model has no output {:?}; its outputs are {}",
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
        "{place} has shape {:?}, input {:?} takes {}",
        Dimensions(shape),
        port.name,
        port.kind
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

//! The plain form for requests written by hand: `{"features": …}` in, `{"prediction": […]}` out.
//!
//! A request has rows or a single row for a model with one input, and columns or rows as objects for a model with
//! several. A response is always a list in the order of the rows. The prediction is the output named as a label, with
//! probabilities and all other outputs; else the only output; else all outputs by name.

mod compatibility;

use std::borrow::Cow;

pub use compatibility::{FormChanged, keeps_form};

use super::envelope::Envelope;
use super::rows::{check_rows, columns, rows};
use super::zipmap::dense;
use super::{
    DecodeError, Decoded, Decoding, Result, ServingVersion, check_complete, json_writer,
    row_objects,
};
use crate::request_memory::Charge;
use crate::tensor::{Data, Maps, Signature, Tensor, Value, common_rows};

const ENVELOPE: Envelope = Envelope {
    what: "a prediction request",
    fields: ["features", "instances"],
    missing: "features, or instances",
    both: "both features and instances are given: send one of them",
};

/// Decodes a request for a model of this signature. `charge` is charged for its memory.
pub fn decode(
    body: &[u8],
    signature: &Signature,
    charge: &mut Charge,
) -> Result<Decoded, DecodeError> {
    let mut decoding = Decoding::new(charge);
    let read = ENVELOPE.read(body, &mut decoding, |reader, field, decoding| {
        let inputs = if reader.is_object() {
            columns(reader, field, signature, decoding)
        } else if reader.is_array_of_objects() {
            row_objects::read(reader, field, signature, decoding)
        } else {
            rows(reader, field, signature, decoding)
        };
        Ok((field, inputs?))
    })?;
    let (field, inputs) = match read {
        Ok(read) => read,
        Err(_) if signature.required().next().is_none() => ("features", Vec::new()),
        Err(missing) => return Err(missing.into()),
    };
    check_complete(signature, &inputs)?;
    check_rows(signature, &inputs, field)?;
    Ok(Decoded {
        inputs,
        outputs: Vec::new(),
    })
}

/// Encodes a response.
#[must_use]
pub fn encode(served_by: ServingVersion<'_>, outputs: &[(String, Value)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    json_writer::object(&mut out, |fields| {
        match Prediction::of(outputs) {
            Prediction::Label {
                label,
                probabilities,
                others,
            } => {
                fields.field("prediction", |out| write_label(out, label));
                match probabilities {
                    Some(Probabilities::Dense(maps)) => {
                        fields.field("probabilities", |out| write_tensor(out, maps.values()));
                        fields.field("classes", |out| json_writer::flat(out, maps.keys()));
                    }
                    Some(Probabilities::Plain(tensor)) => {
                        fields.field("probabilities", |out| write_tensor(out, tensor));
                    }
                    None => {}
                }
                if !others.is_empty() {
                    fields.field("outputs", |out| write_by_name(out, others));
                }
            }
            Prediction::Only(value) => fields.field("prediction", |out| write_only(out, value)),
            Prediction::Rows(count) => fields.field("prediction", |out| {
                let named = || outputs.iter().map(|(name, value)| (name.as_str(), value));
                json_writer::list(out, 0..count, |out, index| {
                    json_writer::named_row(out, named(), index);
                });
            }),
            Prediction::Whole => fields.field("prediction", |out| {
                json_writer::list(out, [outputs], write_by_name);
            }),
        }
        fields.text("model", served_by.model);
        fields.text("model_version", served_by.version);
    });
    out
}

enum Prediction<'a> {
    /// A label, optional probabilities, and all other outputs.
    Label {
        label: &'a Tensor,
        probabilities: Option<Probabilities<'a>>,
        others: Vec<&'a (String, Value)>,
    },
    /// The only output.
    Only(&'a Value),
    /// Several outputs with this common number of rows.
    Rows(usize),
    /// Several outputs without common rows.
    Whole,
}

enum Probabilities<'a> {
    Dense(Cow<'a, Maps>),
    Plain(&'a Tensor),
}

impl<'a> Prediction<'a> {
    fn of(outputs: &'a [(String, Value)]) -> Self {
        if let [(_, value)] = outputs {
            return Prediction::Only(value);
        }
        let named_label =
            outputs
                .iter()
                .enumerate()
                .find_map(|(index, (name, value))| match value {
                    Value::Tensor(tensor) if is_label(name) => Some((index, tensor)),
                    _ => None,
                });
        if let Some((label_index, label)) = named_label {
            let (index, probabilities) = probabilities(outputs).unzip();
            let others = outputs.iter().enumerate();
            let others = others.filter(|(at, _)| *at != label_index && Some(*at) != index);
            return Prediction::Label {
                label,
                probabilities,
                others: others.map(|(_, output)| output).collect(),
            };
        }
        common_rows(outputs.iter().map(|(_, value)| value))
            .map_or(Prediction::Whole, Prediction::Rows)
    }
}

/// Returns `true` if a tensor output with this name is the prediction.
fn is_label(name: &str) -> bool {
    name.to_lowercase().contains("label")
}

/// Returns the probabilities and their index among the outputs.
fn probabilities(outputs: &[(String, Value)]) -> Option<(usize, Probabilities<'_>)> {
    let mut outputs = outputs.iter().enumerate();
    outputs.find_map(|(index, (name, value))| {
        let found = match value {
            Value::Sequence(_) | Value::Maps(_) => dense(value).map(Probabilities::Dense),
            Value::Tensor(tensor) if matches!(tensor.data(), Data::Fp32(_) | Data::Fp64(_)) => name
                .to_lowercase()
                .contains("prob")
                .then_some(Probabilities::Plain(tensor)),
            _ => None,
        };
        found.map(|found| (index, found))
    })
}

/// Appends one label per row: a column of width one is a flat list.
fn write_label(out: &mut Vec<u8>, label: &Tensor) {
    match label.shape() {
        [_, 1] | [] => json_writer::flat(out, label.data()),
        shape => json_writer::nested(out, shape, label.data()),
    }
}

fn write_tensor(out: &mut Vec<u8>, tensor: &Tensor) {
    json_writer::nested(out, tensor.shape(), tensor.data());
}

fn write_only(out: &mut Vec<u8>, value: &Value) {
    match (value, dense(value)) {
        (_, Some(maps)) => write_tensor(out, maps.values()),
        (Value::Tensor(tensor), None) if tensor.shape().is_empty() => {
            json_writer::flat(out, tensor.data());
        }
        (Value::Map { .. }, None) => json_writer::list(out, [value], json_writer::value),
        _ => json_writer::value(out, value),
    }
}

fn write_by_name<'a>(out: &mut Vec<u8>, outputs: impl IntoIterator<Item = &'a (String, Value)>) {
    json_writer::object(out, |fields| {
        for (name, value) in outputs {
            fields.field(name, |out| json_writer::value(out, value));
        }
    });
}

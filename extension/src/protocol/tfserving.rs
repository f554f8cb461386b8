//! TensorFlow Serving's REST form of prediction, status and metadata.
//!
//! Specification: <https://www.tensorflow.org/tfx/serving/api_rest>. A request is in rows (`instances`) or in columns
//! (`inputs`), and so is its answer. Where a row or a column is not quite what the model takes it is completed as in
//! [`predict`](super::predict). An ONNX model has one signature, so that `signature_name` changes nothing, and its
//! strings are UTF-8: `{"b64": …}` is taken for any of them and never answered. NaN and the infinities are no tokens of
//! their own, which would not be JSON, but what they are elsewhere here.

use std::borrow::Cow;

use super::dense::dense;
use super::envelope::Envelope;
use super::predict::{check_rows, columns, rows, write_row};
use super::{AnsweredBy, BadRequest, Decoded, Decoding, Result, check_complete, objects, write};
use crate::request_memory::Charge;
use crate::tensor::{Port, Signature, Value, common_rows};

const ENVELOPE: Envelope = Envelope {
    what: "a TensorFlow Serving prediction request",
    fields: ["instances", "inputs"],
    missing: "instances, or inputs",
    both: "both instances and inputs are given: send rows as instances, or columns as inputs",
};

/// The one key of an object that holds a string in base64.
const BASE64: &str = "b64";

/// What the status names where no version is active: clients parse an integer, and no version has this one.
const NO_VERSION: &str = "0";

/// How the values of a request stand, and so those of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One after the other: `instances` and `predictions`.
    Rows,
    /// Each input and output whole: `inputs` and `outputs`.
    Columns,
}

/// Where a model of this form stands.
#[derive(Clone, Copy, Debug)]
pub enum Availability<'a> {
    /// This version is active. Clients that read protocol buffers parse its name as an integer, which the name of a
    /// manifest's version need not be.
    Available(&'a str),
    /// None does yet.
    Loading,
    /// None does, for this reason.
    Failed(&'a str),
}

/// Reads a request for a model of this signature, whose memory is charged to `charge`; gives what to run, and how to
/// answer.
pub fn decode(
    body: &[u8],
    signature: &Signature,
    charge: &mut Charge,
) -> Result<(Decoded, Layout)> {
    let mut decoding = Decoding::new(charge);
    // Where an input has this very name, an object with it is a column.
    decoding.takes_base64 = signature.input(BASE64).is_none();
    let read = ENVELOPE.read(body, &mut decoding, |reader, place, decoding| {
        let layout = if place == "instances" {
            Layout::Rows
        } else {
            Layout::Columns
        };
        let is_text = decoding.takes_base64 && reader.is_base64();
        let inputs = match layout {
            Layout::Rows if !reader.is_array() => {
                let problem = "instances must be a list with one element for each row";
                return Err(BadRequest(problem.to_owned()).into());
            }
            Layout::Rows if reader.is_array_of_objects() && !is_text => {
                objects::read(reader, place, signature, decoding)
            }
            Layout::Columns if reader.is_object() && !is_text => {
                columns(reader, place, signature, decoding)
            }
            Layout::Rows | Layout::Columns => rows(reader, place, signature, decoding),
        };
        Ok((layout, place, inputs?))
    })?;
    let (layout, place, inputs) = read?;
    check_complete(signature, &inputs)?;
    check_rows(signature, &inputs, place)?;
    let decoded = Decoded {
        inputs,
        outputs: Vec::new(),
    };
    Ok((decoded, layout))
}

/// Writes the answer: a lone output as it is, several by name. In rows, each output must have one element for each of
/// them.
pub fn encode(layout: Layout, outputs: &[(String, Value)]) -> Result<Vec<u8>, BadRequest> {
    let outputs: Vec<(&str, Cow<'_, Value>)> = outputs
        .iter()
        .map(|(name, value)| {
            let dense = dense(value).map(|maps| Value::Tensor(maps.values().clone()));
            (
                name.as_str(),
                dense.map_or(Cow::Borrowed(value), Cow::Owned),
            )
        })
        .collect();
    let named = || outputs.iter().map(|(name, value)| (*name, &**value));
    let mut out = Vec::with_capacity(256);
    match (layout, &*outputs) {
        (Layout::Rows, [(_, only)]) => write::object(&mut out, |fields| {
            fields.field("predictions", |out| write::value(out, only));
        }),
        (Layout::Rows, _) => {
            let count = common_rows(named().map(|(_, value)| value)).ok_or_else(|| {
                BadRequest(
                    "the model's outputs do not have one row for each instance: send the columns as \
                     inputs instead of instances, and they are answered whole"
                        .to_owned(),
                )
            })?;
            write::object(&mut out, |fields| {
                fields.field("predictions", |out| {
                    write::list(out, 0..count, |out, index| write_row(out, named(), index));
                });
            });
        }
        (Layout::Columns, [(_, only)]) => write::object(&mut out, |fields| {
            fields.field("outputs", |out| write::value(out, only));
        }),
        (Layout::Columns, _) => write::object(&mut out, |fields| {
            fields.field("outputs", |out| {
                write::object(out, |fields| {
                    for (name, value) in named() {
                        fields.field(name, |out| write::value(out, value));
                    }
                });
            });
        }),
    }
    Ok(out)
}

/// Writes a model's status.
#[must_use]
pub fn status(availability: Availability<'_>) -> Vec<u8> {
    let (version, state, code, message) = match availability {
        Availability::Available(version) => (version, "AVAILABLE", "OK", ""),
        Availability::Loading => (NO_VERSION, "LOADING", "OK", ""),
        Availability::Failed(reason) => (NO_VERSION, "END", "UNAVAILABLE", reason),
    };
    let mut out = Vec::with_capacity(128);
    write::object(&mut out, |fields| {
        fields.field("model_version_status", |out| {
            write::list(out, [()], |out, ()| {
                write::object(out, |fields| {
                    fields.value("version", version);
                    fields.value("state", state);
                    fields.field("status", |out| {
                        write::object(out, |fields| {
                            fields.value("error_code", code);
                            fields.value("error_message", message);
                        });
                    });
                });
            });
        });
    });
    out
}

/// Writes a model's metadata: its inputs and outputs, as the one signature that it has.
#[must_use]
pub fn metadata(answer: AnsweredBy<'_>, signature: &Signature) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write::object(&mut out, |fields| {
        fields.field("model_spec", |out| {
            write::object(out, |fields| {
                fields.value("name", answer.model);
                fields.value("signature_name", "");
                fields.value("version", answer.version);
            });
        });
        fields.field("metadata", |out| {
            // Such is the form in which TensorFlow Serving's own protocol buffers come out as JSON.
            within(
                out,
                &["signature_def", "signature_def", "serving_default"],
                |out| {
                    write::object(out, |fields| {
                        fields.field("inputs", |out| ports(out, &signature.inputs));
                        fields.field("outputs", |out| ports(out, &signature.outputs));
                        fields.value("method_name", "tensorflow/serving/predict");
                    });
                },
            );
        });
    });
    out
}

/// Appends objects one in the other, each with the one field of these names.
fn within(out: &mut Vec<u8>, names: &[&str], write: impl FnOnce(&mut Vec<u8>)) {
    for name in names {
        out.push(b'{');
        write::json(out, name);
        out.push(b':');
    }
    write(out);
    out.resize(out.len() + names.len(), b'}');
}

fn ports(out: &mut Vec<u8>, ports: &[Port]) {
    write::object(out, |fields| {
        for port in ports {
            fields.field(&port.name, |out| self::port(out, port));
        }
    });
}

fn port(out: &mut Vec<u8>, port: &Port) {
    let (datatype, shape) = port.kind.outline();
    let dtype = match datatype {
        "BOOL" => "DT_BOOL",
        "UINT8" => "DT_UINT8",
        "UINT16" => "DT_UINT16",
        "UINT32" => "DT_UINT32",
        "UINT64" => "DT_UINT64",
        "INT8" => "DT_INT8",
        "INT16" => "DT_INT16",
        "INT32" => "DT_INT32",
        "INT64" => "DT_INT64",
        "FP16" => "DT_HALF",
        "BF16" => "DT_BFLOAT16",
        "FP32" => "DT_FLOAT",
        "FP64" => "DT_DOUBLE",
        "BYTES" => "DT_STRING",
        // A sequence or a map, for which TensorFlow has no name.
        _ => "DT_INVALID",
    };
    write::object(out, |fields| {
        fields.value("dtype", dtype);
        fields.field("tensor_shape", |out| {
            write::object(out, |fields| {
                fields.field("dim", |out| {
                    write::list(out, shape, |out, length| {
                        let size = length.map_or_else(|| "-1".to_owned(), |it| it.to_string());
                        write::object(out, |fields| {
                            fields.value("size", &size);
                            fields.value("name", "");
                        });
                    });
                });
                fields.value("unknown_rank", &false);
            });
        });
        fields.value("name", &port.name);
    });
}

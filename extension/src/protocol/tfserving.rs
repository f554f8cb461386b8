//! TensorFlow Serving's REST form of prediction, status and metadata.
//!
//! Specification: <https://www.tensorflow.org/tfx/serving/api_rest>. Requests and responses have rows (`instances`) or
//! columns (`inputs`). Shapes of rows and columns are completed as in [`predict`](super::predict). An ONNX model has
//! one signature, so `signature_name` is ignored. Its strings are UTF-8: `{"b64": …}` is accepted for any string and
//! never returned. NaN and the infinities are not tokens, which would be invalid JSON, but have the same forms as in
//! the other protocols.

use std::borrow::Cow;

use super::envelope::Envelope;
use super::rows::{check_rows, columns, rows};
use super::zipmap::dense;
use super::{
    BadRequest, Decoded, Decoding, Result, ServingVersion, base64_string, check_complete,
    json_writer, row_objects,
};
use crate::request_memory::Charge;
use crate::tensor::{Port, Signature, Value, common_rows};

const ENVELOPE: Envelope = Envelope {
    what: "a TensorFlow Serving prediction request",
    fields: ["instances", "inputs"],
    missing: "instances, or inputs",
    both: "both instances and inputs are given: send rows as instances, or columns as inputs",
};

/// Key of an object that holds a string in base64.
const BASE64: &str = "b64";

/// Version in the status if no version is active: clients parse an integer, and no version has this number.
const NO_VERSION: &str = "0";

/// Layout of the values of a request and its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Row by row: `instances` and `predictions`.
    Rows,
    /// By input and output: `inputs` and `outputs`.
    Columns,
}

/// Availability of a model.
#[derive(Clone, Copy, Debug)]
pub enum Availability<'a> {
    /// This version is active. Clients with protocol buffers parse its name as an integer, which the version of a
    /// manifest need not be.
    Available(&'a str),
    /// No version is active yet.
    Loading,
    /// No version is active, for this reason.
    Failed(&'a str),
}

/// Decodes a request for a model of this signature, and returns it with the layout of the response. `charge` is charged
/// for its memory.
pub fn decode(
    body: &[u8],
    signature: &Signature,
    charge: &mut Charge,
) -> Result<(Decoded, Layout)> {
    let mut decoding = Decoding::new(charge);
    // If an input has this name, an object with it is a column.
    decoding.takes_base64 = signature.input(BASE64).is_none();
    let read = ENVELOPE.read(body, &mut decoding, |reader, path, decoding| {
        let layout = if path == "instances" {
            Layout::Rows
        } else {
            Layout::Columns
        };
        let is_text = decoding.takes_base64 && base64_string::begins_here(reader);
        let inputs = match layout {
            Layout::Rows if !reader.is_array() => {
                let problem = "instances must be a list with one element per row";
                return Err(BadRequest(problem.to_owned()).into());
            }
            Layout::Rows if reader.is_array_of_objects() && !is_text => {
                row_objects::read(reader, path, signature, decoding)
            }
            Layout::Columns if reader.is_object() && !is_text => {
                columns(reader, path, signature, decoding)
            }
            Layout::Rows | Layout::Columns => rows(reader, path, signature, decoding),
        };
        Ok((layout, path, inputs?))
    })?;
    let (layout, path, inputs) = read?;
    check_complete(signature, &inputs)?;
    check_rows(signature, &inputs, path)?;
    let decoded = Decoded {
        inputs,
        outputs: Vec::new(),
    };
    Ok((decoded, layout))
}

/// Encodes a response: a single output without its name, several outputs by name. In rows, each output must have one
/// element per row.
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
        (Layout::Rows, [(_, only)]) => json_writer::object(&mut out, |fields| {
            fields.field("predictions", |out| json_writer::value(out, only));
        }),
        (Layout::Rows, _) => {
            let count = common_rows(named().map(|(_, value)| value)).ok_or_else(|| {
                BadRequest(
                    "the model's outputs do not have one row per instance: send the columns as inputs \
                     instead of instances to get whole outputs"
                        .to_owned(),
                )
            })?;
            json_writer::object(&mut out, |fields| {
                fields.field("predictions", |out| {
                    json_writer::list(out, 0..count, |out, index| {
                        json_writer::named_row(out, named(), index);
                    });
                });
            });
        }
        (Layout::Columns, [(_, only)]) => json_writer::object(&mut out, |fields| {
            fields.field("outputs", |out| json_writer::value(out, only));
        }),
        (Layout::Columns, _) => json_writer::object(&mut out, |fields| {
            fields.field("outputs", |out| {
                json_writer::object(out, |fields| {
                    for (name, value) in named() {
                        fields.field(name, |out| json_writer::value(out, value));
                    }
                });
            });
        }),
    }
    Ok(out)
}

/// Encodes a model's status.
#[must_use]
pub fn status(availability: Availability<'_>) -> Vec<u8> {
    let (version, state, code, message) = match availability {
        Availability::Available(version) => (version, "AVAILABLE", "OK", ""),
        Availability::Loading => (NO_VERSION, "LOADING", "OK", ""),
        Availability::Failed(reason) => (NO_VERSION, "END", "UNAVAILABLE", reason),
    };
    let mut out = Vec::with_capacity(128);
    json_writer::object(&mut out, |fields| {
        fields.field("model_version_status", |out| {
            json_writer::list(out, [()], |out, ()| {
                json_writer::object(out, |fields| {
                    fields.text("version", version);
                    fields.text("state", state);
                    fields.field("status", |out| {
                        json_writer::object(out, |fields| {
                            fields.text("error_code", code);
                            fields.text("error_message", message);
                        });
                    });
                });
            });
        });
    });
    out
}

/// Encodes a model's metadata: its inputs and outputs, as its only signature.
#[must_use]
pub fn metadata(served_by: ServingVersion<'_>, signature: &Signature) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    json_writer::object(&mut out, |fields| {
        fields.field("model_spec", |out| {
            json_writer::object(out, |fields| {
                fields.text("name", served_by.model);
                fields.text("signature_name", "");
                fields.text("version", served_by.version);
            });
        });
        fields.field("metadata", |out| {
            // TensorFlow Serving's protocol buffers have this form as JSON.
            within(
                out,
                &["signature_def", "signature_def", "serving_default"],
                |out| {
                    json_writer::object(out, |fields| {
                        fields.field("inputs", |out| ports(out, &signature.inputs));
                        fields.field("outputs", |out| ports(out, &signature.outputs));
                        fields.text("method_name", "tensorflow/serving/predict");
                    });
                },
            );
        });
    });
    out
}

/// Appends nested objects, each with a single field of these names.
fn within(out: &mut Vec<u8>, names: &[&str], write: impl FnOnce(&mut Vec<u8>)) {
    for name in names {
        out.push(b'{');
        json_writer::text(out, name);
        out.push(b':');
    }
    write(out);
    out.resize(out.len() + names.len(), b'}');
}

fn ports(out: &mut Vec<u8>, ports: &[Port]) {
    json_writer::object(out, |fields| {
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
        // TensorFlow has no name for sequences and maps.
        _ => "DT_INVALID",
    };
    json_writer::object(out, |fields| {
        fields.text("dtype", dtype);
        fields.field("tensor_shape", |out| {
            json_writer::object(out, |fields| {
                fields.field("dim", |out| {
                    json_writer::list(out, shape, |out, length| {
                        let size = length.map_or_else(|| "-1".to_owned(), |it| it.to_string());
                        json_writer::object(out, |fields| {
                            fields.value("size", &size);
                            fields.text("name", "");
                        });
                    });
                });
                fields.value("unknown_rank", &false);
            });
        });
        fields.text("name", &port.name);
    });
}

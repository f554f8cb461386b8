//! The Open Inference Protocol, version 2, in JSON and with Triton's extensions for binary tensors and classification.
//!
//! Specification: <https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol>. Additions: FP16
//! and BF16 are plain numbers. NaN is `null`, and the infinities are strings. A sequence of maps (scikit-learn's
//! probabilities) is a dense FP32 tensor with `labels` in its parameters. Other sequences and maps, in requests and
//! responses, have the datatypes `SEQUENCE` and `MAP`.

mod binary;
mod classification;
mod configuration;
mod request;
mod response;

use std::borrow::Cow;
use std::fmt::Display;

use bytes::Bytes;
pub use configuration::{CONFIGURATION_EXTENSION, configuration};
pub use response::{Encoded, ResponseFormat};
use serde::Serialize;

use super::zipmap::into_tensor;
use super::{
    BadRequest, DecodeError, Decoded, Decoding, Result, ServingVersion, array, charge_empty,
    check_complete, check_shape, containers, input_port, json_writer, malformed, output_port,
};
use crate::excerpt::{Dimensions, Excerpt};
use crate::manifest::GoldenTensor;
use crate::request_memory::Charge;
use crate::tensor::{Datatype, Kind, Port, Signature, Tensor, Value, element_count};
use binary::BinaryPart;
use request::{InferRequest, InputTensor};

/// Header with the length of the JSON part of a body, before binary tensors.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// Name of the extension for binary tensors in the server's metadata.
pub const BINARY_EXTENSION: &str = "binary_tensor_data";
/// Name of the classification extension in the server's metadata.
pub const CLASSIFICATION_EXTENSION: &str = "classification";

/// Decodes a request for a model of this signature, and returns it with the format of its response.
///
/// Without the [header](HEADER_LENGTH) all of the body is JSON; if the header is 0, the body is the elements of the
/// only input. `charge` is charged for the request's memory.
pub fn decode(
    body: &Bytes,
    header_length: Option<usize>,
    signature: &Signature,
    charge: &mut Charge,
) -> Result<(Decoded, ResponseFormat)> {
    if header_length == Some(0) {
        let decoded = binary::raw(body.clone(), signature, charge)?;
        return Ok((decoded, ResponseFormat::binary()));
    }
    let length = header_length.unwrap_or(body.len());
    let Some(text) = body.get(..length) else {
        return Err(BadRequest(format!(
            "header {HEADER_LENGTH} is {length}, but the body has {} bytes",
            body.len()
        ))
        .into());
    };
    let request = InferRequest::read(text, signature)?;
    let mut binary_part = BinaryPart::new(body.slice(length..));
    if let (None, Some(index)) = (header_length, request.first_binary()) {
        return Err(BadRequest(format!(
            "inputs[{index}].parameters.binary_data_size is given, but header {HEADER_LENGTH} \
             with the length of the JSON is missing"
        ))
        .into());
    }
    let mut decoding = Decoding::new(charge);
    let inputs = decode_inputs(&request.inputs, &mut binary_part, signature, &mut decoding);
    let inputs = match inputs {
        Err(DecodeError::Invalid(error)) if decoding.is_malformed => {
            return Err(with_reason(error, text).into());
        }
        inputs => inputs?,
    };
    binary_part.end()?;
    let InferRequest {
        id,
        binary_outputs,
        outputs,
        ..
    } = request;
    let format = ResponseFormat::read(id, binary_outputs, outputs, signature)?;
    let outputs = format.names();
    Ok((Decoded { inputs, outputs }, format))
}

/// Returns the error of a request whose `text` is not valid JSON, with the reason.
#[cold]
fn with_reason(error: BadRequest, text: &[u8]) -> BadRequest {
    match malformed::reason(text) {
        Some(reason) => BadRequest(format!("{error}: {reason}")),
        None => error,
    }
}

/// Decodes the inputs of a manifest's golden example as the inputs of a request.
pub fn golden_inputs(
    inputs: &[GoldenTensor],
    signature: &Signature,
) -> Result<Vec<(String, Value)>> {
    let inputs: Vec<InputTensor<'_>> = inputs.iter().map(golden_tensor).collect();
    let mut charge = Charge::unlimited();
    let mut decoding = Decoding::new(&mut charge);
    let mut binary_part = BinaryPart::new(Bytes::new());
    decode_inputs(&inputs, &mut binary_part, signature, &mut decoding)
}

/// Decodes the outputs of a manifest's golden example. Each must be an output of the signature that a response writes
/// as a tensor.
pub fn golden_outputs(
    outputs: &[GoldenTensor],
    signature: &Signature,
) -> Result<Vec<(String, Tensor)>> {
    let mut charge = Charge::unlimited();
    let mut decoding = Decoding::new(&mut charge);
    let read = |(index, output): (usize, &GoldenTensor)| {
        let path = format_args!("outputs[{index}]");
        let port = output_port(signature, &output.name, path)?;
        if Datatype::from_name(port.kind.outline().0).is_none() {
            return Err(BadRequest(format!(
                "{path}: output {:?} is a {}, which cannot be compared with a tensor",
                port.name, port.kind
            ))
            .into());
        }
        let tensor = read_tensor(
            &golden_tensor(output),
            &mut BinaryPart::new(Bytes::new()),
            output.datatype,
            &path,
            &mut decoding,
        )?;
        Ok((output.name.clone(), tensor))
    };
    outputs.iter().enumerate().map(read).collect()
}

fn golden_tensor(golden: &GoldenTensor) -> InputTensor<'_> {
    InputTensor {
        name: Cow::Borrowed(&golden.name),
        shape: golden.shape.clone(),
        datatype: Cow::Borrowed(golden.datatype.name()),
        binary_size: None,
        data: Some(golden.data.as_bytes()),
    }
}

/// Returns the tensor that a response has for this value, if any.
#[must_use]
pub fn as_tensor(value: Value) -> Option<Tensor> {
    let (tensor, _) = into_tensor(value).ok()?;
    Some(tensor)
}

fn decode_inputs(
    given: &[InputTensor<'_>],
    binary_part: &mut BinaryPart,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
) -> Result<Vec<(String, Value)>> {
    let mut inputs: Vec<(String, Value)> = Vec::with_capacity(given.len());
    for (index, input) in given.iter().enumerate() {
        let value = decode_input(input, binary_part, index, signature, decoding)?;
        if inputs.iter().any(|(name, _)| *name == input.name) {
            return Err(BadRequest(format!(
                "inputs[{index}]: input {:?} is given twice",
                input.name
            ))
            .into());
        }
        inputs.push((input.name.clone().into_owned(), value));
    }
    check_complete(signature, &inputs)?;
    Ok(inputs)
}

fn decode_input(
    input: &InputTensor<'_>,
    binary_part: &mut BinaryPart,
    index: usize,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
) -> Result<Value> {
    let path = format_args!("inputs[{index}]");
    let port = input_port(signature, &input.name, path)?;
    let (datatype, declared) = match containers::given(&port.kind) {
        Kind::Tensor { datatype, shape } => (*datatype, shape),
        kind => {
            let data = input.data;
            let data = data.ok_or_else(|| BadRequest(format!("{path}.data is missing")))?;
            let (name, shape) = (&input.datatype, &input.shape);
            return containers::input(kind, name, shape, data, &path, decoding);
        }
    };
    if Datatype::from_name(&input.datatype) != Some(datatype) {
        return Err(BadRequest(format!(
            "{path}.datatype is {:?}, input {:?} takes {datatype}",
            Excerpt(&input.datatype),
            port.name
        ))
        .into());
    }
    let tensor = read_tensor(input, binary_part, datatype, &path, decoding)?;
    check_shape(port, declared, &tensor, &path)?;
    Ok(Value::Tensor(tensor))
}

/// Reads a tensor at `path`.
fn read_tensor(
    given: &InputTensor<'_>,
    binary_part: &mut BinaryPart,
    datatype: Datatype,
    path: &dyn Display,
    decoding: &mut Decoding<'_>,
) -> Result<Tensor> {
    let data = match (given.data, given.binary_size) {
        (Some(data), None) => data,
        (None, Some(size)) => {
            return binary_part.tensor(size, datatype, &given.shape, path, decoding.charge);
        }
        (None, None) => return Err(BadRequest(format!("{path}.data is missing")).into()),
        (Some(_), Some(size)) => {
            return Err(BadRequest(format!(
                "{path} has both data and parameters.binary_data_size ({size}): send one of them"
            ))
            .into());
        }
    };
    let expected = Some(element_count(&given.shape).unwrap_or(usize::MAX));
    let data_path = format_args!("{path}.data");
    let array = array::read(data, datatype, &data_path, expected, decoding)?;
    // The data may be flat or nested as the shape.
    if array.shape.len() > 1 && array.shape != given.shape {
        return Err(BadRequest(format!(
            "{path}.shape is {:?}, but the data is nested as {:?}",
            Dimensions(&given.shape),
            Dimensions(&array.shape)
        ))
        .into());
    }
    charge_empty(&given.shape, datatype, decoding.charge)?;
    let tensor = Tensor::new(given.shape.clone(), array.data);
    tensor.map_err(|mismatch| BadRequest(format!("{path}: {mismatch}")).into())
}

#[derive(Serialize)]
struct PortMetadata<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<i64>,
}

#[derive(Serialize)]
struct ModelMetadata<'a> {
    name: &'a str,
    versions: [&'a str; 1],
    platform: &'static str,
    inputs: Vec<PortMetadata<'a>>,
    outputs: Vec<PortMetadata<'a>>,
    parameters: &'a VersionParameters,
}

/// Status of the active version, in the `parameters` of a response, which the protocol leaves to servers.
#[derive(Clone, Debug, Serialize)]
pub struct VersionParameters {
    /// SHA-256 of the version's file, or over those of all its files, as 64 hexadecimal digits.
    pub digest: String,
    /// Time of the load, in milliseconds since the Unix epoch.
    pub loaded_at_ms: u64,
    /// Time of the last successful version check, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed_at_ms: Option<u64>,
    /// Reason why a newer version is not active, or why the version check failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Encodes a model's metadata: its inputs and outputs, as in a manifest's `signature`, and the status of the active
/// version.
#[must_use]
pub fn metadata(
    served_by: ServingVersion<'_>,
    signature: &Signature,
    parameters: &VersionParameters,
) -> Vec<u8> {
    let metadata = ModelMetadata {
        name: served_by.model,
        versions: [served_by.version],
        platform: "onnx_onnxv1",
        inputs: signature.inputs.iter().map(port_metadata).collect(),
        outputs: signature.outputs.iter().map(port_metadata).collect(),
        parameters,
    };
    let mut out = Vec::with_capacity(512);
    json_writer::json(&mut out, &metadata);
    out
}

fn port_metadata(port: &Port) -> PortMetadata<'_> {
    let (datatype, shape) = outline(&port.kind);
    PortMetadata {
        name: &port.name,
        datatype,
        shape,
    }
}

/// Returns the datatype and the shape of a kind, with −1 for a free dimension.
fn outline(kind: &Kind) -> (&'static str, Vec<i64>) {
    let (name, shape) = kind.outline();
    let length = |dim: Option<usize>| dim.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1);
    (name, shape.into_iter().map(length).collect())
}

#[derive(Serialize)]
struct ServerMetadata<'a> {
    name: &'static str,
    version: &'static str,
    extensions: &'a [&'a str],
}

/// Encodes the server's metadata; `extensions` are the available extensions.
#[must_use]
pub fn server_metadata(extensions: &[&str]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let metadata = ServerMetadata {
        name: "model-sidecar",
        version: env!("CARGO_PKG_VERSION"),
        extensions,
    };
    json_writer::json(&mut out, &metadata);
    out
}

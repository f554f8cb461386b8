//! The Open Inference Protocol, version 2, in JSON and with Triton's extensions for binary tensors and classes.
//!
//! Specification: <https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol>. Beyond
//! it: FP16 and BF16 are plain numbers; NaN is `null`, the infinities are strings; a sequence of maps
//! (scikit-learn's probabilities) is a dense FP32 tensor with `labels` in its parameters; other sequences and
//! maps, in and out, have the datatypes `SEQUENCE` and `MAP`.

mod binary;
mod classification;
mod configuration;
mod reply;
mod request;

use std::borrow::Cow;

use bytes::Bytes;
pub use configuration::{CONFIGURATION_EXTENSION, configuration};
pub use reply::{Encoded, Reply};
use serde::Serialize;

use super::dense::into_tensor;
use super::{
    AnsweredBy, BadRequest, DecodeError, Decoded, Decoding, Result, array, charge_empty,
    check_complete, check_shape, containers, input_port, malformed, output_port, write,
};
use crate::excerpt::{Dimensions, Excerpt};
use crate::manifest::GoldenTensor;
use crate::request_memory::Charge;
use crate::tensor::{Datatype, Kind, Port, Signature, Tensor, Value, element_count};
use binary::Rest;
use request::{InputTensor, Request};

/// The header that says how many bytes of a body are JSON, before tensors in binary.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// What the server's metadata calls tensors in binary.
pub const BINARY_EXTENSION: &str = "binary_tensor_data";
/// What it calls the ranking of classes.
pub const CLASSIFICATION_EXTENSION: &str = "classification";

/// Reads a request for a model of this signature; gives what to run, and how to answer. All of the body is JSON where
/// no [header](HEADER_LENGTH) says otherwise; where it says 0, the body is the only input's elements. Memory is charged to
/// `charge`.
pub fn decode(
    body: &Bytes,
    header_length: Option<usize>,
    signature: &Signature,
    charge: &mut Charge,
) -> Result<(Decoded, Reply)> {
    if header_length == Some(0) {
        let decoded = binary::raw(body.clone(), signature, charge)?;
        return Ok((decoded, Reply::binary()));
    }
    let length = header_length.unwrap_or(body.len());
    let Some(text) = body.get(..length) else {
        return Err(BadRequest(format!(
            "header {HEADER_LENGTH} is {length}, but the body has {} bytes",
            body.len()
        ))
        .into());
    };
    let request = Request::read(text, signature)?;
    let mut rest = Rest::new(body.slice(length..));
    if let (None, Some(index)) = (header_length, request.first_binary()) {
        return Err(BadRequest(format!(
            "inputs[{index}].parameters.binary_data_size is given, but no header {HEADER_LENGTH}, \
             which says where the JSON ends"
        ))
        .into());
    }
    let mut decoding = Decoding::new(charge);
    let inputs = decode_inputs(&request.inputs, &mut rest, signature, &mut decoding);
    let inputs = match inputs {
        Err(DecodeError::Invalid(error)) if decoding.is_malformed => {
            return Err(explained(error, text).into());
        }
        inputs => inputs?,
    };
    rest.end()?;
    let Request {
        id,
        binary_outputs,
        outputs,
        ..
    } = request;
    let reply = Reply::read(id, binary_outputs, outputs, signature)?;
    let outputs = reply.names();
    Ok((Decoded { inputs, outputs }, reply))
}

/// The error of a request whose `text` is not JSON, with the reason.
#[cold]
fn explained(error: BadRequest, text: &[u8]) -> BadRequest {
    match malformed::reason(text) {
        Some(reason) => BadRequest(format!("{error}: {reason}")),
        None => error,
    }
}

/// Reads the inputs of a manifest's golden example as if a request had brought them.
pub fn golden_inputs(
    inputs: &[GoldenTensor],
    signature: &Signature,
) -> Result<Vec<(String, Value)>> {
    let inputs: Vec<InputTensor<'_>> = inputs.iter().map(golden_tensor).collect();
    let mut charge = Charge::unlimited();
    let mut decoding = Decoding::new(&mut charge);
    let mut rest = Rest::new(Bytes::new());
    decode_inputs(&inputs, &mut rest, signature, &mut decoding)
}

/// Reads the outputs of a manifest's golden example, each of which must be one of the signature's that an answer writes
/// as a tensor.
pub fn golden_outputs(
    outputs: &[GoldenTensor],
    signature: &Signature,
) -> Result<Vec<(String, Tensor)>> {
    let mut charge = Charge::unlimited();
    let mut decoding = Decoding::new(&mut charge);
    let read = |(index, output): (usize, &GoldenTensor)| {
        let place = format!("outputs[{index}]");
        let port = output_port(signature, &output.name, &place)?;
        if Datatype::from_name(port.kind.outline().0).is_none() {
            return Err(BadRequest(format!(
                "{place}: output {:?} is a {}, against which no tensor can be held",
                port.name, port.kind
            ))
            .into());
        }
        let tensor = read_tensor(
            &golden_tensor(output),
            &mut Rest::new(Bytes::new()),
            output.datatype,
            &place,
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

/// The tensor that an answer writes for this value, where it writes one.
#[must_use]
pub fn as_tensor(value: Value) -> Option<Tensor> {
    let (tensor, _) = into_tensor(value).ok()?;
    Some(tensor)
}

fn decode_inputs(
    given: &[InputTensor<'_>],
    rest: &mut Rest,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
) -> Result<Vec<(String, Value)>> {
    let mut inputs: Vec<(String, Value)> = Vec::with_capacity(given.len());
    for (index, input) in given.iter().enumerate() {
        let value = decode_input(input, rest, index, signature, decoding)?;
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
    rest: &mut Rest,
    index: usize,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
) -> Result<Value> {
    let place = format!("inputs[{index}]");
    let port = input_port(signature, &input.name, &place)?;
    let (datatype, declared) = match containers::given(&port.kind) {
        Kind::Tensor { datatype, shape } => (*datatype, shape),
        kind => {
            let data = input.data;
            let data = data.ok_or_else(|| BadRequest(format!("{place}.data is missing")))?;
            let (word, shape) = (&input.datatype, &input.shape);
            return containers::input(kind, word, shape, data, &place, decoding);
        }
    };
    if Datatype::from_name(&input.datatype) != Some(datatype) {
        return Err(BadRequest(format!(
            "{place}.datatype is {:?}, input {:?} takes {datatype}",
            Excerpt(&input.datatype),
            port.name
        ))
        .into());
    }
    let tensor = read_tensor(input, rest, datatype, &place, decoding)?;
    check_shape(port, declared, &tensor, &place)?;
    Ok(Value::Tensor(tensor))
}

/// The elements of a tensor as it stands at `place`.
fn read_tensor(
    given: &InputTensor<'_>,
    rest: &mut Rest,
    datatype: Datatype,
    place: &str,
    decoding: &mut Decoding<'_>,
) -> Result<Tensor> {
    let data = match (given.data, given.binary_size) {
        (Some(data), None) => data,
        (None, Some(size)) => {
            return rest.tensor(size, datatype, &given.shape, place, decoding.charge);
        }
        (None, None) => return Err(BadRequest(format!("{place}.data is missing")).into()),
        (Some(_), Some(size)) => {
            return Err(BadRequest(format!(
                "{place} has data, and its parameters.binary_data_size is {size}: send one of them"
            ))
            .into());
        }
    };
    let expected = Some(element_count(&given.shape).unwrap_or(usize::MAX));
    let array = array::read(data, datatype, &format!("{place}.data"), expected, decoding)?;
    // Flat, or nested just as the shape says.
    if array.shape.len() > 1 && array.shape != given.shape {
        return Err(BadRequest(format!(
            "{place}.shape is {:?}, but the data is nested as {:?}",
            Dimensions(&given.shape),
            Dimensions(&array.shape)
        ))
        .into());
    }
    charge_empty(&given.shape, datatype, decoding.charge)?;
    let tensor = Tensor::new(given.shape.clone(), array.data);
    tensor.map_err(|mismatch| BadRequest(format!("{place}: {mismatch}")).into())
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
    parameters: &'a Standing,
}

/// How the version that answers stands to the newest. It goes into `parameters`, where the protocol leaves room for
/// what a server has to say beyond it.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// SHA-256 of the version's file, or over those of all its files, as 64 hexadecimal digits.
    pub digest: String,
    /// When the version was loaded, in milliseconds since the Unix epoch.
    pub loaded_at_ms: u64,
    /// When the source last said which version is the newest, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed_at_ms: Option<u64>,
    /// Why a newer version does not answer, or why the source could not be asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Writes a model's metadata: what goes in and what comes out, as a manifest's `signature` declares
/// it, and how the version that answers stands.
#[must_use]
pub fn metadata(answer: AnsweredBy<'_>, signature: &Signature, standing: &Standing) -> Vec<u8> {
    let metadata = ModelMetadata {
        name: answer.model,
        versions: [answer.version],
        platform: "onnx_onnxv1",
        inputs: signature.inputs.iter().map(port_metadata).collect(),
        outputs: signature.outputs.iter().map(port_metadata).collect(),
        parameters: standing,
    };
    let mut out = Vec::with_capacity(512);
    write::json(&mut out, &metadata);
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

/// By what a kind goes, and its lengths, −1 for one that is free.
fn outline(kind: &Kind) -> (&'static str, Vec<i64>) {
    let (word, shape) = kind.outline();
    let length = |dim: Option<usize>| dim.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1);
    (word, shape.into_iter().map(length).collect())
}

#[derive(Serialize)]
struct ServerMetadata<'a> {
    name: &'static str,
    version: &'static str,
    extensions: &'a [&'a str],
}

/// Writes the server's metadata. `extensions` lists only what is really there.
#[must_use]
pub fn server_metadata(extensions: &[&str]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let metadata = ServerMetadata {
        name: "model-sidecar",
        version: env!("CARGO_PKG_VERSION"),
        extensions,
    };
    write::json(&mut out, &metadata);
    out
}

//! The Open Inference Protocol, version 2, in its JSON form.
//!
//! Specification: <https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol>. Beyond
//! it: FP16 and BF16 are plain numbers; NaN is `null`, the infinities are strings; a sequence of maps
//! (scikit-learn's probabilities) is a dense FP32 tensor with `labels` in its parameters; other sequences and
//! maps are outputs of datatype `SEQUENCE` and `MAP`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::dense::dense;
use super::{
    AnsweredBy, BadRequest, Decoded, array, check_complete, check_shape, input_port, object,
    output_port, write,
};
use crate::manifest::GoldenTensor;
use crate::tensor::{Datatype, Kind, Port, Signature, Tensor, Value, element_count};

#[derive(Deserialize)]
struct InferRequest<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    inputs: Vec<InputTensor<'a>>,
    #[serde(borrow, default)]
    outputs: Vec<OutputTensor<'a>>,
}

#[derive(Deserialize)]
struct InputTensor<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<usize>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OutputTensor<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// Reads a request for a model of this signature; gives what to run, and the id to be answered.
pub fn decode(body: &[u8], signature: &Signature) -> Result<(Decoded, Option<String>), BadRequest> {
    let request: InferRequest<'_> = object(body, "an inference")?;
    let inputs = decode_inputs(&request.inputs, signature)?;
    let outputs = request
        .outputs
        .iter()
        .enumerate()
        .map(|(index, output)| {
            output_port(signature, &output.name, &format!("outputs[{index}]"))?;
            Ok(output.name.clone().into_owned())
        })
        .collect::<Result<_, _>>()?;
    Ok((Decoded { inputs, outputs }, request.id.map(Cow::into_owned)))
}

/// Reads the inputs of a manifest's golden example as if a request had brought them.
pub fn golden_inputs(
    inputs: &[GoldenTensor],
    signature: &Signature,
) -> Result<Vec<(String, Value)>, BadRequest> {
    let inputs: Vec<InputTensor<'_>> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| golden_tensor(input, &format!("inputs[{index}]")))
        .collect::<Result<_, _>>()?;
    decode_inputs(&inputs, signature)
}

/// Reads the outputs of a manifest's golden example, each of which must be one of the signature's that an answer writes
/// as a tensor.
pub fn golden_outputs(
    outputs: &[GoldenTensor],
    signature: &Signature,
) -> Result<Vec<(String, Tensor)>, BadRequest> {
    let read = |(index, output): (usize, &GoldenTensor)| {
        let place = format!("outputs[{index}]");
        let port = output_port(signature, &output.name, &place)?;
        if Datatype::from_name(port.kind.outline().0).is_none() {
            return Err(BadRequest(format!(
                "{place}: output {:?} is a {}, against which no tensor can be held",
                port.name, port.kind
            )));
        }
        let tensor = read_tensor(&golden_tensor(output, &place)?, output.datatype, &place)?;
        Ok((output.name.clone(), tensor))
    };
    outputs.iter().enumerate().map(read).collect()
}

fn golden_tensor<'a>(golden: &'a GoldenTensor, place: &str) -> Result<InputTensor<'a>, BadRequest> {
    let data = serde_json::from_str(&golden.data)
        .map_err(|error| BadRequest(format!("{place}.data: {error}")))?;
    Ok(InputTensor {
        name: Cow::Borrowed(&golden.name),
        shape: golden.shape.clone(),
        datatype: Cow::Borrowed(golden.datatype.name()),
        data: Some(data),
    })
}

/// The tensor that an answer writes for this value, where it writes one.
#[must_use]
pub fn as_tensor(value: Value) -> Option<Tensor> {
    match value {
        Value::Tensor(tensor) => Some(tensor),
        other => dense(&other).map(|dense| dense.probabilities),
    }
}

fn decode_inputs(
    given: &[InputTensor<'_>],
    signature: &Signature,
) -> Result<Vec<(String, Value)>, BadRequest> {
    let mut inputs: Vec<(String, Value)> = Vec::with_capacity(given.len());
    for (index, input) in given.iter().enumerate() {
        let tensor = decode_input(input, index, signature)?;
        if inputs.iter().any(|(name, _)| *name == input.name) {
            return Err(BadRequest(format!(
                "inputs[{index}]: input {:?} is given twice",
                input.name
            )));
        }
        inputs.push((input.name.clone().into_owned(), Value::Tensor(tensor)));
    }
    check_complete(signature, &inputs)?;
    Ok(inputs)
}

fn decode_input(
    input: &InputTensor<'_>,
    index: usize,
    signature: &Signature,
) -> Result<Tensor, BadRequest> {
    let port = input_port(signature, &input.name, &format!("inputs[{index}]"))?;
    let Kind::Tensor {
        datatype,
        shape: declared,
    } = &port.kind
    else {
        return Err(BadRequest(format!(
            "inputs[{index}]: a {} cannot be given as a tensor",
            port.kind
        )));
    };
    if Datatype::from_name(&input.datatype) != Some(*datatype) {
        return Err(BadRequest(format!(
            "inputs[{index}].datatype is {:?}, input {:?} takes {datatype}",
            input.datatype, port.name
        )));
    }
    let place = format!("inputs[{index}]");
    let tensor = read_tensor(input, *datatype, &place)?;
    check_shape(port, declared, &tensor, &place)?;
    Ok(tensor)
}

/// The elements of a tensor as it stands at `place`.
fn read_tensor(
    given: &InputTensor<'_>,
    datatype: Datatype,
    place: &str,
) -> Result<Tensor, BadRequest> {
    let Some(data) = given.data else {
        return Err(BadRequest(format!("{place}.data is missing")));
    };
    let expected = element_count(&given.shape).unwrap_or(usize::MAX);
    let array = array::read(data.get(), datatype, &format!("{place}.data"), expected)?;
    // Flat, or nested just as the shape says.
    if array.shape.len() > 1 && array.shape != given.shape {
        return Err(BadRequest(format!(
            "{place}.shape is {:?}, but the data is nested as {:?}",
            given.shape, array.shape
        )));
    }
    Tensor::new(given.shape.clone(), array.data)
        .map_err(|mismatch| BadRequest(format!("{place}: {mismatch}")))
}

/// Writes the answer to a request.
#[must_use]
pub fn encode(answer: AnsweredBy<'_>, id: Option<&str>, outputs: &[(String, Value)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write::object(&mut out, |fields| {
        fields.value("model_name", answer.model);
        fields.value("model_version", answer.version);
        if let Some(id) = id {
            fields.value("id", id);
        }
        fields.field("outputs", |out| {
            write::list(out, outputs, |out, (name, value)| {
                encode_output(out, name, value);
            });
        });
    });
    out
}

fn encode_output(out: &mut Vec<u8>, name: &str, value: &Value) {
    let dense = dense(value);
    write::object(out, |fields| {
        fields.value("name", name);
        let mut tensor = |tensor: &Tensor| {
            fields.value("datatype", tensor.datatype().name());
            fields.value("shape", tensor.shape());
            fields.field("data", |out| write::flat(out, tensor.data()));
        };
        match (value, &dense) {
            (_, Some(dense)) => {
                tensor(&dense.probabilities);
                fields.field("parameters", |out| {
                    write::object(out, |fields| {
                        fields.field("labels", |out| write::flat(out, &dense.classes));
                    });
                });
            }
            (Value::Tensor(plain), None) => tensor(plain),
            (Value::Sequence(values), None) => {
                fields.value("datatype", "SEQUENCE");
                fields.value("shape", &[values.len()]);
                fields.field("data", |out| write::value(out, value));
            }
            (Value::Map { keys, .. }, None) => {
                fields.value("datatype", "MAP");
                fields.value("shape", &[keys.len()]);
                fields.field("data", |out| write::value(out, value));
            }
        }
    });
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
    let (datatype, shape) = port.kind.outline();
    let length = |dim: Option<usize>| dim.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1);
    PortMetadata {
        name: &port.name,
        datatype,
        shape: shape.into_iter().map(length).collect(),
    }
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

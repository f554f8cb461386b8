//! Encoding of a response in the format that the request asks for.

use std::sync::Arc;

use bytes::Bytes;

use super::binary;
use super::classification::Ranking;
use super::request::OutputTensor;
use crate::protocol::zipmap::into_tensor;
use crate::protocol::{BadRequest, ServingVersion, json_writer, output_port};
use crate::tensor::{Data, Signature, Tensor, Value};

/// Format of a response, as a request asks for it.
#[derive(Debug, Default)]
pub struct ResponseFormat {
    id: Option<String>,
    /// `true` if outputs without their own setting are binary.
    binary: bool,
    output_formats: Vec<OutputFormat>,
}

/// Format of an output.
#[derive(Debug)]
struct OutputFormat {
    name: String,
    binary: Option<bool>,
    ranking: Option<Ranking>,
}

/// An encoded response.
#[derive(Debug)]
pub struct Encoded {
    /// Parts of the body in order.
    pub pieces: Vec<Bytes>,
    /// Length of the JSON part, if binary tensors follow.
    pub header_length: Option<usize>,
}

impl Encoded {
    /// Creates a response that is JSON only.
    #[must_use]
    pub fn json(text: Vec<u8>) -> Self {
        Self {
            pieces: vec![text.into()],
            header_length: None,
        }
    }
}

impl ResponseFormat {
    /// Creates the format of a binary request: all outputs are binary.
    pub(super) fn binary() -> Self {
        Self {
            binary: true,
            ..Self::default()
        }
    }

    /// Checks the requested format of the outputs, which are distinct outputs of the signature.
    pub(super) fn read(
        id: Option<String>,
        binary: bool,
        outputs: Vec<OutputTensor>,
        signature: &Signature,
    ) -> Result<Self, BadRequest> {
        let mut output_formats: Vec<OutputFormat> = Vec::with_capacity(outputs.len());
        for (index, output) in outputs.into_iter().enumerate() {
            let path = format_args!("outputs[{index}]");
            let rank =
                |count| Ranking::of(output_port(signature, &output.name, path)?, count, &path);
            let ranking = output.classes.map(rank).transpose()?;
            output_formats.push(OutputFormat {
                name: output.name,
                binary: output.binary,
                ranking,
            });
        }
        Ok(Self {
            id,
            binary,
            output_formats,
        })
    }

    /// Returns the names of the requested outputs; empty for all outputs.
    pub(super) fn names(&self) -> Vec<String> {
        self.output_formats
            .iter()
            .map(|format| format.name.clone())
            .collect()
    }

    /// Returns `true` if the output with this name is sent in binary.
    #[must_use]
    pub fn is_binary(&self, output: &str) -> bool {
        let format = self
            .output_formats
            .iter()
            .find(|format| format.name == output);
        format
            .and_then(|format| format.binary)
            .unwrap_or(self.binary)
    }

    /// Encodes a response.
    #[must_use]
    pub fn encode(&self, served_by: ServingVersion<'_>, outputs: Vec<(String, Value)>) -> Encoded {
        let outputs: Vec<ResponseOutput> = outputs
            .into_iter()
            .map(|(name, value)| {
                let format = self
                    .output_formats
                    .iter()
                    .find(|format| format.name == name);
                let binary = self.is_binary(&name);
                let ranking = format.and_then(|format| format.ranking);
                ResponseOutput::new(name, value, binary, ranking)
            })
            .collect();
        let mut out = Vec::with_capacity(256);
        json_writer::object(&mut out, |fields| {
            fields.text("model_name", served_by.model);
            fields.text("model_version", served_by.version);
            if let Some(id) = &self.id {
                fields.text("id", id);
            }
            fields.field("outputs", |out| {
                json_writer::list(out, &outputs, |out, output| output.write(out));
            });
        });
        let mut encoded = Encoded::json(out);
        let tensors = outputs
            .into_iter()
            .filter_map(|output| match output.content {
                OutputContent::Binary(bytes) => Some(bytes),
                _ => None,
            });
        encoded.pieces.extend(tensors);
        if encoded.pieces.len() > 1 {
            encoded.header_length = encoded.pieces.first().map(Bytes::len);
        }
        encoded
    }
}

/// An output in its encoded form.
struct ResponseOutput {
    name: String,
    datatype: &'static str,
    shape: Vec<usize>,
    /// Class of each column, if the model names its classes.
    labels: Option<Arc<Data>>,
    content: OutputContent,
}

enum OutputContent {
    Flat(Data),
    Nested(Value),
    Binary(Bytes),
}

impl ResponseOutput {
    fn new(name: String, value: Value, binary: bool, ranking: Option<Ranking>) -> Self {
        let (tensor, labels) = match into_tensor(value) {
            Ok(dense) => dense,
            Err(other) => return Self::without_tensor(name, other),
        };
        let ranked = ranking.and_then(|ranking| ranking.rank(&tensor, labels.as_deref()));
        // The elements of a ranking include the labels.
        let (tensor, labels) = ranked.map_or((tensor, labels), |ranked| (ranked, None));
        let datatype = tensor.datatype().name();
        let (shape, data) = Tensor::into_parts(tensor);
        Self {
            name,
            datatype,
            shape,
            labels,
            content: if binary {
                OutputContent::Binary(binary::bytes(data))
            } else {
                OutputContent::Flat(data)
            },
        }
    }

    /// Creates a sequence or a map, which has a JSON form only.
    fn without_tensor(name: String, value: Value) -> Self {
        let datatype = match &value {
            Value::Map { .. } => "MAP",
            Value::Sequence(_) | Value::Maps(_) => "SEQUENCE",
            Value::Tensor(tensor) => tensor.datatype().name(),
        };
        Self {
            name,
            datatype,
            shape: vec![value.length()],
            labels: None,
            content: OutputContent::Nested(value),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        json_writer::object(out, |fields| {
            fields.text("name", &self.name);
            fields.text("datatype", self.datatype);
            fields.value("shape", &self.shape);
            match &self.content {
                OutputContent::Flat(data) => {
                    fields.field("data", |out| json_writer::flat(out, data));
                }
                OutputContent::Nested(value) => {
                    fields.field("data", |out| json_writer::value(out, value));
                }
                OutputContent::Binary(_) => {}
            }
            if self.labels.is_none() && !matches!(self.content, OutputContent::Binary(_)) {
                return;
            }
            fields.field("parameters", |out| {
                json_writer::object(out, |fields| {
                    if let Some(labels) = &self.labels {
                        fields.field("labels", |out| json_writer::flat(out, labels));
                    }
                    if let OutputContent::Binary(bytes) = &self.content {
                        fields.value("binary_data_size", &bytes.len());
                    }
                });
            });
        });
    }
}

//! The answer to a request, in the form that the request commands.

use std::sync::Arc;

use bytes::Bytes;

use super::binary;
use super::classification::Ranking;
use super::request::OutputTensor;
use crate::protocol::dense::into_tensor;
use crate::protocol::{AnsweredBy, BadRequest, output_port, write};
use crate::tensor::{Data, Signature, Tensor, Value};

/// How a request commands to be answered.
#[derive(Debug, Default)]
pub struct Reply {
    id: Option<String>,
    /// Whether outputs come in binary about which nothing else is said.
    binary: bool,
    commands: Vec<Wish>,
}

/// How one output is to come.
#[derive(Debug)]
struct Wish {
    name: String,
    binary: Option<bool>,
    ranking: Option<Ranking>,
}

/// An answer as bytes.
#[derive(Debug)]
pub struct Encoded {
    /// What goes out, one after the other.
    pub pieces: Vec<Bytes>,
    /// How many bytes of it are the JSON, where tensors follow in binary.
    pub header_length: Option<usize>,
}

impl Encoded {
    /// An answer that is JSON alone.
    #[must_use]
    pub fn json(text: Vec<u8>) -> Self {
        Self {
            pieces: vec![text.into()],
            header_length: None,
        }
    }
}

impl Reply {
    /// All outputs in binary, as to a request that is binary itself.
    pub(super) fn binary() -> Self {
        Self {
            binary: true,
            ..Self::default()
        }
    }

    /// What a request commands, held against the model's signature.
    pub(super) fn read(
        id: Option<String>,
        binary: bool,
        outputs: Vec<OutputTensor>,
        signature: &Signature,
    ) -> Result<Self, BadRequest> {
        let mut commands: Vec<Wish> = Vec::with_capacity(outputs.len());
        for (index, output) in outputs.into_iter().enumerate() {
            let place = format!("outputs[{index}]");
            let port = output_port(signature, &output.name, &place)?;
            if commands.iter().any(|wish| wish.name == output.name) {
                return Err(BadRequest(format!(
                    "{place}: output {:?} is asked for twice",
                    output.name
                )));
            }
            let ranking = output
                .classes
                .map(|count| Ranking::of(port, count, &place))
                .transpose()?;
            commands.push(Wish {
                name: output.name,
                binary: output.binary,
                ranking,
            });
        }
        Ok(Self {
            id,
            binary,
            commands,
        })
    }

    /// The outputs that are asked for; none where all are.
    pub(super) fn names(&self) -> Vec<String> {
        self.commands.iter().map(|wish| wish.name.clone()).collect()
    }

    /// Returns whether the output of this name is sent in binary.
    #[must_use]
    pub fn is_binary(&self, output: &str) -> bool {
        let wish = self.commands.iter().find(|wish| wish.name == output);
        wish.and_then(|wish| wish.binary).unwrap_or(self.binary)
    }

    /// Writes the answer.
    #[must_use]
    pub fn encode(&self, answer: AnsweredBy<'_>, outputs: Vec<(String, Value)>) -> Encoded {
        let outputs: Vec<Output> = outputs
            .into_iter()
            .map(|(name, value)| {
                let wish = self.commands.iter().find(|wish| wish.name == name);
                let binary = self.is_binary(&name);
                let ranking = wish.and_then(|wish| wish.ranking);
                Output::new(name, value, binary, ranking)
            })
            .collect();
        let mut out = Vec::with_capacity(256);
        write::object(&mut out, |fields| {
            fields.value("model_name", answer.model);
            fields.value("model_version", answer.version);
            if let Some(id) = &self.id {
                fields.value("id", id);
            }
            fields.field("outputs", |out| {
                write::list(out, &outputs, |out, output| output.write(out));
            });
        });
        let mut encoded = Encoded::json(out);
        let tensors = outputs
            .into_iter()
            .filter_map(|output| match output.content {
                Content::Binary(bytes) => Some(bytes),
                _ => None,
            });
        encoded.pieces.extend(tensors);
        if encoded.pieces.len() > 1 {
            encoded.header_length = encoded.pieces.first().map(Bytes::len);
        }
        encoded
    }
}

/// An output as it is written.
struct Output {
    name: String,
    datatype: &'static str,
    shape: Vec<usize>,
    /// The class of each column, where the model names them.
    labels: Option<Arc<Data>>,
    content: Content,
}

enum Content {
    Flat(Data),
    Nested(Value),
    Binary(Bytes),
}

impl Output {
    fn new(name: String, value: Value, binary: bool, ranking: Option<Ranking>) -> Self {
        let (tensor, labels) = match into_tensor(value) {
            Ok(dense) => dense,
            Err(other) => return Self::without_tensor(name, other),
        };
        let ranked = ranking.and_then(|ranking| ranking.rank(&tensor, labels.as_deref()));
        // The labels of what is ranked stand in its elements.
        let (tensor, labels) = ranked.map_or((tensor, labels), |ranked| (ranked, None));
        let datatype = tensor.datatype().name();
        let (shape, data) = Tensor::into_parts(tensor);
        Self {
            name,
            datatype,
            shape,
            labels,
            content: if binary {
                Content::Binary(binary::bytes(data))
            } else {
                Content::Flat(data)
            },
        }
    }

    /// Sequences and maps, which have a form in JSON alone.
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
            content: Content::Nested(value),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        write::object(out, |fields| {
            fields.value("name", &self.name);
            fields.value("datatype", self.datatype);
            fields.value("shape", &self.shape);
            match &self.content {
                Content::Flat(data) => fields.field("data", |out| write::flat(out, data)),
                Content::Nested(value) => fields.field("data", |out| write::value(out, value)),
                Content::Binary(_) => {}
            }
            if self.labels.is_none() && !matches!(self.content, Content::Binary(_)) {
                return;
            }
            fields.field("parameters", |out| {
                write::object(out, |fields| {
                    if let Some(labels) = &self.labels {
                        fields.field("labels", |out| write::flat(out, labels));
                    }
                    if let Content::Binary(bytes) = &self.content {
                        fields.value("binary_data_size", &bytes.len());
                    }
                });
            });
        });
    }
}

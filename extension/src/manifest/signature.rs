//! Declared signature of a version: inputs and outputs, in the form of the Open Inference Protocol's metadata.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::error::{ManifestError, not_allowed};
use super::{json, number};
use crate::tensor::{Datatype, Kind, NON_TENSORS, NonTensor, Port, Signature};

/// Signature as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenSignature {
    #[serde(deserialize_with = "json::objects")]
    inputs: Vec<WrittenPort>,
    #[serde(deserialize_with = "json::objects")]
    outputs: Vec<WrittenPort>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPort {
    name: String,
    datatype: WrittenDatatype,
    #[serde(deserialize_with = "number::dimensions")]
    shape: Vec<Option<usize>>,
}

/// Datatype of a port: of a tensor, or the word for another ONNX type.
enum WrittenDatatype {
    Tensor(Datatype),
    NonTensor(NonTensor),
}

impl<'de> Deserialize<'de> for WrittenDatatype {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if let Some(datatype) = Datatype::from_name(&name) {
            return Ok(WrittenDatatype::Tensor(datatype));
        }
        if let Some(known) = NON_TENSORS.into_iter().find(|known| known.name == name) {
            return Ok(WrittenDatatype::NonTensor(known));
        }
        let tensors = Datatype::ALL.iter().map(|known| known.name());
        let names: Vec<&str> = tensors.chain(NON_TENSORS.map(|known| known.name)).collect();
        let allowed = format!("one of {}", names.join(", "));
        Err(D::Error::custom(not_allowed(&name, &allowed)))
    }
}

impl WrittenSignature {
    /// Returns the signature in the form of [`Signature::published`]. The error names the first invalid field.
    pub(super) fn checked(self, at: &str) -> Result<Signature, ManifestError> {
        Ok(Signature {
            inputs: ports(&format!("{at}.inputs"), self.inputs)?,
            outputs: ports(&format!("{at}.outputs"), self.outputs)?,
        })
    }
}

fn ports(at: &str, written: Vec<WrittenPort>) -> Result<Vec<Port>, ManifestError> {
    let mut names = HashSet::new();
    let port = |(index, written): (usize, WrittenPort)| {
        let WrittenPort {
            name,
            datatype,
            shape,
        } = written;
        let field = |field| format!("{at}[{index}].{field}");
        if !names.insert(name.clone()) {
            let problem = format!("{name:?} is defined twice");
            return Err(ManifestError::field(field("name"), problem));
        }
        let kind = match datatype {
            WrittenDatatype::Tensor(datatype) => Kind::Tensor { datatype, shape },
            WrittenDatatype::NonTensor(NonTensor { name, shape: only }) if shape == only => {
                Kind::Other(name.to_owned())
            }
            WrittenDatatype::NonTensor(NonTensor {
                name: word,
                shape: only,
            }) => {
                let only = if only.is_empty() { "[]" } else { "[-1]" };
                let problem = format!("the shape of {word} must be {only}");
                return Err(ManifestError::field(field("shape"), problem));
            }
        };
        Ok(Port { name, kind })
    };
    written.into_iter().enumerate().map(port).collect()
}

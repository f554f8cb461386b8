//! Outline of a model's graph: format version, operator sets and operators.

use std::collections::BTreeMap;
use std::fs::File;

use super::wire::{Field, MAX_DEPTH, Span, WireReader};
use super::{OnnxError, ParseError};

/// Maximum length of a name in bytes; longer names are cut.
const MAX_NAME: usize = 256;

/// Operators of a model, subgraphs and functions included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Version of the file format (IR version).
    pub ir_version: u64,
    /// Version of each operator set by domain; the domain of ONNX is `ai.onnx`.
    pub opsets: BTreeMap<String, u64>,
    /// Number of nodes by operator: `Gemm`, or with its domain `ai.onnx.ml.TreeEnsembleClassifier`.
    pub operators: BTreeMap<String, usize>,
}

impl Outline {
    /// Reads the outline of an ONNX file. Weights are skipped.
    pub fn read(file: &File) -> Result<Self, OnnxError> {
        let mut reader = WireReader::new(file)?;
        let mut outline = Self::default();
        match outline.model(&mut reader) {
            Ok(()) => Ok(outline),
            Err(ParseError::Other(error)) => Err(error),
            Err(ParseError::Malformed { at, reason }) => Err(OnnxError::NotOnnx {
                at,
                reason,
                beginning: "other bytes".to_owned(),
            }),
        }
    }

    fn model(&mut self, reader: &mut WireReader<'_>) -> Result<(), ParseError> {
        let mut model = reader.whole();
        while let Some(field) = reader.field(&mut model, MAX_DEPTH)? {
            match field {
                Field::Number(1, version) => self.ir_version = version,
                Field::Bytes(7, graph) => self.graph(reader, graph, MAX_DEPTH)?,
                Field::Bytes(8, opset) => self.opset(reader, opset)?,
                Field::Bytes(25, mut function) => {
                    while let Some(field) = reader.field(&mut function, MAX_DEPTH)? {
                        if let Field::Bytes(7, node) = field {
                            self.node(reader, node, MAX_DEPTH)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn opset(&mut self, reader: &mut WireReader<'_>, mut opset: Span) -> Result<(), ParseError> {
        let (mut domain, mut version) = (String::new(), 0);
        while let Some(field) = reader.field(&mut opset, MAX_DEPTH)? {
            match field {
                Field::Bytes(1, name) => domain = name_of(reader, &name)?,
                Field::Number(2, number) => version = number,
                _ => {}
            }
        }
        if domain.is_empty() {
            "ai.onnx".clone_into(&mut domain);
        }
        self.opsets.insert(domain, version);
        Ok(())
    }

    fn graph(
        &mut self,
        reader: &mut WireReader<'_>,
        mut graph: Span,
        depth: u32,
    ) -> Result<(), ParseError> {
        while let Some(field) = reader.field(&mut graph, depth)? {
            if let Field::Bytes(1, node) = field {
                self.node(reader, node, depth)?;
            }
        }
        Ok(())
    }

    fn node(
        &mut self,
        reader: &mut WireReader<'_>,
        mut node: Span,
        depth: u32,
    ) -> Result<(), ParseError> {
        let (mut operator, mut domain) = (String::new(), String::new());
        while let Some(field) = reader.field(&mut node, depth)? {
            match field {
                Field::Bytes(4, name) => operator = name_of(reader, &name)?,
                Field::Bytes(7, name) => domain = name_of(reader, &name)?,
                Field::Bytes(5, attribute) if depth > 0 => {
                    self.attribute(reader, attribute, depth - 1)?;
                }
                _ => {}
            }
        }
        let name = match domain.as_str() {
            "" | "ai.onnx" => operator,
            domain => format!("{domain}.{operator}"),
        };
        *self.operators.entry(name).or_default() += 1;
        Ok(())
    }

    /// Reads the subgraphs of an attribute.
    fn attribute(
        &mut self,
        reader: &mut WireReader<'_>,
        mut attribute: Span,
        depth: u32,
    ) -> Result<(), ParseError> {
        while let Some(field) = reader.field(&mut attribute, depth)? {
            match field {
                Field::Bytes(6 | 11, graph) => self.graph(reader, graph, depth)?,
                _ => reader.skip_list(&mut attribute)?,
            }
        }
        Ok(())
    }
}

fn name_of(reader: &mut WireReader<'_>, name: &Span) -> Result<String, ParseError> {
    let bytes = reader.bytes(name, MAX_NAME)?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn outline(model: &str) -> Outline {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models");
        Outline::read(&File::open(models.join(model)).unwrap()).unwrap()
    }

    #[test]
    fn operators_are_counted_with_their_domains() {
        let wine = outline("wine-v1.onnx");
        assert_eq!(wine.operators["ai.onnx.ml.Scaler"], 1);
        assert_eq!(wine.operators["ai.onnx.ml.LinearClassifier"], 1);
        assert!(
            wine.opsets["ai.onnx.ml"] >= 1 && wine.ir_version >= 3,
            "{wine:?}"
        );
    }

    #[test]
    fn subgraphs_are_read() {
        let operators = outline("external/subgraphs.onnx").operators;
        assert!(operators.contains_key("If"), "{operators:?}");
        assert!(
            operators.values().sum::<usize>() > operators["If"],
            "{operators:?}"
        );
    }
}

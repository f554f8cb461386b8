//! Removal of `ZipMap` nodes from a model.
//!
//! scikit-learn's converter ends a classifier with a `ZipMap` node. The node converts a tensor of probabilities to a
//! sequence of maps, one per row, from class to probability. Building these maps in ONNX Runtime and taking them apart
//! again costs more than a small classifier itself. So a `ZipMap` node at the end of the graph is removed, and its
//! input tensor becomes the output. Its classes are returned, from which the same maps can be built.
//!
//! Only nodes whose removal certainly keeps the meaning are removed. The node's output is an output of the graph and
//! has no other use. Its input is another node's output and not an output of the graph. Its classes are in the order of
//! a map's keys. An unusual model stays unchanged.

use std::collections::BTreeMap;
use std::fs::File;

use super::ParseError;
use super::encode::{field, field_header};
use super::skeleton::single_graph;
use super::wire::{Field, MAX_DEPTH, Span, WireReader, text};
use crate::tensor::Data;

/// Maximum size of a file that is read. A larger model takes longer than its maps.
const MAX_BYTES: u64 = 1 << 20;

/// A model without its `ZipMap` nodes.
#[derive(Debug)]
pub struct ModelWithoutZipMap {
    /// ONNX model with a tensor in place of a sequence of maps for at least one output.
    pub model: Vec<u8>,
    /// The replaced output for each such tensor, by the tensor's name.
    pub outputs: BTreeMap<String, ZipMapOutput>,
}

/// A sequence of maps that its node would have built from a tensor of floats.
#[derive(Debug, PartialEq)]
pub struct ZipMapOutput {
    /// Name of the output.
    pub name: String,
    /// Keys of each map, integers or strings, in ascending order.
    pub keys: Data,
}

impl ModelWithoutZipMap {
    /// Removes the nodes. Returns `None` if no node can be removed, or if the file is larger than a megabyte.
    #[must_use]
    pub fn of(file: &File) -> Option<Self> {
        strip(file).ok().flatten()
    }
}

/// Fields of a node that matter here.
#[derive(Default)]
struct NodeFields {
    inputs: Vec<String>,
    outputs: Vec<String>,
    operator: String,
    domain: String,
    strings: Vec<String>,
    integers: Vec<i64>,
    has_graph: bool,
}

fn strip(file: &File) -> Result<Option<ModelWithoutZipMap>, ParseError> {
    let mut reader = WireReader::new(file)?;
    let whole = reader.whole();
    if whole.end > MAX_BYTES || has_functions(&mut reader)? {
        return Ok(None);
    }
    let Some((place, span)) = single_graph(&mut reader)? else {
        return Ok(None);
    };
    let Some((patches, outputs)) = GraphFields::read(&mut reader, span.clone())?.patches() else {
        return Ok(None);
    };
    let mut graph = Vec::new();
    let mut from = span.start;
    for (replaced, instead) in patches {
        graph.extend(bytes(&mut reader, &(from..replaced.start))?);
        graph.extend(instead);
        from = replaced.end;
    }
    graph.extend(bytes(&mut reader, &(from..span.end))?);
    let mut model = bytes(&mut reader, &(0..place.start))?;
    field_header(7, graph.len(), &mut model);
    model.extend(graph);
    model.extend(bytes(&mut reader, &(place.end..whole.end))?);
    Ok(Some(ModelWithoutZipMap { model, outputs }))
}

/// Returns `true` if the model defines functions, which may replace any operator.
fn has_functions(reader: &mut WireReader<'_>) -> Result<bool, ParseError> {
    let mut left = reader.whole();
    while let Some(next) = reader.field(&mut left, MAX_DEPTH)? {
        if let Field::Bytes(25, _) = next {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Nodes and outputs of a graph, with the fields that hold them.
#[derive(Default)]
struct GraphFields {
    nodes: Vec<(Span, NodeFields)>,
    outputs: Vec<(Span, String)>,
}

/// Fields in the order of the file, each with its replacement.
type Patches = Vec<(Span, Vec<u8>)>;

impl GraphFields {
    fn read(reader: &mut WireReader<'_>, mut left: Span) -> Result<Self, ParseError> {
        let mut graph = Self::default();
        while let (start, Some(next)) = (left.start, reader.field(&mut left, MAX_DEPTH)?) {
            match next {
                Field::Bytes(1, span) => {
                    let node = node(reader, span)?;
                    graph.nodes.push((start..left.start, node));
                }
                Field::Bytes(12, span) => {
                    let name = name_of(reader, span)?;
                    graph.outputs.push((start..left.start, name));
                }
                _ => {}
            }
        }
        Ok(graph)
    }

    /// Returns the patches that remove the nodes, and the outputs that the tensors replace.
    fn patches(&self) -> Option<(Patches, BTreeMap<String, ZipMapOutput>)> {
        // A subgraph may use any name of this graph.
        if self.nodes.iter().any(|(_, node)| node.has_graph) {
            return None;
        }
        let (mut patches, mut outputs) = (Vec::new(), BTreeMap::new());
        for (field_of_node, node) in &self.nodes {
            let Some((tensor, zipmap_output)) = zip_map(node) else {
                continue;
            };
            let Some(field_of_output) = self.removable_output(&tensor, &zipmap_output.name) else {
                continue;
            };
            patches.push((field_of_node.clone(), Vec::new()));
            patches.push((field_of_output, field(12, &floats(&tensor))));
            if outputs.insert(tensor, zipmap_output).is_some() {
                // Two outputs would have the same name.
                return None;
            }
        }
        patches.sort_by_key(|(field, _)| field.start);
        (!outputs.is_empty()).then_some((patches, outputs))
    }

    /// Returns the field that declares `maps` as an output. Requires that `maps` has no other use, and that `tensor`,
    /// from which the maps are built, is only a node's output.
    fn removable_output(&self, tensor: &str, maps: &str) -> Option<Span> {
        let count = |names: &mut dyn Iterator<Item = &String>, name: &str| {
            names.filter(|other| *other == name).count()
        };
        let inputs = || self.nodes.iter().flat_map(|(_, node)| &node.inputs);
        let made = || self.nodes.iter().flat_map(|(_, node)| &node.outputs);
        let outputs = || self.outputs.iter().map(|(_, name)| name);
        let is_last = count(&mut inputs(), maps) == 0 && count(&mut outputs(), maps) == 1;
        let is_inner = count(&mut made(), tensor) == 1 && count(&mut outputs(), tensor) == 0;
        let declared = self.outputs.iter().find(|(_, name)| name == maps);
        let (field, _) = declared.filter(|_| is_last && is_inner)?;
        Some(field.clone())
    }
}

/// Returns the input tensor and the output of a `ZipMap` node.
fn zip_map(node: &NodeFields) -> Option<(String, ZipMapOutput)> {
    let ([tensor], [name]) = (&node.inputs[..], &node.outputs[..]) else {
        return None;
    };
    if node.operator != "ZipMap" || node.domain != "ai.onnx.ml" || tensor.is_empty() {
        return None;
    }
    let keys: Data = match (&node.strings[..], &node.integers[..]) {
        (strings, []) if is_ascending(strings) => strings.to_vec().into(),
        ([], integers) if is_ascending(integers) => integers.to_vec().into(),
        _ => return None,
    };
    let name = name.clone();
    Some((tensor.clone(), ZipMapOutput { name, keys }))
}

/// Returns `true` if a map would have these keys in this order.
fn is_ascending<T: Ord>(keys: &[T]) -> bool {
    !keys.is_empty() && keys.is_sorted_by(|a, b| a < b)
}

/// Encodes a `ValueInfoProto`: a tensor of floats with this name and any shape.
fn floats(name: &str) -> Vec<u8> {
    let of_floats = [0x08, 0x01];
    let tensor = field(2, &field(1, &of_floats));
    [field(1, name.as_bytes()), tensor].concat()
}

fn node(reader: &mut WireReader<'_>, mut span: Span) -> Result<NodeFields, ParseError> {
    let mut node = NodeFields::default();
    while let Some(next) = reader.field(&mut span, MAX_DEPTH)? {
        match next {
            Field::Bytes(1, name) => node.inputs.push(text(reader, &name)?),
            Field::Bytes(2, name) => node.outputs.push(text(reader, &name)?),
            Field::Bytes(4, name) => node.operator = text(reader, &name)?,
            Field::Bytes(5, attribute) => read_attribute(reader, attribute, &mut node)?,
            Field::Bytes(7, name) => node.domain = text(reader, &name)?,
            _ => {}
        }
    }
    Ok(node)
}

/// Reads the classes or the subgraph of an attribute.
fn read_attribute(
    reader: &mut WireReader<'_>,
    mut span: Span,
    node: &mut NodeFields,
) -> Result<(), ParseError> {
    let (mut name, mut strings, mut integers) = (String::new(), Vec::new(), Vec::new());
    let whole = span.clone();
    while let Some(next) = reader.field(&mut span, MAX_DEPTH)? {
        match next {
            Field::Bytes(1, text_of) => name = text(reader, &text_of)?,
            Field::Bytes(6 | 11, _) => node.has_graph = true,
            // Other attributes may have a million elements.
            _ => reader.skip_list(&mut span)?,
        }
    }
    if name != "classlabels_strings" && name != "classlabels_int64s" {
        return Ok(());
    }
    span = whole;
    while let Some(next) = reader.field(&mut span, MAX_DEPTH)? {
        match next {
            Field::Number(8, number) => integers.push(number.cast_signed()),
            Field::Bytes(8, packed) => integers.extend(reader.numbers(packed)?),
            Field::Bytes(9, word) => strings.push(text(reader, &word)?),
            _ => {}
        }
    }
    node.strings.extend(strings);
    node.integers.extend(integers);
    Ok(())
}

/// Returns the name of a `ValueInfoProto`.
fn name_of(reader: &mut WireReader<'_>, mut span: Span) -> Result<String, ParseError> {
    let mut name = String::new();
    while let Some(next) = reader.field(&mut span, MAX_DEPTH)? {
        if let Field::Bytes(1, text_of) = next {
            name = text(reader, &text_of)?;
        }
    }
    Ok(name)
}

fn bytes(reader: &mut WireReader<'_>, span: &Span) -> Result<Vec<u8>, ParseError> {
    let length = usize::try_from(span.end - span.start).unwrap_or(usize::MAX);
    Ok(reader.bytes(span, length)?.to_vec())
}

//! A model whose `ZipMap` nodes are left to whoever runs it.
//!
//! scikit-learn's converter ends a classifier with one: of a tensor of probabilities it makes a sequence of maps, a row
//! each, from class to probability. To make it and to take it apart again, map by map, costs ONNX Runtime more than a
//! small classifier does by itself. So where such a node stands at the end of the graph it is taken away, the tensor
//! that it would have read becomes the output, and its classes are told, from which the same maps can be made.
//!
//! Only what is sure to mean the same is taken away: a node whose output is the graph's and goes nowhere else, whose input
//! is another node's output and not the graph's, and whose classes stand in the order of a map's keys. A model in which
//! anything is unusual is left as it is.

use std::collections::BTreeMap;
use std::fs::File;

use super::Fault;
use super::encode::{field, head};
use super::skeleton::the_graph;
use super::wire::{DEPTH, Field, Reader, Span};
use crate::tensor::Data;

/// The largest file that is read for it. What a larger model does takes longer than its maps.
const MAX_BYTES: u64 = 1 << 20;

/// A model without its `ZipMap` nodes.
#[derive(Debug)]
pub struct Unzipped {
    /// An ONNX model, at least one of whose outputs is a tensor in the place of a sequence of maps.
    pub model: Vec<u8>,
    /// What each such output was, by its name in the model.
    pub outputs: BTreeMap<String, ZipMapOutput>,
}

/// A sequence of maps, as its node would have made it of a tensor of floats.
#[derive(Debug, PartialEq)]
pub struct ZipMapOutput {
    /// The output's name.
    pub name: String,
    /// The keys of each map, integers or strings, in ascending order.
    pub keys: Data,
}

impl Unzipped {
    /// Takes the nodes away; `None` where there is none that can be, or where the file is larger than a megabyte.
    #[must_use]
    pub fn of(file: &File) -> Option<Self> {
        unzipped(file).ok().flatten()
    }
}

/// A node of the graph, as far as it matters here.
#[derive(Default)]
struct Node {
    inputs: Vec<String>,
    outputs: Vec<String>,
    operator: String,
    domain: String,
    strings: Vec<String>,
    integers: Vec<i64>,
    has_graph: bool,
}

fn unzipped(file: &File) -> Result<Option<Unzipped>, Fault> {
    let mut reader = Reader::new(file)?;
    let whole = reader.whole();
    if whole.end > MAX_BYTES || has_functions(&mut reader)? {
        return Ok(None);
    }
    let Some((place, span)) = the_graph(&mut reader)? else {
        return Ok(None);
    };
    let Some((patches, outputs)) = Graph::read(&mut reader, span.clone())?.patches() else {
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
    head(7, graph.len(), &mut model);
    model.extend(graph);
    model.extend(bytes(&mut reader, &(place.end..whole.end))?);
    Ok(Some(Unzipped { model, outputs }))
}

/// Whether the model defines functions, which may have the name of any operator.
fn has_functions(reader: &mut Reader<'_>) -> Result<bool, Fault> {
    let mut left = reader.whole();
    while let Some(next) = reader.field(&mut left, DEPTH)? {
        if let Field::Bytes(25, _) = next {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a graph has, and the fields that it has it in.
#[derive(Default)]
struct Graph {
    nodes: Vec<(Span, Node)>,
    outputs: Vec<(Span, String)>,
}

/// Fields in the order of the file, and what is to stand in the place of each.
type Patches = Vec<(Span, Vec<u8>)>;

impl Graph {
    fn read(reader: &mut Reader<'_>, mut left: Span) -> Result<Self, Fault> {
        let mut graph = Self::default();
        while let (start, Some(next)) = (left.start, reader.field(&mut left, DEPTH)?) {
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

    /// How the nodes are taken away, and what the outputs that stand for theirs are.
    fn patches(&self) -> Option<(Patches, BTreeMap<String, ZipMapOutput>)> {
        // A graph within the graph may use any name of this one.
        if self.nodes.iter().any(|(_, node)| node.has_graph) {
            return None;
        }
        let (mut patches, mut outputs) = (Vec::new(), BTreeMap::new());
        for (field_of_node, node) in &self.nodes {
            let Some((tensor, zipped)) = zip_map(node) else {
                continue;
            };
            let Some(field_of_output) = self.last_of(&tensor, &zipped.name) else {
                continue;
            };
            patches.push((field_of_node.clone(), Vec::new()));
            patches.push((field_of_output, field(12, &floats(&tensor))));
            if outputs.insert(tensor, zipped).is_some() {
                // Two outputs would have one name.
                return None;
            }
        }
        patches.sort_by_key(|(field, _)| field.start);
        (!outputs.is_empty()).then_some((patches, outputs))
    }

    /// The field that declares `maps` as an output, if it is one and nothing else, and `tensor`, of which the maps are
    /// made, is a node's output and no other.
    fn last_of(&self, tensor: &str, maps: &str) -> Option<Span> {
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

/// The tensor that a `ZipMap` reads, and what it makes of it.
fn zip_map(node: &Node) -> Option<(String, ZipMapOutput)> {
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

/// Whether a map would have these keys in this order.
fn is_ascending<T: Ord>(keys: &[T]) -> bool {
    !keys.is_empty() && keys.is_sorted_by(|a, b| a < b)
}

/// A `ValueInfoProto`: a tensor of floats of this name, of whatever shape.
fn floats(name: &str) -> Vec<u8> {
    let of_floats = [0x08, 0x01];
    let tensor = field(2, &field(1, &of_floats));
    [field(1, name.as_bytes()), tensor].concat()
}

fn node(reader: &mut Reader<'_>, mut span: Span) -> Result<Node, Fault> {
    let mut node = Node::default();
    while let Some(next) = reader.field(&mut span, DEPTH)? {
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

/// Takes note of the classes that an attribute holds, and of a graph.
fn read_attribute(reader: &mut Reader<'_>, mut span: Span, node: &mut Node) -> Result<(), Fault> {
    let (mut name, mut strings, mut integers) = (String::new(), Vec::new(), Vec::new());
    let whole = span.clone();
    while let Some(next) = reader.field(&mut span, DEPTH)? {
        match next {
            Field::Bytes(1, text_of) => name = text(reader, &text_of)?,
            Field::Bytes(6 | 11, _) => node.has_graph = true,
            // Of any other attribute there may be a million.
            _ => reader.step_over_list(&mut span)?,
        }
    }
    if name != "classlabels_strings" && name != "classlabels_int64s" {
        return Ok(());
    }
    span = whole;
    while let Some(next) = reader.field(&mut span, DEPTH)? {
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

/// The name of a `ValueInfoProto`.
fn name_of(reader: &mut Reader<'_>, mut span: Span) -> Result<String, Fault> {
    let mut name = String::new();
    while let Some(next) = reader.field(&mut span, DEPTH)? {
        if let Field::Bytes(1, text_of) = next {
            name = text(reader, &text_of)?;
        }
    }
    Ok(name)
}

fn text(reader: &mut Reader<'_>, span: &Span) -> Result<String, Fault> {
    let bytes = bytes(reader, span)?;
    String::from_utf8(bytes).map_err(|_| super::wire::malformed(span.start, "a text is not UTF-8"))
}

fn bytes(reader: &mut Reader<'_>, span: &Span) -> Result<Vec<u8>, Fault> {
    let length = usize::try_from(span.end - span.start).unwrap_or(usize::MAX);
    Ok(reader.bytes(span, length)?.to_vec())
}

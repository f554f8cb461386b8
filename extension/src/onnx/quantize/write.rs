//! The new file, as pieces of the original and new fields.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;

use super::super::ParseError;
use super::super::encode::{element_type, field, field_header, number};
use super::super::weight_storage::NODE_PREFIX;
use super::super::wire::{Field, MAX_DEPTH, Span, WireReader};
use super::index::GraphIndex;
use super::lstm::{self, LstmWeight};
use super::plan::{Form, Plan};
use super::product::{ProductNodes, ProductWeight};
use super::tensor::Initializer;
use super::values::Integers;
use crate::tensor::Datatype;

/// First version of `DequantizeLinear` with an axis.
const OPSET_WITH_AXIS: u64 = 13;

/// Attribute types of `onnx.proto`.
const INTEGER: u64 = 2;

/// Content of a file, in order.
pub(super) struct Pieces(Vec<Piece>);

enum Piece {
    /// Bytes of the original file.
    Copy(Span),
    New(Vec<u8>),
}

impl Pieces {
    pub(super) fn length(&self) -> u64 {
        let lengths = self.0.iter().map(|piece| match piece {
            Piece::Copy(span) => span.end - span.start,
            Piece::New(bytes) => bytes.len() as u64,
        });
        lengths.sum()
    }

    /// Writes the content; `file` is the original.
    pub(super) fn write(&self, mut file: &File, to: &mut impl Write) -> io::Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Copy(span) => {
                    file.seek(SeekFrom::Start(span.start))?;
                    let length = span.end - span.start;
                    if io::copy(&mut file.take(length), to)? != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Piece::New(bytes) => to.write_all(bytes)?,
            }
        }
        Ok(())
    }
}

/// Returns the pieces of the new model, without the mark. `model_field` is the field that holds the graph.
pub(super) fn pieces(
    reader: &mut WireReader<'_>,
    model_field: &Span,
    index: &GraphIndex,
    plan: &Plan,
    folder: &Path,
) -> Result<Pieces, ParseError> {
    let mut replaced: Vec<(Span, Vec<Vec<u8>>)> = Vec::new();
    let mut nodes = Vec::new();
    let (mut products, mut lstm_weights) = (HashMap::new(), HashMap::new());
    for (place, initializer) in index.initializers.iter().enumerate() {
        if let Some(form) = plan.forms.get(&place) {
            let name = initializer.name.as_str();
            match form {
                Form::Product(weight) => {
                    products.insert(name, weight);
                }
                Form::Lstm(weight) => {
                    lstm_weights.insert(name, weight);
                }
                Form::Int8 { .. } | Form::Fp16 { .. } => {}
            }
            let (initializers, own_nodes) = parts(initializer, form, index.opset);
            replaced.push((initializer.field.clone(), initializers));
            nodes.extend(own_nodes);
        } else if initializer.is_external() && !initializer.is_constant_node {
            let inside = inside(reader, initializer, folder)?;
            replaced.push((initializer.field.clone(), vec![inside]));
        }
    }
    let mut product_nodes = ProductNodes::default();
    let mut names = plan.names.clone();
    for product in &index.products {
        if let Some(weight) = products.get(product.weight.as_str()) {
            let nodes = product_nodes.of(product, weight, &mut names);
            replaced.push((product.field.clone(), vec![nodes]));
        }
    }
    for one in &index.lstms {
        if let Some(node) = lstm::node(reader, one, &lstm_weights)? {
            replaced.push((one.field.clone(), vec![node]));
        }
    }
    // The loader declares a weight as an input, and a name is declared once.
    let stored: HashSet<&str> = plan
        .forms
        .keys()
        .map(|place| index.initializers[*place].name.as_str())
        .collect();
    for (field, name) in &index.value_infos {
        if stored.contains(name.as_str()) {
            replaced.push((field.clone(), Vec::new()));
        }
    }
    replaced.push((index.first_node..index.first_node, nodes));
    replaced.sort_by_key(|(span, _)| (span.start, span.end));

    let mut graph = Vec::new();
    let mut from = index.graph.start;
    for (span, new) in replaced {
        graph.push(Piece::Copy(from..span.start));
        graph.extend(new.into_iter().map(Piece::New));
        from = span.end;
    }
    graph.push(Piece::Copy(from..index.graph.end));
    let graph = Pieces(graph);
    let mut header = Vec::new();
    field_header(
        7,
        usize::try_from(graph.length()).unwrap_or(usize::MAX),
        &mut header,
    );
    let mut pieces = vec![Piece::Copy(0..model_field.start), Piece::New(header)];
    pieces.extend(graph.0);
    pieces.push(Piece::Copy(model_field.end..reader.whole().end));
    if !lstm_weights.is_empty() && !index.has_contrib_import {
        pieces.push(Piece::New(lstm::import()));
    }
    Ok(Pieces(pieces))
}

/// Returns the graph's fields of a stored weight: initializers and nodes.
fn parts(initializer: &Initializer, form: &Form, opset: u64) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let weight = initializer.name.as_str();
    let shape = initializer.shape.as_slice();
    match form {
        Form::Product(weight) => (product_initializers(weight), Vec::new()),
        Form::Lstm(weight) => (lstm_initializers(weight), Vec::new()),
        Form::Fp16 { bytes, names } => (
            vec![tensor(&names.stored, Datatype::Fp16, shape, bytes)],
            vec![cast(weight, &names.stored, weight)],
        ),
        Form::Int8 {
            integers,
            axis,
            names,
        } => {
            let (bytes, scales) = encoded(integers);
            let stored = tensor(&names.stored, Datatype::Int8, shape, &bytes);
            let has_axis = opset >= OPSET_WITH_AXIS;
            let mut shape_of_scales = vec![integers.scales.len() as u64];
            if !has_axis {
                shape_of_scales.resize(shape.len() - axis, 1);
            }
            let scales = tensor(&names.scales, Datatype::Fp32, &shape_of_scales, &scales);
            let nodes = if has_axis {
                let inputs = [names.stored.as_str(), names.scales.as_str()];
                let axis = ("axis", *axis as u64);
                vec![node(
                    "DequantizeLinear",
                    weight,
                    &inputs,
                    weight,
                    Some(axis),
                )]
            } else {
                let inputs = [names.cast.as_str(), names.scales.as_str()];
                vec![
                    cast(weight, &names.stored, &names.cast),
                    node("Mul", weight, &inputs, weight, None),
                ]
            };
            // The scales come first, so that the integers can be expanded while they arrive.
            (vec![scales, stored], nodes)
        }
    }
}

/// Returns the initializers of a weight of integer products.
fn product_initializers(weight: &ProductWeight) -> Vec<Vec<u8>> {
    let columns = weight.integers.scales.len() as u64;
    let rows = weight.integers.integers.len() as u64 / columns;
    let (integers, scales) = encoded(&weight.integers);
    vec![
        tensor(&weight.stored, Datatype::Int8, &[rows, columns], &integers),
        tensor(&weight.scales, Datatype::Fp32, &[columns], &scales),
    ]
}

/// Returns the initializers of a weight of an integer LSTM.
fn lstm_initializers(weight: &LstmWeight) -> Vec<Vec<u8>> {
    let channels = weight.integers.scales.len();
    let gates = channels as u64 / weight.directions;
    let columns = weight.integers.integers.len() as u64 / channels as u64;
    let (integers, scales) = encoded(&weight.integers);
    let of_gates = [weight.directions, gates];
    let zeros = vec![0; channels];
    let shape = [weight.directions, columns, gates];
    vec![
        tensor(&weight.scales, Datatype::Fp32, &of_gates, &scales),
        tensor(&weight.zeros, Datatype::Int8, &of_gates, &zeros),
        tensor(&weight.stored, Datatype::Int8, &shape, &integers),
    ]
}

/// Returns the bytes of integers and of their scales.
fn encoded(integers: &Integers) -> (Vec<u8>, Vec<u8>) {
    let scales = integers.scales.iter().flat_map(|scale| scale.to_le_bytes());
    let bytes = integers
        .integers
        .iter()
        .map(|integer| integer.cast_unsigned());
    (bytes.collect(), scales.collect())
}

fn cast(weight: &str, from: &str, to: &str) -> Vec<u8> {
    let single = ("to", element_type(Datatype::Fp32));
    node("Cast", weight, &[from], to, Some(single))
}

/// Encodes an initializer.
fn tensor(name: &str, datatype: Datatype, shape: &[u64], bytes: &[u8]) -> Vec<u8> {
    let mut tensor: Vec<u8> = shape.iter().flat_map(|size| number(1, *size)).collect();
    tensor.extend(number(2, element_type(datatype)));
    tensor.extend(field(8, name.as_bytes()));
    tensor.extend(field(9, bytes));
    field(5, &tensor)
}

/// Encodes a marked node that computes a part of `weight`.
fn node(
    operator: &str,
    weight: &str,
    inputs: &[&str],
    output: &str,
    attribute: Option<(&str, u64)>,
) -> Vec<u8> {
    let mut node: Vec<u8> = inputs
        .iter()
        .flat_map(|input| field(1, input.as_bytes()))
        .collect();
    node.extend(field(2, output.as_bytes()));
    let name = format!("{NODE_PREFIX}{operator}/{weight}");
    node.extend(field(3, name.as_bytes()));
    node.extend(field(4, operator.as_bytes()));
    if let Some((name, value)) = attribute {
        let attribute = [
            field(1, name.as_bytes()),
            number(3, value),
            number(20, INTEGER),
        ];
        node.extend(field(5, &attribute.concat()));
    }
    field(1, &node)
}

/// Returns an initializer with its external data inside.
fn inside(
    reader: &mut WireReader<'_>,
    initializer: &Initializer,
    folder: &Path,
) -> Result<Vec<u8>, ParseError> {
    let mut tensor = Vec::new();
    let mut left = initializer.tensor.clone();
    while let (start, Some(next)) = (left.start, reader.field(&mut left, MAX_DEPTH)?) {
        if !matches!(next, Field::Bytes(13, _) | Field::Number(14, _)) {
            tensor.extend(reader.copy(&(start..left.start))?);
        }
    }
    tensor.extend(field(9, &initializer.bytes(reader, folder)?));
    Ok(field(5, &tensor))
}

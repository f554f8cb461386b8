//! Weights that are stored in a smaller type, and the parts of the graph that compute them.
//!
//! A weight `w` is stored in one of these forms. Each node's name begins with [`NODE_PREFIX`].
//!
//! | storage | nodes |
//! |---|---|
//! | int8, opset 13 and later | `w = DequantizeLinear(integers, scales)`, with the attribute `axis` |
//! | int8, earlier opsets | `t = Cast(integers)`, `w = Mul(t, scales)`, with scales of a shape such as `[8, 1, 1]` |
//! | fp16 | `w = Cast(halves)` |
//!
//! Every part is checked before a weight is expanded, so that a malformed file gives an error that names the weight.
//! The elements must be in the file, so that a weight takes at most four times its bytes there.

use std::collections::{HashMap, HashSet};

use super::weight::{self, Encoding, MAX_NAME, Weight};
use super::weight_storage::NODE_PREFIX;
use super::wire::{Field, MAX_DEPTH, Span, WireReader, enumeration};
use super::{OnnxError, ParseError};
use crate::tensor::Datatype;

/// Maximum number of stored weights, as of plain weights in a skeleton.
pub(super) const MAX_STORED_WEIGHTS: usize = 4096;

/// Maximum number of inputs, outputs and attributes that are read of a node.
const MAX_ITEMS: usize = 3;

/// A weight, and the fields of the graph that its FP32 form replaces.
#[derive(Debug)]
pub(super) struct StoredWeight {
    pub(super) fields: Vec<Span>,
    pub(super) weight: Weight,
}

/// A marked node.
pub(super) struct Node {
    field: Span,
    operator: String,
    pub(super) inputs: Vec<String>,
    output: String,
    /// Attribute `axis` of `DequantizeLinear`; 1 by default.
    axis: i64,
    /// Attribute `to` of `Cast`.
    to: Option<i64>,
}

/// Initializers that marked nodes use, by name, with the field of each.
pub(super) type Initializers = HashMap<String, (Span, Weight)>;

/// Reads all stored weights of a graph, in the order of their nodes.
pub(super) fn read(
    reader: &mut WireReader<'_>,
    graph: &Span,
) -> Result<Vec<StoredWeight>, ParseError> {
    let mut nodes = Vec::new();
    let mut left = graph.clone();
    while let (start, Some(next)) = (left.start, reader.field(&mut left, MAX_DEPTH)?) {
        if let Field::Bytes(1, span) = next
            && is_marked(reader, span.clone())?
        {
            nodes.push(node(reader, start..left.start, span)?);
            if nodes.len() > 2 * MAX_STORED_WEIGHTS {
                return Err(error("", "there are too many stored weights"));
            }
        }
    }
    let mut initializers = initializers(reader, graph, &nodes)?;
    let mut casts: HashMap<String, Node> = HashMap::new();
    let mut weights = Vec::new();
    for node in nodes {
        if let Some(stored) = of_one_node(reader, &node, &mut initializers)? {
            weights.push(stored);
            continue;
        }
        let name = node.output.clone();
        let stored = match (node.operator.as_str(), node.inputs.as_slice()) {
            ("Cast", [_]) if node.to == Some(1) => {
                casts.insert(name, node);
                continue;
            }
            ("Mul", [integers, scales]) => {
                let Some(cast) = casts.remove(integers) else {
                    return Err(error(&name, "the input of Mul is not a Cast of the weight"));
                };
                let integers = take(&mut initializers, &cast.inputs[0], Datatype::Int8, &name)?;
                let scales = take(&mut initializers, scales, Datatype::Fp32, &name)?;
                multiplied(reader, &node, &cast, integers, scales)?
            }
            _ => return Err(error(&name, "its node is not of a known form")),
        };
        weights.push(stored);
    }
    if let Some(name) = casts.into_keys().next() {
        return Err(error(&name, "it is a Cast without a Mul"));
    }
    Ok(weights)
}

/// Returns the weight that one node computes, and removes its initializers; `None` for a node of two.
pub(super) fn of_one_node(
    reader: &mut WireReader<'_>,
    node: &Node,
    initializers: &mut Initializers,
) -> Result<Option<StoredWeight>, ParseError> {
    let name = &node.output;
    match (node.operator.as_str(), node.inputs.as_slice()) {
        ("DequantizeLinear", [integers, scales]) => {
            let integers = take(initializers, integers, Datatype::Int8, name)?;
            let scales = take(initializers, scales, Datatype::Fp32, name)?;
            dequantized(reader, node, integers, scales).map(Some)
        }
        ("Cast", [stored]) if node.to == Some(1) => {
            let found = initializers.get(stored);
            if found.is_none_or(|(_, weight)| weight.datatype != Datatype::Fp16) {
                return Ok(None);
            }
            let halves = take(initializers, stored, Datatype::Fp16, name)?;
            Ok(Some(cast(node, halves)))
        }
        _ => Ok(None),
    }
}

/// Returns the weight of a `DequantizeLinear`.
fn dequantized(
    reader: &mut WireReader<'_>,
    node: &Node,
    (field, integers): (Span, Weight),
    (field_of_scales, scales): (Span, Weight),
) -> Result<StoredWeight, ParseError> {
    let rank = i64::try_from(integers.shape.len()).unwrap_or(i64::MAX);
    let axis = match scales.shape.as_slice() {
        [] => None,
        [count] => {
            let axis = node.axis + if node.axis < 0 { rank } else { 0 };
            let axis = usize::try_from(axis).ok();
            let axis = axis.filter(|axis| integers.shape.get(*axis) == Some(count));
            if axis.is_none() {
                return Err(error(&node.output, "the scales do not match its axis"));
            }
            axis
        }
        _ => return Err(error(&node.output, "its scales have several dimensions")),
    };
    let fields = vec![node.field.clone(), field, field_of_scales];
    int8(reader, node, fields, integers, &scales, axis)
}

/// Returns the weight of a `Mul` of a `Cast`.
fn multiplied(
    reader: &mut WireReader<'_>,
    node: &Node,
    cast: &Node,
    (field, integers): (Span, Weight),
    (field_of_scales, scales): (Span, Weight),
) -> Result<StoredWeight, ParseError> {
    let missing = integers.shape.len().checked_sub(scales.shape.len());
    let mut large = scales
        .shape
        .iter()
        .enumerate()
        .filter(|(_, size)| **size != 1);
    let (first, second) = (large.next(), large.next());
    let axis = match (missing, first, second) {
        (Some(_), None, _) => None,
        (Some(missing), Some((axis, size)), None)
            if integers.shape.get(missing + axis) == Some(size) =>
        {
            Some(missing + axis)
        }
        _ => {
            return Err(error(
                &node.output,
                "the shape of its scales does not match",
            ));
        }
    };
    let fields = vec![
        node.field.clone(),
        cast.field.clone(),
        field,
        field_of_scales,
    ];
    int8(reader, node, fields, integers, &scales, axis)
}

/// Returns a weight of integers with the scales of `axis`, or with one scale.
fn int8(
    reader: &mut WireReader<'_>,
    node: &Node,
    fields: Vec<Span>,
    integers: Weight,
    scales: &Weight,
    axis: Option<usize>,
) -> Result<StoredWeight, ParseError> {
    let length = usize::try_from(scales.bytes.end - scales.bytes.start).unwrap_or(usize::MAX);
    let scales: Vec<f32> = reader
        .bytes(&scales.bytes, length)?
        .as_chunks()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    if !scales.iter().all(|scale| scale.is_finite() && *scale > 0.0) {
        return Err(error(
            &node.output,
            "a scale is not a finite number above zero",
        ));
    }
    let behind = axis.map_or(&integers.shape[..], |axis| &integers.shape[axis + 1..]);
    let run = behind
        .iter()
        .try_fold(1_usize, |run, size| {
            run.checked_mul(usize::try_from(*size).ok()?)
        })
        .filter(|run| *run > 0);
    let (Some(run), false) = (run, scales.is_empty()) else {
        return Err(error(&node.output, "it is empty"));
    };
    Ok(StoredWeight {
        fields,
        weight: Weight {
            name: node.output.clone(),
            datatype: Datatype::Fp32,
            encoding: Encoding::Int8 { scales, run },
            ..integers
        },
    })
}

/// Returns the weight of a `Cast` of FP16 numbers.
fn cast(node: &Node, (field, halves): (Span, Weight)) -> StoredWeight {
    StoredWeight {
        fields: vec![node.field.clone(), field],
        weight: Weight {
            name: node.output.clone(),
            datatype: Datatype::Fp32,
            encoding: Encoding::Fp16,
            ..halves
        },
    }
}

/// Removes an initializer of this datatype. Each belongs to one weight only.
fn take(
    initializers: &mut Initializers,
    name: &str,
    datatype: Datatype,
    weight: &str,
) -> Result<(Span, Weight), ParseError> {
    match initializers.remove(name) {
        Some(found) if found.1.datatype == datatype => Ok(found),
        Some((_, found)) => Err(error(
            weight,
            &format!(
                "its part {name:?} is {} instead of {datatype}",
                found.datatype
            ),
        )),
        None => Err(error(
            weight,
            &format!(
                "its part {name:?} is used twice, or is not an initializer with as many bytes as its shape needs"
            ),
        )),
    }
}

/// Reads the initializers that the nodes use.
fn initializers(
    reader: &mut WireReader<'_>,
    graph: &Span,
    nodes: &[Node],
) -> Result<Initializers, ParseError> {
    let wanted: HashSet<&str> = nodes
        .iter()
        .flat_map(|node| &node.inputs)
        .map(String::as_str)
        .collect();
    let mut found = Initializers::new();
    let mut left = graph.clone();
    while let (start, Some(next)) = (left.start, reader.field(&mut left, MAX_DEPTH)?) {
        let Field::Bytes(5, tensor) = next else {
            continue;
        };
        let Some(weight) = weight::read(reader, tensor)? else {
            continue;
        };
        if !wanted.contains(weight.name.as_str()) {
            continue;
        }
        let name = weight.name.clone();
        if found
            .insert(name.clone(), (start..left.start, weight))
            .is_some()
        {
            return Err(error(&name, "it is defined twice"));
        }
    }
    Ok(found)
}

/// Returns `true` if a node's name has the prefix.
pub(super) fn is_marked(reader: &mut WireReader<'_>, mut node: Span) -> Result<bool, ParseError> {
    while let Some(field) = reader.field(&mut node, MAX_DEPTH)? {
        if let Field::Bytes(3, name) = field {
            let beginning = reader.bytes(&name, NODE_PREFIX.len())?;
            if beginning == NODE_PREFIX.as_bytes() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

pub(super) fn node(
    reader: &mut WireReader<'_>,
    field: Span,
    mut span: Span,
) -> Result<Node, ParseError> {
    let (mut operator, mut domain) = (String::new(), String::new());
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    let (mut axis, mut to) = (1, None);
    let mut attributes = 0;
    while let Some(next) = reader.field(&mut span, MAX_DEPTH)? {
        match next {
            Field::Bytes(1, name) if inputs.len() < MAX_ITEMS => inputs.push(text(reader, &name)?),
            Field::Bytes(2, name) if outputs.len() < MAX_ITEMS => {
                outputs.push(text(reader, &name)?);
            }
            Field::Bytes(4, name) => operator = text(reader, &name)?,
            Field::Bytes(5, attribute) if attributes < MAX_ITEMS => {
                attributes += 1;
                match integer(reader, attribute)? {
                    Some((name, value)) if name == "axis" => axis = value,
                    Some((name, value)) if name == "to" => to = Some(value),
                    _ => operator.push('?'),
                }
            }
            Field::Bytes(7, name) => domain = text(reader, &name)?,
            // Its name, and a comment.
            Field::Bytes(3 | 6, _) => {}
            _ => operator.push('?'),
        }
    }
    let output = match <[String; 1]>::try_from(outputs) {
        Ok([output]) if !output.is_empty() => output,
        _ => return Err(error("", "a node does not have exactly one output")),
    };
    let is_standard = domain.is_empty() || domain == "ai.onnx";
    if !is_standard || inputs.is_empty() {
        return Err(error(&output, "its node is not of a known form"));
    }
    Ok(Node {
        field,
        operator,
        inputs,
        output,
        axis,
        to,
    })
}

/// Reads an attribute; `None` if it is not an integer.
fn integer(
    reader: &mut WireReader<'_>,
    mut attribute: Span,
) -> Result<Option<(String, i64)>, ParseError> {
    let (mut name, mut value) = (String::new(), None);
    while let Some(next) = reader.field(&mut attribute, MAX_DEPTH)? {
        match next {
            Field::Bytes(1, text_of) => name = text(reader, &text_of)?,
            Field::Number(3, number) => value = Some(number.cast_signed()),
            Field::Number(20, kind) if enumeration(kind) == 2 => {}
            _ => return Ok(None),
        }
    }
    Ok(value.map(|value| (name, value)))
}

fn text(reader: &mut WireReader<'_>, span: &Span) -> Result<String, ParseError> {
    let bytes = reader.bytes(span, MAX_NAME + 1)?;
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= MAX_NAME && !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(error("", "a name is longer than 256 bytes, or not a text")),
    }
}

fn error(weight: &str, reason: &str) -> ParseError {
    ParseError::Other(OnnxError::StoredWeight {
        weight: weight.to_owned(),
        reason: reason.to_owned(),
    })
}

//! A model without its weights, and where in its file they lie.
//!
//! Read as one message, a model of 250 MB is held by protobuf, and then once more as tensors. So its large weights are
//! left where they are: the skeleton is the same model with each of them an input of the graph, a few kilobytes, and
//! whoever loads it hands the weights over beside it, each read from the file straight to where it is used.
//!
//! Only what is sure to mean the same is taken apart: initializers of the main graph, whole in `raw_data`, of exactly
//! the length that their shape says, under a name that nothing else in that graph has. Shapes and indices, which are
//! integers, are asked for while the graph is resolved, so they stay; so does all that lies in graphs within the graph.
//! A model in which anything is unusual has no skeleton, and is loaded as a whole.

use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::Fault;
use super::encode::head;
use super::weight::{self, Weight};
use super::wire::{DEPTH, Field, Reader, Span};

/// A weight of fewer bytes stays in the model.
const MIN_WEIGHT: u64 = 16 * 1024;

/// The largest models have thousands of tensors.
const MAX_WEIGHTS: usize = 4096;

/// Before this version of the format every initializer was also an input.
const MIN_IR_VERSION: u64 = 4;

/// A model without its large weights.
#[derive(Debug)]
pub struct Skeleton {
    /// An ONNX model, in which each weight is an input behind the model's own.
    pub model: Vec<u8>,
    /// The weights, in the order of those inputs: at most 4,096, each of a name of its own.
    pub weights: Vec<Weight>,
}

impl Skeleton {
    /// Takes an ONNX model apart; `None` where that is not possible, or where the weights that can be taken are fewer than
    /// `least` bytes or half of the file. Takes memory for what is left of the model, and at most 4 MiB beside it.
    #[must_use]
    pub fn of(file: &File, least: u64) -> Option<Self> {
        let parts = Parts::of(file, least).ok().flatten()?;
        let model = parts.without_weights(file)?;
        let weights = parts.weights.into_iter().map(|(_, weight)| weight);
        Some(Self {
            model,
            weights: weights.collect(),
        })
    }
}

/// Where everything lies in the file.
struct Parts {
    length: u64,
    /// The field that is the graph, and what is in it.
    field: Span,
    graph: Span,
    /// Each weight, and the field of the graph that it is.
    weights: Vec<(Span, Weight)>,
}

impl Parts {
    fn of(file: &File, least: u64) -> Result<Option<Self>, Fault> {
        let mut reader = Reader::new(file)?;
        let Some((field, graph)) = the_graph(&mut reader)? else {
            return Ok(None);
        };
        let mut weights = Vec::new();
        let mut bytes = 0;
        let mut left = graph.clone();
        while let (start, Some(next)) = (left.start, reader.field(&mut left, DEPTH)?) {
            let Field::Bytes(5, initializer) = next else {
                continue;
            };
            if initializer.end - initializer.start < MIN_WEIGHT {
                continue;
            }
            if let Some(weight) = weight::read(&mut reader, initializer)? {
                let length = weight.bytes.end - weight.bytes.start;
                if length >= MIN_WEIGHT {
                    bytes += length;
                    weights.push((start..left.start, weight));
                }
            }
            if weights.len() > MAX_WEIGHTS {
                return Ok(None);
            }
        }
        let length = reader.whole().end;
        let parts = Self {
            length,
            field,
            graph,
            weights,
        };
        let is_worth_it = bytes >= least && bytes >= length / 2;
        Ok((is_worth_it && parts.names_are_their_own(&mut reader)?).then_some(parts))
    }

    /// Whether nothing else in the graph has the name of a weight.
    fn names_are_their_own(&self, reader: &mut Reader<'_>) -> Result<bool, Fault> {
        let mut names = HashSet::with_capacity(self.weights.len());
        for (_, weight) in &self.weights {
            if !names.insert(weight.name.as_bytes()) {
                return Ok(false);
            }
        }
        let mut weights = self.weights.iter().map(|(field, _)| field.start).peekable();
        let mut left = self.graph.clone();
        while let (start, Some(next)) = (left.start, reader.field(&mut left, DEPTH)?) {
            if weights.next_if_eq(&start).is_some() {
                continue;
            }
            // A node's outputs; the name of a tensor; of a value; of a sparse tensor, which is that of its values.
            let (span, name) = match next {
                Field::Bytes(1, node) => (node, 2),
                Field::Bytes(5, tensor) => (tensor, 8),
                Field::Bytes(11..=13, value) => (value, 1),
                Field::Bytes(15, sparse) => match values_of(reader, sparse)? {
                    Some(values) => (values, 8),
                    None => return Ok(false),
                },
                _ => continue,
            };
            if any_is_in(reader, span, name, &names)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The bytes of the skeleton.
    fn without_weights(&self, file: &File) -> Option<Vec<u8>> {
        let inputs: Vec<u8> = self
            .weights
            .iter()
            .flat_map(|(_, weight)| weight.as_input())
            .collect();
        let left: Vec<Span> = {
            let ends = self.weights.iter().map(|(field, _)| field.end);
            let starts = self.weights.iter().map(|(field, _)| field.start);
            std::iter::once(self.graph.start)
                .chain(ends)
                .zip(starts.chain([self.graph.end]))
                .map(|(start, end)| start..end)
                .collect()
        };
        let of_graph: u64 = left.iter().map(|span| span.end - span.start).sum();
        let mut model = Vec::new();
        copy(file, 0..self.field.start, &mut model)?;
        head(
            7,
            usize::try_from(of_graph).ok()? + inputs.len(),
            &mut model,
        );
        for span in left {
            copy(file, span, &mut model)?;
        }
        model.extend(inputs);
        copy(file, self.field.end..self.length, &mut model)?;
        Some(model)
    }
}

/// The field that is the graph, and the graph, where there is exactly one and the version of the format is known.
pub(super) fn the_graph(reader: &mut Reader<'_>) -> Result<Option<(Span, Span)>, Fault> {
    let mut found = None;
    let mut version = 0;
    let mut left = reader.whole();
    while let (start, Some(next)) = (left.start, reader.field(&mut left, DEPTH)?) {
        match next {
            Field::Number(1, number) => version = number,
            Field::Bytes(7, _) if found.is_some() => return Ok(None),
            Field::Bytes(7, graph) => found = Some((start..left.start, graph)),
            _ => {}
        }
    }
    Ok(found.filter(|_| version >= MIN_IR_VERSION))
}

fn values_of(reader: &mut Reader<'_>, mut sparse: Span) -> Result<Option<Span>, Fault> {
    let mut values = None;
    while let Some(field) = reader.field(&mut sparse, DEPTH)? {
        if let Field::Bytes(1, tensor) = field {
            if values.is_some() {
                return Ok(None);
            }
            values = Some(tensor);
        }
    }
    Ok(values)
}

/// Whether a field `number` of the message is one of `names`.
fn any_is_in(
    reader: &mut Reader<'_>,
    mut message: Span,
    number: u32,
    names: &HashSet<&[u8]>,
) -> Result<bool, Fault> {
    while let Some(field) = reader.field(&mut message, DEPTH)? {
        if let Field::Bytes(found, name) = field
            && found == number
            && names.contains(reader.bytes(&name, weight::MAX_NAME + 1)?)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn copy(file: &File, span: Range<u64>, to: &mut Vec<u8>) -> Option<()> {
    let length = usize::try_from(span.end - span.start).ok()?;
    let start = to.len();
    to.try_reserve_exact(length).ok()?;
    to.resize(start + length, 0);
    file.read_exact_at(to.get_mut(start..)?, span.start).ok()
}

//! A model without its large weights, and their positions in the file.
//!
//! If a model of 250 MB is read as one message, protobuf holds all of it, and then the tensors hold it again. So the
//! large weights stay in the file. The skeleton is the same model, a few kilobytes, with each weight as an input of the
//! graph. The loader reads each weight from the file directly into its final memory.
//!
//! Only weights that certainly keep their meaning are taken out. They are initializers of the main graph, whole in
//! `raw_data`, with exactly the length of their shape and a unique name in the graph. Shapes and indices, which are
//! integers, are needed while the graph is resolved, so they stay, as do all tensors in subgraphs. An unusual model has
//! no skeleton and is loaded as a whole.
//!
//! In a marked model, weights that are stored in a smaller type are taken out whatever their size, with the nodes that
//! compute them. The inputs are the computed weights.

use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::ParseError;
use super::encode::field_header;
use super::stored_weight;
use super::weight::{self, Weight};
use super::wire::{Field, MAX_DEPTH, Span, WireReader, malformed};
use super::{OnnxError, not_onnx};

/// Minimum size of a weight that is taken out, in bytes.
const MIN_WEIGHT: u64 = 16 * 1024;

/// Maximum number of plain weights. The largest models have thousands of tensors.
const MAX_WEIGHTS: usize = 4096;

/// Minimum IR version. Before it every initializer was also an input.
const MIN_IR_VERSION: u64 = 4;

/// A model without its large weights.
#[derive(Debug)]
pub struct Skeleton {
    /// ONNX model with each weight as an input, after the model's own inputs.
    pub model: Vec<u8>,
    /// Weights in the order of those inputs: at most 4,096, with unique names.
    pub weights: Vec<Weight>,
}

impl Skeleton {
    /// Separates the weights of an ONNX model. Returns `None` if that is not possible, or if the weights are fewer than
    /// `min_bytes` or half of the file. Takes memory for the rest of the model, and at most 4 MiB in addition.
    #[must_use]
    pub fn of(file: &File, min_bytes: u64) -> Option<Self> {
        ModelLayout::of(file, min_bytes)
            .ok()
            .flatten()?
            .into_skeleton(file)
    }

    /// Separates the weights of a [marked](super::WeightStorage) model. Returns `None` if no weight is stored in a
    /// smaller type, and an error if such a weight is malformed. Takes memory for the rest of the model, for the
    /// scales, and at most 8 MiB in addition.
    pub fn of_marked(file: &File) -> Result<Option<Self>, OnnxError> {
        let mut reader = WireReader::new(file)?;
        match ModelLayout::of_marked(&mut reader) {
            Ok(layout) => Ok(layout.and_then(|layout| layout.into_skeleton(file))),
            Err(error) => Err(not_onnx(&mut reader, error)),
        }
    }
}

/// Positions of the model's parts in the file.
struct ModelLayout {
    length: u64,
    /// The field that holds the graph, and the graph itself.
    field: Span,
    graph: Span,
    /// Fields of the graph that are left out, in the order of the file.
    removed: Vec<Span>,
    weights: Vec<Weight>,
}

impl ModelLayout {
    fn of(file: &File, min_bytes: u64) -> Result<Option<Self>, ParseError> {
        let mut reader = WireReader::new(file)?;
        let Some((field, graph)) = single_graph(&mut reader)? else {
            return Ok(None);
        };
        let length = reader.whole().end;
        let mut layout = Self {
            length,
            field,
            graph,
            removed: Vec::new(),
            weights: Vec::new(),
        };
        layout.add_large_weights(&mut reader)?;
        let bytes: u64 = layout
            .weights
            .iter()
            .map(|weight| weight.bytes.end - weight.bytes.start)
            .sum();
        let is_worth_it =
            layout.weights.len() <= MAX_WEIGHTS && bytes >= min_bytes && bytes >= length / 2;
        Ok((is_worth_it && layout.has_unique_names(&mut reader)?).then_some(layout))
    }

    fn of_marked(reader: &mut WireReader<'_>) -> Result<Option<Self>, ParseError> {
        let length = reader.whole().end;
        let Some((field, graph)) = single_graph(reader)? else {
            let reason = "a model with stored weights has one graph and format version 4 or later";
            return Err(malformed(length, reason));
        };
        let stored = stored_weight::read(reader, &graph)?;
        if stored.is_empty() {
            return Ok(None);
        }
        let (mut removed, mut weights) = (Vec::new(), Vec::new());
        for stored in stored {
            removed.extend(stored.fields);
            weights.push(stored.weight);
        }
        removed.sort_by_key(|field| field.start);
        let mut layout = Self {
            length,
            field,
            graph: graph.clone(),
            removed,
            weights,
        };
        layout.add_large_weights(reader)?;
        layout.removed.sort_by_key(|field| field.start);
        if !layout.has_unique_names(reader)? {
            let reason =
                "the name of a stored weight is used twice, or is that of an input or output";
            return Err(malformed(graph.start, reason));
        }
        Ok(Some(layout))
    }

    /// Adds the large initializers that are not removed yet, up to the maximum number of weights and one more.
    fn add_large_weights(&mut self, reader: &mut WireReader<'_>) -> Result<(), ParseError> {
        let stored: HashSet<u64> = self.removed.iter().map(|field| field.start).collect();
        let mut left = self.graph.clone();
        while let (start, Some(next)) = (left.start, reader.field(&mut left, MAX_DEPTH)?) {
            let Field::Bytes(5, initializer) = next else {
                continue;
            };
            if initializer.end - initializer.start < MIN_WEIGHT || stored.contains(&start) {
                continue;
            }
            if let Some(weight) = weight::read(reader, initializer)?
                && weight.bytes.end - weight.bytes.start >= MIN_WEIGHT
            {
                self.removed.push(start..left.start);
                self.weights.push(weight);
            }
            if self.weights.len() > MAX_WEIGHTS {
                break;
            }
        }
        Ok(())
    }

    fn into_skeleton(self, file: &File) -> Option<Skeleton> {
        let model = self.without_weights(file)?;
        let weights = self.weights;
        Some(Skeleton { model, weights })
    }

    /// Returns `true` if each weight's name is unique in the graph.
    fn has_unique_names(&self, reader: &mut WireReader<'_>) -> Result<bool, ParseError> {
        let mut names = HashSet::with_capacity(self.weights.len());
        for weight in &self.weights {
            if !names.insert(weight.name.as_bytes()) {
                return Ok(false);
            }
        }
        let mut removed = self.removed.iter().map(|field| field.start).peekable();
        let mut left = self.graph.clone();
        while let (start, Some(next)) = (left.start, reader.field(&mut left, MAX_DEPTH)?) {
            if removed.next_if_eq(&start).is_some() {
                continue;
            }
            // The outputs of a node; the name of a tensor; of a value; of a sparse tensor, which is the name of its
            // values.
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
            if has_name(reader, span, name, &names)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the bytes of the skeleton.
    fn without_weights(&self, file: &File) -> Option<Vec<u8>> {
        let inputs: Vec<u8> = self.weights.iter().flat_map(Weight::as_input).collect();
        let left: Vec<Span> = {
            let ends = self.removed.iter().map(|field| field.end);
            let starts = self.removed.iter().map(|field| field.start);
            std::iter::once(self.graph.start)
                .chain(ends)
                .zip(starts.chain([self.graph.end]))
                .map(|(start, end)| start..end)
                .collect()
        };
        let of_graph: u64 = left.iter().map(|span| span.end - span.start).sum();
        let mut model = Vec::new();
        copy(file, 0..self.field.start, &mut model)?;
        field_header(
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

/// Returns the field that holds the graph, and the graph, if there is exactly one and the IR version is supported.
pub(super) fn single_graph(
    reader: &mut WireReader<'_>,
) -> Result<Option<(Span, Span)>, ParseError> {
    let mut found = None;
    let mut version = 0;
    let mut left = reader.whole();
    while let (start, Some(next)) = (left.start, reader.field(&mut left, MAX_DEPTH)?) {
        match next {
            Field::Number(1, number) => version = number,
            Field::Bytes(7, _) if found.is_some() => return Ok(None),
            Field::Bytes(7, graph) => found = Some((start..left.start, graph)),
            _ => {}
        }
    }
    Ok(found.filter(|_| version >= MIN_IR_VERSION))
}

fn values_of(reader: &mut WireReader<'_>, mut sparse: Span) -> Result<Option<Span>, ParseError> {
    let mut values = None;
    while let Some(field) = reader.field(&mut sparse, MAX_DEPTH)? {
        if let Field::Bytes(1, tensor) = field {
            if values.is_some() {
                return Ok(None);
            }
            values = Some(tensor);
        }
    }
    Ok(values)
}

/// Returns `true` if a field `number` of the message is one of `names`.
fn has_name(
    reader: &mut WireReader<'_>,
    mut message: Span,
    number: u32,
    names: &HashSet<&[u8]>,
) -> Result<bool, ParseError> {
    while let Some(field) = reader.field(&mut message, MAX_DEPTH)? {
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

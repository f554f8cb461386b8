//! Weights in a smaller type of a model whose file is still being written.
//!
//! The weights are those of [`Skeleton::of_marked`](super::Skeleton::of_marked), read in the order of the file. The
//! rest of the file can still show that a weight is unusable, or that the model is malformed. A user therefore compares
//! each weight with the skeleton of the complete file.
//!
//! Weights of one marked node are found if the node precedes its initializers, and the scales precede the integers.
//! `modelctl optimize --quantize` writes models in this order.

use super::ParseError;
use super::stored_weight::{Initializers, MAX_STORED_WEIGHTS, Node, is_marked, node, of_one_node};
use super::weight::{self, Weight};
use super::wire::{Field, MAX_DEPTH, Span, WireReader};
use crate::growing_file::GrowingFile;

/// Iterator over the stored weights, which waits for the bytes of the file. A weight is returned before its elements
/// are written. Ends at the first problem.
pub struct ArrivingWeights<'a> {
    reader: WireReader<'a>,
    /// Rest of the graph; `None` before its beginning is read.
    graph: Option<Span>,
    /// Marked nodes whose initializers have not been read yet.
    nodes: Vec<Node>,
    initializers: Initializers,
}

impl<'a> ArrivingWeights<'a> {
    /// Returns an iterator over the weights of a file.
    #[must_use]
    pub fn of(file: &'a GrowingFile) -> Self {
        Self {
            reader: WireReader::growing(file),
            graph: None,
            nodes: Vec::new(),
            initializers: Initializers::new(),
        }
    }

    fn try_next(&mut self) -> Result<Option<Weight>, ParseError> {
        let mut graph = match self.graph.take() {
            Some(rest) => rest,
            None => match self.find_graph()? {
                Some(graph) => graph,
                None => return Ok(None),
            },
        };
        let reader = &mut self.reader;
        while let (start, Some(next)) = (graph.start, reader.field(&mut graph, MAX_DEPTH)?) {
            let field = start..graph.start;
            match next {
                Field::Bytes(1, span) if is_marked(reader, span.clone())? => {
                    if self.nodes.len() > 2 * MAX_STORED_WEIGHTS {
                        return Ok(None);
                    }
                    self.nodes.push(node(reader, field, span)?);
                }
                // A model without marks, or in another order.
                Field::Bytes(5, _) if self.nodes.is_empty() && self.initializers.is_empty() => {
                    return Ok(None);
                }
                Field::Bytes(5, tensor) => {
                    let Some(weight) = weight::read(reader, tensor)? else {
                        continue;
                    };
                    let is_input = |node: &Node| node.inputs.contains(&weight.name);
                    let Some(place) = self.nodes.iter().position(is_input) else {
                        continue;
                    };
                    self.initializers
                        .insert(weight.name.clone(), (field, weight));
                    let is_read = |input| self.initializers.contains_key(input);
                    if !self.nodes[place].inputs.iter().all(is_read) {
                        continue;
                    }
                    let node = self.nodes.swap_remove(place);
                    if let Some(stored) = of_one_node(reader, &node, &mut self.initializers)? {
                        self.graph = Some(graph);
                        return Ok(Some(stored.weight));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Returns the first graph of the model.
    fn find_graph(&mut self) -> Result<Option<Span>, ParseError> {
        let mut model = self.reader.whole();
        while let Some(next) = self.reader.field(&mut model, MAX_DEPTH)? {
            if let Field::Bytes(7, graph) = next {
                return Ok(Some(graph));
            }
        }
        Ok(None)
    }
}

impl Iterator for ArrivingWeights<'_> {
    type Item = Weight;

    fn next(&mut self) -> Option<Weight> {
        let next = self.try_next().ok().flatten();
        if next.is_none() {
            self.graph = Some(0..0);
        }
        next
    }
}

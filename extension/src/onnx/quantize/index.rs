//! Index of a graph: its initializers, the uses of each name, and all names.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::ParseError;
use super::super::weight_storage::NODE_PREFIX;
use super::super::wire::{Field, MAX_DEPTH, Span, WireReader, deeper, malformed, text};
use super::tensor::Initializer;

/// Domain of ONNX Runtime's own operators.
pub(super) const CONTRIB_DOMAIN: &str = "com.microsoft";

/// Use of a tensor by a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Weight of an operator, whose channels are along this axis; negative from the end.
    Weight { operator: String, axis: i64 },
    /// Input of a `Transpose` or `Identity` with this output. The permutation is empty if it is the default.
    Through {
        output: String,
        permutation: Option<Vec<i64>>,
    },
    /// Any other use, in words.
    Other(String),
}

/// A node of the main graph that multiplies an activation by a matrix: `MatMul`, or `Gemm` without factors.
pub(super) struct Product {
    pub(super) field: Span,
    pub(super) activation: String,
    pub(super) weight: String,
    /// `true` if the weight is transposed first.
    pub(super) is_transposed: bool,
    pub(super) bias: Option<String>,
    pub(super) output: String,
}

/// An LSTM of the main graph with the time steps as first axis.
pub(super) struct Lstm {
    pub(super) field: Span,
    pub(super) node: Span,
    /// Three to eight inputs.
    pub(super) inputs: Vec<String>,
}

impl Lstm {
    /// Returns the names of the weights of the input and of the hidden state.
    pub(super) fn weights(&self) -> [&str; 2] {
        [&self.inputs[1], &self.inputs[2]]
    }
}

/// Content of a graph that matters for the storage of weights.
pub(super) struct GraphIndex {
    pub(super) graph: Span,
    pub(super) initializers: Vec<Initializer>,
    /// Initializers of subgraphs, and tensors of their `Constant` nodes.
    pub(super) of_subgraphs: Vec<Initializer>,
    pub(super) uses: HashMap<String, Vec<Use>>,
    pub(super) products: Vec<Product>,
    pub(super) lstms: Vec<Lstm>,
    pub(super) inputs: HashSet<String>,
    pub(super) outputs: HashSet<String>,
    /// Types of inner values, and the field of each.
    pub(super) value_infos: Vec<(Span, String)>,
    /// Names of all tensors in the graph and its subgraphs, and the names that are given more than once.
    pub(super) names: HashSet<String>,
    pub(super) ambiguous: HashSet<String>,
    /// All operators, such as `TreeEnsembleClassifier`.
    pub(super) operators: BTreeSet<String>,
    /// Position of the first node.
    pub(super) first_node: u64,
    /// Version of the standard operators.
    pub(super) opset: u64,
    /// `true` if the model imports ONNX Runtime's own operators.
    pub(super) has_contrib_import: bool,
}

/// Fields of a node.
#[derive(Default)]
struct NodeFields {
    inputs: Vec<String>,
    outputs: Vec<String>,
    operator: String,
    domain: String,
    integers: HashMap<String, i64>,
    singles: HashMap<String, f32>,
    permutation: Option<Vec<i64>>,
    /// Tensor of a `Constant`.
    value: Option<Span>,
    attributes: usize,
}

impl GraphIndex {
    pub(super) fn read(reader: &mut WireReader<'_>, graph: Span) -> Result<Self, ParseError> {
        let (opset, has_contrib_import) = imports(reader)?;
        let mut index = Self {
            graph: graph.clone(),
            initializers: Vec::new(),
            of_subgraphs: Vec::new(),
            uses: HashMap::new(),
            products: Vec::new(),
            lstms: Vec::new(),
            inputs: HashSet::new(),
            outputs: HashSet::new(),
            value_infos: Vec::new(),
            names: HashSet::new(),
            ambiguous: HashSet::new(),
            operators: BTreeSet::new(),
            first_node: graph.end,
            opset,
            has_contrib_import,
        };
        let mut left = graph;
        while let (start, Some(next)) = (left.start, reader.field(&mut left, MAX_DEPTH)?) {
            let field = start..left.start;
            match next {
                Field::Bytes(1, span) => {
                    index.first_node = index.first_node.min(start);
                    index.main_node(reader, field, span)?;
                }
                Field::Bytes(5, span) => {
                    let initializer = Initializer::read(reader, field, span)?;
                    index.define(initializer.name.clone());
                    index.initializers.push(initializer);
                }
                Field::Bytes(11, span) => {
                    let name = name_of(reader, span, 1)?;
                    index.define(name.clone());
                    index.inputs.insert(name);
                }
                Field::Bytes(12, span) => {
                    let name = name_of(reader, span, 1)?;
                    index.outputs.insert(name);
                }
                Field::Bytes(13, span) => {
                    let name = name_of(reader, span, 1)?;
                    index.value_infos.push((field, name));
                }
                Field::Bytes(15, span) => index.sparse(reader, span)?,
                _ => {}
            }
        }
        Ok(index)
    }

    /// Records that a name is given to a value.
    fn define(&mut self, name: String) {
        if !self.names.insert(name.clone()) {
            self.ambiguous.insert(name);
        }
    }

    fn sparse(&mut self, reader: &mut WireReader<'_>, mut span: Span) -> Result<(), ParseError> {
        while let Some(next) = reader.field(&mut span, MAX_DEPTH)? {
            if let Field::Bytes(1, values) = next {
                let name = name_of(reader, values, 8)?;
                self.define(name);
            }
        }
        Ok(())
    }

    /// Adds a node of the main graph. The tensor of a `Constant` counts as an initializer.
    fn main_node(
        &mut self,
        reader: &mut WireReader<'_>,
        field: Span,
        span: Span,
    ) -> Result<(), ParseError> {
        let at = span.start;
        let node = self.node(reader, span.clone(), MAX_DEPTH)?;
        self.products.extend(node.product(field.clone()));
        if node.is_lstm() {
            self.lstms.push(Lstm {
                field: field.clone(),
                node: span,
                inputs: node.inputs.clone(),
            });
        }
        let constant = node.constant(reader, field)?;
        if constant.as_ref().is_some_and(|it| it.name.is_empty()) {
            return Err(malformed(at, "an output of a node has no name"));
        }
        self.initializers.extend(constant);
        Ok(())
    }

    fn subgraph(
        &mut self,
        reader: &mut WireReader<'_>,
        mut span: Span,
        depth: u32,
    ) -> Result<(), ParseError> {
        let depth = deeper(depth, span.start)?;
        while let (start, Some(next)) = (span.start, reader.field(&mut span, depth)?) {
            let field = start..span.start;
            match next {
                Field::Bytes(1, node) => {
                    let node = self.node(reader, node, depth)?;
                    self.of_subgraphs.extend(node.constant(reader, field)?);
                }
                Field::Bytes(5, tensor) => {
                    let initializer = Initializer::read(reader, field, tensor)?;
                    self.define(initializer.name.clone());
                    self.of_subgraphs.push(initializer);
                }
                Field::Bytes(11, input) => {
                    let name = name_of(reader, input, 1)?;
                    self.define(name);
                }
                Field::Bytes(12, output) => {
                    let name = name_of(reader, output, 1)?;
                    let of_subgraph = Use::Other("an output of a subgraph".to_owned());
                    self.uses.entry(name).or_default().push(of_subgraph);
                }
                Field::Bytes(15, sparse) => self.sparse(reader, sparse)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads a node, and adds its names and the uses of its inputs.
    fn node(
        &mut self,
        reader: &mut WireReader<'_>,
        mut span: Span,
        depth: u32,
    ) -> Result<NodeFields, ParseError> {
        let depth = deeper(depth, span.start)?;
        let mut node = NodeFields::default();
        while let Some(next) = reader.field(&mut span, depth)? {
            match next {
                Field::Bytes(1, name) => node.inputs.push(text(reader, &name)?),
                Field::Bytes(2, name) => node.outputs.push(text(reader, &name)?),
                Field::Bytes(3, name) if text(reader, &name)?.starts_with(NODE_PREFIX) => {
                    let reason =
                        format!("a node's name begins with {NODE_PREFIX:?}, which is reserved");
                    return Err(malformed(name.start, reason));
                }
                Field::Bytes(4, name) => node.operator = text(reader, &name)?,
                Field::Bytes(5, attribute) => {
                    node.attributes += 1;
                    self.attribute(reader, attribute, depth, &mut node)?;
                }
                Field::Bytes(7, name) => node.domain = text(reader, &name)?,
                _ => {}
            }
        }
        for output in node.outputs.iter().filter(|name| !name.is_empty()) {
            self.define(output.clone());
        }
        for (position, input) in node.inputs.iter().enumerate() {
            let uses = self.uses.entry(input.clone()).or_default();
            uses.push(node.use_of(position));
        }
        self.operators.insert(node.operator.clone());
        Ok(node)
    }

    fn attribute(
        &mut self,
        reader: &mut WireReader<'_>,
        span: Span,
        depth: u32,
        node: &mut NodeFields,
    ) -> Result<(), ParseError> {
        let depth = deeper(depth, span.start)?;
        let (mut name, mut integer, mut single) = (String::new(), None, None);
        let mut left = span.clone();
        while let Some(next) = reader.field(&mut left, depth)? {
            match next {
                Field::Bytes(1, text_of) => name = text(reader, &text_of)?,
                Field::Fixed32(2, value) => {
                    let bytes = reader.bytes(&value, 4)?.try_into();
                    single = bytes.ok().map(f32::from_le_bytes);
                }
                Field::Number(3, value) => integer = Some(value.cast_signed()),
                Field::Bytes(5, tensor) => node.value = Some(tensor),
                Field::Bytes(6 | 11, graph) => self.subgraph(reader, graph, depth)?,
                // Other attributes may have a million elements.
                _ => reader.skip_list(&mut left)?,
            }
        }
        if name == "perm" {
            let mut permutation = Vec::new();
            left = span;
            while let Some(next) = reader.field(&mut left, depth)? {
                match next {
                    Field::Number(8, axis) => permutation.push(axis.cast_signed()),
                    Field::Bytes(8, packed) => permutation.extend(reader.numbers(packed)?),
                    _ => {}
                }
            }
            node.permutation = Some(permutation);
        }
        node.singles
            .extend(single.map(|value| (name.clone(), value)));
        node.integers.extend(integer.map(|value| (name, value)));
        Ok(())
    }
}

impl NodeFields {
    /// Returns the product that the node at `field` computes, if it is one.
    fn product(&self, field: Span) -> Option<Product> {
        let (inputs, [output]) = (&self.inputs[..], &self.outputs[..]) else {
            return None;
        };
        #[expect(clippy::float_cmp, reason = "exporters write exactly one")]
        let has_factor = self.singles.values().any(|factor| *factor != 1.0);
        let bias = match (self.operator.as_str(), inputs) {
            ("MatMul", [_, _]) => None,
            ("Gemm", [_, _, bias @ ..])
                if !self.is_set("transA") && !has_factor && bias.len() < 2 =>
            {
                bias.first().filter(|bias| !bias.is_empty()).cloned()
            }
            _ => return None,
        };
        is_standard(&self.domain).then(|| Product {
            field,
            activation: inputs[0].clone(),
            weight: inputs[1].clone(),
            is_transposed: self.is_set("transB"),
            bias,
            output: output.clone(),
        })
    }

    /// Returns the tensor of a `Constant`, under the name of the node's output.
    fn constant(
        &self,
        reader: &mut WireReader<'_>,
        field: Span,
    ) -> Result<Option<Initializer>, ParseError> {
        let is_constant = self.operator == "Constant" && is_standard(&self.domain);
        let (true, 1, Some(value), [output]) =
            (is_constant, self.attributes, &self.value, &self.outputs[..])
        else {
            return Ok(None);
        };
        let mut initializer = Initializer::read(reader, field, value.clone())?;
        initializer.name.clone_from(output);
        initializer.is_constant_node = true;
        Ok(Some(initializer))
    }

    /// Returns `true` for an LSTM that ONNX Runtime can compute with integers.
    fn is_lstm(&self) -> bool {
        let is_batch_first = self.is_set("layout");
        let fits = (3..=8).contains(&self.inputs.len()) && !is_batch_first;
        self.operator == "LSTM" && is_standard(&self.domain) && fits
    }

    /// Returns `true` if an attribute has an integer other than zero.
    fn is_set(&self, name: &str) -> bool {
        self.integers.get(name).is_some_and(|value| *value != 0)
    }

    /// Returns the use of the input at `position`.
    fn use_of(&self, position: usize) -> Use {
        let integer =
            |name: &str, default: i64| self.integers.get(name).copied().unwrap_or(default);
        let operator = self.operator.as_str();
        let axis = match (operator, position) {
            _ if !is_standard(&self.domain) => None,
            ("MatMul", 0) => Some(-2),
            ("MatMul", 1) => Some(-1),
            ("Gemm", 0) => Some(i64::from(integer("transA", 0) != 0)),
            ("Gemm", 1) => Some(i64::from(integer("transB", 0) == 0)),
            ("Conv", 1) => Some(0),
            ("Gather", 0) => Some(integer("axis", 0)),
            ("ConvTranspose", 1) | ("LSTM" | "GRU" | "RNN", 1 | 2) => Some(1),
            ("Transpose" | "Identity", 0) if self.outputs.len() == 1 => {
                return Use::Through {
                    output: self.outputs[0].clone(),
                    permutation: match operator {
                        "Identity" => Some(Vec::new()),
                        _ => self.permutation.clone(),
                    },
                };
            }
            _ => None,
        };
        match axis {
            Some(axis) => Use::Weight {
                operator: operator.to_owned(),
                axis,
            },
            None => Use::Other(operator.to_owned()),
        }
    }
}

fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Returns the version of the standard operators, and `true` if the model imports ONNX Runtime's own. The version is 0
/// if the model does not use standard operators.
fn imports(reader: &mut WireReader<'_>) -> Result<(u64, bool), ParseError> {
    let mut left = reader.whole();
    let (mut found, mut has_contrib) = (0, false);
    while let Some(next) = reader.field(&mut left, MAX_DEPTH)? {
        let Field::Bytes(8, mut import) = next else {
            continue;
        };
        let (mut domain, mut version) = (String::new(), 0);
        while let Some(next) = reader.field(&mut import, MAX_DEPTH)? {
            match next {
                Field::Bytes(1, name) => domain = text(reader, &name)?,
                Field::Number(2, number) => version = number,
                _ => {}
            }
        }
        if is_standard(&domain) {
            found = version;
        }
        has_contrib |= domain == CONTRIB_DOMAIN;
    }
    Ok((found, has_contrib))
}

/// Returns the text in this field of a message.
fn name_of(
    reader: &mut WireReader<'_>,
    mut message: Span,
    number: u32,
) -> Result<String, ParseError> {
    let mut name = String::new();
    while let Some(next) = reader.field(&mut message, MAX_DEPTH)? {
        match next {
            Field::Bytes(found, text_of) if found == number => name = text(reader, &text_of)?,
            _ => {}
        }
    }
    Ok(name)
}

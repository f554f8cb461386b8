//! Integer products: a product of an activation and a weight as a product of integers.
//!
//! `DynamicQuantizeLinear` converts the activation to 8-bit integers in each run, `MatMulInteger` multiplies, and the
//! result is result. ONNX Runtime fuses these nodes. Weights have seven bits: on x86 CPUs without VNNI, ONNX Runtime
//! adds pairs of 8-bit products in 16 bits, which overflow with eight bits.

use std::collections::{HashMap, HashSet};

use super::super::encode::{element_type, field, number};
use super::index::{GraphIndex, Product, Use};
use super::names::free_name;
use super::tensor::Initializer;
use super::values::{self, Integers};
use crate::tensor::Datatype;

/// Largest integer of a weight.
pub(super) const MAX_INTEGER: f32 = 63.0;

/// First version of the standard operators with `DynamicQuantizeLinear`.
const MIN_OPSET: u64 = 11;

/// A weight of integer products.
pub(super) struct ProductWeight {
    /// Integers with the columns of the product as channels, in rows of columns.
    pub(super) integers: Integers,
    pub(super) stored: String,
    pub(super) scales: String,
}

/// Returns the axis of the columns, if every use of the weight is a product that can become one of integers.
pub(super) fn column_axis(initializer: &Initializer, index: &GraphIndex) -> Option<usize> {
    let name = initializer.name.as_str();
    let uses = index.uses.get(name)?;
    let mut products = index
        .products
        .iter()
        .filter(|product| product.weight == name);
    let first = products.next()?;
    let is_alike = products
        .clone()
        .all(|other| other.is_transposed == first.is_transposed);
    let is_weight = |one: &Use| matches!(one, Use::Weight { .. });
    let is_only_weight = uses.len() == 1 + products.count() && uses.iter().all(is_weight);
    let is_activation = index
        .products
        .iter()
        .any(|product| product.activation == name);
    let fits = index.opset >= MIN_OPSET && initializer.shape.len() == 2;
    (fits && is_alike && is_only_weight && !is_activation)
        .then_some(usize::from(!first.is_transposed))
}

impl ProductWeight {
    /// Transposes integers whose channels are rows.
    pub(super) fn new(
        mut integers: Integers,
        is_transposed: bool,
        stored: String,
        scales: String,
    ) -> Self {
        if is_transposed {
            let columns = integers.scales.len();
            let rows = integers.integers.len() / columns;
            integers.integers = values::transposed(&integers.integers, rows).collect();
            debug_assert_eq!(integers.integers.len(), rows * columns);
        }
        Self {
            integers,
            stored,
            scales,
        }
    }
}

/// Encodes the nodes of integer products. An activation is converted once for all its products.
#[derive(Default)]
pub(super) struct ProductNodes {
    /// Integers, scale and zero point of each activation.
    activations: HashMap<String, [String; 3]>,
}

impl ProductNodes {
    /// Returns the nodes that replace a product.
    pub(super) fn of(
        &mut self,
        product: &Product,
        weight: &ProductWeight,
        taken: &mut HashSet<String>,
    ) -> Vec<u8> {
        let mut nodes = Vec::new();
        let activation = product.activation.as_str();
        if !self.activations.contains_key(activation) {
            let parts = ["quantized", "quantized_scale", "quantized_zero"];
            let parts = parts.map(|part| free_name(activation, part, taken));
            let outputs = parts.each_ref().map(String::as_str);
            nodes.extend(node("DynamicQuantizeLinear", &[activation], &outputs, None));
            self.activations.insert(activation.to_owned(), parts);
        }
        let [integers, scale, zero] = &self.activations[activation];
        let mut name = |part: &str| free_name(&product.output, part, taken);
        let (sums, singles, scales) = (name("integers"), name("singles"), name("scales"));
        let result = match product.bias {
            Some(_) => name("scaled"),
            None => product.output.clone(),
        };
        nodes.extend(node(
            "MatMulInteger",
            &[integers, &weight.stored, zero],
            &[&sums],
            None,
        ));
        let single = ("to", element_type(Datatype::Fp32));
        nodes.extend(node("Cast", &[&sums], &[&singles], Some(single)));
        nodes.extend(node("Mul", &[scale, &weight.scales], &[&scales], None));
        nodes.extend(node("Mul", &[&singles, &scales], &[&result], None));
        if let Some(bias) = &product.bias {
            nodes.extend(node("Add", &[&result, bias], &[&product.output], None));
        }
        nodes
    }
}

fn node(
    operator: &str,
    inputs: &[&str],
    outputs: &[&str],
    attribute: Option<(&str, u64)>,
) -> Vec<u8> {
    let texts = |number, texts: &[&str]| -> Vec<u8> {
        texts
            .iter()
            .flat_map(|text| field(number, text.as_bytes()))
            .collect()
    };
    let mut node = [
        texts(1, inputs),
        texts(2, outputs),
        field(4, operator.as_bytes()),
    ]
    .concat();
    if let Some((name, value)) = attribute {
        // The attribute type: integer.
        let attribute = [field(1, name.as_bytes()), number(3, value), number(20, 2)];
        node.extend(field(5, &attribute.concat()));
    }
    field(1, &node)
}

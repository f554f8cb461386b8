//! LSTM layers that are computed with 8-bit integers.
//!
//! `DynamicQuantizeLSTM` is an operator of ONNX Runtime. It converts input and hidden state to 8-bit integers in each
//! step, and multiplies them with integer weights. The rest of the layer is FP32. As in [products](super::product),
//! weights have seven bits.

use std::collections::{HashMap, HashSet};

use super::super::ParseError;
use super::super::encode::{field, number};
use super::super::wire::{Field, MAX_DEPTH, WireReader};
use super::index::{CONTRIB_DOMAIN, Lstm};
use super::names::free_name;
use super::product::MAX_INTEGER;
use super::values::{self, Integers};

/// Version of ONNX Runtime's own operators.
const VERSION: u64 = 1;

/// Number of inputs that both operators have in common.
const COMMON_INPUTS: usize = 8;

/// A weight of an integer LSTM.
pub(super) struct LstmWeight {
    /// Integers of each direction, in rows of gates, with the gates of each direction as channels.
    pub(super) integers: Integers,
    pub(super) directions: u64,
    pub(super) stored: String,
    pub(super) scales: String,
    pub(super) zeros: String,
}

impl LstmWeight {
    /// Converts finite numbers of the shape `[directions, gates, columns]`.
    pub(super) fn of(
        numbers: &[f32],
        shape: &[u64],
        name: &str,
        taken: &mut HashSet<String>,
    ) -> Self {
        let size = |axis: usize| usize::try_from(shape[axis]).unwrap_or(usize::MAX);
        let (directions, gates, columns) = (size(0), size(1), size(2));
        let mut integers = values::int8(numbers, directions * gates, columns, MAX_INTEGER);
        let of_direction = integers.integers.chunks(gates * columns);
        integers.integers = of_direction
            .flat_map(|rows| values::transposed(rows, columns))
            .collect();
        let mut name = |part: &str| free_name(name, part, taken);
        Self {
            integers,
            directions: shape[0],
            stored: name("quantized"),
            scales: name("scale"),
            zeros: name("zero_point"),
        }
    }
}

/// Encodes the node that replaces an LSTM, if both of its weights are integers.
pub(super) fn node(
    reader: &mut WireReader<'_>,
    lstm: &Lstm,
    weights: &HashMap<&str, &LstmWeight>,
) -> Result<Option<Vec<u8>>, ParseError> {
    let [Some(input), Some(recurrent)] = lstm.weights().map(|name| weights.get(name)) else {
        return Ok(None);
    };
    let mut inputs: Vec<&str> = lstm.inputs.iter().map(String::as_str).collect();
    inputs.resize(COMMON_INPUTS, "");
    (inputs[1], inputs[2]) = (&input.stored, &recurrent.stored);
    for weight in [input, recurrent] {
        inputs.extend([weight.scales.as_str(), &weight.zeros]);
    }
    let mut node: Vec<u8> = inputs
        .into_iter()
        .flat_map(|input| field(1, input.as_bytes()))
        .collect();
    // Outputs, name and attributes are those of the LSTM.
    let mut left = lstm.node.clone();
    while let (start, Some(next)) = (left.start, reader.field(&mut left, MAX_DEPTH)?) {
        if matches!(next, Field::Bytes(2 | 3 | 5 | 6, _)) {
            node.extend(reader.copy(&(start..left.start))?);
        }
    }
    node.extend(field(4, b"DynamicQuantizeLSTM"));
    node.extend(field(7, CONTRIB_DOMAIN.as_bytes()));
    Ok(Some(field(1, &node)))
}

/// Encodes the model's field that imports the operator.
pub(super) fn import() -> Vec<u8> {
    field(
        8,
        &[field(1, CONTRIB_DOMAIN.as_bytes()), number(2, VERSION)].concat(),
    )
}

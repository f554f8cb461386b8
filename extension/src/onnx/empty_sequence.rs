//! A model whose output is an empty sequence of tensors.
//!
//! The C API of ONNX Runtime cannot create an empty sequence, since it takes the type of a sequence from its values.
//!
//! The field numbers are those of `onnx.proto`.

use super::encode::{element_type, field, number};
use crate::tensor::Datatype;

/// Returns a model without inputs, whose only output is an empty sequence of tensors of this type.
#[must_use]
pub fn empty_sequence(datatype: Datatype) -> Vec<u8> {
    let datatype = element_type(datatype);
    let name = b"sequence";
    let attribute = [
        field(1, b"dtype"),
        number(3, datatype),
        // The attribute type: integer.
        number(20, 2),
    ];
    let node = [
        field(2, name),
        field(4, b"SequenceEmpty"),
        field(5, &attribute.concat()),
    ];
    let tensor = field(1, &number(1, datatype));
    let sequence = field(4, &field(1, &tensor));
    let output = [field(1, name), field(2, &sequence)];
    let graph = [
        field(1, &node.concat()),
        field(2, name),
        field(12, &output.concat()),
    ];
    // The first operator set that has `SequenceEmpty`, and the first IR version for it.
    let operators = number(2, 11);
    [
        number(1, 6),
        field(7, &graph.concat()),
        field(8, &operators),
    ]
    .concat()
}

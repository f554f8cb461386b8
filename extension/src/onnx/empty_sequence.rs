//! A model that gives an empty sequence of tensors, since there is no other way to one: ONNX Runtime's C API takes the type
//! of a sequence from the values that it is made of.
//!
//! The numbers are those of `onnx.proto`.

use super::encode::{element_type, field, number};
use crate::tensor::Datatype;

/// The model, without inputs, whose only output is an empty sequence of tensors of this type.
#[must_use]
pub fn empty_sequence(datatype: Datatype) -> Vec<u8> {
    let datatype = element_type(datatype);
    let name = b"sequence";
    let attribute = [
        field(1, b"dtype"),
        number(3, datatype),
        // That it is an integer.
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
    // The first version of ONNX's operators that has this one, and the first of its files that may hold those.
    let operators = number(2, 11);
    [
        number(1, 6),
        field(7, &graph.concat()),
        field(8, &operators),
    ]
    .concat()
}

//! Encoding of the few protobuf fields that are added to a model.

use crate::tensor::Datatype;

/// Encodes a field of bytes.
pub(super) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 4);
    field_header(number, content.len(), &mut bytes);
    bytes.extend(content);
    bytes
}

/// Encodes a numeric field.
pub(super) fn number(number: u8, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(u64::from(number) << 3, &mut bytes);
    varint(value, &mut bytes);
    bytes
}

/// Appends the tag and the length of a field of `length` bytes. The field number must be below 16, so that the tag is
/// one byte.
pub(super) fn field_header(number: u8, length: usize, to: &mut Vec<u8>) {
    to.push(number << 3 | 2);
    varint(length as u64, to);
}

/// Encodes an entry of a model's `metadata_props`.
pub(super) fn entry(key: &str, value: &str) -> Vec<u8> {
    let both = [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
    field(14, &both)
}

fn varint(mut value: u64, to: &mut Vec<u8>) {
    while value > 0x7f {
        to.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    to.push(value.to_le_bytes()[0]);
}

/// Returns the number of an element type: `TensorProto.DataType` of `onnx.proto`.
pub(super) fn element_type(datatype: Datatype) -> u64 {
    match datatype {
        Datatype::Fp32 => 1,
        Datatype::Uint8 => 2,
        Datatype::Int8 => 3,
        Datatype::Uint16 => 4,
        Datatype::Int16 => 5,
        Datatype::Int32 => 6,
        Datatype::Int64 => 7,
        Datatype::Bytes => 8,
        Datatype::Bool => 9,
        Datatype::Fp16 => 10,
        Datatype::Fp64 => 11,
        Datatype::Uint32 => 12,
        Datatype::Uint64 => 13,
        Datatype::Bf16 => 16,
    }
}

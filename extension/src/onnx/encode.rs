//! The wire format of protobuf, written: the few fields that are added to a model.

/// A field of bytes.
pub(super) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 4);
    head(number, content.len(), &mut bytes);
    bytes.extend(content);
    bytes
}

/// What stands before the `length` bytes of a field. Its number is below 16, so that its tag is one byte.
pub(super) fn head(number: u8, length: usize, to: &mut Vec<u8>) {
    to.push(number << 3 | 2);
    varint(length as u64, to);
}

pub(super) fn varint(mut value: u64, to: &mut Vec<u8>) {
    while value > 0x7f {
        to.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    to.push(value.to_le_bytes()[0]);
}

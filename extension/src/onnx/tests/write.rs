//! Writes protobuf, as plainly as possible.

pub(crate) fn join(parts: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    parts.into_iter().flatten().collect()
}

pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

pub(crate) fn number(field: u64, value: u64) -> Vec<u8> {
    join([varint(field << 3), varint(value)])
}

pub(crate) fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    let length = varint(value.len() as u64);
    join([varint(field << 3 | 2), length, value.to_vec()])
}

pub(crate) fn entry(key: &str, value: &str) -> Vec<u8> {
    join([bytes(1, key.as_bytes()), bytes(2, value.as_bytes())])
}

/// A tensor of a few bytes, in the model or in a file.
pub(crate) fn tensor(name: &str, location: Option<&str>) -> Vec<u8> {
    let data = match location {
        None => bytes(9, &[1, 2, 3, 4]),
        Some(location) => join([
            bytes(13, &entry("location", location)),
            bytes(13, &entry("offset", "4096")),
            number(14, 1),
        ]),
    };
    join([number(1, 1), number(2, 1), bytes(8, name.as_bytes()), data])
}

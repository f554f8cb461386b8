//! Minimal writer of protobuf for tests.

pub(crate) fn join(parts: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    parts.into_iter().collect::<Vec<_>>().concat()
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

/// Returns a tensor of a few bytes, in the model or in a file.
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

/// Returns a tensor with its elements as bytes.
pub(crate) fn raw(name: &str, datatype: u64, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let shape = shape.iter().map(|&dimension| number(1, dimension as u64));
    join([
        join(shape),
        number(2, datatype),
        bytes(8, name.as_bytes()),
        bytes(9, data),
    ])
}

/// Declares an input or output of a graph.
pub(crate) fn value(name: &str, datatype: u64, shape: &[usize]) -> Vec<u8> {
    let dimension = |&dimension: &usize| bytes(1, &number(1, dimension as u64));
    let shape = join(shape.iter().map(dimension));
    let tensor = join([number(1, datatype), bytes(2, &shape)]);
    join([bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))])
}

pub(crate) fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
    join([
        join(inputs.iter().map(|input| bytes(1, input.as_bytes()))),
        join(outputs.iter().map(|output| bytes(2, output.as_bytes()))),
        bytes(4, operator.as_bytes()),
    ])
}

/// Returns a model with a graph of these fields.
pub(crate) fn model(graph: &[Vec<u8>]) -> Vec<u8> {
    let operators = join([bytes(1, b""), number(2, 17)]);
    join([
        number(1, 8),
        bytes(7, &join(graph.iter().cloned())),
        bytes(8, &operators),
    ])
}

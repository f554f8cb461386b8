//! Small ONNX models, encoded field by field.

pub(crate) const FLOAT: u64 = 1;
pub(crate) const INT64: u64 = 7;

/// A model under construction.
#[derive(Default)]
pub(crate) struct Model {
    graph: Vec<u8>,
}

impl Model {
    pub(crate) fn new() -> Self {
        let graph = bytes(2, b"graph");
        Self { graph }
    }

    /// Adds an input. A dimension is a length, or a name.
    pub(crate) fn input(self, name: &str, datatype: u64, shape: &[&str]) -> Self {
        self.with(11, &port(name, datatype, shape))
    }

    pub(crate) fn output(self, name: &str, datatype: u64, shape: &[&str]) -> Self {
        self.with(12, &port(name, datatype, shape))
    }

    /// Adds an initializer.
    pub(crate) fn floats(
        self,
        name: &str,
        shape: &[usize],
        values: impl IntoIterator<Item = f32>,
    ) -> Self {
        let shape = shape.iter().map(|&length| number(1, length as u64));
        let values: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        let tensor = [
            shape.collect::<Vec<_>>().concat(),
            number(2, FLOAT),
            bytes(8, name.as_bytes()),
            bytes(9, &values),
        ];
        self.with(5, &tensor.concat())
    }

    /// Adds a node without attributes; `domain:Operator` for an operator outside ONNX.
    pub(crate) fn node(self, operator: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        let (domain, operator) = operator.split_once(':').unwrap_or(("", operator));
        let names = |field, names: &[&str]| {
            let fields = names.iter().map(|name| bytes(field, name.as_bytes()));
            fields.collect::<Vec<_>>().concat()
        };
        let node = [
            names(1, inputs),
            names(2, outputs),
            bytes(4, operator.as_bytes()),
            bytes(7, domain.as_bytes()),
        ];
        self.with(1, &node.concat())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let opset =
            |domain: &str, version| [bytes(1, domain.as_bytes()), number(2, version)].concat();
        [
            number(1, 9),
            bytes(7, &self.graph),
            bytes(8, &opset("", 18)),
            bytes(8, &opset("example.org", 1)),
        ]
        .concat()
    }

    fn with(mut self, field: u64, content: &[u8]) -> Self {
        self.graph.extend(bytes(field, content));
        self
    }
}

fn port(name: &str, datatype: u64, shape: &[&str]) -> Vec<u8> {
    let dimension = |length: &&str| match length.parse() {
        Ok(length) => bytes(1, &number(1, length)),
        Err(_) => bytes(1, &bytes(2, length.as_bytes())),
    };
    let shape = shape.iter().map(dimension).collect::<Vec<_>>().concat();
    let tensor = [number(1, datatype), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [
        varint(field << 3 | 2),
        varint(value.len() as u64),
        value.to_vec(),
    ]
    .concat()
}

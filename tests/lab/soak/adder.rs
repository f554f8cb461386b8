//! Models of any size with a recognisable output: each adds a number of its own.
//!
//! `x` float [·, 1] → `y` float [·, 1]. A row is spread over `K` columns and multiplied by a matrix
//! `[K, M]` whose every element is 1/`K`. Each of the `M` results is therefore `x` again. The
//! output is the maximum of the results, plus the number. With `K` a power of two and `x` a small
//! integer the arithmetic is exact. A matrix with one wrong bit gives a wrong output. The few
//! required fields of ONNX's protobuf are encoded by hand.

/// A size: the matrix's rows, a power of two, and its columns.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    rows: u16,
    columns: u16,
}

impl Size {
    /// 100 KB.
    pub const SMALL: Self = Self {
        rows: 64,
        columns: 400,
    };
    /// 12 MB.
    pub const LARGE: Self = Self {
        rows: 1024,
        columns: 3072,
    };
}

/// Bytes of the model that adds `number`.
#[must_use]
pub fn adder(size: Size, number: u16) -> Vec<u8> {
    let Size { rows, columns } = size;
    let share = 1.0 / f32::from(rows);
    let matrix = share
        .to_le_bytes()
        .repeat(usize::from(rows) * usize::from(columns));
    let ones = 1_f32.to_le_bytes().repeat(usize::from(rows));
    let number = f32::from(number).to_le_bytes();
    let graph = Message::default()
        .message(1, &node("MatMul", &["x", "ones"], "wide"))
        .message(1, &node("MatMul", &["wide", "matrix"], "same"))
        .message(1, &node("ReduceMax", &["same"], "one").message(5, &axes()))
        .message(1, &node("Add", &["one", "number"], "y"))
        .bytes(2, b"adder")
        .message(5, &tensor("number", &[1], &number))
        .message(5, &tensor("ones", &[1, rows], &ones))
        .message(5, &tensor("matrix", &[rows, columns], &matrix))
        .message(11, &value("x"))
        .message(12, &value("y"));
    let opset = Message::default().bytes(1, b"").number(2, 13);
    let model = Message::default()
        .number(1, 7)
        .message(7, &graph)
        .message(8, &opset);
    model.0
}

/// Number added by a version that maps `x` to `y`, if it is an integer, as it is for every version.
#[must_use]
pub fn added(x: f64, y: f64) -> Option<u32> {
    let number = y - x;
    let is_whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be whole and in range"
    )]
    is_whole.then_some(number as u32)
}

/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;

/// A `NodeProto`.
fn node(operator: &str, inputs: &[&str], output: &str) -> Message {
    let inputs = inputs.iter();
    let node = inputs.fold(Message::default(), |node, input| {
        node.bytes(1, input.as_bytes())
    });
    node.bytes(2, output.as_bytes())
        .bytes(4, operator.as_bytes())
}

/// The `AttributeProto` that makes a reduction one over columns.
fn axes() -> Message {
    /// `AttributeProto.AttributeType.INTS`.
    const NUMBERS: u64 = 7;
    let axes = Message::default().bytes(1, b"axes").number(8, 1);
    axes.number(20, NUMBERS)
}

/// A `TensorProto` of floats.
fn tensor(name: &str, shape: &[u16], data: &[u8]) -> Message {
    let shape = shape.iter();
    let tensor = shape.fold(Message::default(), |tensor, length| {
        tensor.number(1, (*length).into())
    });
    let tensor = tensor.number(2, FLOAT).bytes(8, name.as_bytes());
    tensor.bytes(9, data)
}

/// A `ValueInfoProto` of floats [·, 1].
fn value(name: &str) -> Message {
    let any = Message::default().bytes(2, b"rows");
    let one = Message::default().number(1, 1);
    let shape = Message::default().message(1, &any).message(1, &one);
    let tensor = Message::default().number(1, FLOAT).message(2, &shape);
    let kind = Message::default().message(1, &tensor);
    Message::default()
        .bytes(1, name.as_bytes())
        .message(2, &kind)
}

/// An encoded protobuf message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(mut self, field: u64, number: u64) -> Self {
        self.varint(field << 3);
        self.varint(number);
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn message(self, field: u64, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    fn varint(&mut self, mut number: u64) {
        loop {
            let [low, ..] = number.to_le_bytes();
            number >>= 7;
            if number == 0 {
                self.0.push(low & 0x7f);
                return;
            }
            self.0.push(low | 0x80);
        }
    }
}

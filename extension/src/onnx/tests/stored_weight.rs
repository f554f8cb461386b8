//! Tests of malformed stored weights: each is an error that names the weight, and takes no memory beyond the file.

use super::write::{bytes, join, model, node, number, raw, value};
use super::*;
use crate::tensor::Datatype;

const FLOAT: u64 = 1;
const INT8: u64 = 3;
const FP16: u64 = 10;

/// Parts of a stored weight `w` of 64 × 32 numbers.
struct Parts {
    integers: Vec<u8>,
    scales: Vec<u8>,
    node: Vec<u8>,
    more: Vec<u8>,
}

impl Parts {
    fn new() -> Self {
        Self {
            integers: raw("q", INT8, &[64, 32], &[5; 64 * 32]),
            scales: raw("s", FLOAT, &[32], &scales(&[0.5; 32])),
            node: marked("DequantizeLinear", &["q", "s"], "w", Some(("axis", 1))),
            more: Vec::new(),
        }
    }

    fn model(&self) -> Vec<u8> {
        let fields = [
            bytes(1, &self.node),
            bytes(1, &node("MatMul", &["x", "w"], &["y"])),
            bytes(5, &self.integers),
            bytes(5, &self.scales),
            self.more.clone(),
            bytes(11, &value("x", FLOAT, &[1, 64])),
            bytes(12, &value("y", FLOAT, &[1, 32])),
        ];
        join([model(&fields), WeightStorage::Int8.mark()])
    }

    fn error(&self) -> String {
        Skeleton::of_marked(&holding(&self.model()))
            .unwrap_err()
            .to_string()
    }
}

fn scales(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|it| it.to_le_bytes()).collect()
}

/// Returns a marked node, with an integer attribute.
fn marked(
    operator: &str,
    inputs: &[&str],
    output: &str,
    attribute: Option<(&str, i64)>,
) -> Vec<u8> {
    let attribute = attribute.map(|(name, value)| {
        let value = value.cast_unsigned();
        bytes(
            5,
            &join([bytes(1, name.as_bytes()), number(3, value), number(20, 2)]),
        )
    });
    let name = bytes(3, format!("{}w", weight_storage::NODE_PREFIX).as_bytes());
    join([
        node(operator, inputs, &[output]),
        name,
        attribute.unwrap_or_default(),
    ])
}

#[test]
fn a_sound_weight_is_read() {
    let skeleton = Skeleton::of_marked(&holding(&Parts::new().model()))
        .unwrap()
        .unwrap();
    let [weight] = &skeleton.weights[..] else {
        panic!("{:?}", skeleton.weights)
    };
    assert_eq!(
        (weight.name.as_str(), weight.datatype),
        ("w", Datatype::Fp32)
    );
    assert_eq!(
        weight.encoding,
        Encoding::Int8 {
            scales: vec![0.5; 32],
            run: 1
        }
    );
    // Only nodes with the mark are taken out.
    let mut parts = Parts::new();
    parts.node = node("DequantizeLinear", &["q", "s"], &["w"]);
    assert!(
        Skeleton::of_marked(&holding(&parts.model()))
            .unwrap()
            .is_none()
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of changes")]
fn each_malformed_part_is_named() {
    type Change = fn(&mut Parts);
    let cases: &[(&str, Change)] = &[
        ("\"q\" is used twice, or is not an initializer", |it| {
            it.integers = raw("r", INT8, &[64, 32], &[5; 2048]);
        }),
        ("as many bytes as its shape needs", |it| {
            it.integers = raw("q", INT8, &[64, 33], &[5; 2048]);
        }),
        ("as many bytes as its shape needs", |it| {
            it.integers = raw("q", INT8, &[1 << 40, 1 << 40], &[5; 2048]);
        }),
        ("as many bytes as its shape needs", |it| {
            it.integers = raw("q", INT8, &[usize::MAX, 32], &[5; 2048]);
        }),
        ("is UINT8 instead of INT8", |it| {
            it.integers = raw("q", 2, &[64, 32], &[5; 2048]);
        }),
        ("is FP64 instead of FP32", |it| {
            it.scales = raw("s", 11, &[32], &[1; 256]);
        }),
        ("do not match its axis", |it| {
            it.scales = raw("s", FLOAT, &[31], &scales(&[0.5; 31]));
        }),
        ("do not match its axis", |it| {
            it.node = marked("DequantizeLinear", &["q", "s"], "w", Some(("axis", 0)));
        }),
        ("do not match its axis", |it| {
            it.node = marked("DequantizeLinear", &["q", "s"], "w", Some(("axis", 2)));
        }),
        ("do not match its axis", |it| {
            it.node = marked(
                "DequantizeLinear",
                &["q", "s"],
                "w",
                Some(("axis", i64::MIN)),
            );
        }),
        ("several dimensions", |it| {
            it.scales = raw("s", FLOAT, &[1, 32], &scales(&[0.5; 32]));
        }),
        ("not a finite number above zero", |it| {
            it.scales = raw("s", FLOAT, &[32], &scales(&[0.0; 32]));
        }),
        ("not a finite number above zero", |it| {
            it.scales = raw("s", FLOAT, &[32], &scales(&[-1.0; 32]));
        }),
        ("not a finite number above zero", |it| {
            it.scales = raw("s", FLOAT, &[32], &scales(&[f32::NAN; 32]));
        }),
        ("not a finite number above zero", |it| {
            it.scales = raw("s", FLOAT, &[32], &scales(&[f32::INFINITY; 32]));
        }),
        ("not of a known form", |it| {
            it.node = marked("DequantizeLinear", &["q", "s", "z"], "w", Some(("axis", 1)));
        }),
        ("not of a known form", |it| {
            it.node = marked(
                "DequantizeLinear",
                &["q", "s"],
                "w",
                Some(("block_size", 1)),
            );
        }),
        ("not of a known form", |it| {
            it.node = marked("Relu", &["q"], "w", None);
        }),
        ("not of a known form", |it| {
            it.node = marked("Cast", &["q"], "w", Some(("to", 11)));
        }),
        ("a Cast without a Mul", |it| {
            it.node = marked("Cast", &["q"], "w", Some(("to", 1)));
        }),
        ("not a Cast of the weight", |it| {
            it.node = marked("Mul", &["q", "s"], "w", None);
        }),
        ("is used twice", |it| {
            it.node = marked("DequantizeLinear", &["q", "q"], "w", Some(("axis", 1)));
        }),
        ("defined twice", |it| it.more = bytes(5, &it.scales)),
        ("used twice", |it| {
            it.more = bytes(11, &value("w", FLOAT, &[64, 32]));
        }),
        ("used twice", |it| {
            it.more = bytes(12, &value("w", FLOAT, &[64, 32]));
        }),
        ("used twice", |it| {
            it.more = bytes(1, &node("Relu", &["x"], &["w"]));
        }),
        ("used twice, or is not", |it| it.more = bytes(1, &it.node)),
        ("exactly one output", |it| {
            it.node = join([it.node.clone(), bytes(2, b"v")]);
        }),
        ("is empty", |it| {
            it.integers = raw("q", INT8, &[64, 0], &[]);
            it.scales = raw("s", FLOAT, &[0], &[]);
        }),
        ("is empty", |it| {
            it.integers = raw("q", INT8, &[64, 32, 0], &[]);
        }),
    ];
    for (place, (reason, change)) in cases.iter().enumerate() {
        let mut parts = Parts::new();
        change(&mut parts);
        let error = parts.error();
        assert!(error.contains(reason), "case {place}: {error}");
    }
}

#[test]
fn scales_of_earlier_opsets_have_one_large_dimension() {
    let parts = |shape: &[usize], count: usize| Parts {
        scales: raw("s", FLOAT, shape, &scales(&vec![0.5; count])),
        node: marked("Cast", &["q"], "t", Some(("to", 1))),
        more: bytes(1, &marked("Mul", &["t", "s"], "w", None)),
        ..Parts::new()
    };
    for (shape, count, run) in [
        (&[32][..], 32, 1),
        (&[1, 32], 32, 1),
        (&[64, 1], 64, 32),
        (&[], 1, 64 * 32),
        (&[1, 1], 1, 64 * 32),
    ] {
        let content = parts(shape, count).model();
        let skeleton = Skeleton::of_marked(&holding(&content)).unwrap().unwrap();
        let expected = Encoding::Int8 {
            scales: vec![0.5; count],
            run,
        };
        assert_eq!(skeleton.weights[0].encoding, expected, "{shape:?}");
    }
    for (shape, count) in [
        (&[64, 32][..], 2048),
        (&[1, 1, 32], 32),
        (&[31], 31),
        (&[64], 64),
    ] {
        let error = parts(shape, count).error();
        assert!(error.contains("shape of its scales"), "{shape:?}: {error}");
    }
}

#[test]
fn halves_are_read() {
    let mut parts = Parts::new();
    parts.integers = raw("q", FP16, &[64, 32], &[5; 4096]);
    parts.node = marked("Cast", &["q"], "w", Some(("to", 1)));
    let skeleton = Skeleton::of_marked(&holding(&parts.model()))
        .unwrap()
        .unwrap();
    assert_eq!(skeleton.weights[0].encoding, Encoding::Fp16);
}

#[test]
fn a_damaged_file_is_an_error_or_has_weights_inside_the_file() {
    let sound = Parts::new().model();
    let mut accepted = 0;
    for place in 0..sound.len() {
        for bit in [1, 0x80] {
            let mut damaged = sound.clone();
            damaged[place] ^= bit;
            let Ok(Some(skeleton)) = Skeleton::of_marked(&holding(&damaged)) else {
                continue;
            };
            accepted += 1;
            for weight in skeleton.weights {
                assert!(weight.bytes.end <= sound.len() as u64);
                let count: i64 = weight.shape.iter().product();
                let stored = weight.bytes.end - weight.bytes.start;
                assert!(count.unsigned_abs() <= stored, "byte {place}");
            }
        }
    }
    // Most bytes are elements, which may have any value.
    assert!(accepted > 2000, "{accepted}");
}

#[test]
fn a_format_without_one_graph_is_an_error() {
    let sound = Parts::new().model();
    for more in [number(1, 3), bytes(7, b"")] {
        let error = Skeleton::of_marked(&holding(&join([sound.clone(), more]))).unwrap_err();
        assert!(error.to_string().contains("has one graph"), "{error}");
    }
}

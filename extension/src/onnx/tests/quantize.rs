//! Tests of the storage of weights in a smaller type, on usual and on odd graphs.

mod left_alone;
mod lstm;
mod precision;

use std::path::Path;

use super::write::{bytes, entry, join, model, node, number, raw, value};
use super::*;

const FLOAT: u64 = 1;
const LENGTH: usize = 64 * 64;

/// Returns a weight of 64 × 64 numbers, which differ from row to row and from column to column.
fn numbers() -> Vec<f32> {
    let number = |place: usize| (small(place * 37 % 201) - 100.0) * (1.0 + small(place % 64));
    (0..LENGTH).map(number).collect()
}

fn small(number: usize) -> f32 {
    f32::from(u16::try_from(number).unwrap())
}

fn bytes_of(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|it| it.to_le_bytes()).collect()
}

fn weight(name: &str) -> Vec<u8> {
    bytes(5, &raw(name, FLOAT, &[64, 64], &bytes_of(&numbers())))
}

/// Returns a graph from `x` to `y` with these fields.
fn graph(fields: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let ports = [
        bytes(2, b"graph"),
        bytes(11, &value("x", FLOAT, &[1, 64])),
        bytes(12, &value("y", FLOAT, &[1, 64])),
    ];
    [fields, ports.to_vec()].concat()
}

fn product() -> Vec<u8> {
    bytes(1, &node("MatMul", &["x", "w"], &["y"]))
}

/// Returns the weights, and the model that was written, if any.
fn quantize(
    content: &[u8],
    storage: WeightStorage,
) -> Result<(QuantizedWeights, Option<Vec<u8>>), QuantizeError> {
    let folder = tempfile::tempdir().unwrap();
    let method = match storage {
        WeightStorage::Int8 => Quantization::Int8,
        WeightStorage::Fp16 => Quantization::Fp16,
    };
    quantize_in(folder.path(), content, method)
}

fn quantize_in(
    folder: &Path,
    content: &[u8],
    method: Quantization,
) -> Result<(QuantizedWeights, Option<Vec<u8>>), QuantizeError> {
    let (from, to) = (folder.join("from.onnx"), folder.join("to.onnx"));
    std::fs::write(&from, content).unwrap();
    let weights = QuantizedWeights::write(&from, &to, method)?;
    Ok((weights, std::fs::read(&to).ok()))
}

/// Returns the initializers of a model.
fn initializers(content: &[u8]) -> Vec<Weight> {
    let file = holding(content);
    let mut reader = WireReader::new(&file).unwrap();
    let (_, mut graph) = crate::onnx::skeleton::single_graph(&mut reader)
        .ok()
        .flatten()
        .unwrap();
    let mut weights = Vec::new();
    while let Some(field) = reader.field(&mut graph, wire::MAX_DEPTH).ok().flatten() {
        if let wire::Field::Bytes(5, tensor) = field {
            weights.extend(weight::read(&mut reader, tensor).ok().flatten());
        }
    }
    weights
}

/// Returns the bytes of a weight in the model's file.
fn stored<'a>(content: &'a [u8], weight: &Weight) -> &'a [u8] {
    let place =
        usize::try_from(weight.bytes.start).unwrap()..usize::try_from(weight.bytes.end).unwrap();
    &content[place]
}

/// Returns the expanded weight of a skeleton, computed from its stored parts.
fn expanded(content: &[u8], weight: &Weight) -> Vec<f32> {
    let stored = stored(content, weight);
    match &weight.encoding {
        Encoding::Int8 { scales, run } => stored
            .iter()
            .enumerate()
            .map(|(place, byte)| f32::from(byte.cast_signed()) * scales[place / run % scales.len()])
            .collect(),
        Encoding::Fp16 => {
            let halves = stored.as_chunks().0.iter();
            halves
                .map(|it| half::f16::from_le_bytes(*it).to_f32())
                .collect()
        }
        Encoding::Plain => {
            let singles = stored.as_chunks().0.iter();
            singles.map(|it| f32::from_le_bytes(*it)).collect()
        }
    }
}

fn skeleton(content: &[u8]) -> Skeleton {
    Skeleton::of_marked(&holding(content)).unwrap().unwrap()
}

#[test]
fn a_weight_keeps_its_name_and_nearly_its_numbers() {
    let content = model(&graph(vec![weight("w"), product()]));
    for storage in [WeightStorage::Int8, WeightStorage::Fp16] {
        let (weights, written) = quantize(&content, storage).unwrap();
        let written = written.unwrap();
        assert_eq!(read(&written).unwrap().weight_storage(), Some(storage));
        assert_eq!(weights.stored[0].name, "w");
        assert!(weights.left.is_empty());
        assert!((written.len() as u64) < content.len() as u64 / storage.expansion() + 1024);
        let skeleton = skeleton(&written);
        let [found] = &skeleton.weights[..] else {
            panic!("{:?}", skeleton.weights)
        };
        assert_eq!(
            (found.name.as_str(), &found.shape[..]),
            ("w", &[64, 64][..])
        );
        let columns: Vec<f32> = (0..64)
            .map(|column| {
                numbers()
                    .iter()
                    .skip(column)
                    .step_by(64)
                    .fold(0.0, |most: f32, it| most.max(it.abs()))
            })
            .collect();
        for (place, (before, after)) in numbers().iter().zip(expanded(&written, found)).enumerate()
        {
            let allowed = match storage {
                WeightStorage::Int8 => columns[place % 64] / 253.0,
                WeightStorage::Fp16 => before.abs() / 2048.0,
            };
            assert!(
                (before - after).abs() <= allowed,
                "{storage:?} {place}: {before}, {after}"
            );
        }
        // The skeleton is the original graph with the weight as an input.
        let input = bytes(11, &value("w", FLOAT, &[64, 64]));
        let left = [graph(vec![product()]), vec![input]].concat();
        assert_eq!(skeleton.model, join([model(&left), storage.mark()]));
        // A quantized model is not quantized again.
        let again = quantize(&written, storage).unwrap_err().to_string();
        assert!(again.contains("already quantized"), "{again}");
    }
}

#[test]
fn the_axis_follows_the_operator() {
    let attribute = |name: &str, number_of: u64| {
        bytes(
            5,
            &join([
                bytes(1, name.as_bytes()),
                number(3, number_of),
                number(20, 2),
            ]),
        )
    };
    let with = |node: Vec<u8>, attribute: Vec<u8>| bytes(1, &join([node, attribute]));
    let permuted = bytes(
        5,
        &join([bytes(1, b"perm"), number(8, 1), number(8, 0), number(20, 7)]),
    );
    let cases = [
        ("MatMul", vec![product()], 1),
        (
            "MatMul, left",
            vec![bytes(1, &node("MatMul", &["w", "x"], &["y"]))],
            64,
        ),
        (
            "Gemm",
            vec![bytes(1, &node("Gemm", &["x", "w"], &["y"]))],
            1,
        ),
        (
            "Gemm, transposed",
            vec![with(
                node("Gemm", &["x", "w"], &["y"]),
                attribute("transB", 1),
            )],
            64,
        ),
        (
            "Conv",
            vec![bytes(1, &node("Conv", &["x", "w"], &["y"]))],
            64,
        ),
        (
            "Gather of short rows",
            vec![bytes(1, &node("Gather", &["w", "x"], &["y"]))],
            1,
        ),
        (
            "LSTM",
            vec![bytes(1, &node("LSTM", &["x", "v", "w"], &["y"]))],
            1,
        ),
        (
            "a transposition",
            vec![
                bytes(1, &node("Transpose", &["w"], &["t"])),
                bytes(1, &node("MatMul", &["x", "t"], &["y"])),
            ],
            64,
        ),
        (
            "a transposition with its order",
            vec![
                with(node("Transpose", &["w"], &["t"]), permuted),
                bytes(1, &node("MatMul", &["x", "t"], &["y"])),
            ],
            64,
        ),
        (
            "an embedding that is also an output layer",
            vec![
                bytes(1, &node("Gather", &["w", "x"], &["g"])),
                bytes(1, &node("Identity", &["w"], &["t"])),
                bytes(1, &node("MatMul", &["g", "t"], &["y"])),
            ],
            1,
        ),
    ];
    for (what, nodes, expected) in cases {
        let content = model(&graph([vec![weight("w")], nodes].concat()));
        let (_, written) = quantize(&content, WeightStorage::Int8).unwrap();
        let skeleton = skeleton(&written.unwrap());
        let Encoding::Int8 { scales, run } = &skeleton.weights[0].encoding else {
            panic!("{what}")
        };
        assert_eq!((scales.len(), *run), (64, expected), "{what}");
    }
}

#[test]
fn names_of_parts_are_free() {
    let taken = bytes(1, &node("Relu", &["x"], &["w_quantized"]));
    let long = "l".repeat(256);
    let use_of_long = bytes(1, &node("MatMul", &["x", &long], &["z"]));
    let fields = vec![weight("w"), product(), taken, weight(&long), use_of_long];
    let (_, written) = quantize(&model(&graph(fields)), WeightStorage::Int8).unwrap();
    assert_eq!(skeleton(&written.unwrap()).weights.len(), 2);
}

#[test]
fn the_tensor_of_a_constant_node_is_a_weight() {
    let tensor = raw("", FLOAT, &[64, 64], &bytes_of(&numbers()));
    let attribute = join([bytes(1, b"value"), bytes(5, &tensor), number(20, 4)]);
    let constant = bytes(
        1,
        &join([node("Constant", &[], &["w"]), bytes(5, &attribute)]),
    );
    let content = model(&graph(vec![constant, product()]));
    let (weights, written) = quantize(&content, WeightStorage::Int8).unwrap();
    assert_eq!(weights.stored[0].name, "w");
    let written = written.unwrap();
    assert!(written.len() < content.len() / 3);
    assert_eq!(skeleton(&written).weights[0].name, "w");
}

#[test]
fn external_data_become_part_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = [vec![0; 16], bytes_of(&numbers()), vec![9; 8]].concat();
    std::fs::write(folder.path().join("w.bin"), file).unwrap();
    let external =
        |name: &str, datatype: u64, shape: &[u64], offset: usize, length: Option<usize>| {
            let place = [
                Some(entry("location", "w.bin")),
                Some(entry("offset", &offset.to_string())),
                length.map(|length| entry("length", &length.to_string())),
            ];
            bytes(
                5,
                &join([
                    join(shape.iter().map(|size| number(1, *size))),
                    number(2, datatype),
                    bytes(8, name.as_bytes()),
                    join(place.into_iter().flatten().map(|entry| bytes(13, &entry))),
                    number(14, 1),
                ]),
            )
        };
    let fields = |length| {
        vec![
            external("w", FLOAT, &[64, 64], 16, Some(length)),
            external("i", 7, &[1], 16 + 4 * LENGTH, None),
            product(),
        ]
    };
    let content = model(&graph(fields(4 * LENGTH)));
    let (weights, written) = quantize_in(folder.path(), &content, Quantization::Int8).unwrap();
    let written = written.unwrap();
    assert_eq!(weights.stored.len(), 1);
    assert!(read(&written).unwrap().external.is_empty());
    let inside = bytes(
        5,
        &join([
            number(1, 1),
            number(2, 7),
            bytes(8, b"i"),
            bytes(9, &[9; 8]),
        ]),
    );
    assert!(written.windows(inside.len()).any(|window| window == inside));

    let content = model(&graph(fields(4 * LENGTH + 100)));
    let error = quantize_in(folder.path(), &content, Quantization::Int8).unwrap_err();
    assert!(error.to_string().contains("beyond the end"), "{error}");
    std::fs::remove_file(folder.path().join("w.bin")).unwrap();
    let error = quantize_in(folder.path(), &content, Quantization::Int8).unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[test]
fn earlier_opsets_have_other_nodes() {
    let with_opset = |opset: u64| {
        let operators = join([bytes(1, b""), number(2, opset)]);
        let fields = graph(vec![
            weight("w"),
            bytes(1, &node("Conv", &["x", "w"], &["y"])),
        ]);
        join([number(1, 8), bytes(7, &join(fields)), bytes(8, &operators)])
    };
    let (_, new) = quantize(&with_opset(13), WeightStorage::Int8).unwrap();
    let (_, old) = quantize(&with_opset(12), WeightStorage::Int8).unwrap();
    let (new, old) = (new.unwrap(), old.unwrap());
    let contains = |content: &[u8], text: &str| {
        content
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(contains(&new, "DequantizeLinear") && !contains(&old, "DequantizeLinear"));
    assert_eq!(
        expanded(&new, &skeleton(&new).weights[0]),
        expanded(&old, &skeleton(&old).weights[0])
    );
    let (weights, none) = quantize(&with_opset(6), WeightStorage::Int8).unwrap();
    assert!(
        none.is_none() && weights.left[0].reason.contains("opset 6"),
        "{weights:?}"
    );
}

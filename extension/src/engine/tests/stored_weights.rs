//! Compares quantized models, whose weights the weight loader expands, with the same models loaded by ONNX Runtime
//! alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::weight_loader::{
    FLOAT, branches, dense, file, floats, initializer, load_by_onnxruntime, models, nodes, run,
    with_ports,
};
use super::*;
use crate::engine::weight_loader::loaded;
use crate::growing_file::GrowingFile;
use crate::onnx::tests::write::{bytes, join, node, number};
use crate::onnx::{Encoding, Quantization, QuantizedWeights, Skeleton, Weight};

/// Loads a model with ONNX Runtime alone, which computes constant weights at the load.
fn load_folded(file: &Path) -> Result<Box<dyn Session>, String> {
    let builder = ort::session::Session::builder(engine().environment()).unwrap();
    let builder = builder
        .with_config_entry("session.load_model_format", "ONNX")
        .unwrap();
    let mut builder = builder
        .with_config_entry("session.disable_quant_qdq", "1")
        .unwrap();
    match builder.commit_from_file(file) {
        Ok(session) => Ok(Box::new(engine().session(session, false, BTreeMap::new()))),
        Err(error) => Err(error.message().trim().to_owned()),
    }
}

/// Returns the quantized model; `None` if nothing can be stored.
fn quantize(content: &[u8], method: Quantization) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::write(&from, content).unwrap();
    QuantizedWeights::write(&from, &to, method).unwrap();
    std::fs::read(to).ok()
}

/// Returns the weights that are prepared while all bytes but the last of `content` are written.
fn prepare(content: &[u8]) -> PreparedWeights {
    let file = tempfile::tempfile().unwrap();
    // As after a reservation of space.
    let length = content.len() as u64;
    file.set_len(length + 100).unwrap();
    let (growing, growth) = GrowingFile::new(file.try_clone().unwrap(), length);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| engine().prepare(&growing));
        let mut written = 0;
        for part in content[..content.len() - 1].chunks(977) {
            file.write_all_at(part, written).unwrap();
            written += part.len() as u64;
            growth.advance(written);
        }
        drop(growth);
        reader.join().unwrap()
    })
}

/// Returns the number and the bytes of the weights that the weight loader expands.
fn expanded(file: &File) -> (usize, u64) {
    let weights = Skeleton::of_marked(file).unwrap().unwrap().weights;
    let is_stored = |weight: &&Weight| weight.encoding != Encoding::Plain;
    let stored = weights.iter().filter(is_stored);
    let elements: i64 = stored
        .clone()
        .map(|it| it.shape.iter().product::<i64>())
        .sum();
    (stored.count(), 4 * elements.unsigned_abs())
}

#[test]
fn weights_that_were_prepared_are_those_of_the_ordinary_load() {
    let mut count = 0;
    for (name, content) in models() {
        for method in [Quantization::Int8, Quantization::Fp16] {
            let Some(quantized) = quantize(&content, method) else {
                continue;
            };
            let file = file(&quantized);
            let prepared = prepare(&quantized);
            let (weights, bytes) = expanded(file.as_file());
            assert_eq!(prepared.bytes(), bytes, "{name} as {method:?}");
            count += weights;
            let found = engine().load_prepared(file.path(), None, prepared).unwrap();
            let expected = engine().load(file.path(), None).unwrap();
            let expected = run(&*expected).unwrap();
            assert_eq!(run(&*found).unwrap(), expected, "{name} as {method:?}");
        }
    }
    assert_eq!(count, 8, "weights");
}

#[test]
fn prepared_weights_are_not_read_again() {
    let quantized = quantize(&dense(), Quantization::Int8).unwrap();
    let original = file(&quantized);
    let skeleton = Skeleton::of_marked(original.as_file()).unwrap().unwrap();
    let place = usize::try_from(skeleton.weights[0].bytes.start).unwrap();
    let mut other = quantized.clone();
    other[place] ^= 0x40;
    let found = engine().load_prepared(original.path(), None, prepare(&other));
    let expected = engine().load(file(&other).path(), None).unwrap();
    let expected = run(&*expected).unwrap();
    assert_eq!(run(&*found.unwrap()).unwrap(), expected);
    let plain = engine().load(original.path(), None).unwrap();
    assert_ne!(run(&*plain).unwrap(), expected);
}

#[test]
fn a_weight_of_another_form_is_not_used() {
    let quantized = quantize(&dense(), Quantization::Int8).unwrap();
    let original = file(&quantized);
    // Another scale.
    let skeleton = Skeleton::of_marked(original.as_file()).unwrap().unwrap();
    let Encoding::Int8 { scales, .. } = &skeleton.weights[0].encoding else {
        panic!("{:?}", skeleton.weights[0]);
    };
    let scale = scales[0].to_le_bytes();
    let place = quantized
        .windows(4)
        .position(|window| window == scale)
        .unwrap();
    let mut other = quantized.clone();
    other[place..place + 4].copy_from_slice(&(2.0 * scales[0]).to_le_bytes());
    let found = engine().load_prepared(original.path(), None, prepare(&other));
    let expected = engine().load(original.path(), None).unwrap();
    assert_eq!(run(&*found.unwrap()).unwrap(), run(&*expected).unwrap());
}

#[test]
fn a_file_that_ends_early_or_is_damaged_prepares_no_other_weights() {
    let quantized = quantize(&dense(), Quantization::Int8).unwrap();
    let original = file(&quantized);
    let expected = engine().load(original.path(), None).unwrap();
    let expected = run(&*expected).unwrap();
    for end in (1..quantized.len()).step_by(quantized.len() / 40) {
        let prepared = prepare(&quantized[..end]);
        let found = engine().load_prepared(original.path(), None, prepared);
        assert_eq!(run(&*found.unwrap()).unwrap(), expected, "{end} bytes");
    }
    for place in (0..600).step_by(7) {
        let mut damaged = quantized.clone();
        damaged[place] ^= 1;
        prepare(&damaged);
    }
}

/// Returns a model of opset 12 with an LSTM in both directions and a convolution.
fn earlier_opset() -> Vec<u8> {
    let hidden = bytes(
        5,
        &join([bytes(1, b"hidden_size"), number(3, 32), number(20, 2)]),
    );
    let both = bytes(
        5,
        &join([
            bytes(1, b"direction"),
            bytes(4, b"bidirectional"),
            number(20, 3),
        ]),
    );
    let shape = |sizes: &[i64]| {
        sizes
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let mut fields = nodes(&[
        ("Reshape", &["x", "image"], "i"),
        ("Conv", &["i", "c"], "v"),
        ("Reshape", &["v", "steps"], "s"),
    ]);
    fields.push(bytes(
        1,
        &join([node("LSTM", &["s", "w", "r"], &["y"]), hidden, both]),
    ));
    fields.push(initializer("image", 7, &[4], &shape(&[-1, 16, 8, 8])));
    fields.push(initializer("steps", 7, &[3], &shape(&[-1, 1, 32 * 6 * 6])));
    fields.push(initializer(
        "c",
        FLOAT,
        &[32, 16, 3, 3],
        &floats(32 * 16 * 9),
    ));
    fields.push(initializer(
        "w",
        FLOAT,
        &[2, 128, 32 * 6 * 6],
        &floats(256 * 32 * 36),
    ));
    fields.push(initializer("r", FLOAT, &[2, 128, 32], &floats(256 * 32)));
    let model = with_ports(1024, &fields);
    // The last of two versions counts.
    join([model, bytes(8, &number(2, 12))])
}

#[test]
fn expanded_weights_are_those_of_onnx_runtime() {
    let mut all = models();
    all.push(("earlier opset", earlier_opset()));
    let mut count = 0;
    for (name, content) in all {
        for method in [Quantization::Int8, Quantization::Fp16] {
            let Some(quantized) = quantize(&content, method) else {
                continue;
            };
            count += 1;
            let file = file(&quantized);
            let before = loaded();
            let found = engine().load(file.path(), None).unwrap();
            assert_eq!(loaded(), before + 1, "{name}: the weight loader");
            let expected = load_folded(file.path()).unwrap();
            assert_eq!(found.signature(), expected.signature(), "{name}");
            let expected = run(&*expected).unwrap();
            assert!(run(&*found).unwrap() == expected, "{name} as {method:?}");
        }
    }
    assert_eq!(count, 10, "models that can be stored");
}

#[test]
fn a_weight_that_only_a_subgraph_uses_is_expanded() {
    let quantized = quantize(&with_ports(64, &branches()), Quantization::Int8).unwrap();
    let file = file(&quantized);
    let found = engine().load(file.path(), None).unwrap();
    let expected = load_folded(file.path()).unwrap();
    assert_eq!(run(&*found).unwrap(), run(&*expected).unwrap());
}

#[test]
fn a_malformed_weight_rejects_the_version() {
    let quantized = quantize(&dense(), Quantization::Int8).unwrap();
    let axis = b"axis\x18\x01";
    let place = quantized
        .windows(axis.len())
        .position(|window| window == axis);
    let mut damaged = quantized;
    damaged[place.unwrap() + axis.len() - 1] = 0;
    let file = file(&damaged);
    match engine().load(file.path(), None) {
        Err(EngineError::Load(reason)) => assert!(
            reason.contains("stored weight \"w\": the scales do not match its axis"),
            "{reason}"
        ),
        other => panic!("{:?}", other.err()),
    }
}

/// A marked model whose damage the sidecar does not see is as safe as any other model.
#[test]
fn a_damaged_model_is_rejected_or_runs_as_with_the_ordinary_load() {
    let sound = quantize(&dense(), Quantization::Int8).unwrap();
    let is_element = |place: usize| (600..sound.len() - 400).contains(&place);
    let mut alike = 0;
    for place in (0..sound.len())
        .filter(|place| !is_element(*place))
        .step_by(5)
    {
        let mut damaged = sound.clone();
        damaged[place] ^= 1;
        let file = file(&damaged);
        let Ok(found) = engine().load(file.path(), None) else {
            continue;
        };
        // Without the mark, the load is the ordinary one.
        let expected = [load_folded(file.path()), load_by_onnxruntime(file.path())];
        if expected.iter().any(Result::is_ok) {
            let found = run(&*found);
            let mut expected = expected.iter().flatten().map(|session| run(&**session));
            assert!(expected.any(|expected| expected == found), "byte {place}");
            alike += 1;
        }
    }
    assert!(alike > 10, "{alike}");
}

/// Returns a model with products of every kind that become integer products, and a convolution that does not.
fn products() -> Vec<u8> {
    let transposed = bytes(5, &join([bytes(1, b"transB"), number(3, 1), number(20, 2)]));
    let factor = |name: &[u8], value: f32| {
        let value = join([vec![0x15], value.to_le_bytes().to_vec()]);
        bytes(5, &join([bytes(1, name), value, number(20, 1)]))
    };
    let mut fields = nodes(&[
        ("MatMul", &["x", "a"], "p"),
        ("MatMul", &["x", "b"], "q"),
        ("Add", &["p", "q"], "s"),
    ]);
    let gemm = |inputs: &[&str], output: &str| {
        let plain = node("Gemm", inputs, &[output]);
        join([
            plain,
            factor(b"alpha", 1.0),
            factor(b"beta", 1.0),
            transposed.clone(),
        ])
    };
    fields.push(bytes(1, &gemm(&["s", "c", "bias"], "g")));
    // A factor stays FP32.
    let scaled = join([node("Gemm", &["g", "d"], &["y"]), factor(b"alpha", 0.5)]);
    fields.push(bytes(1, &scaled));
    fields.push(initializer("a", FLOAT, &[64, 96], &floats(64 * 96)));
    fields.push(initializer("b", FLOAT, &[64, 96], &floats(64 * 96)));
    fields.push(initializer("c", FLOAT, &[48, 96], &floats(48 * 96)));
    fields.push(initializer("bias", FLOAT, &[48], &floats(48)));
    fields.push(initializer("d", FLOAT, &[48, 32], &floats(48 * 32)));
    with_ports(64, &fields)
}

/// Returns the numbers of the only output, for two rows.
fn numbers_of(session: &dyn Session) -> Vec<f32> {
    let row = (0..128_u8).map(|place| f32::from(place) / 64.0 - 1.0);
    let rows = Tensor::new(vec![2, 64], row.collect::<Vec<f32>>()).unwrap();
    let inputs = [("x".to_owned(), Value::Tensor(rows))];
    let outputs = session.run(&inputs, &[], &Cancel::default()).unwrap();
    match &outputs[0].1 {
        Value::Tensor(tensor) => match tensor.data() {
            Data::Fp32(numbers) => numbers.to_vec(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Returns a model with an LSTM in both directions, with a bias and an initial state of zeros.
fn recurrent() -> Vec<u8> {
    let attribute = |name: &[u8], value: Vec<u8>, kind: u64| {
        bytes(5, &join([bytes(1, name), value, number(20, kind)]))
    };
    let shape = [-1_i64, 1, 64].map(i64::to_le_bytes).concat();
    let lstm = join([
        node("LSTM", &["s", "w", "r", "b", "", "h"], &["y"]),
        attribute(b"hidden_size", number(3, 32), 2),
        attribute(b"direction", bytes(4, b"bidirectional"), 3),
    ]);
    let mut fields = nodes(&[("Reshape", &["x", "steps"], "s")]);
    fields.push(bytes(1, &lstm));
    fields.push(initializer("steps", 7, &[3], &shape));
    fields.push(initializer(
        "w",
        FLOAT,
        &[2, 128, 64],
        &floats(2 * 128 * 64),
    ));
    fields.push(initializer(
        "r",
        FLOAT,
        &[2, 128, 32],
        &floats(2 * 128 * 32),
    ));
    fields.push(initializer("b", FLOAT, &[2, 256], &floats(2 * 256)));
    fields.push(initializer("h", FLOAT, &[2, 1, 32], &[0; 4 * 64]));
    with_ports(64, &fields)
}

#[test]
fn an_integer_lstm_is_close_to_the_original() {
    let content = recurrent();
    let written = quantize(&content, Quantization::Int8Dynamic).unwrap();
    let (before, after) = (file(&content), file(&written));
    let before = numbers_of(&*engine().load(before.path(), None).unwrap());
    let after = numbers_of(&*engine().load(after.path(), None).unwrap());
    assert_eq!((before.len(), after.len()), (128, 128));
    let differences = before
        .iter()
        .zip(&after)
        .map(|(one, other)| (one - other).abs());
    let largest = differences.fold(0.0, f32::max);
    // The outputs are between -1 and 1.
    assert!(largest > 0.0 && largest < 0.05, "{largest}");
}

#[test]
fn integer_products_are_close_to_those_of_the_original() {
    let content = products();
    let written = quantize(&content, Quantization::Int8Dynamic).unwrap();
    let contains = |text: &[u8]| written.windows(text.len()).filter(|it| *it == text).count();
    assert_eq!(contains(b"MatMulInteger"), 3);
    // `x` is converted once for two products.
    assert_eq!(contains(b"DynamicQuantizeLinear"), 2);
    assert_eq!(
        contains(b"\x22\x10DequantizeLinear"),
        1,
        "the weight of the Gemm with a factor"
    );
    let (before, after) = (file(&content), file(&written));
    let before = numbers_of(&*engine().load(before.path(), None).unwrap());
    let after = numbers_of(&*engine().load(after.path(), None).unwrap());
    let largest = before.iter().fold(0.0, |most: f32, it| most.max(it.abs()));
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(after) {
        assert!(
            (before - after).abs() < largest * 0.05,
            "{before} became {after} of {largest}"
        );
    }
}

//! Compares models loaded by the weight loader with the same models loaded by ONNX Runtime alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use half::{bf16, f16};
use tempfile::NamedTempFile;

use super::*;
use crate::onnx::Skeleton;
use crate::onnx::tests::write::{bytes, join, model, node, number, raw};

pub(super) const FLOAT: u64 = 1;
const UINT8: u64 = 2;
const INT8: u64 = 3;
const HALF: u64 = 10;
const DOUBLE: u64 = 11;
const BRAIN: u64 = 16;

/// Returns a fixed series of numbers between -0.5 and 0.5.
pub(super) fn numbers(count: usize) -> impl Iterator<Item = f32> {
    let step = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let states = std::iter::successors(Some(1_u32), step).take(count);
    states.map(|state| f32::from((state >> 16) as u16) / 65_536.0 - 0.5)
}

pub(super) fn floats(count: usize) -> Vec<u8> {
    numbers(count).flat_map(f32::to_le_bytes).collect()
}

pub(super) fn file(content: &[u8]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

fn builder() -> ort::session::builder::SessionBuilder {
    let builder = ort::session::Session::builder(engine().environment()).unwrap();
    builder
        .with_config_entry("session.load_model_format", "ONNX")
        .unwrap()
}

/// Loads a model with ONNX Runtime alone.
pub(super) fn load_by_onnxruntime(file: &Path) -> Result<Box<dyn Session>, String> {
    match builder().commit_from_file(file) {
        Ok(session) => Ok(Box::new(engine().session(session, false, BTreeMap::new()))),
        Err(error) => Err(error.message().trim().to_owned()),
    }
}

fn skeleton(file: &File) -> Option<Skeleton> {
    Skeleton::of(file, 1024 * 1024)
}

/// Loads a model with the weight loader; `None` if it has no skeleton.
fn load_by_weight_loader(file: &Path) -> Option<Result<Box<dyn Session>, String>> {
    let file = File::open(file).unwrap();
    let loaded = crate::engine::weight_loader::load(
        &mut builder(),
        skeleton(&file)?,
        &file,
        2,
        PreparedWeights::default(),
    )
    .expect("the weight loader is installed");
    Some(match loaded {
        Ok(session) => Ok(Box::new(engine().session(session, false, BTreeMap::new()))),
        Err(error) => Err(error.message().trim().to_owned()),
    })
}

/// Returns the outputs as bits, so that NaN equals itself, or the error.
pub(super) fn run(session: &dyn Session) -> Result<Vec<String>, String> {
    let input = |port: &crate::tensor::Port| {
        let Kind::Tensor { shape, .. } = &port.kind else {
            return Err(format!("{:?}", port.kind));
        };
        let shape: Vec<usize> = shape.iter().map(|size| size.unwrap_or(3)).collect();
        let count = shape.iter().product::<usize>().min(100_000);
        let data: Vec<f32> = numbers(count).collect();
        let tensor = Tensor::new(shape, data).map_err(|error| error.to_string())?;
        Ok((port.name.clone(), Value::Tensor(tensor)))
    };
    let inputs: Result<Vec<_>, String> = session.signature().inputs.iter().map(input).collect();
    let outputs = session.run(&inputs?, &[], &Cancel::default());
    let outputs = outputs.map_err(|error| error.to_string())?;
    let bits = |(name, value): (String, Value)| match value {
        Value::Tensor(tensor) => match tensor.into_parts() {
            (shape, Data::Fp32(data)) => {
                let bits: Vec<u32> = data.iter().map(|number| number.to_bits()).collect();
                format!("{name} {shape:?} {bits:?}")
            }
            other => format!("{name} {other:?}"),
        },
        other => format!("{name} {other:?}"),
    };
    Ok(outputs.into_iter().map(bits).collect())
}

/// Returns a model of these fields from `x` [rows, columns] to `y`.
pub(super) fn with_ports(columns: usize, fields: &[Vec<u8>]) -> Vec<u8> {
    let rows = bytes(1, &bytes(2, b"rows"));
    let shape = join([rows, bytes(1, &number(1, columns as u64))]);
    let port = |name: &[u8], tensor: &[u8]| join([bytes(1, name), bytes(2, &bytes(1, tensor))]);
    let ports = [
        bytes(2, b"graph"),
        bytes(11, &port(b"x", &join([number(1, FLOAT), bytes(2, &shape)]))),
        bytes(12, &port(b"y", &number(1, FLOAT))),
    ];
    model(&[fields, &ports[..]].concat())
}

pub(super) fn nodes(nodes: &[(&str, &[&str], &str)]) -> Vec<Vec<u8>> {
    let field = |(operator, inputs, output): &(&str, &[&str], &str)| {
        bytes(1, &node(operator, inputs, &[output]))
    };
    nodes.iter().map(field).collect()
}

pub(super) fn initializer(name: &str, datatype: u64, shape: &[usize], data: &[u8]) -> Vec<u8> {
    bytes(5, &raw(name, datatype, shape, data))
}

/// Returns a node with a numeric attribute.
pub(super) fn node_with(plain: &[u8], attribute: &str, value: u64) -> Vec<u8> {
    let attribute = join([
        bytes(1, attribute.as_bytes()),
        number(3, value),
        number(20, 2),
    ]);
    bytes(1, &join([plain.to_vec(), bytes(5, &attribute)]))
}

/// `x W + b` and an activation, which ONNX Runtime fuses.
pub(super) fn dense() -> Vec<u8> {
    let mut fields = nodes(&[
        ("MatMul", &["x", "w"], "p"),
        ("Add", &["p", "b"], "s"),
        ("Relu", &["s"], "y"),
    ]);
    fields.push(initializer("w", FLOAT, &[64, 4096], &floats(64 * 4096)));
    fields.push(initializer("b", FLOAT, &[4096], &floats(4096)));
    with_ports(64, &fields)
}

/// Returns models with weights of every accepted type, in operators that treat them differently at load.
pub(super) fn models() -> Vec<(&'static str, Vec<u8>)> {
    let cast = |from: &str, to: &str, datatype: u64| {
        node_with(&node("Cast", &[from], &[to]), "to", datatype)
    };
    let product = |datatype: u64, size: usize, data: Vec<u8>| {
        let fields = [
            cast("x", "c", datatype),
            bytes(1, &node("MatMul", &["c", "w"], &["p"])),
            cast("p", "y", FLOAT),
            initializer("w", datatype, &[64, data.len() / 64 / size], &data),
        ];
        with_ports(64, &fields)
    };
    let doubles = numbers(64 * 2048).flat_map(|number| f64::from(number).to_le_bytes());
    let halves = numbers(64 * 8192).flat_map(|number| f16::from_f32(number).to_le_bytes());
    let brains = numbers(64 * 8192).flat_map(|number| bf16::from_f32(number).to_le_bytes());
    let small: Vec<u8> = (0..=u8::MAX).cycle().take(1024 * 1024).collect();

    // A cast of a constant is folded at load.
    let mut folded = nodes(&[("MatMul", &["x", "c"], "y")]);
    folded.push(cast("w", "c", FLOAT));
    folded.push(initializer(
        "w",
        BRAIN,
        &[64, 8192],
        &brains.collect::<Vec<u8>>(),
    ));

    let mut quantised = nodes(&[
        ("DequantizeLinear", &["w", "scale", "zero"], "d"),
        ("MatMul", &["x", "d"], "y"),
    ]);
    quantised.push(initializer("w", INT8, &[64, 16 * 1024], &small));
    quantised.push(initializer("scale", FLOAT, &[], &0.01_f32.to_le_bytes()));
    quantised.push(initializer("zero", INT8, &[], &[3]));

    let mut integers = nodes(&[("MatMulInteger", &["c", "w"], "p")]);
    integers.push(cast("x", "c", UINT8));
    integers.push(cast("p", "y", FLOAT));
    integers.push(initializer("w", UINT8, &[64, 16 * 1024], &small));

    let mut rows = nodes(&[("Gather", &["w", "c"], "y")]);
    rows.push(cast("x", "c", 7));
    rows.push(initializer("w", FLOAT, &[4096, 64], &floats(4096 * 64)));

    let mut image = nodes(&[
        ("Reshape", &["x", "shape"], "i"),
        ("Conv", &["i", "w", "b"], "c"),
        ("Relu", &["c"], "y"),
    ]);
    let shape: Vec<u8> = [-1_i64, 64, 4, 4]
        .into_iter()
        .flat_map(i64::to_le_bytes)
        .collect();
    image.push(initializer("shape", 7, &[4], &shape));
    image.push(initializer(
        "w",
        FLOAT,
        &[512, 64, 3, 3],
        &floats(512 * 64 * 9),
    ));
    image.push(initializer("b", FLOAT, &[512], &floats(512)));

    vec![
        ("dense", dense()),
        ("double", product(DOUBLE, 8, doubles.collect())),
        ("half", product(HALF, 2, halves.collect())),
        ("folded", with_ports(64, &folded)),
        ("quantised", with_ports(64, &quantised)),
        ("integers", with_ports(64, &integers)),
        ("rows", with_ports(64, &rows)),
        ("image", with_ports(1024, &image)),
        ("branches", with_ports(64, &branches())),
        ("unused", with_ports(64, &unused())),
    ]
}

/// The weight is used only in a subgraph, which also holds a large weight of its own.
pub(super) fn branches() -> Vec<Vec<u8>> {
    let graph = |fields: Vec<Vec<u8>>, output: &str| {
        let output = join([
            bytes(1, output.as_bytes()),
            bytes(2, &bytes(1, &number(1, FLOAT))),
        ]);
        join([join(fields), bytes(2, b"branch"), bytes(12, &output)])
    };
    let branch = |name: &str, graph: &[u8]| {
        bytes(
            5,
            &join([bytes(1, name.as_bytes()), bytes(6, graph), number(20, 5)]),
        )
    };
    let then = graph(nodes(&[("MatMul", &["x", "w"], "t")]), "t");
    let mut otherwise = nodes(&[("MatMul", &["x", "v"], "o")]);
    otherwise.push(initializer("v", FLOAT, &[64, 300], &floats(64 * 300)));
    let otherwise = graph(otherwise, "o");
    let condition = join([
        node("If", &["c"], &["y"]),
        branch("then_branch", &then),
        branch("else_branch", &otherwise),
    ]);
    let mut fields = nodes(&[("Greater", &["r", "zero"], "c")]);
    fields.push(node_with(&node("ReduceSum", &["x"], &["r"]), "keepdims", 0));
    fields.push(bytes(1, &condition));
    fields.push(initializer("zero", FLOAT, &[], &0_f32.to_le_bytes()));
    fields.push(initializer("w", FLOAT, &[64, 4096], &floats(64 * 4096)));
    fields
}

/// The weight is unused.
fn unused() -> Vec<Vec<u8>> {
    let mut fields = nodes(&[("Neg", &["x"], "y")]);
    fields.push(initializer("w", FLOAT, &[64, 4096], &floats(64 * 4096)));
    fields
}

#[test]
fn a_model_loaded_by_the_weight_loader_is_the_same() {
    for (name, content) in models() {
        let file = file(&content);
        let expected =
            load_by_onnxruntime(file.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = load_by_weight_loader(file.path())
            .expect("a skeleton")
            .unwrap();
        assert_eq!(found.signature(), expected.signature(), "{name}");
        let expected = run(&*expected).unwrap();
        assert_eq!(run(&*found).unwrap(), expected, "{name}");
    }
}

#[test]
fn a_model_without_skeleton_takes_the_ordinary_load() {
    // The model editor does not support the type of the last input.
    let sequence = bytes(2, &bytes(4, &bytes(1, &bytes(1, &number(1, FLOAT)))));
    let sequence = bytes(11, &join([bytes(1, b"sequence"), sequence]));
    let mut fields = nodes(&[
        ("MatMul", &["x", "w"], "p"),
        ("SequenceLength", &["sequence"], "n"),
    ]);
    fields.push(initializer("w", FLOAT, &[64, 4096], &floats(64 * 4096)));
    fields.extend(nodes(&[("Identity", &["p"], "y")]));
    fields.push(sequence);
    let file = file(&with_ports(64, &fields));
    let open = File::open(file.path()).unwrap();
    let skeleton = skeleton(&open).unwrap();
    let error = crate::engine::weight_loader::load(
        &mut builder(),
        skeleton,
        &open,
        2,
        PreparedWeights::default(),
    )
    .unwrap()
    .unwrap_err();
    assert!(error.message().contains("tensor"), "{error}");
    let session = engine().load(file.path(), None).unwrap();
    assert_eq!(session.signature().inputs.len(), 2);
    // A model in memory has no separate weights.
    let dense = dense();
    let session = builder().commit_from_memory(&dense).unwrap();
    assert_eq!(session.inputs().len(), 1);
}

#[test]
fn a_damaged_model_is_rejected_or_runs_as_with_the_ordinary_load() {
    let sound = dense();
    let weights = {
        let file = file(&sound);
        let skeleton = skeleton(file.as_file()).unwrap();
        let places = skeleton.weights.into_iter().map(|weight| weight.bytes);
        places.collect::<Vec<_>>()
    };
    let is_weight = |place: usize| weights.iter().any(|bytes| bytes.contains(&(place as u64)));
    let (mut apart, mut alike) = (0, 0);
    for place in (0..sound.len()).filter(|place| !is_weight(*place)) {
        let mut damaged = sound.clone();
        damaged[place] ^= 1;
        let file = file(&damaged);
        // On failure the ordinary load takes over.
        let Some(found) = load_by_weight_loader(file.path()) else {
            continue;
        };
        apart += 1;
        if let Ok(found) = found {
            let expected = load_by_onnxruntime(file.path());
            let expected = expected.unwrap_or_else(|error| panic!("byte {place}: {error}"));
            assert_eq!(found.signature(), expected.signature(), "byte {place}");
            assert_eq!(run(&*found), run(&*expected), "byte {place}");
            alike += 1;
        }
    }
    assert!(alike > 10 && apart > alike + 10, "{apart}, {alike}");
}

#[test]
fn the_weight_loader_takes_large_models_but_not_optimised_ones() {
    let large = |marked: &[u8]| {
        let mut fields = nodes(&[("MatMul", &["x", "w"], "y")]);
        let (rows, columns) = (64, 16 * 1024);
        fields.push(initializer(
            "w",
            FLOAT,
            &[rows, columns],
            &floats(rows * columns),
        ));
        file(&join([with_ports(rows, &fields), marked.to_vec()]))
    };
    let marked = |at_load| {
        let by = "test".to_owned();
        crate::onnx::OptimisationMark { by, at_load }.bytes()
    };
    let cases = [
        (Vec::new(), true),
        (marked(crate::onnx::AtLoad::Optimise), true),
        (marked(crate::onnx::AtLoad::AsItIs), false),
        (marked(crate::onnx::AtLoad::Map), false),
    ];
    for (mark, is_taken_out) in cases {
        let file = large(&mark);
        let before = crate::engine::weight_loader::loaded();
        let session = engine().load(file.path(), None).unwrap();
        assert_eq!(
            crate::engine::weight_loader::loaded() > before,
            is_taken_out
        );
        let expected = load_by_onnxruntime(file.path()).unwrap();
        assert_eq!(run(&*session).unwrap(), run(&*expected).unwrap());
    }
}

//! Compares `ZipMap` outputs created by this sidecar with those of ONNX Runtime.

use std::collections::BTreeMap;
use std::fs::File;

use tempfile::NamedTempFile;

use super::*;
use crate::onnx::ModelWithoutZipMap;
use crate::onnx::tests::write::{bytes, join, model, node, number};

/// Loads a model with ONNX Runtime alone.
fn load_by_onnxruntime(file: &std::path::Path) -> Box<dyn Session> {
    let builder = ort::session::Session::builder(engine().environment()).unwrap();
    let builder = builder.with_config_entry("session.load_model_format", "ONNX");
    let session = builder.unwrap().commit_from_file(file).unwrap();
    Box::new(engine().session(session, false, BTreeMap::new()))
}

fn rows(count: usize, width: usize) -> Value {
    let number = |place: usize| f32::from(u16::try_from(place * 7919 % 1000).unwrap()) / 10.0;
    let numbers: Vec<f32> = (0..count * width).map(number).collect();
    Value::Tensor(Tensor::new(vec![count, width], numbers).unwrap())
}

/// Converts a value to separate maps, as ONNX Runtime returns them.
fn each_map(value: Value) -> Value {
    match value {
        Value::Maps(maps) => Value::Sequence(maps.to_values()),
        other => other,
    }
}

/// Returns the outputs of a run, or its error.
fn run(
    session: &dyn Session,
    input: &(String, Value),
    outputs: &[String],
) -> Result<Vec<(String, Value)>, EngineError> {
    let outputs = session.run(std::slice::from_ref(input), outputs, &Cancel::default())?;
    let each = outputs
        .into_iter()
        .map(|(name, value)| (name, each_map(value)));
    Ok(each.collect())
}

#[test]
fn maps_are_those_of_onnxruntime() {
    for (name, width) in [
        ("wine-v1.onnx", 13),
        ("wine-v2.onnx", 13),
        ("zoo/sklearn-zipmap-names.onnx", 4),
    ] {
        let path = workspace().join("tests/models").join(name);
        assert!(
            ModelWithoutZipMap::of(&File::open(&path).unwrap()).is_some(),
            "{name}"
        );
        let (ours, theirs) = (load(name).unwrap(), load_by_onnxruntime(&path));
        assert_eq!(ours.signature(), theirs.signature(), "{name}");
        let outputs = &ours.signature().outputs;
        let asked: Vec<String> = outputs.iter().rev().map(|port| port.name.clone()).collect();
        for count in [1, 2, 0, 50] {
            let input = (ours.signature().inputs[0].name.clone(), rows(count, width));
            let expected = run(&*theirs, &input, &[]).map_err(|error| error.to_string());
            let found = run(&*ours, &input, &[]).map_err(|error| error.to_string());
            assert_eq!(found, expected, "{name}, {count} rows");
            if let Ok(mut expected) = expected {
                expected.reverse();
                assert_eq!(
                    run(&*ours, &input, &asked).unwrap(),
                    expected,
                    "{name}, as asked"
                );
            }
        }
    }
}

#[test]
fn a_tensor_without_a_column_per_class_is_rejected_as_by_the_node() {
    let classes = join([
        bytes(1, b"classlabels_int64s"),
        number(8, 1),
        number(8, 2),
        number(20, 7),
    ]);
    let zip = join([
        node("ZipMap", &["p"], &["q"]),
        bytes(5, &classes),
        bytes(7, b"ai.onnx.ml"),
    ]);
    let map = join([number(1, 7), bytes(2, &bytes(1, &number(1, 1)))]);
    let maps = bytes(4, &bytes(1, &bytes(5, &map)));
    let open = bytes(2, &bytes(1, &number(1, 1)));
    let graph = [
        bytes(1, &node("Neg", &["x"], &["p"])),
        bytes(1, &zip),
        bytes(2, b"graph"),
        bytes(11, &join([bytes(1, b"x"), open])),
        bytes(12, &join([bytes(1, b"q"), bytes(2, &maps)])),
    ];
    let domain = join([bytes(1, b"ai.onnx.ml"), number(2, 1)]);
    let content = join([model(&graph), bytes(8, &domain)]);
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    assert!(ModelWithoutZipMap::of(file.as_file()).is_some());
    let (ours, theirs) = (
        engine().load(file.path(), None).unwrap(),
        load_by_onnxruntime(file.path()),
    );
    let run_of = |session: &dyn Session, shape: &[usize]| {
        let count = shape.iter().product();
        let tensor = Tensor::new(shape.to_vec(), vec![0.5_f32; count]).unwrap();
        run(session, &("x".to_owned(), Value::Tensor(tensor)), &[])
    };
    for shape in [&[3, 2][..], &[2], &[0, 2]] {
        assert_eq!(
            run_of(&*ours, shape).unwrap(),
            run_of(&*theirs, shape).unwrap(),
            "{shape:?}"
        );
    }
    for shape in [&[3, 3][..], &[1], &[1, 1, 2], &[]] {
        let (ours, theirs) = (run_of(&*ours, shape), run_of(&*theirs, shape));
        assert!(
            matches!(ours, Err(EngineError::Node(_))),
            "{shape:?}: {ours:?}"
        );
        assert!(
            matches!(theirs, Err(EngineError::Node(_))),
            "{shape:?}: {theirs:?}"
        );
    }
}

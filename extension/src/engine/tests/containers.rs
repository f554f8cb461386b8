//! Tests of sequences, maps and optional inputs.

use super::*;

fn floats(shape: &[usize], data: &[f32]) -> Value {
    Value::Tensor(Tensor::new(shape.to_vec(), data.to_vec()).unwrap())
}

fn run(model: &str, inputs: Vec<(&str, Value)>) -> Result<Vec<(String, Value)>, EngineError> {
    let inputs = inputs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    load(model)
        .unwrap()
        .run(&inputs.collect::<Vec<_>>(), &[], &Cancel::default())
}

#[test]
fn a_sequence_is_accepted_and_returned() {
    let parts = vec![
        floats(&[1, 2], &[1.0, 2.0]),
        floats(&[2, 2], &[3.0, 4.0, 5.0, 6.0]),
    ];
    let outputs = run("zoo/sequence.onnx", vec![("parts", Value::Sequence(parts))]).unwrap();
    assert_eq!(
        outputs[0].1,
        floats(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    );
    let Value::Sequence(rows) = &outputs[2].1 else {
        panic!("{outputs:?}")
    };
    assert_eq!(rows[1], floats(&[1, 2], &[3.0, 4.0]));
    let mixed = vec![
        floats(&[1], &[1.0]),
        Value::Tensor(Tensor::new(vec![1], vec![1_i64]).unwrap()),
    ];
    let error = run("zoo/sequence.onnx", vec![("parts", Value::Sequence(mixed))]).unwrap_err();
    assert!(matches!(error, EngineError::Input(_)), "{error:?}");
}

#[test]
fn a_sequence_begins_empty_and_grows() {
    let session = load("sequence-grows.onnx").unwrap();
    let grow = |parts: Value, x: Value| {
        let inputs = vec![("parts".to_owned(), parts), ("x".to_owned(), x)];
        let mut outputs = session.run(&inputs, &[], &Cancel::default()).unwrap();
        outputs.remove(0).1
    };
    let [one, two] = [floats(&[1, 1], &[1.0]), floats(&[1, 2], &[2.0, 3.0])];
    for _ in 0..2 {
        let first = grow(Value::Sequence(Vec::new()), one.clone());
        assert_eq!(first, Value::Sequence(vec![one.clone()]));
        let second = grow(first, two.clone());
        assert_eq!(second, Value::Sequence(vec![one.clone(), two.clone()]));
    }
}

#[test]
fn there_is_an_empty_sequence_of_every_datatype() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.onnx");
    for &datatype in Datatype::ALL {
        std::fs::write(&file, crate::onnx::empty_sequence(datatype)).unwrap();
        let session = engine().load(&file, None).unwrap();
        assert_eq!(
            session.signature().outputs[0].kind.sequence_datatype(),
            Some(datatype)
        );
        let outputs = session.run(&[], &[], &Cancel::default());
        assert_eq!(
            outputs.unwrap()[0].1,
            Value::Sequence(Vec::new()),
            "{datatype}"
        );
    }
}

#[test]
fn a_map_is_accepted() {
    let words = |values: Data| Value::Map {
        keys: vec!["sweet".to_owned(), "red".to_owned()].into(),
        values,
    };
    let given = words(vec![1.5_f32, 1.0].into());
    let outputs = run("zoo/sklearn-dictionary.onnx", vec![("X", given)]).unwrap();
    assert_eq!(outputs[0].1, floats(&[1, 3], &[0.0, 1.0, 1.5]));
    let error = run(
        "zoo/sklearn-dictionary.onnx",
        vec![("X", words(vec![true, false].into()))],
    );
    let error = error.unwrap_err();
    assert!(
        matches!(&error, EngineError::Input(text) if text.contains("a map from BYTES to BOOL")),
        "{error:?}"
    );
}

#[test]
fn optional_inputs_may_be_absent() {
    let x = || ("x", floats(&[2], &[1.0, 2.0]));
    for (model, other, with) in [
        (
            "zoo/optional.onnx",
            ("bias", floats(&[2], &[10.0, 20.0])),
            [11.0, 22.0],
        ),
        (
            "zoo/default.onnx",
            ("factor", floats(&[1], &[-1.0])),
            [-1.0, -2.0],
        ),
    ] {
        let port = load(model).unwrap().signature().inputs[1].clone();
        assert_eq!(port.name, other.0);
        assert!(matches!(port.kind, Kind::Optional(_)), "{port:?}");
        assert_eq!(
            run(model, vec![x(), other]).unwrap()[0].1,
            floats(&[2], &with)
        );
    }
    assert_eq!(run("zoo/optional.onnx", vec![x()]).unwrap()[0].1, x().1);
    assert_eq!(
        run("zoo/default.onnx", vec![x()]).unwrap()[0].1,
        floats(&[2], &[2.0, 4.0])
    );
}

//! Tests of the runs of a model with a fixed first dimension, and of its joined outputs.

use super::*;
use crate::tensor::{Datatype, Kind, Maps, Port, Tensor};

fn port(name: &str, shape: &[i64]) -> Port {
    Port {
        name: name.to_owned(),
        kind: Kind::Tensor {
            datatype: Datatype::Fp32,
            shape: shape.iter().map(|&dim| usize::try_from(dim).ok()).collect(),
        },
    }
}

fn signature(inputs: &[&[i64]], outputs: &[&[i64]]) -> Signature {
    let ports = |shapes: &[&[i64]], side: &str| {
        let shapes = shapes.iter().enumerate();
        shapes
            .map(|(index, shape)| port(&format!("{side}{index}"), shape))
            .collect()
    };
    Signature {
        inputs: ports(inputs, "x"),
        outputs: ports(outputs, "y"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn tensor(shape: &[usize]) -> Value {
    let count: usize = shape.iter().product();
    let data: Vec<f32> = (0..count).map(|element| element as f32).collect();
    Value::Tensor(Tensor::new(shape.to_vec(), data).unwrap())
}

fn request(inputs: &[&[usize]]) -> Decoded {
    let inputs = inputs.iter().enumerate();
    Decoded {
        inputs: inputs
            .map(|(index, shape)| (format!("x{index}"), tensor(shape)))
            .collect(),
        outputs: vec!["y0".to_owned()],
    }
}

#[test]
fn rows_are_split_only_for_a_model_with_one_fixed_number_of_rows() {
    let batch = |inputs: &[&[i64]], outputs: &[&[i64]]| signature(inputs, outputs).fixed_batch();
    assert_eq!(batch(&[&[1, 4], &[1, 2]], &[&[1, 3], &[-1]]), Some(1));
    assert_eq!(batch(&[&[4, 4]], &[&[4]]), Some(4));
    for (inputs, outputs) in [
        (&[&[-1, 4][..]][..], &[&[-1, 3][..]][..]),
        (&[&[1, 4], &[2, 4]], &[&[1, 3]]),
        (&[&[1, 4], &[-1, 4]], &[&[1, 3]]),
        (&[&[1, 4]], &[&[3]]),
        (&[&[1, 4]], &[&[]]),
        (&[&[]], &[&[1]]),
        (&[&[0, 4]], &[&[0, 4]]),
        (&[], &[&[1]]),
    ] {
        assert_eq!(batch(inputs, outputs), None, "{inputs:?} {outputs:?}");
    }
}

#[test]
fn each_run_has_its_rows_of_every_input() {
    let signature = signature(&[&[2, 2], &[2]], &[&[2]]);
    let given = request(&[&[6, 2], &[6]]);
    let chunks = RowChunks::of(&signature, &given).unwrap();
    assert_eq!((chunks.batch, chunks.rows), (2, 6));
    let second = chunks.chunk(&given, 2).unwrap();
    assert_eq!(second.outputs, ["y0"]);
    let values = |shape: &[usize], data: &[f32]| {
        Value::Tensor(Tensor::new(shape.to_vec(), data.to_vec()).unwrap())
    };
    assert_eq!(
        second.inputs,
        [
            ("x0".to_owned(), values(&[2, 2], &[4.0, 5.0, 6.0, 7.0])),
            ("x1".to_owned(), values(&[2], &[2.0, 3.0])),
        ]
    );
    for one_run in [&[&[2, 2][..], &[2]][..], &[&[5, 2], &[5]], &[&[6, 2], &[4]]] {
        assert!(
            RowChunks::of(&signature, &request(one_run)).is_none(),
            "{one_run:?}"
        );
    }
}

/// Joins the outputs of runs of one row each.
fn join(runs: Vec<Vec<(String, Value)>>) -> Result<Vec<(String, Value)>, RunError> {
    let (rows, batch) = (runs.len(), 1);
    let mut outputs = JoinedOutputs::of(&RowChunks { rows, batch });
    let mut charge = Charge::unlimited();
    for run in runs {
        outputs.append(run, &mut charge)?;
    }
    Ok(outputs.joined)
}

#[test]
fn memory_for_all_rows_is_charged_with_the_first_run() {
    let (rows, batch) = (6, 2);
    let mut outputs = JoinedOutputs::of(&RowChunks { rows, batch });
    let mut charge = Charge::unlimited();
    for _ in 0..3 {
        let run = vec![("y".to_owned(), tensor(&[2, 5]))];
        outputs.append(run, &mut charge).unwrap();
        assert_eq!(charge.used(), 6 * 5 * 4);
    }
    let Value::Tensor(whole) = &outputs.joined[0].1 else {
        panic!()
    };
    assert_eq!(whole.shape(), [6, 5]);
}

#[test]
fn longer_strings_of_later_runs_are_charged_as_well() {
    let (rows, batch) = (3, 1);
    let mut outputs = JoinedOutputs::of(&RowChunks { rows, batch });
    let mut charge = Charge::unlimited();
    for length in [10, 2, 1_000] {
        let text = vec!["x".repeat(length)];
        let strings = Value::Tensor(Tensor::new(vec![1], text).unwrap());
        let run = vec![("y".to_owned(), strings)];
        outputs.append(run, &mut charge).unwrap();
    }
    let (_, joined) = &outputs.joined[0];
    assert_eq!(charge.used(), joined.memory());
}

#[test]
fn outputs_are_joined_in_order_or_rejected() {
    let run = |values: Vec<Value>| {
        let names = (0..).map(|index| format!("y{index}"));
        names.zip(values).collect::<Vec<_>>()
    };
    let maps = |label: i64| {
        Value::Sequence(vec![Value::Map {
            keys: vec![label].into(),
            values: vec![0.5_f32].into(),
        }])
    };
    let runs = vec![
        run(vec![tensor(&[1, 2]), maps(7)]),
        run(vec![tensor(&[1, 2]), maps(8)]),
    ];
    let whole = join(runs).unwrap();
    let two = Tensor::new(vec![2, 2], vec![0.0_f32, 1.0, 0.0, 1.0]).unwrap();
    assert_eq!(whole[0], ("y0".to_owned(), Value::Tensor(two)));
    let Value::Sequence(rows) = &whole[1].1 else {
        panic!("{whole:?}")
    };
    assert_eq!(rows.len(), 2);

    let table = |key: i64, value: f32| {
        let values = Tensor::new(vec![1, 1], vec![value]).unwrap();
        Value::Maps(Maps::new(Arc::new(vec![key].into()), values).unwrap())
    };
    let runs = vec![run(vec![table(7, 0.5)]), run(vec![table(7, 0.25)])];
    let Value::Maps(whole) = &join(runs).unwrap()[0].1 else {
        panic!("no maps")
    };
    assert_eq!(**whole.keys(), vec![7_i64].into());
    assert_eq!(*whole.values().data(), vec![0.5_f32, 0.25].into());

    for (first, second) in [
        (tensor(&[3]), tensor(&[3])),
        (tensor(&[]), tensor(&[])),
        (Value::Sequence(Vec::new()), Value::Sequence(Vec::new())),
        (table(7, 0.5), table(8, 0.5)),
        (table(7, 0.5), tensor(&[1, 1])),
        (tensor(&[1, 1]), table(7, 0.5)),
    ] {
        let runs = vec![run(vec![first]), run(vec![second])];
        let error = join(runs).unwrap_err().to_string();
        assert!(
            error.contains("output \"y0\" does not have one row"),
            "{error}"
        );
    }
}

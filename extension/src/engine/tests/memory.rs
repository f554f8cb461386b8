//! Tests of the memory of inputs, outputs and runs.

use super::*;
use crate::onnx::tests::write::{bytes, model, value};
use crate::tensor::Buffer;

const COUNT: usize = 4096;

fn numbers() -> Vec<f32> {
    (0..u16::try_from(COUNT).unwrap()).map(f32::from).collect()
}

fn floats(outputs: &[(String, Value)]) -> &Buffer<f32> {
    match &outputs[0].1 {
        Value::Tensor(tensor) => match tensor.data() {
            Data::Fp32(floats) => floats,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_large_output_is_not_copied_and_outlives_its_session() {
    let session = load("identity-float.onnx").unwrap();
    // The input is in borrowed memory, as in a request.
    let body = Buffer::from(numbers()).into_bytes();
    let run = || {
        let x = Tensor::new(vec![1, COUNT], Data::Fp32(Buffer::of_bytes(body.clone()))).unwrap();
        let inputs = vec![("x".to_owned(), Value::Tensor(x))];
        session.run(&inputs, &[], &Cancel::default()).unwrap()
    };
    let first = run();
    let other = run();
    assert!(floats(&first).is_foreign());
    // The next run must not reuse the memory of the output.
    assert_ne!(floats(&first).as_ptr(), floats(&other).as_ptr());
    drop((session, other, body));
    assert_eq!(floats(&first)[..], numbers());
    let Value::Tensor(tensor) = first.into_iter().next().unwrap().1 else {
        panic!()
    };
    let Data::Fp32(floats) = tensor.into_parts().1 else {
        panic!()
    };
    let address = floats.as_ptr().addr();
    let bytes = floats.into_bytes();
    assert_eq!(bytes.as_ptr().addr(), address);
    assert_eq!(Buffer::<f32>::of_bytes(bytes)[..], numbers());
}

#[test]
fn an_output_that_is_an_input_is_copied() {
    let port = value("x", 1, &[COUNT]);
    let content = model(&[bytes(2, b"graph"), bytes(11, &port), bytes(12, &port)]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let session = engine().load(file.path(), None).unwrap();
    let x = Tensor::new(vec![COUNT], numbers()).unwrap();
    let addresses = x.data().addresses();
    let inputs = vec![("x".to_owned(), Value::Tensor(x))];
    let outputs = session.run(&inputs, &[], &Cancel::default()).unwrap();
    assert!(!floats(&outputs).is_foreign());
    assert!(!addresses.contains(&floats(&outputs).as_ptr().addr()));
    assert_eq!(floats(&outputs)[..], numbers());
}

/// Returns a model with two large tensors between a small input and a small output; the input's values set their sizes.
fn of_sizes() -> Box<dyn Session> {
    use crate::onnx::tests::write::node;
    let graph = [
        bytes(1, &node("ConstantOfShape", &["sizes"], &["zeros"])),
        bytes(1, &node("Abs", &["zeros"], &["positive"])),
        bytes(1, &node("Size", &["positive"], &["count"])),
        bytes(2, b"graph"),
        bytes(11, &value("sizes", 7, &[2])),
        bytes(12, &value("count", 7, &[])),
    ];
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), model(&graph)).unwrap();
    engine().load(file.path(), None).unwrap()
}

#[test]
fn memory_of_a_run_is_released_immediately_without_another_run() {
    crate::test_util::run_alone("engine::tests::memory::a_large_run_and_a_shrink", &[]);
}

#[test]
#[ignore = "needs a process of its own, whose memory no other test changes, which the test above gives"]
fn a_large_run_and_a_shrink() {
    const LARGE: u64 = 64 * 1024 * 1024;
    let session = of_sizes();
    let run = |side: i64| {
        let sizes = Tensor::new(vec![2], vec![side, side]).unwrap();
        let inputs = vec![("sizes".to_owned(), Value::Tensor(sizes))];
        let outputs = session.run(&inputs, &[], &Cancel::default()).unwrap();
        let expected = Tensor::new(vec![], vec![side * side]).unwrap();
        assert_eq!(outputs, [("count".to_owned(), Value::Tensor(expected))]);
    };
    run(1);
    let own = || crate::sys::own_bytes().unwrap();
    let before = own();
    run(4_096);
    assert!(own() >= before + LARGE, "the run was not large");
    session.shrink();
    let after = own();
    assert!(after <= before + LARGE / 4, "{before}, then {after}");
    // The session remains usable.
    run(2);
}

/// Returns a model that creates as many numbers as its input says, and returns their maximum.
fn as_many_as_asked() -> Box<dyn Session> {
    use crate::onnx::tests::write::node;
    let content = model(&[
        bytes(1, &node("ConstantOfShape", &["x"], &["zeros"])),
        bytes(1, &node("ReduceMax", &["zeros"], &["y"])),
        bytes(2, b"graph"),
        bytes(11, &value("x", 7, &[1])),
        bytes(12, &value("y", 1, &[1])),
    ]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    engine().load(file.path(), None).unwrap()
}

#[test]
fn a_run_that_exceeds_the_memory_limit_fails_with_the_numbers() {
    let session = as_many_as_asked();
    let run = |count: i64| {
        let x = Tensor::new(vec![1], vec![count]).unwrap();
        let inputs = vec![("x".to_owned(), Value::Tensor(x))];
        session.run(&inputs, &[], &Cancel::default())
    };
    for (count, requested) in [(1_000_000_000, 4_000_000_000), (1 << 40, 1 << 42)] {
        let error = run(count).unwrap_err();
        let EngineError::Memory(memory) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(memory.requested, Some(requested));
        assert_eq!(memory.limit, Some(MEMORY));
        assert!(memory.exceeds_limit() && !error.is_inside(), "{error}");
        let words = format!("a tensor takes {requested} bytes, and all models and runs");
        assert!(error.to_string().contains(&words), "{error}");
    }
    let outputs = run(10).unwrap();
    assert_eq!(floats(&outputs)[..], [0.0]);
}

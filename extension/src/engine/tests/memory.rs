//! Where the elements of inputs and outputs lie.

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
    // As from a request: in memory of someone else.
    let body = Buffer::from(numbers()).into_bytes();
    let run = || {
        let x = Tensor::new(vec![1, COUNT], Data::Fp32(Buffer::of_bytes(body.clone()))).unwrap();
        let inputs = vec![("x".to_owned(), Value::Tensor(x))];
        session.run(&inputs, &[], &Cancel::default()).unwrap()
    };
    let first = run();
    let other = run();
    assert!(floats(&first).is_foreign());
    // What has been given away is not given to the next run.
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
fn an_output_that_is_an_input_is_copied_out_of_it() {
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

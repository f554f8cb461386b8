use proptest::prelude::*;

use super::*;
use crate::tensor::{Datatype, Port, strategies};

fn port(name: &str, kind: Kind) -> Port {
    Port {
        name: name.to_owned(),
        kind,
    }
}

fn tensor_of(datatype: Datatype, shape: &[Option<usize>]) -> Kind {
    Kind::Tensor {
        datatype,
        shape: shape.to_vec(),
    }
}

fn maps() -> Kind {
    Kind::Sequence(Box::new(Kind::Map {
        key: Datatype::Int64,
        value: Datatype::Fp32,
    }))
}

fn floats(shape: &[usize]) -> Value {
    let count = shape.iter().product();
    Value::Tensor(Tensor::new(shape.to_vec(), vec![0.5_f32; count]).unwrap())
}

fn request(inputs: &[(&str, Value)]) -> Decoded {
    let inputs = inputs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    Decoded {
        inputs: inputs.collect(),
        outputs: Vec::new(),
    }
}

#[test]
fn requests_are_joined_only_if_all_first_dimensions_are_free() {
    let free = tensor_of(Datatype::Fp32, &[None, Some(2)]);
    let fixed = tensor_of(Datatype::Fp32, &[Some(1), Some(2)]);
    let scalar = tensor_of(Datatype::Fp32, &[]);
    let rows_of = |input: &Kind, output: &Kind| {
        let signature = Signature {
            inputs: vec![port("x", input.clone())],
            outputs: vec![port("y", output.clone())],
        };
        rows(&signature, &request(&[("x", floats(&[3, 2]))]))
    };
    assert_eq!(rows_of(&free, &free), Some(3));
    assert_eq!(rows_of(&free, &maps()), Some(3));
    for kind in [&fixed, &scalar, &Kind::Optional(Box::new(free.clone()))] {
        assert_eq!(rows_of(kind, &free), None, "{kind}");
        assert_eq!(rows_of(&free, kind), None, "{kind}");
    }
}

#[test]
fn an_absent_optional_input_does_not_prevent_joining() {
    let free = tensor_of(Datatype::Fp32, &[None, Some(2)]);
    let fixed = tensor_of(Datatype::Fp32, &[Some(2)]);
    let signature = Signature {
        inputs: vec![
            port("x", free.clone()),
            port("w", Kind::Optional(Box::new(fixed))),
        ],
        outputs: vec![port("y", free)],
    };
    let without = request(&[("x", floats(&[3, 2]))]);
    assert_eq!(rows(&signature, &without), Some(3));
    let with = request(&[("x", floats(&[3, 2])), ("w", floats(&[2]))]);
    assert_eq!(rows(&signature, &with), None);
}

#[test]
fn inputs_of_one_request_must_agree_in_their_rows() {
    let free = tensor_of(Datatype::Fp32, &[None, None]);
    let signature = Signature {
        inputs: vec![port("a", free.clone()), port("b", free.clone())],
        outputs: vec![port("y", free)],
    };
    let rows_of = |a: &[usize], b: &[usize]| {
        let request = request(&[("a", floats(a)), ("b", floats(b))]);
        rows(&signature, &request)
    };
    assert_eq!(rows_of(&[2, 3], &[2, 1]), Some(2));
    assert_eq!(rows_of(&[2, 3], &[1, 3]), None);
    assert_eq!(rows_of(&[0, 3], &[0, 3]), None);
    assert_eq!(rows(&signature, &request(&[])), None);
}

#[test]
fn requests_are_joined_if_they_differ_only_in_rows() {
    let one = request(&[("x", floats(&[1, 2]))]);
    assert!(can_join(&one, &request(&[("x", floats(&[5, 2]))])));
    let integers = Value::Tensor(Tensor::new(vec![1, 2], vec![1_i32, 2]).unwrap());
    for other in [
        request(&[("x", floats(&[1, 3]))]),
        request(&[("x", floats(&[1, 2, 1]))]),
        request(&[("z", floats(&[1, 2]))]),
        request(&[("x", floats(&[1, 2])), ("z", floats(&[1, 2]))]),
        request(&[("x", integers)]),
    ] {
        assert!(!can_join(&one, &other), "{other:?}");
        assert!(join(&[&one, &other]).is_none());
    }
    let mut asks = request(&[("x", floats(&[1, 2]))]);
    asks.outputs.push("y".to_owned());
    assert!(!can_join(&one, &asks));
}

#[test]
fn outputs_without_one_row_per_row_are_not_split() {
    let output = |value: Value| vec![("y".to_owned(), value)];
    for value in [
        floats(&[4, 2]),
        floats(&[2, 3]),
        floats(&[]),
        Value::Sequence(vec![floats(&[1]); 2]),
        Value::Map {
            keys: vec![1_i64, 2, 3].into(),
            values: vec![1.0_f32, 2.0, 3.0].into(),
        },
    ] {
        assert!(split(output(value.clone()), &[1, 2]).is_none(), "{value:?}");
    }
}

#[test]
fn maps_are_split_by_row() {
    let map = |number: f32| Value::Map {
        keys: vec![0_i64].into(),
        values: vec![number].into(),
    };
    let all = Value::Sequence(vec![map(1.0), map(2.0), map(3.0)]);
    let parts = split(vec![("p".to_owned(), all)], &[2, 1]).unwrap();
    let part = |maps: Vec<Value>| vec![("p".to_owned(), Value::Sequence(maps))];
    assert_eq!(
        parts,
        [part(vec![map(1.0), map(2.0)]), part(vec![map(3.0)])]
    );
}

/// Requests that can be joined: inputs of any datatypes and dimensions, and rows for each.
fn requests() -> impl Strategy<Value = Vec<Decoded>> {
    let datatype = (0..Datatype::ALL.len()).prop_map(|place| Datatype::ALL[place]);
    let input = (datatype, prop::collection::vec(0..4_usize, 0..3));
    let rows = prop::collection::vec(1..5_usize, 1..6);
    (prop::collection::vec(input, 1..4), rows).prop_flat_map(|(inputs, rows)| {
        let one = move |rows: usize| {
            let tensors: Vec<_> = inputs
                .iter()
                .map(|(datatype, rest)| {
                    let shape: Vec<usize> = std::iter::once(rows).chain(rest.clone()).collect();
                    let count = shape.iter().product();
                    strategies::data(*datatype, count, false)
                        .prop_map(move |data| Tensor::new(shape.clone(), data).unwrap())
                })
                .collect();
            tensors.prop_map(|tensors| Decoded {
                inputs: tensors
                    .into_iter()
                    .enumerate()
                    .map(|(place, tensor)| (format!("x{place}"), Value::Tensor(tensor)))
                    .collect(),
                outputs: Vec::new(),
            })
        };
        rows.into_iter().map(one).collect::<Vec<_>>()
    })
}

proptest! {
    /// The outputs of an identity model.
    #[test]
    fn splitting_reverses_joining(requests in requests()) {
        let all: Vec<&Decoded> = requests.iter().collect();
        let joined = join(&all).unwrap();
        let rows: Vec<usize> = requests
            .iter()
            .map(|request| match &request.inputs[0].1 {
                Value::Tensor(tensor) => tensor.shape()[0],
                _ => unreachable!("all are tensors"),
            })
            .collect();
        for (_, value) in &joined {
            let Value::Tensor(tensor) = value else { panic!("{value:?}") };
            prop_assert_eq!(tensor.shape()[0], rows.iter().sum::<usize>());
        }
        let parts = split(joined, &rows).unwrap();
        let given: Vec<_> = requests.into_iter().map(|request| request.inputs).collect();
        prop_assert_eq!(parts, given);
    }

    /// `Maps` are split as a list of separate maps.
    #[test]
    fn maps_are_split_as_separate_maps(
        (rows, maps) in prop::collection::vec(1_usize..4, 1..4).prop_flat_map(|rows| {
            let all = rows.iter().sum();
            (Just(rows), strategies::maps(all))
        }),
    ) {
        let output = |value| vec![("p".to_owned(), value)];
        let each = Value::Sequence(maps.to_values());
        let parts = split(output(Value::Maps(maps.clone())), &rows).unwrap();
        let as_each: Vec<_> = parts
            .into_iter()
            .map(|mut part| match part.pop() {
                Some((_, Value::Maps(maps))) => output(Value::Sequence(maps.to_values())),
                other => panic!("{other:?}"),
            })
            .collect();
        prop_assert_eq!(Some(as_each), split(output(each), &rows));
        let one_more = [rows, vec![1]].concat();
        prop_assert!(split(output(Value::Maps(maps)), &one_more).is_none());
    }
}

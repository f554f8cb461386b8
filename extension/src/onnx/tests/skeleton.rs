//! Tests of the weights that are taken out of a model, and of the rest.

use super::write::{bytes, entry, join, model, node, number, raw, value};
use super::*;

const FLOAT: u64 = 1;
const SHAPE: [usize; 2] = [512, 512];
const LENGTH: usize = 4 * SHAPE[0] * SHAPE[1];

fn weight(name: &str) -> Vec<u8> {
    raw(name, FLOAT, &SHAPE, &vec![7; LENGTH])
}

/// Returns the fields of a graph with a weight `w` of 1 MiB, a small one, and two nodes.
fn graph() -> Vec<Vec<u8>> {
    vec![
        bytes(1, &node("MatMul", &["x", "w"], &["p"])),
        bytes(5, &raw("small", FLOAT, &[2], &[1; 8])),
        bytes(5, &weight("w")),
        bytes(1, &node("Relu", &["p"], &["y"])),
        bytes(2, b"graph"),
        bytes(11, &value("x", FLOAT, &[1, 512])),
        bytes(12, &value("y", FLOAT, &[1, 512])),
    ]
}

fn skeleton(content: &[u8]) -> Option<Skeleton> {
    Skeleton::of(&holding(content), LENGTH as u64)
}

#[test]
fn a_weight_becomes_an_input_with_its_position() {
    let whole = model(&graph());
    let found = skeleton(&whole).unwrap();
    let mut left = graph();
    left.remove(2);
    left.push(bytes(11, &value("w", FLOAT, &SHAPE)));
    assert_eq!(found.model, model(&left));
    let [found] = found.weights.as_slice() else {
        panic!("{:?}", found.weights)
    };
    assert_eq!(found.name, "w");
    assert_eq!(found.shape, [512, 512]);
    let place =
        usize::try_from(found.bytes.start).unwrap()..usize::try_from(found.bytes.end).unwrap();
    assert_eq!(whole[place], vec![7; LENGTH]);
}

#[test]
fn weights_are_taken_at_any_position() {
    let mut fields = graph();
    fields.insert(0, bytes(5, &weight("first")));
    fields.push(bytes(
        5,
        &join([weight("last"), bytes(12, b"a comment"), number(14, 0)]),
    ));
    let behind = bytes(14, &entry("key", "value"));
    let whole = join([bytes(2, b"producer"), model(&fields), behind]);
    let found = skeleton(&whole).unwrap();
    let names: Vec<&str> = found
        .weights
        .iter()
        .map(|weight| weight.name.as_str())
        .collect();
    assert_eq!(names, ["first", "w", "last"]);
    let mut left = graph();
    left.remove(2);
    for name in names {
        left.push(bytes(11, &value(name, FLOAT, &SHAPE)));
    }
    let behind = bytes(14, &entry("key", "value"));
    assert_eq!(
        found.model,
        join([bytes(2, b"producer"), model(&left), behind])
    );
}

/// Returns the model with one more field in its graph.
fn with(field: Vec<u8>) -> Vec<u8> {
    let mut fields = graph();
    fields.push(field);
    model(&fields)
}

#[test]
fn a_model_with_a_duplicate_weight_name_has_no_skeleton() {
    let small = raw("w", FLOAT, &[2], &[1; 8]);
    let port = value("w", FLOAT, &SHAPE);
    let cases = [
        ("a duplicate", bytes(5, &weight("w"))),
        ("a small tensor", bytes(5, &small)),
        ("a sparse tensor", bytes(15, &bytes(1, &small))),
        ("an input", bytes(11, &port)),
        ("an output", bytes(12, &port)),
        ("a value", bytes(13, &port)),
        ("a node's output", bytes(1, &node("Relu", &["x"], &["w"]))),
    ];
    for (what, field) in cases {
        assert!(skeleton(&with(field)).is_none(), "{what}");
    }
    assert!(skeleton(&with(bytes(1, &node("Relu", &["w"], &["z"])))).is_some());
    assert!(skeleton(&with(bytes(5, &weight("v")))).is_some());
}

#[test]
fn an_unusual_weight_stays_in_the_model() {
    let instead = |tensor: &[u8]| {
        let mut fields = graph();
        fields[2] = bytes(5, tensor);
        skeleton(&model(&fields)).is_some()
    };
    let data = vec![7; LENGTH];
    let is_taken = |name, datatype, shape: &[usize]| instead(&raw(name, datatype, shape, &data));
    assert!(is_taken("w", FLOAT, &[LENGTH / 4]));
    assert!(is_taken("w", 2, &[LENGTH]), "bytes");
    assert!(!is_taken("w", 7, &[LENGTH / 8]), "integers");
    assert!(!is_taken("w", 0, &SHAPE), "no type");
    assert!(!is_taken("", FLOAT, &SHAPE), "no name");
    assert!(!is_taken("w\0", FLOAT, &SHAPE), "a name with NUL");
    let shapes: [&[usize]; 5] = [
        &[],
        &[512, 511],
        &[512, 513],
        &[1 << 40, 1 << 40],
        &[usize::MAX, usize::MAX, LENGTH / 4],
    ];
    for shape in shapes {
        assert!(!is_taken("w", FLOAT, shape), "{shape:?}");
    }

    let is_taken = |field: Vec<u8>| instead(&join([weight("w"), field]));
    assert!(is_taken(bytes(12, b"a comment")));
    let more = [
        ("a second name", bytes(8, b"w")),
        ("data elsewhere", number(14, 1)),
        ("a location", bytes(13, &entry("location", "w.bin"))),
        ("a segment", bytes(3, &number(1, 0))),
        ("floats in addition to bytes", bytes(4, &[0; 4])),
        ("an unknown field", number(100, 1)),
    ];
    for (what, field) in more {
        assert!(!is_taken(field), "{what}");
    }
}

#[test]
fn a_truncated_model_or_one_with_few_weights_has_no_skeleton() {
    let whole = model(&graph());
    let with = |more: Vec<u8>| skeleton(&join([whole.clone(), more])).is_some();
    assert!(with(number(1, 10)), "a newer format");
    assert!(!with(number(1, 3)), "an old format");
    assert!(!with(bytes(7, &bytes(2, b"g"))), "a graph in two pieces");
    assert!(!with(bytes(100, &vec![0; LENGTH * 2])));
    for cut in [1, 10, LENGTH, whole.len() - 5, whole.len()] {
        let cut = &whole[..whole.len() - cut];
        assert!(skeleton(cut).is_none(), "{}", cut.len());
    }
}

#[test]
fn a_model_with_too_many_weights_has_no_skeleton() {
    let many = |count: usize| {
        let tensor = |index: usize| {
            let name = index.to_string();
            bytes(5, &raw(&name, FLOAT, &[4096], &[7; 16 * 1024]))
        };
        let mut fields = vec![bytes(2, b"graph")];
        fields.extend((0..count).map(tensor));
        model(&fields)
    };
    assert_eq!(skeleton(&many(4096)).unwrap().weights.len(), 4096);
    assert!(skeleton(&many(4097)).is_none());
}

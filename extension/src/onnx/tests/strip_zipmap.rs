//! Tests of the removal of `ZipMap` nodes.

use super::write::{bytes, entry, join, model, node, number, value};
use super::*;
use crate::tensor::Data;

const FLOAT: u64 = 1;

/// Returns a `ZipMap` node with this attribute for its classes.
fn zip_map(input: &str, output: &str, classes: &[u8]) -> Vec<u8> {
    join([
        node("ZipMap", &[input], &[output]),
        bytes(5, classes),
        bytes(7, b"ai.onnx.ml"),
    ])
}

fn strings(words: &[&str]) -> Vec<u8> {
    let words = words.iter().map(|word| bytes(9, word.as_bytes()));
    join([bytes(1, b"classlabels_strings"), join(words), number(20, 8)])
}

fn integers(numbers: &[u64]) -> Vec<u8> {
    let numbers = numbers.iter().map(|&each| number(8, each));
    join([
        bytes(1, b"classlabels_int64s"),
        join(numbers),
        number(20, 7),
    ])
}

/// Returns an output that is a sequence of maps.
fn maps(name: &str) -> Vec<u8> {
    let map = join([number(1, 7), bytes(2, &bytes(1, &number(1, FLOAT)))]);
    let sequence = bytes(4, &bytes(1, &bytes(5, &map)));
    join([bytes(1, name.as_bytes()), bytes(2, &sequence)])
}

/// Declares a tensor of floats of any shape.
fn open(name: &str) -> Vec<u8> {
    let tensor = bytes(1, &number(1, FLOAT));
    join([bytes(1, name.as_bytes()), bytes(2, &tensor)])
}

/// Returns the fields of a graph that ends in maps.
fn graph(zip_map: &[u8]) -> Vec<Vec<u8>> {
    vec![
        bytes(1, &node("Identity", &["x"], &["p"])),
        bytes(1, zip_map),
        bytes(1, &node("Neg", &["p"], &["y"])),
        bytes(2, b"graph"),
        bytes(11, &value("x", FLOAT, &[1, 2])),
        bytes(12, &value("y", FLOAT, &[1, 2])),
        bytes(12, &maps("q")),
    ]
}

fn stripped(content: &[u8]) -> Option<ModelWithoutZipMap> {
    ModelWithoutZipMap::of(&holding(content))
}

#[test]
fn maps_at_the_end_are_replaced_by_their_tensor() {
    let cases: [(Vec<u8>, Data); 3] = [
        (
            strings(&["no", "yes"]),
            vec!["no".to_owned(), "yes".to_owned()].into(),
        ),
        (integers(&[0, 300]), vec![0_i64, 300].into()),
        // The packed form of protobuf 3.
        (
            join([
                bytes(
                    8,
                    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 5],
                ),
                bytes(1, b"classlabels_int64s"),
            ]),
            vec![-1_i64, 5].into(),
        ),
    ];
    for (classes, keys) in cases {
        let mut left = graph(&[]);
        left.remove(1);
        left[5] = bytes(12, &open("p"));
        let rest = bytes(14, &entry("producer", "a test"));
        let whole = join([model(&graph(&zip_map("p", "q", &classes))), rest.clone()]);
        let found = stripped(&whole).unwrap();
        assert_eq!(found.model, join([model(&left), rest]));
        let name = "q".to_owned();
        let expected = BTreeMap::from([("p".to_owned(), ZipMapOutput { name, keys })]);
        assert_eq!(found.outputs, expected);
    }
}

#[test]
fn an_unusual_model_stays_unchanged() {
    let usual = || graph(&zip_map("p", "q", &integers(&[1, 2])));
    assert!(stripped(&model(&usual())).is_some());
    let with = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut fields = usual();
        change(&mut fields);
        model(&fields)
    };
    let classes = |classes: &[u8]| model(&graph(&zip_map("p", "q", classes)));
    let inner = bytes(5, &join([bytes(1, b"body"), bytes(6, b"")]));
    let cases = [
        ("no ZipMap", with(&|graph| drop(graph.remove(1)))),
        ("classes in another order", classes(&integers(&[2, 1]))),
        ("a class twice", classes(&strings(&["a", "a"]))),
        ("no classes", classes(&strings(&[]))),
        ("an operator of another domain", {
            let zip = join([node("ZipMap", &["p"], &["q"]), bytes(5, &integers(&[1, 2]))]);
            model(&graph(&zip))
        }),
        (
            "maps that are read",
            with(&|graph| graph.push(bytes(1, &node("Identity", &["q"], &["r"])))),
        ),
        ("maps that are no output", with(&|graph| drop(graph.pop()))),
        (
            "a tensor that is an output",
            with(&|graph| graph.push(bytes(12, &value("p", FLOAT, &[1, 2])))),
        ),
        (
            "a tensor that is an input",
            model(&graph(&zip_map("x", "q", &integers(&[1, 2])))),
        ),
        (
            "maps of one tensor twice",
            with(&|graph| {
                graph.push(bytes(1, &zip_map("p", "r", &integers(&[1, 2]))));
                graph.push(bytes(12, &maps("r")));
            }),
        ),
        (
            "a subgraph",
            with(&|graph| {
                let outer = join([node("If", &["x"], &["z"]), inner.clone()]);
                graph.push(bytes(1, &outer));
            }),
        ),
        (
            "functions",
            join([model(&usual()), bytes(25, &bytes(1, b"ZipMap"))]),
        ),
        (
            "more than a megabyte",
            join([model(&usual()), bytes(6, &vec![b' '; 1 << 20])]),
        ),
        ("not a model", b"PK\x03\x04".to_vec()),
    ];
    for (what, content) in cases {
        assert!(stripped(&content).is_none(), "{what}");
    }
}

//! Weights that stay as they are, and models that are not written.

use super::*;

#[test]
#[expect(clippy::too_many_lines, reason = "one table of graphs")]
fn a_weight_stays_where_its_meaning_could_change() {
    let zero = vec![0; 4 * LENGTH];
    let with_number = |number: f32| {
        let mut numbers = numbers();
        numbers[7] = number;
        bytes(5, &raw("w", FLOAT, &[64, 64], &bytes_of(&numbers)))
    };
    let subgraph = |fields: &[u8]| {
        let then = bytes(
            5,
            &join([bytes(1, b"then_branch"), bytes(6, fields), number(20, 5)]),
        );
        bytes(1, &join([node("If", &["c"], &["z"]), then]))
    };
    let cases: Vec<(Vec<Vec<u8>>, Option<&str>)> = vec![
        (vec![weight("w"), product()], None),
        (vec![weight("w"), product(), product()], None),
        (
            vec![
                weight("w"),
                product(),
                bytes(13, &value("w", FLOAT, &[64, 64])),
            ],
            None,
        ),
        (
            vec![
                weight("w"),
                subgraph(&bytes(1, &node("MatMul", &["x", "w"], &["z"]))),
            ],
            None,
        ),
        (
            vec![bytes(5, &raw("w", FLOAT, &[64, 64], &zero)), product()],
            None,
        ),
        (
            vec![
                weight("w"),
                product(),
                bytes(12, &value("w", FLOAT, &[64, 64])),
            ],
            Some("it is an output"),
        ),
        (
            vec![
                weight("w"),
                product(),
                bytes(11, &value("w", FLOAT, &[64, 64])),
            ],
            Some("it is an input"),
        ),
        (
            vec![weight("w"), product(), weight("w")],
            Some("used more than once"),
        ),
        (
            vec![weight("w"), product(), subgraph(&weight("w"))],
            Some("used more than once"),
        ),
        (
            vec![
                weight("w"),
                product(),
                subgraph(&bytes(12, &value("w", FLOAT, &[64, 64]))),
            ],
            Some("an output of a subgraph"),
        ),
        (
            vec![
                weight("w"),
                product(),
                bytes(1, &node("Add", &["x", "w"], &["z"])),
            ],
            Some("it is used by Add"),
        ),
        (
            vec![
                weight("w"),
                subgraph(&bytes(1, &node("Add", &["x", "w"], &["z"]))),
            ],
            Some("it is used by Add"),
        ),
        (vec![weight("w")], Some("it is not used")),
        (
            vec![with_number(f32::NAN), product()],
            Some("NaN or an infinite"),
        ),
        (
            vec![with_number(f32::INFINITY), product()],
            Some("NaN or an infinite"),
        ),
        (
            vec![
                bytes(5, &raw("w", 10, &[64, 64], &vec![0; 2 * LENGTH])),
                product(),
            ],
            Some("it is FP16 already"),
        ),
        (
            vec![bytes(5, &raw("w", FLOAT, &[64, 64], &zero[4..])), product()],
            Some("needs another number"),
        ),
        (
            vec![
                bytes(5, &raw("w", FLOAT, &[LENGTH], &zero)),
                bytes(1, &node("Conv", &["x", "w"], &["y"])),
            ],
            None,
        ),
        (
            vec![
                bytes(5, &raw("w", FLOAT, &[LENGTH], &zero)),
                bytes(1, &node("LSTM", &["x", "w"], &["y"])),
            ],
            Some("its rank does not fit LSTM"),
        ),
        (
            vec![
                bytes(5, &raw(&"w".repeat(300), FLOAT, &[64, 64], &zero)),
                product(),
            ],
            Some("longer than 256 bytes"),
        ),
        (
            vec![
                bytes(5, &join([raw("w", FLOAT, &[64, 64], &zero), number(99, 1)])),
                product(),
            ],
            Some("unusual form"),
        ),
    ];
    for (place, (fields, expected)) in cases.into_iter().enumerate() {
        let content = model(&graph(fields));
        let (weights, written) = quantize(&content, WeightStorage::Int8).unwrap();
        match expected {
            // A tensor of one dimension with a channel per number would not become smaller.
            None if weights.stored.is_empty() => {
                assert_eq!(
                    weights.left[0].reason, "it would not become smaller",
                    "{place}"
                );
            }
            None => assert_eq!(skeleton(&written.unwrap()).weights.len(), 1, "{place}"),
            Some(reason) => {
                assert!(written.is_none() && weights.stored.is_empty(), "{place}");
                let left = &weights.left[0].reason;
                assert!(left.contains(reason), "{place}: {left}");
            }
        }
    }
    let content = model(&graph(vec![with_number(70_000.0), product()]));
    let (weights, _) = quantize(&content, WeightStorage::Fp16).unwrap();
    assert!(
        weights.left[0].reason.contains("beyond 65504"),
        "{weights:?}"
    );
    assert!(quantize(&content, WeightStorage::Int8).unwrap().1.is_some());
}

#[test]
fn small_and_empty_tensors_are_not_listed() {
    let empty = bytes(5, &raw("e", FLOAT, &[0, 64], &[]));
    let small = bytes(5, &raw("s", FLOAT, &[31, 33], &[0; 4 * 31 * 33]));
    let content = model(&graph(vec![empty, small, product()]));
    let (weights, written) = quantize(&content, WeightStorage::Int8).unwrap();
    assert!(weights.stored.is_empty() && weights.left.is_empty() && written.is_none());
    assert_eq!(weights.operators, ["MatMul"]);
}

#[test]
fn weights_of_branches_are_listed_and_the_rest_is_stored() {
    let tensor = raw("t", FLOAT, &[64, 64], &[0; 4 * LENGTH]);
    let value = join([bytes(1, b"value"), bytes(5, &tensor), number(20, 4)]);
    let constant = join([node("Constant", &[], &["k"]), bytes(5, &value)]);
    let branch = join([
        weight("v"),
        bytes(1, &constant),
        bytes(1, &node("MatMul", &["x", "v"], &["z"])),
    ]);
    let attribute = join([bytes(1, b"then_branch"), bytes(6, &branch), number(20, 5)]);
    let of_branch = join([node("If", &["c"], &["z"]), bytes(5, &attribute)]);
    for (fields, stored) in [
        (vec![bytes(1, &of_branch)], 0),
        (vec![weight("w"), product(), bytes(1, &of_branch)], 1),
    ] {
        let content = model(&graph(fields));
        let (weights, written) = quantize(&content, WeightStorage::Int8).unwrap();
        assert_eq!(weights.stored.len(), stored);
        assert_eq!(written.is_some(), stored > 0);
        let mut names: Vec<&str> = weights.left.iter().map(|it| it.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["k", "v"]);
        let reason = "it is in a subgraph, such as a branch of If";
        assert!(
            weights.left.iter().all(|it| it.reason == reason),
            "{weights:?}"
        );
    }
}

#[test]
fn models_that_must_not_be_written_again_are_errors() {
    let sound = graph(vec![weight("w"), product()]);
    let by = "test".to_owned();
    let optimised = OptimisationMark {
        by,
        at_load: AtLoad::Map,
    }
    .bytes();
    let named = bytes(
        1,
        &join([
            node("Relu", &["x"], &["z"]),
            bytes(3, b"model_sidecar.expand/"),
        ]),
    );
    let tensor = bytes(
        5,
        &join([
            bytes(1, b"value"),
            bytes(5, &crate::onnx::tests::write::tensor("t", Some("t.bin"))),
        ]),
    );
    let nested = bytes(1, &join([node("Relu", &["x"], &["z"]), tensor]));
    for (content, reason) in [
        (join([model(&sound), optimised]), "already optimised"),
        (join([model(&sound), number(1, 3)]), "below 4"),
        (join([model(&sound), bytes(7, b"")]), "several"),
        (model(&[sound.clone(), vec![named]].concat()), "reserved"),
        (
            model(&[sound, vec![nested]].concat()),
            "external data file \"t.bin\"",
        ),
        (b"text".to_vec(), "cannot parse the file as ONNX"),
        (Vec::new(), "empty"),
    ] {
        let error = quantize(&content, WeightStorage::Int8)
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{error}");
    }
}

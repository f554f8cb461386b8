//! Property tests with models of any form and arbitrary bytes.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::write::{bytes, entry, join, model, number, tensor, varint};
use super::*;

/// Returns unknown fields of every wire type, some with content that is not protobuf.
fn unknown() -> impl Strategy<Value = Vec<u8>> {
    let field = 100_u64..200;
    prop_oneof![
        (field.clone(), any::<u64>()).prop_map(|(field, value)| number(field, value)),
        (field.clone(), vec(any::<u8>(), 0..300)).prop_map(|(field, value)| bytes(field, &value)),
        (field.clone(), any::<[u8; 8]>())
            .prop_map(|(field, value)| join([varint(field << 3 | 1), value.to_vec()])),
        (field.clone(), any::<[u8; 4]>())
            .prop_map(|(field, value)| join([varint(field << 3 | 5), value.to_vec()])),
        (field, any::<u64>()).prop_map(|(field, value)| join([
            varint(field << 3 | 3),
            number(1, value),
            varint(field << 3 | 4),
        ])),
        Just(Vec::new()),
    ]
}

/// Returns a graph with tensors in these files, at any position that a tensor can have.
fn graph(files: Vec<Option<String>>) -> impl Strategy<Value = Vec<u8>> {
    let tensors = files
        .into_iter()
        .map(|file| {
            let tensor = tensor("w", file.as_deref());
            (0..7_u8, unknown(), 0..3_u8).prop_map(move |(place, unknown, wraps)| {
                let attribute = |value: Vec<u8>| bytes(1, &bytes(5, &value));
                let mut member = match place {
                    0 => bytes(5, &tensor),
                    1 => bytes(15, &bytes(1, &tensor)),
                    2 => bytes(15, &bytes(2, &tensor)),
                    3 => attribute(bytes(5, &tensor)),
                    4 => attribute(bytes(10, &tensor)),
                    5 => attribute(bytes(22, &bytes(1, &tensor))),
                    _ => attribute(bytes(23, &bytes(2, &tensor))),
                };
                for wrap in 0..wraps {
                    member = attribute(bytes(if wrap == 0 { 6 } else { 11 }, &member));
                }
                join([unknown, member])
            })
        })
        .collect::<Vec<_>>();
    tensors.prop_map(join)
}

fn models() -> impl Strategy<Value = (BTreeSet<String>, Vec<u8>)> {
    (btree_set("[a-z]{1,8}(/[a-z]{1,8})?", 0..8), 0..8_usize).prop_flat_map(|(files, inline)| {
        let tensors = files.iter().cloned().map(Some);
        let tensors = tensors.chain(std::iter::repeat_n(None, inline)).collect();
        let model =
            (graph(tensors), unknown(), any::<bool>()).prop_map(|(graph, unknown, twice)| {
                let graph = bytes(7, &graph);
                // A repeated graph adds no file.
                let again = if twice { graph.clone() } else { Vec::new() };
                join([number(1, 10), unknown, graph, again])
            });
        (Just(files), model)
    })
}

proptest! {
    #[test]
    fn every_file_is_found_wherever_its_tensor_is((files, model) in models()) {
        let found = read(&model).unwrap().external;
        let found: BTreeSet<String> = found.iter().map(ToString::to_string).collect();
        prop_assert_eq!(found, files);
    }

    #[test]
    fn a_truncated_model_is_rejected_or_names_no_other_file(
        (files, model) in models(),
        length in any::<proptest::sample::Index>(),
    ) {
        if let Ok(found) = read(&model[..length.index(model.len())]) {
            for file in found.external {
                prop_assert!(files.contains(file.as_str()));
            }
        }
    }

    /// As protobuf, and so ONNX Runtime, reads it: the lower 32 bits of a number, and the last known value of several.
    #[test]
    fn a_data_location_of_any_width_is_read_as_onnx_runtime_reads_it(
        written in vec(
            prop_oneof![any::<u64>(), (any::<u32>(), 0..3_u64).prop_map(|(high, low)| u64::from(high) << 32 | low)],
            1..5,
        ),
    ) {
        let locations = join(written.iter().map(|&value| number(14, value)));
        let fields = [number(1, 1), number(2, 1), bytes(8, b"w"), bytes(13, &entry("location", "w.bin")), locations];
        let model = model(&[bytes(5, &join(fields))]);
        let is_external = written.iter().rev().find_map(|value| match value.to_le_bytes() {
            [0, 0, 0, 0, ..] => Some(false),
            [1, 0, 0, 0, ..] => Some(true),
            _ => None,
        });
        let found = read(&model).unwrap().external;
        prop_assert_eq!(found.len(), usize::from(is_external == Some(true)));
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(content in vec(any::<u8>(), 0..2_000)) {
        let _ = read(&content);
    }

    #[test]
    fn a_damaged_model_does_not_panic(
        (_, mut model) in models(),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for (place, byte) in damage {
            let place = place.index(model.len());
            model[place] = byte;
        }
        if let Ok(found) = read(&model) {
            for file in found.external {
                prop_assert!(FilePath::parse(file.as_str()).is_ok());
            }
        }
    }
}

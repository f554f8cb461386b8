//! LSTM layers whose products become integer products.

use super::*;
use crate::tensor::Datatype;

/// Returns a weight of one direction.
fn weight(name: &str, first: f32) -> Vec<u8> {
    let mut numbers = numbers();
    numbers[0] = first;
    bytes(5, &raw(name, FLOAT, &[1, 64, 64], &bytes_of(&numbers)))
}

fn attribute(name: &[u8], value: u64) -> Vec<u8> {
    bytes(5, &join([bytes(1, name), number(3, value), number(20, 2)]))
}

fn lstm(inputs: &[&str]) -> Vec<u8> {
    join([
        node("LSTM", inputs, &["", "y"]),
        attribute(b"hidden_size", 16),
    ])
}

fn dynamic(content: &[u8]) -> (QuantizedWeights, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let result = quantize_in(folder.path(), content, Quantization::Int8Dynamic);
    let (weights, written) = result.unwrap();
    (weights, written.unwrap())
}

fn count(content: &[u8], text: &[u8]) -> usize {
    content.windows(text.len()).filter(|it| *it == text).count()
}

#[test]
fn both_weights_become_integers_and_the_node_keeps_the_rest() {
    let node = lstm(&["x", "w", "r", "b", "lengths"]);
    let fields = vec![weight("w", 1.0), weight("r", 1.0), bytes(1, &node)];
    let (weights, written) = dynamic(&model(&graph(fields)));
    assert_eq!(weights.stored.len(), 2);
    let inputs = [
        "x",
        "w_quantized",
        "r_quantized",
        "b",
        "lengths",
        "",
        "",
        "",
        "w_scale",
        "w_zero_point",
        "r_scale",
        "r_zero_point",
    ];
    let node = join([
        join(inputs.map(|input| bytes(1, input.as_bytes()))),
        bytes(2, b""),
        bytes(2, b"y"),
        attribute(b"hidden_size", 16),
        bytes(4, b"DynamicQuantizeLSTM"),
        bytes(7, b"com.microsoft"),
    ]);
    assert_eq!(count(&written, &bytes(1, &node)), 1);
    let import = bytes(8, &join([bytes(1, b"com.microsoft"), number(2, 1)]));
    assert!(written.ends_with(&import));
    // The model has no weights that the sidecar expands.
    assert_eq!(read(&written).unwrap().weight_storage(), None);

    let again = join([
        model(&graph(vec![
            bytes(1, &lstm(&["x", "w", "r"])),
            weight("w", 1.0),
            weight("r", 1.0),
        ])),
        import.clone(),
    ]);
    assert_eq!(count(&dynamic(&again).1, &import), 1, "one import");
}

#[test]
fn integers_are_those_of_the_gates_transposed() {
    let node = bytes(1, &lstm(&["x", "w", "r"]));
    let (_, written) = dynamic(&model(&graph(vec![
        node,
        weight("w", 1.0),
        weight("r", 1.0),
    ])));
    let parts = initializers(&written);
    let part = |name: &str| {
        let part = parts.iter().find(|part| part.name == name).unwrap();
        (part, stored(&written, part))
    };
    let (integers, of_integers) = part("w_quantized");
    let (scales, of_scales) = part("w_scale");
    let (zeros, of_zeros) = part("w_zero_point");
    assert_eq!(
        (&integers.shape[..], integers.datatype),
        (&[1, 64, 64][..], Datatype::Int8)
    );
    assert_eq!(
        (&scales.shape[..], &zeros.shape[..]),
        (&[1, 64][..], &[1, 64][..])
    );
    assert!(of_zeros.iter().all(|zero| *zero == 0));
    let mut expected = numbers();
    expected[0] = 1.0;
    for gate in 0..64 {
        let scale = f32::from_le_bytes(of_scales[4 * gate..4 * gate + 4].try_into().unwrap());
        for column in 0..64 {
            let integer = of_integers[column * 64 + gate].cast_signed();
            assert!(integer.abs() <= 63, "seven bits");
            let difference = f32::from(integer) * scale - expected[gate * 64 + column];
            assert!(
                difference.abs() <= scale * 0.5001,
                "gate {gate}, column {column}"
            );
        }
    }
}

#[test]
fn an_lstm_stays_whole_if_a_weight_cannot_become_integers() {
    let with = |fields: Vec<Vec<u8>>| dynamic(&model(&graph(fields))).1;
    let node = |inputs: &[&str]| bytes(1, &lstm(inputs));
    let usual = node(&["x", "w", "r"]);
    let batch_first = bytes(1, &join([lstm(&["x", "w", "r"]), attribute(b"layout", 1)]));
    let cases = [
        vec![usual.clone(), weight("w", 1.0), weight("r", f32::NAN)],
        vec![usual.clone(), weight("w", f32::INFINITY), weight("r", 1.0)],
        // The second weight is computed, or is used twice.
        vec![usual.clone(), weight("w", 1.0)],
        vec![
            usual.clone(),
            usual.clone(),
            weight("w", 1.0),
            weight("r", 1.0),
        ],
        vec![node(&["x", "w", "w"]), weight("w", 1.0)],
        vec![batch_first, weight("w", 1.0), weight("r", 1.0)],
    ];
    for (place, fields) in cases.into_iter().enumerate() {
        let written = with(fields);
        assert_eq!(count(&written, b"DynamicQuantizeLSTM"), 0, "{place}");
        assert_eq!(count(&written, b"com.microsoft"), 0, "{place}");
        assert!(!skeleton(&written).weights.is_empty(), "{place}: storage");
    }
}

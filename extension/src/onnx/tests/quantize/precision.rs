//! Precision of stored weights of any shape and content.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Weights of any shape and content keep their names. Each number is within half of a scale, or within FP16's
    /// precision.
    #[test]
    fn any_weights_are_within_their_precision(
        shapes in vec(vec(1_usize..5, 1..3), 1..4),
        operators in vec(0_usize..7, 4),
        scale in -30_i32..30,
        opset in 7_u64..20,
        halves in any::<bool>(),
    ) {
        const OPERATORS: [&str; 7] = ["MatMul", "Gemm", "Conv", "Gather", "LSTM", "ConvTranspose", "Add"];
        let mut fields = Vec::new();
        for (place, shape) in shapes.iter().enumerate() {
            // Large enough to be a weight.
            let shape: Vec<usize> = [&[1024][..], shape].concat();
            let count = shape.iter().product();
            let number = |place: usize| {
                small(place * 7919 % 1000) * 0.001 * f32::powi(2.0, scale) * (1.0 + small(place % 5))
            };
            let numbers: Vec<f32> = (0..count).map(number).collect();
            let name = format!("w{place}");
            fields.push(bytes(5, &raw(&name, FLOAT, &shape, &bytes_of(&numbers))));
            let operator = OPERATORS[operators[place]];
            let inputs = if operator == "Gather" { [name.as_str(), "x"] } else { ["x", name.as_str()] };
            fields.push(bytes(1, &node(operator, &inputs, &[&format!("y{place}")])));
        }
        let operators = join([bytes(1, b""), number(2, opset)]);
        let content = join([number(1, 8), bytes(7, &join(graph(fields))), bytes(8, &operators)]);
        let storage = if halves { WeightStorage::Fp16 } else { WeightStorage::Int8 };
        let (weights, written) = quantize(&content, storage).unwrap();
        prop_assert_eq!(weights.stored.len() + weights.left.len(), shapes.len());
        let Some(written) = written else {
            return Ok(());
        };
        prop_assert!(written.len() < content.len());
        let original = ModelWeights::of(&content);
        let found = skeleton(&written);
        let stored = found.weights.iter().filter(|weight| weight.encoding != Encoding::Plain);
        prop_assert_eq!(stored.count(), weights.stored.len());
        for weight in &found.weights {
            let before = original.numbers(&weight.name);
            let after = expanded(&written, weight);
            prop_assert_eq!(before.len(), after.len());
            for (place, (before, after)) in before.iter().zip(&after).enumerate() {
                let allowed = match &weight.encoding {
                    Encoding::Int8 { scales, run } => scales[place / run % scales.len()] * 0.5001,
                    Encoding::Fp16 => before.abs() / 2048.0 + 3e-8,
                    Encoding::Plain => 0.0,
                };
                prop_assert!((before - after).abs() <= allowed, "{} {}", before, after);
            }
        }
    }
}

/// Weights of a model of the property test, by name.
struct ModelWeights {
    content: Vec<u8>,
    weights: Vec<Weight>,
}

impl ModelWeights {
    fn of(content: &[u8]) -> Self {
        Self {
            content: content.to_vec(),
            weights: initializers(content),
        }
    }

    fn numbers(&self, name: &str) -> Vec<f32> {
        let weight = self.weights.iter().find(|weight| weight.name == name);
        expanded(&self.content, weight.unwrap())
    }
}

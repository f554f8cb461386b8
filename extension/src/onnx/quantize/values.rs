//! Conversion of a weight's numbers.

use half::f16;

/// Largest integer of a stored weight; −128 stays unused, so that integers are symmetric.
pub(super) const MAX_INTEGER: f32 = 127.0;

/// Integers of a weight with the scale of each channel.
#[derive(Debug, PartialEq)]
pub(super) struct Integers {
    pub(super) integers: Vec<i8>,
    pub(super) scales: Vec<f32>,
}

/// Returns the integers of finite numbers, from `-most` to `most`. `run` numbers in a row are of one channel, then
/// follows the next of `channels`. The error of each number is at most half of its channel's scale.
pub(super) fn int8(numbers: &[f32], channels: usize, run: usize, most: f32) -> Integers {
    let mut largest = vec![0_f32; channels];
    for (index, run) in numbers.chunks(run).enumerate() {
        let largest = &mut largest[index % channels];
        *largest = run
            .iter()
            .fold(*largest, |most, number| most.max(number.abs()));
    }
    let scales: Vec<f32> = largest
        .into_iter()
        .map(|largest| scale(largest, most))
        .collect();
    let mut integers = Vec::with_capacity(numbers.len());
    for (index, run) in numbers.chunks(run).enumerate() {
        let scale = scales[index % channels];
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the number is within the range"
        )]
        let integer = |number: &f32| {
            let integer = (number / scale).round_ties_even();
            integer.clamp(-most, most) as i8
        };
        integers.extend(run.iter().map(integer));
    }
    Integers { integers, scales }
}

/// Returns the scale of a channel with this largest absolute value. A channel of zeros has the scale 1. The scale is
/// neither zero nor subnormal, and its products with integers are finite.
fn scale(largest: f32, most: f32) -> f32 {
    if largest == 0.0 {
        return 1.0;
    }
    let scale = (largest / most).max(f32::MIN_POSITIVE);
    if (scale * most).is_finite() {
        scale
    } else {
        scale.next_down()
    }
}

/// Returns the elements of a matrix in the order of its columns. Each row has `width` elements.
pub(super) fn transposed(matrix: &[i8], width: usize) -> impl Iterator<Item = i8> {
    (0..width).flat_map(move |column| matrix.iter().skip(column).step_by(width).copied())
}

/// Returns finite numbers as FP16, little-endian; `None` if one is beyond the range of FP16.
pub(super) fn fp16(numbers: &[f32]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(2 * numbers.len());
    for number in numbers {
        let half = f16::from_f32(*number);
        if !half.is_finite() {
            return None;
        }
        bytes.extend(half.to_le_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded(integers: &Integers, run: usize) -> Vec<f32> {
        let channels = integers.scales.len();
        let expand = |(place, integer): (usize, &i8)| {
            f32::from(*integer) * integers.scales[place / run % channels]
        };
        integers.integers.iter().enumerate().map(expand).collect()
    }

    proptest! {
        #[test]
        fn each_error_is_at_most_half_a_scale(
            channels in 1_usize..6,
            run in 1_usize..6,
            bits in prop::collection::vec(any::<u32>(), 1..20),
        ) {
            let finite = bits.into_iter().map(f32::from_bits).filter(|number| number.is_finite());
            let row: Vec<f32> = finite.collect();
            prop_assume!(!row.is_empty());
            let numbers: Vec<f32> = row.iter().copied().cycle().take(3 * channels * run).collect();
            let found = int8(&numbers, channels, run, MAX_INTEGER);
            prop_assert!(found.scales.iter().all(|scale| scale.is_normal() && *scale > 0.0));
            for (place, (number, back)) in numbers.iter().zip(expanded(&found, run)).enumerate() {
                let scale = f64::from(found.scales[place / run % channels]);
                let error = (f64::from(*number) - f64::from(back)).abs();
                prop_assert!(back.is_finite());
                prop_assert!(error <= scale * 0.5001, "{number} became {back}, scale {scale}");
            }
        }

        #[test]
        fn halves_are_the_nearest(bits in any::<u32>()) {
            let number = f32::from_bits(bits);
            prop_assume!(number.is_finite());
            match fp16(&[number]) {
                Some(bytes) => {
                    let back = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
                    prop_assert!((back - number).abs() <= number.abs() / 2048.0 + 3e-8);
                }
                None => prop_assert!(number.abs() >= 65_504.0),
            }
        }
    }

    #[test]
    fn zeros_and_extremes_stay_finite() {
        let found = int8(&[0.0, 0.0, 1.0, -1.0], 2, 2, MAX_INTEGER);
        assert!((found.scales[0] - 1.0).abs() < f32::EPSILON);
        assert_eq!(found.integers, [0, 0, 127, -127]);
        for extreme in [f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, -1e-45] {
            let found = int8(&[extreme, 0.0], 1, 2, MAX_INTEGER);
            let back = expanded(&found, 2);
            assert!(
                back[0].is_finite() && found.scales[0].is_normal(),
                "{extreme}"
            );
            assert!(
                (back[0] - extreme).abs() <= found.scales[0] * 0.5001,
                "{extreme}"
            );
        }
    }
}

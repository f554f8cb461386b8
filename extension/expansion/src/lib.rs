//! Expansion of weights that are stored as 8-bit integers or FP16 to FP32.
//!
//! A package of its own, so that these loops are compiled for speed and the rest of the sidecar for size. The loops
//! have no state: any part of a weight is expanded alone, so that threads can share a weight.

use std::mem::MaybeUninit;

use half::f16;
use half::slice::{HalfBitsSliceExt as _, HalfFloatSliceExt as _};

/// Number of FP16 numbers that are converted at once.
const BLOCK: usize = 1024;

/// Scales of a weight of 8-bit integers. Each element is its integer times the scale of its channel.
#[derive(Clone, Copy, Debug)]
pub struct Channels<'a> {
    /// Scale of each channel, at least one. After the last channel the first follows.
    pub scales: &'a [f32],
    /// Number of consecutive elements of one channel, at least one.
    pub run: usize,
}

impl Channels<'_> {
    /// Returns the channel of an element, and the number of elements from there to the end of its run.
    fn at(&self, element: usize) -> (usize, usize) {
        let channel = element / self.run % self.scales.len();
        (channel, self.run - element % self.run)
    }
}

/// Expands 8-bit integers, which are the elements of a weight from the index `first` on. Integers are multiplied by
/// their scale in single precision, as ONNX Runtime does, so that the result is the same to the bit.
///
/// # Panics
/// If there are not as many integers as elements, or no scales, or runs without elements.
pub fn int8(stored: &[u8], channels: &Channels<'_>, first: usize, weight: &mut [MaybeUninit<f32>]) {
    assert_eq!(stored.len(), weight.len(), "an integer for each element");
    let (channel, left) = channels.at(first);
    if channels.run == 1 {
        interleaved(stored, channels.scales, channel, weight);
    } else {
        runs(stored, channels, (channel, left), weight);
    }
}

/// Expands integers whose scale changes with each element, from `channel` on.
fn interleaved(
    mut stored: &[u8],
    scales: &[f32],
    channel: usize,
    mut weight: &mut [MaybeUninit<f32>],
) {
    let mut row = &scales[channel..];
    while !stored.is_empty() {
        let length = row.len().min(stored.len());
        let (now, later) = weight.split_at_mut(length);
        for ((byte, scale), to) in stored.iter().zip(row).zip(now) {
            to.write(f32::from(byte.cast_signed()) * scale);
        }
        (stored, weight, row) = (&stored[length..], later, scales);
    }
}

/// Expands runs of integers that share a scale, from `channel` on, of whose run `left` elements are missing.
fn runs(
    mut stored: &[u8],
    channels: &Channels<'_>,
    (mut channel, mut left): (usize, usize),
    mut weight: &mut [MaybeUninit<f32>],
) {
    while !stored.is_empty() {
        let length = left.min(stored.len());
        let (now, later) = weight.split_at_mut(length);
        let scale = channels.scales[channel];
        for (byte, to) in stored.iter().zip(now) {
            to.write(f32::from(byte.cast_signed()) * scale);
        }
        (stored, weight, left) = (&stored[length..], later, channels.run);
        channel = (channel + 1) % channels.scales.len();
    }
}

/// Expands FP16 numbers, which are little-endian.
///
/// # Panics
/// If there are not two bytes for each element.
pub fn fp16(stored: &[u8], weight: &mut [MaybeUninit<f32>]) {
    assert_eq!(stored.len(), 2 * weight.len(), "two bytes for each element");
    let mut halves = [0_u16; BLOCK];
    let mut singles = [0_f32; BLOCK];
    for (stored, weight) in stored.chunks(2 * BLOCK).zip(weight.chunks_mut(BLOCK)) {
        let (halves, singles) = (&mut halves[..weight.len()], &mut singles[..weight.len()]);
        for (half, bytes) in halves.iter_mut().zip(stored.as_chunks().0) {
            *half = u16::from_le_bytes(*bytes);
        }
        halves
            .reinterpret_cast::<f16>()
            .convert_to_f32_slice(singles);
        weight.write_copy_of_slice(singles);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn initialised(weight: &[MaybeUninit<f32>]) -> Vec<f32> {
        #[expect(unsafe_code, reason = "MaybeUninit has no safe read")]
        // SAFETY: the tests begin with initialised elements.
        weight
            .iter()
            .map(|it| unsafe { it.assume_init() })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn each_integer_has_the_scale_of_its_channel(
            channels in 1_usize..40,
            run in 1_usize..40,
            rows in 1_usize..200,
            part in 1_usize..5_000,
        ) {
            let count = rows * channels * run;
            let stored: Vec<u8> = (0..=u8::MAX).cycle().step_by(7).take(count).collect();
            let scales: Vec<f32> = (0..40_u8).map(|channel| 0.1 + f32::from(channel)).take(channels).collect();
            let channels = Channels { scales: &scales, run };
            let mut weight = vec![MaybeUninit::new(f32::NAN); count];
            // Parts from the last to the first, as threads might take them.
            let mut parts: Vec<_> = weight.chunks_mut(part).zip(stored.chunks(part)).enumerate().collect();
            parts.reverse();
            for (index, (weight, stored)) in parts {
                int8(stored, &channels, index * part, weight);
            }
            for (place, found) in initialised(&weight).into_iter().enumerate() {
                let expected = f32::from(stored[place].cast_signed()) * scales[place / run % scales.len()];
                prop_assert_eq!(found.to_bits(), expected.to_bits(), "element {}", place);
            }
        }
    }

    #[test]
    fn every_half_is_expanded_exactly() {
        let halves: Vec<u16> = (0..=u16::MAX).chain([0x3c00]).collect();
        let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
        let mut weight = vec![MaybeUninit::new(0.0); halves.len()];
        fp16(&bytes, &mut weight);
        for (half, found) in halves.into_iter().zip(initialised(&weight)) {
            let expected = f16::from_bits(half).to_f32();
            assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan());
        }
    }
}

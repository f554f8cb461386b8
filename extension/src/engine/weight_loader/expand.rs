//! Expansion of stored weights to FP32 while they are read.
//!
//! Integers are multiplied by their scale in single precision, as ONNX Runtime does, so that the result is the same to
//! the bit. The file is read in small parts, which stay in the CPU's cache.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use half::f16;
use half::slice::{HalfBitsSliceExt as _, HalfFloatSliceExt as _};

/// Size of the parts in bytes.
const PART: usize = 64 * 1024;

/// Expands 8-bit integers at `stored` to `weight`, which has one element per byte. `run` elements in a row have the
/// same scale, then the next; after the last scale the first follows.
pub(super) fn int8(
    file: &File,
    stored: &Range<u64>,
    scales: &[f32],
    run: usize,
    weight: &mut [MaybeUninit<f32>],
) -> io::Result<()> {
    let mut buffer = vec![0_u8; PART.min(weight.len())];
    let (mut channel, mut left) = (0, run);
    for (index, weight) in weight.chunks_mut(PART).enumerate() {
        let part = &mut buffer[..weight.len()];
        file.read_exact_at(part, stored.start + (index * PART) as u64)?;
        if run == 1 {
            channel = interleaved(part, scales, channel, weight);
        } else {
            (channel, left) = runs(part, scales, run, (channel, left), weight);
        }
    }
    Ok(())
}

/// Expands integers whose scale changes with each element, from `channel` on; returns the next channel.
fn interleaved(
    mut stored: &[u8],
    scales: &[f32],
    mut channel: usize,
    mut weight: &mut [MaybeUninit<f32>],
) -> usize {
    while !stored.is_empty() {
        let row = &scales[channel..];
        let length = row.len().min(stored.len());
        let (now, later) = std::mem::take(&mut weight).split_at_mut(length);
        for ((byte, scale), to) in stored.iter().zip(row).zip(now) {
            to.write(f32::from(byte.cast_signed()) * scale);
        }
        (stored, weight) = (&stored[length..], later);
        channel = (channel + length) % scales.len();
    }
    channel
}

/// Expands runs of integers that share a scale, from `channel` on, of whose run `left` elements are missing; returns
/// both after the last element.
fn runs(
    mut stored: &[u8],
    scales: &[f32],
    run: usize,
    (mut channel, mut left): (usize, usize),
    mut weight: &mut [MaybeUninit<f32>],
) -> (usize, usize) {
    while !stored.is_empty() {
        let length = left.min(stored.len());
        let (now, later) = std::mem::take(&mut weight).split_at_mut(length);
        let scale = scales[channel];
        for (byte, to) in stored.iter().zip(now) {
            to.write(f32::from(byte.cast_signed()) * scale);
        }
        (stored, weight) = (&stored[length..], later);
        left -= length;
        if left == 0 {
            left = run;
            channel = (channel + 1) % scales.len();
        }
    }
    (channel, left)
}

/// Expands FP16 numbers at `stored` to `weight`, which has one element per two bytes.
pub(super) fn fp16(
    file: &File,
    stored: &Range<u64>,
    weight: &mut [MaybeUninit<f32>],
) -> io::Result<()> {
    let most = (PART / 2).min(weight.len());
    let mut bytes = vec![0_u8; 2 * most];
    let mut halves = vec![0_u16; most];
    let mut singles = vec![0_f32; most];
    for (index, weight) in weight.chunks_mut(PART / 2).enumerate() {
        let (part, halves) = (&mut bytes[..2 * weight.len()], &mut halves[..weight.len()]);
        file.read_exact_at(part, stored.start + (index * PART) as u64)?;
        for (half, bytes) in halves.iter_mut().zip(part.as_chunks().0) {
            *half = u16::from_le_bytes(*bytes);
        }
        let singles = &mut singles[..weight.len()];
        halves
            .reinterpret_cast::<f16>()
            .convert_to_f32_slice(singles);
        weight.write_copy_of_slice(singles);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

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
            offset in 0_usize..9,
        ) {
            let count = rows * channels * run;
            let stored: Vec<u8> = (0..=u8::MAX).cycle().step_by(7).take(count).collect();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![0; offset]).unwrap();
            file.write_all(&stored).unwrap();
            let scales: Vec<f32> = (0..40_u8).map(|channel| 0.1 + f32::from(channel)).take(channels).collect();
            let mut weight = vec![MaybeUninit::new(f32::NAN); count];
            let span = offset as u64..(offset + count) as u64;
            int8(&file, &span, &scales, run, &mut weight).unwrap();
            for (place, found) in initialised(&weight).into_iter().enumerate() {
                let expected = f32::from(stored[place].cast_signed()) * scales[place / run % channels];
                prop_assert_eq!(found.to_bits(), expected.to_bits(), "element {}", place);
            }
        }
    }

    #[test]
    fn every_half_is_expanded_exactly() {
        let halves: Vec<u16> = (0..=u16::MAX).collect();
        let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mut weight = vec![MaybeUninit::new(0.0); halves.len()];
        fp16(&file, &(0..bytes.len() as u64), &mut weight).unwrap();
        for (half, found) in halves.into_iter().zip(initialised(&weight)) {
            let expected = f16::from_bits(half).to_f32();
            assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan());
        }
    }

    #[test]
    fn a_file_that_is_too_short_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        let mut weight = vec![MaybeUninit::new(0.0); 8];
        assert!(int8(&file, &(0..8), &[1.0], 8, &mut weight).is_err());
        assert!(fp16(&file, &(0..16), &mut weight).is_err());
    }
}

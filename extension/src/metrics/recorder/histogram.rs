//! Distribution with bounded memory and a bounded relative error, without locks.
//!
//! Each power of two has 128 buckets of equal width, as in `HdrHistogram`. The value of a bucket is a number with seven
//! bits after the leading one, to which observations are rounded. The relative error of a value is at most 2^-8
//! (0.4 %), and so is the error of each percentile, because rounding keeps the order. Whole numbers up to 256 are
//! exact. Values below 2^-20 count as 0, values from 2^43 on as the largest value.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a value's fraction that are kept.
const FRACTION_BITS: u32 = 7;
/// Buckets of a power of two.
const BUCKETS: usize = 1 << FRACTION_BITS;
/// Bits of a value's fraction that are rounded.
const DROPPED_BITS: u32 = f64::MANTISSA_DIGITS - 1 - FRACTION_BITS;
/// Smallest exponent of a value above 0, with the bias of 1023: the value 2^-20.
const MIN_EXPONENT: u64 = 1023 - 20;
/// Powers of two: the largest values are terabytes.
const OCTAVES: usize = 63;

/// Counts of the buckets of one power of two.
type Octave = [AtomicU64; BUCKETS];

/// Distribution of all observations so far.
pub(super) struct Histogram {
    zeros: AtomicU64,
    /// Allocated at the first observation in each power of two.
    octaves: [OnceLock<Box<Octave>>; OCTAVES],
}

/// Counts of a histogram that were taken.
#[derive(Default)]
pub(super) struct TakenCounts {
    zeros: u64,
    octaves: Vec<Option<Box<[u64; BUCKETS]>>>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            zeros: AtomicU64::new(0),
            octaves: [const { OnceLock::new() }; OCTAVES],
        }
    }
}

impl Histogram {
    /// Adds an observation; ignores values that are not finite. Negative values count as 0.
    pub(super) fn record(&self, value: f64) {
        if !value.is_finite() {
            return;
        }
        match position(value) {
            None => self.zeros.fetch_add(1, Ordering::Relaxed),
            Some((octave, bucket)) => {
                let octave = self.octaves[octave].get_or_init(empty_octave);
                octave[bucket].fetch_add(1, Ordering::Relaxed)
            }
        };
    }

    /// Returns all values with their counts, in ascending order.
    pub(super) fn values(&self) -> Vec<(f64, u64)> {
        self.since(&mut TakenCounts::default())
    }

    /// Returns the values that were observed since `taken`, with their counts in ascending order, and adds them to
    /// `taken`.
    pub(super) fn since(&self, taken: &mut TakenCounts) -> Vec<(f64, u64)> {
        let mut values = Vec::new();
        let mut add = |value: f64, count: &AtomicU64, taken: &mut u64| {
            let count = count.load(Ordering::Relaxed);
            let new = count - std::mem::replace(taken, count);
            if new > 0 {
                values.push((value, new));
            }
        };
        add(0.0, &self.zeros, &mut taken.zeros);
        taken.octaves.resize_with(OCTAVES, || None);
        for (index, octave) in self.octaves.iter().enumerate() {
            let Some(octave) = octave.get() else {
                continue;
            };
            let taken = taken.octaves[index].get_or_insert_with(|| Box::new([0; BUCKETS]));
            for (bucket, (count, taken)) in octave.iter().zip(taken.iter_mut()).enumerate() {
                add(value_at(index, bucket), count, taken);
            }
        }
        values
    }
}

fn empty_octave() -> Box<Octave> {
    Box::new([const { AtomicU64::new(0) }; BUCKETS])
}

/// Returns the position of a finite value, rounded to the nearest bucket; `None` for 0.
#[expect(clippy::cast_possible_truncation, reason = "the index is limited")]
fn position(value: f64) -> Option<(usize, usize)> {
    if value < f64::from_bits(MIN_EXPONENT << (f64::MANTISSA_DIGITS - 1)) {
        return None;
    }
    // A carry out of the fraction increments the exponent, which is the next power of two.
    let rounded = (value.to_bits() + (1 << (DROPPED_BITS - 1))) >> DROPPED_BITS;
    let index = rounded - (MIN_EXPONENT << FRACTION_BITS);
    let index = (index as usize).min(OCTAVES * BUCKETS - 1);
    Some((index / BUCKETS, index % BUCKETS))
}

/// Returns the value of a bucket.
fn value_at(octave: usize, bucket: usize) -> f64 {
    let index = (octave * BUCKETS + bucket) as u64;
    f64::from_bits((index + (MIN_EXPONENT << FRACTION_BITS)) << DROPPED_BITS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Value of the nearest rank.
    fn percentile(sorted: impl Iterator<Item = (f64, u64)> + Clone, share: f64) -> f64 {
        let total: u64 = sorted.clone().map(|(_, count)| count).sum();
        #[expect(clippy::cast_precision_loss, reason = "few observations")]
        let rank = (total as f64 * share).ceil();
        let mut seen = 0.0;
        for (value, count) in sorted {
            #[expect(clippy::cast_precision_loss, reason = "few observations")]
            let count = count as f64;
            seen += count;
            if seen >= rank {
                return value;
            }
        }
        0.0
    }

    proptest! {
        #[test]
        fn percentiles_are_within_two_percent_of_the_observations(
            exponents in proptest::collection::vec(-5.0..12.0_f64, 1..3_000),
            spread in 0.0..1.0_f64,
        ) {
            let histogram = Histogram::default();
            let mut raw: Vec<f64> = exponents.iter().map(|it| 10_f64.powf(it * spread)).collect();
            for value in &raw {
                histogram.record(*value);
            }
            raw.sort_by(f64::total_cmp);
            let kept = histogram.values();
            prop_assert_eq!(kept.iter().map(|(_, count)| count).sum::<u64>(), raw.len() as u64);
            for share in [0.1, 0.5, 0.9, 0.99, 0.999] {
                let expected = percentile(raw.iter().map(|value| (*value, 1)), share);
                let found = percentile(kept.iter().copied(), share);
                prop_assert!((found - expected).abs() <= 0.02 * expected, "{share}: {found}, {expected}");
            }
        }

        #[test]
        fn every_value_has_a_bucket_with_its_own_value(value in 1e-6..8e12_f64) {
            let (octave, bucket) = position(value).unwrap();
            let kept = value_at(octave, bucket);
            prop_assert!((kept - value).abs() <= value / 256.0, "{value}: {kept}");
            prop_assert_eq!(position(kept), Some((octave, bucket)));
        }
    }

    #[test]
    fn small_whole_numbers_are_exact_and_extremes_are_kept() {
        for value in [0.0, 1.0, 77.0, 200.0, 256.0, 0.5, 1024.0 * 1024.0] {
            let histogram = Histogram::default();
            histogram.record(value);
            assert_eq!(histogram.values(), [(value, 1)]);
        }
        let histogram = Histogram::default();
        for value in [-1.0, 1e-300, f64::MAX, f64::NAN, f64::INFINITY] {
            histogram.record(value);
        }
        let kept = histogram.values();
        assert_eq!(kept[0], (0.0, 2));
        assert_eq!(kept.len(), 2);
        assert!(kept[1].0 > 8e12, "{kept:?}");
    }

    #[test]
    fn counts_are_taken_once() {
        let histogram = Histogram::default();
        let mut taken = TakenCounts::default();
        for _ in 0..3 {
            histogram.record(2.0);
            histogram.record(0.0);
            assert_eq!(histogram.since(&mut taken), [(0.0, 1), (2.0, 1)]);
        }
        assert_eq!(histogram.values(), [(0.0, 3), (2.0, 3)]);
        assert!(histogram.since(&mut taken).is_empty());
    }
}

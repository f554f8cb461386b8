//! Random choice of rows, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Increment of the state of `SplitMix64`. Source: <https://prng.di.unimi.it/splitmix64.c>.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Generator of draws, which threads share.
#[derive(Debug)]
pub(super) struct Draws(AtomicU64);

/// Random number of one request. It decides on the rows and elements that are sampled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw(u64);

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Continues from another seed.
    pub(super) fn reseed(&self, seed: u64) {
        self.0.store(seed, Ordering::Relaxed);
    }

    /// Returns the next draw.
    pub(super) fn next(&self) -> Draw {
        Draw(mixed(self.0.fetch_add(GAMMA, Ordering::Relaxed)))
    }
}

impl Draw {
    /// Returns the position of a sampled row: the `number`th of `sampled` rows out of `rows`. The rows of a sample are
    /// distinct, each position is equally likely, and tensors with as many rows yield the same rows.
    pub(super) fn position(self, number: usize, sampled: usize, rows: usize) -> usize {
        let offset = scaled(self.0, rows);
        let position = match sampled {
            1 => offset,
            _ => number.saturating_mul(rows).saturating_add(offset) / sampled.max(1),
        };
        position.min(rows.saturating_sub(1))
    }

    /// Returns a random number below `choices`, for one histogram and sampled row.
    pub(super) fn below(self, histogram: usize, number: usize, choices: usize) -> usize {
        let key = ((histogram as u64) << 32) ^ number as u64;
        let random = mixed(self.0 ^ mixed(key.wrapping_mul(GAMMA)));
        scaled(random, choices)
    }
}

/// Maps 64 random bits to a number below `limit`.
fn scaled(random: u64, limit: usize) -> usize {
    let scaled = u128::from(random) * (limit as u128);
    usize::try_from(scaled >> 64).unwrap_or(0)
}

/// Output function of `SplitMix64`.
fn mixed(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(GAMMA);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn sampled_rows_are_distinct_and_a_full_sample_has_all() {
        let draws = Draws::new(7);
        for rows in 1..40 {
            for sampled in 1..=rows {
                let draw = draws.next();
                let positions = (0..sampled).map(|number| draw.position(number, sampled, rows));
                let distinct: BTreeSet<usize> = positions.collect();
                assert_eq!(distinct.len(), sampled, "{sampled} of {rows}");
                assert!(distinct.iter().all(|position| *position < rows));
            }
        }
    }

    #[test]
    fn every_row_and_every_element_is_equally_likely() {
        let draws = Draws::new(7);
        let (mut rows, mut elements) = ([0_u32; 10], [0_u32; 10]);
        for number in 0..10_000 {
            let draw = draws.next();
            rows[draw.position(0, 1, 10)] += 1;
            elements[draw.below(number % 256, 0, 10)] += 1;
        }
        // Six standard deviations of a binomial distribution.
        for count in rows.into_iter().chain(elements) {
            assert!(count.abs_diff(1_000) < 180, "{rows:?} {elements:?}");
        }
    }
}

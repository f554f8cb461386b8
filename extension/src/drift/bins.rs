//! Bins of one histogram, as slots in the counts of a window.
//!
//! A histogram has a slot for each bin of its baseline, one for nulls, and one for values outside of all bins. The
//! latter also count in the first or the last bin.

use std::ops::Range;

use crate::manifest::Baseline;

/// Number of inner edges up to which all are compared, without branches.
const MAX_COMPARED: usize = 16;

/// Bins of one histogram. The definition of the bins is that of [`Baseline`].
#[derive(Debug)]
pub(super) struct Bins {
    /// Place of the edges among those of all histograms, which are stored together.
    edges: Range<u32>,
    first_slot: u32,
}

impl Bins {
    /// Creates the bins of `baseline`, whose slots begin at `first_slot`, and adds its edges to those of all
    /// histograms. Returns `None` for fewer than two edges, and for more than 2^32 of all histograms.
    pub(super) fn new(
        baseline: &Baseline,
        first_slot: usize,
        edges: &mut Vec<f64>,
    ) -> Option<Self> {
        let start = u32::try_from(edges.len()).ok()?;
        let end = u32::try_from(edges.len() + baseline.edges.len()).ok()?;
        let first_slot = u32::try_from(first_slot).ok()?;
        if baseline.edges.len() < 2 {
            return None;
        }
        edges.extend_from_slice(&baseline.edges);
        Some(Self {
            edges: start..end,
            first_slot,
        })
    }

    /// Returns the number of bins.
    pub(super) fn len(&self) -> usize {
        self.edges.len() - 1
    }

    /// Returns all slots.
    pub(super) fn slots(&self) -> Range<usize> {
        let first = self.first_slot as usize;
        first..first + self.len() + 2
    }

    /// Adds the slots in which `value` counts: that of its bin or of nulls, and that of values outside. `edges` are the
    /// edges of all histograms.
    #[inline]
    pub(super) fn add_slots(&self, value: f64, edges: &[f64], slots: &mut Vec<u32>) {
        let edges = edges.get(self.edges.start as usize..self.edges.end as usize);
        let Some([first, inner @ .., last]) = edges else {
            return;
        };
        let bins = self.edges.end - self.edges.start - 1;
        if value.is_nan() {
            slots.push(self.first_slot + bins);
            return;
        }
        let is_below = |edge: &f64| *edge <= value;
        let bin = if inner.len() <= MAX_COMPARED {
            inner.iter().map(|edge| u32::from(is_below(edge))).sum()
        } else {
            // At most as many as the edges, whose number fits.
            u32::try_from(inner.partition_point(is_below)).unwrap_or(0)
        };
        slots.push(self.first_slot + bin);
        if value < *first || value > *last {
            slots.push(self.first_slot + bins + 1);
        }
    }

    /// Splits the counts of the histogram's slots into bins, nulls and values outside.
    pub(super) fn split<'a>(&self, counts: &'a [u64]) -> (&'a [u64], u64, u64) {
        let counts = &counts[self.slots()];
        let bins = self.len();
        (&counts[..bins], counts[bins], counts[bins + 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Observed;

    fn bins(edges: &[f64]) -> (Bins, Vec<f64>) {
        let baseline = Baseline {
            of: Observed::Input("x".to_owned()),
            column: None,
            edges: edges.to_vec(),
            counts: vec![1; edges.len() - 1],
            nulls: 0,
        };
        let mut edges = vec![0.0, 1.0];
        (Bins::new(&baseline, 100, &mut edges).unwrap(), edges)
    }

    fn slots((bins, edges): &(Bins, Vec<f64>), value: f64) -> Vec<u32> {
        let mut slots = Vec::new();
        bins.add_slots(value, edges, &mut slots);
        slots
    }

    #[test]
    fn values_count_in_the_upper_bin_and_the_ends_are_open() {
        let three = bins(&[-1.0, 0.0, 2.5, 7.0]);
        let cases = [
            (f64::NEG_INFINITY, 100, true),
            (-1.5, 100, true),
            (-1.0, 100, false),
            (-0.0, 101, false),
            (2.499, 101, false),
            (2.5, 102, false),
            (7.0, 102, false),
            (7.1, 102, true),
            (f64::INFINITY, 102, true),
            (f64::NAN, 103, false),
        ];
        for (value, slot, is_outside) in cases {
            let outside = is_outside.then_some(104);
            let expected: Vec<u32> = std::iter::once(slot).chain(outside).collect();
            assert_eq!(slots(&three, value), expected, "{value}");
        }
        assert_eq!(three.0.slots(), 100..105);
    }

    #[test]
    fn many_bins_and_one_bin_follow_the_same_rule() {
        let edges: Vec<f64> = (0..=100).map(f64::from).collect();
        let many = bins(&edges);
        for value in 0..100_u32 {
            assert_eq!(slots(&many, f64::from(value)), [100 + value]);
            assert_eq!(slots(&many, f64::from(value) + 0.5), [100 + value]);
        }
        let one = bins(&[0.0, 1.0]);
        assert_eq!(slots(&one, 0.5), [100]);
        for value in [-5.0, 5.0] {
            assert_eq!(slots(&one, value), [100, 102]);
        }
    }
}

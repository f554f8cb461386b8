//! Bins of one histogram, as slots in the counts of a window.
//!
//! A value counts in exactly one slot of its histogram. The slots are, in this order: null, below all bins, each bin of
//! the baseline, and above all bins. Values below and above also belong to the first and the last bin, and are
//! [added to them](Bins::split) once the counts are read.

use std::ops::Range;

use crate::manifest::Baseline;

/// Slot of a value that is not counted.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// Number of parts into which each step of the search divides the bounds. A step has no branch that depends on the
/// value, which would often be mispredicted.
const PARTS: u32 = 4;

/// Bins of one histogram. The definition of the bins is that of [`Baseline`].
#[derive(Debug)]
pub(super) struct Bins {
    /// Place of the first bound among those of all histograms, which are stored together.
    first_bound: u32,
    /// Number of bounds: one more than bins.
    bounds: u32,
    first_slot: u32,
    /// Number of bounds in a part of the first step: a power of [`PARTS`].
    step: u32,
}

impl Bins {
    /// Creates the bins of `baseline`, whose slots begin at `first_slot`, and adds its bounds to those of all
    /// histograms. Returns `None` for fewer than two edges, and for more than 2^32 slots of all histograms.
    pub(super) fn new(
        baseline: &Baseline,
        first_slot: usize,
        bounds: &mut Vec<f64>,
    ) -> Option<Self> {
        let [inner @ .., last] = &baseline.edges[..] else {
            return None;
        };
        if inner.is_empty() {
            return None;
        }
        let first_bound = u32::try_from(bounds.len()).ok()?;
        bounds.extend_from_slice(inner);
        // The last bin includes its upper edge.
        bounds.push(last.next_up());
        let count = u32::try_from(baseline.edges.len()).ok()?;
        let mut step = 1;
        while step <= count / PARTS {
            step *= PARTS;
        }
        let bins = Self {
            first_bound,
            bounds: count,
            first_slot: u32::try_from(first_slot).ok()?,
            step,
        };
        (bins.slots().end < NO_SLOT as usize).then_some(bins)
    }

    /// Returns the number of bins.
    pub(super) fn len(&self) -> usize {
        self.bounds as usize - 1
    }

    /// Returns all slots.
    pub(super) fn slots(&self) -> Range<usize> {
        let first = self.first_slot as usize;
        first..first + self.len() + 3
    }

    /// Returns the slot in which `value` counts. `bounds` are the bounds of all histograms.
    #[inline]
    pub(super) fn slot(&self, value: f64, bounds: &[f64]) -> u32 {
        let first = self.first_bound as usize;
        let bounds = bounds.get(first..first + self.bounds as usize);
        let bounds = bounds.unwrap_or_default();
        let is_reached = |place: u32| {
            let bound = bounds.get(place as usize);
            u32::from(bound.is_some_and(|bound| *bound <= value))
        };
        let (mut reached, mut step) = (0, self.step);
        while step > 0 {
            let last = reached + step - 1;
            let parts = is_reached(last) + is_reached(last + step) + is_reached(last + 2 * step);
            reached += parts * step;
            step /= PARTS;
        }
        // A null reaches no bound.
        self.first_slot + reached + u32::from(!value.is_nan())
    }

    /// Returns the number of counted rows. Each value counts in one slot.
    pub(super) fn rows(&self, counts: &[u64]) -> u64 {
        counts[self.slots()].iter().sum()
    }

    /// Splits the counts of the histogram's slots into bins, nulls and values outside, which are also in the bins.
    pub(super) fn split(&self, counts: &[u64]) -> (Vec<u64>, u64, u64) {
        match &counts[self.slots()] {
            [nulls, below, bins @ .., above] => {
                let mut bins = bins.to_vec();
                if let Some(first) = bins.first_mut() {
                    *first += below;
                }
                if let Some(last) = bins.last_mut() {
                    *last += above;
                }
                (bins, *nulls, below + above)
            }
            _ => (Vec::new(), 0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Observed;

    fn baseline_of(edges: &[f64]) -> Baseline {
        Baseline {
            of: Observed::Input("x".to_owned()),
            column: None,
            edges: edges.to_vec(),
            counts: vec![1; edges.len() - 1],
            nulls: 0,
        }
    }

    fn bins(edges: &[f64]) -> (Bins, Vec<f64>) {
        let mut bounds = vec![0.0, 1.0];
        let bins = Bins::new(&baseline_of(edges), 100, &mut bounds);
        (bins.unwrap(), bounds)
    }

    fn slot((bins, bounds): &(Bins, Vec<f64>), value: f64) -> u32 {
        bins.slot(value, bounds)
    }

    #[test]
    fn values_count_in_the_upper_bin_and_the_ends_are_open() {
        let three = bins(&[-1.0, 0.0, 2.5, 7.0]);
        for (value, expected) in [
            (f64::NAN, 100),
            (-f64::NAN, 100),
            (f64::NEG_INFINITY, 101),
            (-1.5, 101),
            (-1.0, 102),
            (-0.0, 103),
            (2.499, 103),
            (2.5, 104),
            (7.0, 104),
            (7.0_f64.next_up(), 105),
            (7.1, 105),
            (f64::INFINITY, 105),
        ] {
            assert_eq!(slot(&three, value), expected, "{value}");
        }
        assert_eq!(three.0.slots(), 100..106);
        let mut counts = vec![0; 106];
        counts[100..].copy_from_slice(&[600_000, 1, 20, 300, 4_000, 50_000]);
        let expected = (vec![21, 300, 54_000], 600_000, 50_001);
        assert_eq!(three.0.split(&counts), expected);
    }

    #[test]
    fn any_number_of_bins_follows_the_same_rule() {
        for count in 1..=300_u32 {
            let edges: Vec<f64> = (0..=count).map(f64::from).collect();
            let many = bins(&edges);
            assert_eq!(slot(&many, -0.5), 101);
            for value in 0..count {
                assert_eq!(slot(&many, f64::from(value)), 102 + value);
                assert_eq!(slot(&many, f64::from(value) + 0.5), 102 + value);
            }
            let last = f64::from(count);
            assert_eq!(slot(&many, last), 101 + count);
            assert_eq!(slot(&many, last + 0.5), 102 + count);
        }
        let one = bins(&[0.0, 1.0]);
        let mut counts = vec![0; 104];
        counts[100..].copy_from_slice(&[4_000, 1, 20, 300]);
        assert_eq!(one.0.split(&counts), (vec![321], 4_000, 301));
        assert!(Bins::new(&baseline_of(&[0.0]), 0, &mut Vec::new()).is_none());
    }
}

//! Histogram of a column: bins by quantiles, or one bin for each of a few distinct values.

use serde_json::Value as Json;
use serde_json::json;

/// Histogram as a manifest has it. Bins are half open; the first and the last are open at the ends.
#[derive(Debug, PartialEq)]
pub(super) struct Histogram {
    edges: Vec<f64>,
    counts: Vec<u64>,
    /// Number of NaN values.
    nulls: u64,
}

impl Histogram {
    /// Counts values in at most `bins` bins; `None` without a finite value.
    pub(super) fn of(mut values: Vec<f64>, bins: usize) -> Option<Self> {
        let all = values.len();
        values.retain(|value| !value.is_nan());
        let nulls = (all - values.len()) as u64;
        values.sort_by(f64::total_cmp);
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let mut distinct: Vec<f64> = finite().collect();
        distinct.dedup();
        let mut edges = match distinct[..] {
            [] => return None,
            // A second bin, so that other values show.
            [only] => vec![below(only), only, above(only)],
            _ if distinct.len() <= bins => {
                let last = above(distinct[distinct.len() - 1]);
                distinct.iter().copied().chain([last]).collect()
            }
            _ => {
                let sorted: Vec<f64> = finite().collect();
                let at = |bin: usize| sorted[(sorted.len() - 1) * bin / bins];
                let mut edges: Vec<f64> = (0..=bins).map(at).collect();
                edges.dedup();
                edges
            }
        };
        // The largest number has no number above it.
        edges.retain(|edge| edge.is_finite());
        let mut counts = vec![0; edges.len() - 1];
        for value in &values {
            let right = edges.partition_point(|edge| edge <= value);
            counts[right.saturating_sub(1).min(edges.len() - 2)] += 1;
        }
        Some(Self {
            edges,
            counts,
            nulls,
        })
    }

    /// JSON of the manifest. `nulls` is left out if there are none.
    pub(super) fn json(&self, side: &str, name: &str, column: Option<usize>) -> Json {
        let mut json = json!({"edges": self.edges, "counts": self.counts});
        json[side] = json!(name);
        if let Some(column) = column {
            json["column"] = json!(column);
        }
        if self.nulls > 0 {
            json["nulls"] = json!(self.nulls);
        }
        json
    }
}

/// A number above `value`, by 1 or as much as its precision needs.
fn above(value: f64) -> f64 {
    (value + 1.0).max(value.next_up())
}

fn below(value: f64) -> f64 {
    (value - 1.0).min(value.next_down())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Histogram {
        Histogram::of(values.to_vec(), 10).expect("numbers")
    }

    #[test]
    fn a_few_values_have_a_bin_each() {
        let histogram = of(&[1.0, 0.0, 1.0, f64::NAN, 1.0]);
        assert_eq!(histogram.edges, [0.0, 1.0, 2.0]);
        assert_eq!((histogram.counts, histogram.nulls), (vec![1, 3], 1));
        let constant = of(&[5.0, 5.0]);
        assert_eq!(
            (constant.edges, constant.counts),
            (vec![4.0, 5.0, 6.0], vec![0, 2])
        );
        assert_eq!(Histogram::of(vec![f64::NAN, f64::INFINITY], 10), None);
    }

    #[test]
    fn many_values_have_bins_of_equal_counts() {
        let values: Vec<f64> = (0..1_001).map(f64::from).collect();
        let histogram = of(&values);
        assert_eq!(histogram.edges.len(), 11);
        assert!(
            histogram
                .counts
                .iter()
                .all(|count| (100..=101).contains(count))
        );
    }

    proptest! {
        #[test]
        fn every_value_is_counted_between_ascending_edges(values in proptest::collection::vec(any::<f64>(), 1..300)) {
            if let Some(histogram) = Histogram::of(values.clone(), 10) {
                prop_assert!(histogram.edges.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(histogram.edges.iter().all(|edge| edge.is_finite()));
                let counted = histogram.counts.iter().sum::<u64>() + histogram.nulls;
                prop_assert_eq!(counted, values.len() as u64);
                prop_assert_eq!(histogram.edges.len(), histogram.counts.len() + 1);
            }
        }
    }
}

//! Straightforward computation of the index from the values themselves, written from the documentation.

/// Baseline of one column.
pub(super) struct Column<'a> {
    pub(super) edges: &'a [f64],
    pub(super) counts: &'a [u64],
    pub(super) nulls: u64,
}

#[derive(Debug)]
pub(super) struct ReferenceIndex {
    pub(super) index: f64,
    pub(super) nulls: u64,
    pub(super) outside: u64,
}

/// Computes the index of `values` against `column`.
pub(super) fn reference_index(column: &Column<'_>, values: &[f64]) -> ReferenceIndex {
    let count = |is_counted: &dyn Fn(f64) -> bool| {
        values.iter().filter(|value| is_counted(**value)).count() as u64
    };
    let (edges, bins) = (column.edges, column.counts.len());
    let mut pairs: Vec<(u64, u64)> = Vec::new();
    for bin in 0..bins {
        let is_above = |value: f64| bin == 0 || value >= edges[bin];
        let is_below = |value: f64| bin == bins - 1 || value < edges[bin + 1];
        let observed = count(&|value| !value.is_nan() && is_above(value) && is_below(value));
        pairs.push((column.counts[bin], observed));
    }
    let nulls = count(&f64::is_nan);
    pairs.push((column.nulls, nulls));
    pairs.retain(|pair| *pair != (0, 0));
    let all_expected: f64 = pairs.iter().map(|pair| number(pair.0) + 0.5).sum();
    let all_observed: f64 = pairs.iter().map(|pair| number(pair.1) + 0.5).sum();
    let mut index = 0.0;
    for (expected, observed) in pairs {
        let e = (number(expected) + 0.5) / all_expected;
        let a = (number(observed) + 0.5) / all_observed;
        index += (a - e) * (a / e).ln();
    }
    ReferenceIndex {
        index,
        nulls,
        outside: count(&|value| value < edges[0] || value > edges[bins]),
    }
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

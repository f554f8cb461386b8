//! Statistics of measured values, for benches and `modelctl tune`.

/// Returns the nearest rank: the smallest of the values that `percent` of them do not exceed. It is 0 without values.
#[must_use]
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        reason = "the number of values is below 2^53"
    )]
    let rank = (sorted.len() as f64 * percent / 100.0).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of a vector, and the rank is whole"
    )]
    let place = (rank as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_sample() {
        let values = [3.0, 1.0, 2.0, 4.0];
        for (percent, expected) in [
            (0.0, 1.0),
            (50.0, 2.0),
            (75.0, 3.0),
            (99.0, 4.0),
            (100.0, 4.0),
        ] {
            let found = percentile(&values, percent);
            assert!((found - expected).abs() < 1e-12, "{percent}");
        }
        assert!(percentile(&[], 50.0).abs() < 1e-12);
    }
}

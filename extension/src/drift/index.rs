//! Population stability index (PSI).
//!
//! With `a` the observed and `e` the expected share of a bin, the index is the sum of `(a - e) * ln(a / e)` over all
//! bins. Source: N. Siddiqi, "Credit Risk Scorecards" (2006). Without drift, the index is distributed like
//! `(1/n + 1/m)` times a chi-squared variable. `n` values are observed and `m` expected, and `b` bins have `b - 1`
//! degrees of freedom. Source: B. Yurdakul, "Statistical Properties of Population Stability Index" (2018),
//! <https://scholarworks.wmich.edu/dissertations/3208>.

/// Pseudo-count that is added to each bin, so that an empty bin has a logarithm.
const SMOOTHING: f64 = 0.5;

/// Returns the population stability index of a sample. Each bin is a pair of its expected and its observed count. Bins
/// that are empty on both sides do not contribute. The index of two equal distributions, and of no bins, is 0.
#[must_use]
pub fn stability_index(bins: &[(u64, u64)]) -> f64 {
    let used = || {
        bins.iter()
            .filter(|(expected, observed)| expected | observed != 0)
    };
    let sum =
        |count: fn(&(u64, u64)) -> u64| -> f64 { used().map(|bin| smoothed(count(bin))).sum() };
    let (all_expected, all_observed) = (sum(|bin| bin.0), sum(|bin| bin.1));
    let terms = used().map(|(expected, observed)| {
        let expected = smoothed(*expected) / all_expected;
        let observed = smoothed(*observed) / all_observed;
        (observed - expected) * (observed / expected).ln()
    });
    // The sum of nothing would be -0.
    terms.fold(0.0, |sum, term| sum + term)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rounded count changes a share by less than 1e-15"
)]
fn smoothed(count: u64) -> f64 {
    count as f64 + SMOOTHING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_example_has_its_index() {
        // Shares of 25 % in four bins, observed as 10, 20, 30 and 40 %: 0.228217 without smoothing.
        let bins = [
            (250_000, 100_000),
            (250_000, 200_000),
            (250_000, 300_000),
            (250_000, 400_000),
        ];
        let index = stability_index(&bins);
        assert!((index - 0.228_217).abs() < 1e-5, "{index}");
    }

    #[test]
    fn empty_bins_are_smoothed_and_unused_ones_left_out() {
        assert_eq!(stability_index(&[]).to_bits(), 0.0_f64.to_bits());
        assert_eq!(
            stability_index(&[(0, 0), (0, 0)]).to_bits(),
            0.0_f64.to_bits()
        );
        let index = stability_index(&[(100, 0), (0, 100)]);
        // Both shares are 100.5 / 101 and 0.5 / 101.
        let expected = 2.0 * (100.0 / 101.0) * (100.5_f64 / 0.5).ln();
        assert!((index - expected).abs() < 1e-12, "{index}");
        let unused = stability_index(&[(100, 0), (0, 0), (0, 100)]);
        assert!((unused - expected).abs() < 1e-12, "{unused}");
    }

    #[test]
    fn huge_counts_do_not_overflow() {
        let index = stability_index(&[(u64::MAX, 1), (u64::MAX, 1)]);
        assert!(index.abs() < 1e-12, "{index}");
    }
}

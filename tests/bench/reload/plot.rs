//! Plot: resident memory over the swaps, and the distribution of latencies in and between swaps.

use anyhow::Result;

use super::{Latencies, SwapTally, memory};
use crate::chart::{Charts, Line};
use crate::figures::{count, percentile};

/// Writes `target/bench/reload.svg`.
pub(super) fn draw(small: &SwapTally, large: &SwapTally, latencies: &Latencies) -> Result<()> {
    let mut charts = Charts::new();
    for (size, tally) in [("100 KB", small), ("12 MB", large)] {
        let memory = memory(tally);
        let most = memory.iter().copied().fold(0.0, f64::max);
        let places = (0_u32..).map(f64::from);
        let points: Vec<_> = places.zip(memory.iter().copied()).collect();
        let line = Line {
            colour: "#1b7f5c",
            name: "",
            points: &points,
        };
        let title = format!("MB resident after each swap, models of {size}");
        charts.add(&title, [count(&memory), most], &[line]);
    }
    let [steady, swapping] = [&latencies.steady, &latencies.swapping].map(|times| shares(times));
    charts.add(
        "latency in ms by percentile of requests, models of 12 MB",
        // The slowest of a hundred thousand would compress the rest.
        [100.0, percentile(&latencies.swapping, 99.5)],
        &[
            Line {
                colour: "#8a8f98",
                name: "steady",
                points: &steady,
            },
            Line {
                colour: "#c0762b",
                name: "in swaps",
                points: &swapping,
            },
        ],
    );
    charts.write("reload")
}

/// The percentiles in steps of half a percent.
fn shares(values: &[f64]) -> Vec<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let percents = (1..=199_u8).map(|step| f64::from(step) / 2.0);
    percents
        .map(|percent| (percent, percentile(&sorted, percent)))
        .collect()
}

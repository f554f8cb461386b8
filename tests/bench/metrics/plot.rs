//! Plot: inferences over the rounds, counted by clients and delivered.

use anyhow::Result;
use lab::soak::deliveries::Progress;

use crate::chart::{Charts, Line};
use crate::figures::count;

/// Writes `target/bench/metrics.svg`.
pub(super) fn draw(progress: &[Progress]) -> Result<()> {
    let of = |value: fn(&Progress) -> f64| -> Vec<(f64, f64)> {
        let rounds = (1_u32..).map(f64::from);
        rounds.zip(progress.iter().map(value)).collect()
    };
    let rounds = count(progress);
    let most = progress.last().map_or(1.0, |last| last.counted);
    let counted = of(|one| one.counted);
    let all = of(|one| one.cloudwatch + one.log);
    let cloudwatch = of(|one| one.cloudwatch);
    let log = of(|one| one.log);
    let mut charts = Charts::new();
    charts.add(
        "inferences so far by round, with all environments shut down after the last one",
        [rounds, most],
        &[
            line("#8a8f98", "counted by clients", &counted),
            line("#1b7f5c", "delivered", &all),
            line("#2b6cc0", "of them in CloudWatch", &cloudwatch),
            line("#c0762b", "of them in the log", &log),
        ],
    );
    let pending = of(|one| (one.counted - one.lost - one.cloudwatch - one.log).max(0.0));
    let highest = pending.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let faults = of(|one| if one.has_fault { 1.0 } else { 0.0 });
    let faults: Vec<_> = faults
        .into_iter()
        .map(|(round, fault)| (round, fault * highest))
        .collect();
    charts.add(
        "inferences that are not delivered yet",
        [rounds, highest],
        &[
            line("#c9cdd3", "rounds with a fault of CloudWatch", &faults),
            line("#a33", "not delivered", &pending),
        ],
    );
    let lost = of(|one| one.lost);
    let highest = lost.last().map_or(1.0, |(_, lost)| lost.max(1.0));
    charts.add(
        "inferences lost by SIGKILL",
        [rounds, highest],
        &[line("#a33", "", &lost)],
    );
    charts.write("metrics")
}

fn line<'a>(colour: &'static str, name: &'a str, points: &'a [(f64, f64)]) -> Line<'a> {
    Line {
        colour,
        name,
        points,
    }
}

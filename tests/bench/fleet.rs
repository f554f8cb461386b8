//! `make bench-fleet`: fifty execution environments of one function, a good new version and a bad
//! one, while environments are created and removed.
//!
//! The function's versions are published by a manifest. Environments are invoked in rounds, each
//! once. Between rounds some environments are removed, and the next round creates others. The bench
//! shows the rollout across the fleet and its cost in requests to S3. No environment may fail or
//! respond wrongly, not even one that starts after the bad version. A minute is scaled to ten
//! seconds here, since results are in intervals of `MODEL_REFRESH_INTERVAL`.

mod plot;
mod published;
mod rounds;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::figures::{Figures, Goal, count, percentile};
use published::Published;
use rounds::{Fleet, Round};

/// Interval between two polls of an environment.
const INTERVAL: Duration = Duration::from_secs(10);
/// Minimum time between rounds; a slow machine takes longer.
const PACE: Duration = Duration::from_millis(500);
/// Number of environments removed after each fifth round.
const CHURN: usize = 2;

/// Published stages, and their duration in intervals.
const STAGES: [(RolloutStage, u32); 4] = [
    (RolloutStage::First, 2),
    (RolloutStage::Canary, 2),
    (RolloutStage::Good, 3),
    (RolloutStage::Bad, 3),
];
/// Percentage of the canary with version 2.
const PERCENT: u8 = 30;

/// Content of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RolloutStage {
    /// Version 1.
    First,
    /// Version 1, and 2 for [`PERCENT`] of the environments.
    Canary,
    /// Version 2, with 1 as its predecessor.
    Good,
    /// Version 3, which is no model, with 2 as its predecessor.
    Bad,
}

pub(crate) async fn run(environments: usize) -> Result<ExitCode> {
    println!(
        "{environments} environments, a good new version and a bad one; development builds, on this machine."
    );
    let begun = Instant::now();
    let published = Published::start().await?;
    published.stage(RolloutStage::First);
    let mut fleet = Fleet::start(&published, environments, INTERVAL).await?;
    println!("\nall started after {:.0} s", begun.elapsed().as_secs_f64());
    let mut figures = Figures::of("fleet");
    let mut bumps = Vec::new();
    for (stage, intervals) in STAGES {
        let from = fleet.mark();
        published.stage(stage);
        bumps.push((stage, from.elapsed));
        let end = Instant::now() + INTERVAL * intervals;
        while Instant::now() < end {
            let next = Instant::now() + PACE;
            fleet.round().await;
            if fleet.rounds.len().is_multiple_of(5) {
                fleet.take_away(CHURN).await?;
            }
            tokio::time::sleep_until(next.into()).await;
        }
        let costs = published.costs(from.wall);
        let living = count(&fleet.function.environments());
        let checks = costs.checks / (living * f64::from(intervals));
        figures.add_with_goal(
            format!("{stage:?}: polls per environment and interval"),
            checks,
            "",
            // Environments that start poll as well.
            Goal::AtMost(1.5),
        );
        figures.add(format!("{stage:?}: model downloads"), costs.transfers, "");
        figures.add(format!("{stage:?}: MB in all"), costs.megabytes, "MB");
        figures.add(
            format!("{stage:?}: environments started"),
            fleet.started_since(from),
            "",
        );
    }
    judge(&mut figures, &fleet, &bumps);
    plot::draw(&fleet, &bumps, &published)?;
    fleet.end().await;
    println!("\ntotal duration {:.0} s", begun.elapsed().as_secs_f64());
    figures.end()
}

fn judge(figures: &mut Figures, fleet: &Fleet, bumps: &[(RolloutStage, f64)]) {
    for problem in fleet.failures.iter().take(3) {
        println!("  {problem}");
    }
    let invocations: usize = fleet.rounds.iter().map(|round| round.asked).sum();
    let invocations = f64::from(u32::try_from(invocations).unwrap_or(u32::MAX));
    figures.add("invocations", invocations, "");
    let failures = count(&fleet.failures);
    figures.add_with_goal("failed or wrong responses", failures, "", Goal::AtMost(0.0));
    let [_, (_, canary), (_, good), (_, bad)] = bumps else {
        return;
    };
    let before = fleet.rounds.iter().filter(|round| round.ended < *canary);
    let early: usize = before.map(|round| round.second).sum();
    let early = f64::from(u32::try_from(early).unwrap_or(u32::MAX));
    let name = "responses of version 2 before its publication";
    figures.add_with_goal(name, early, "", Goal::AtMost(0.0));
    let trial = fleet.rounds.iter().rfind(|round| round.ended < *good);
    if let Some(Round { asked, second, .. }) = trial {
        // Four standard deviations: exceeded by chance in one run out of ten thousand.
        let [asked, second] =
            [asked, second].map(|count| f64::from(u32::try_from(*count).unwrap_or(u32::MAX)));
        let share = f64::from(PERCENT) / 100.0;
        let (mean, spread) = (asked * share, 4.0 * (asked * share * (1.0 - share)).sqrt());
        let name = format!("environments on a canary of {PERCENT} % at the end");
        figures.add_with_goal(name.clone(), second, "", Goal::AtLeast(mean - spread));
        figures.add_with_goal(name, second, "", Goal::AtMost(mean + spread));
    }
    // A round that began before the last environment switched contains responses of the old
    // version.
    let lagging = |round: &&Round| round.began > *good && round.second < round.asked;
    let last = fleet
        .rounds
        .iter()
        .filter(lagging)
        .map(|round| round.ended - good);
    let last = last.fold(0.0, f64::max);
    let interval = INTERVAL.as_secs_f64();
    figures.add_with_goal(
        "intervals until all had the good version",
        last / interval,
        "",
        Goal::AtMost(1.5),
    );
    let half = fleet
        .rounds
        .iter()
        .find(|round| round.began > *good && 2 * round.second >= round.asked);
    let half = half.map_or(f64::INFINITY, |round| round.ended - good);
    figures.add("intervals until half had it", half / interval, "");
    let after = fleet.rounds.iter().filter(|round| round.began > *bad);
    let others: usize = after.map(|round| round.asked - round.second).sum();
    let others = f64::from(u32::try_from(others).unwrap_or(u32::MAX));
    figures.add_with_goal(
        "responses of another than the good version after the bad one",
        others,
        "",
        Goal::AtMost(0.0),
    );
    let times: Vec<f64> = fleet
        .rounds
        .iter()
        .map(|round| round.ended - round.began)
        .collect();
    figures.add("seconds for a round, median", percentile(&times, 50.0), "s");
}

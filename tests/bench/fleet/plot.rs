//! Plot: share of the fleet on the good version, and requests to S3.

use anyhow::Result;

use super::RolloutStage;
use super::published::Published;
use super::rounds::{Fleet, Round};
use crate::chart::{Charts, Line};

/// Writes `target/bench/fleet.svg`.
pub(super) fn draw(
    fleet: &Fleet,
    bumps: &[(RolloutStage, f64)],
    published: &Published,
) -> Result<()> {
    let mut charts = Charts::new();
    let rounds = &fleet.rounds;
    let end = rounds.last().map_or(1.0, |round| round.ended);
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let share = |round: &Round| 100.0 * number(round.second) / number(round.asked.max(1));
    let shares: Vec<_> = rounds
        .iter()
        .map(|round| (round.ended, share(round)))
        .collect();
    let marks: Vec<_> = bumps
        .iter()
        .flat_map(|(_, at)| [(*at, 0.0), (*at, 100.0), (*at, 0.0)])
        .collect();
    charts.add(
        "% of environments on version 2, over seconds",
        [end, 100.0],
        &[
            Line {
                colour: "#1b7f5c",
                name: "version 2",
                points: &shares,
            },
            Line {
                colour: "#c0762b",
                name: "a manifest is published: version 1, a canary of 2, version 2, a bad one",
                points: &marks,
            },
        ],
    );
    let questions = published.per_second(fleet.begun_at);
    let most = questions
        .iter()
        .map(|(_, count)| *count)
        .fold(0.0, f64::max);
    let questions = Line {
        colour: "#1b7f5c",
        name: "",
        points: &questions,
    };
    charts.add("requests to S3 per second", [end, most], &[questions]);
    charts.write("fleet")
}

//! Plot: a bar for each contender's median, with a mark at the 99th percentile; and responses per
//! second.

use anyhow::Result;

use super::{CLIENTS, Rate, Times};
use crate::bars::{Bar, Bars};

/// Writes `target/bench/inference.svg`.
pub(super) fn draw(times: &[Times], rates: &[Rate]) -> Result<()> {
    let mut bars = Bars::new();
    for times in times.chunk_by(|one, next| one.subject == next.subject) {
        let these: Vec<Bar<'_>> = times
            .iter()
            .map(|one| Bar {
                label: one.contender,
                value: one.at(50.0),
                mark: one.at(99.0),
                colour: colour(one.contender),
                words: format!("{:.0} µs", one.at(50.0)),
            })
            .collect();
        let title = format!("{}, sequential requests", times[0].subject);
        bars.group(&title, &these);
    }
    for subject in ["small", "heavy"] {
        let these: Vec<Bar<'_>> = rates
            .iter()
            .filter(|rate| rate.subject == subject)
            .map(|rate| Bar {
                label: rate.contender,
                value: rate.median(),
                mark: rate.median(),
                colour: colour(rate.contender),
                words: format!("{:.0} a second", rate.median()),
            })
            .collect();
        bars.group(&format!("{subject}, {CLIENTS} concurrent callers"), &these);
    }
    bars.write(
        "inference",
        "Times are medians, with the black mark at the 99th percentile. Each group has its own scale.",
    )
}

fn colour(contender: &str) -> &'static str {
    if contender.contains("sidecar") {
        "#1b7f5c"
    } else if [
        super::BARE,
        super::ECHO,
        super::HANDLER_ECHO,
        super::WITHIN,
        super::NOTHING,
    ]
    .contains(&contender)
    {
        "#8a8f98"
    } else {
        "#c0762b"
    }
}

//! Plot: a bar for each contender's first response, with a mark at readiness.

use anyhow::Result;

use super::Run;
use super::contenders::Contender;
use crate::bars::{Bar, Bars};

/// Writes `target/bench/coldstart.svg`.
pub(super) fn draw(runs: &[Run<'_>]) -> Result<()> {
    let mut bars = Bars::new();
    let group = |run: &Run<'_>| (run.setting.name, run.model.label);
    for runs in runs.chunk_by(|one, next| group(one) == group(next)) {
        // 1 KB and 250 MB have no scale in common.
        let (setting, model) = group(&runs[0]);
        let these: Vec<Bar<'_>> = runs.iter().map(bar).collect();
        bars.group(&format!("{setting}, {model}"), &these);
    }
    bars.write(
        "coldstart",
        "Time to the first correct response, medians; the black mark is the end of Init. Each group has its own scale.",
    )
}

fn bar<'a>(run: &Run<'a>) -> Bar<'a> {
    let answer = run.median(|sample| Some(sample.answer)).unwrap_or_default();
    Bar {
        label: run.contender.label(),
        value: answer,
        mark: run.median(|sample| Some(sample.ready)).unwrap_or_default(),
        colour: match run.contender {
            Contender::Python => "#c0762b",
            Contender::Bare | Contender::Load => "#8a8f98",
            _ => "#1b7f5c",
        },
        words: format!("{answer:.0} ms"),
    }
}

//! The plot: a bar for each contender's first answer, its mark of readiness in it.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::Run;
use super::contenders::Contender;

/// Sizes in the plot's own units.
const LEFT: f64 = 190.0;
const BARS: f64 = 560.0;
const LINE: f64 = 18.0;

/// Writes `target/bench/coldstart.svg`.
pub(super) fn draw(runs: &[Run<'_>]) -> Result<()> {
    let folder = lab::artifacts::workspace().join("target/bench");
    let file = folder.join("coldstart.svg");
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&file, svg(runs)))
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("\ndrawn in target/bench/coldstart.svg");
    Ok(())
}

fn svg(runs: &[Run<'_>]) -> String {
    let mut body = String::new();
    let mut down = 10.0;
    let mut before = ("", "");
    for run in runs {
        let [answer, ready] = [
            run.median(|sample| Some(sample.answer)).unwrap_or_default(),
            run.median(|sample| Some(sample.ready)).unwrap_or_default(),
        ];
        let group = (run.setting.name, run.model.label);
        if group != before {
            before = group;
            down += 1.5 * LINE;
            let (setting, model) = group;
            text(
                &mut body,
                10.0,
                down - 5.0,
                "bold",
                &format!("{setting}, {model}"),
            );
        }
        // Each group has its own scale: 1 KB and 250 MB have none in common.
        let group_runs = runs
            .iter()
            .filter(|one| (one.setting.name, one.model.label) == group);
        let longest = group_runs
            .filter_map(|one| one.median(|sample| Some(sample.answer)))
            .fold(f64::MIN_POSITIVE, f64::max);
        let [width, mark] = [answer, ready].map(|value| value / longest * BARS);
        let colour = match run.contender {
            Contender::Sidecar | Contender::Optimised => "#1b7f5c",
            Contender::Python => "#c0762b",
            Contender::Bare | Contender::Load => "#8a8f98",
        };
        text(
            &mut body,
            30.0,
            down + 12.0,
            "normal",
            run.contender.label(),
        );
        let _ = writeln!(
            body,
            r##"<rect x="{LEFT}" y="{down:.0}" width="{width:.1}" height="14" fill="{colour}"/>
<rect x="{:.1}" y="{down:.0}" width="2" height="14" fill="#000"/>"##,
            LEFT + mark
        );
        text(
            &mut body,
            LEFT + width + 6.0,
            down + 12.0,
            "normal",
            &format!("{answer:.0} ms"),
        );
        down += LINE;
    }
    let (wide, high) = (LEFT + BARS + 90.0, down + 40.0);
    text(
        &mut body,
        10.0,
        down + 24.0,
        "normal",
        "To the first right answer, medians; the black mark is when Init ended. Each group has its own scale.",
    );
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0} {high:.0}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
{body}</svg>
"##
    )
}

fn text(body: &mut String, x: f64, y: f64, weight: &str, words: &str) {
    let _ = writeln!(
        body,
        r#"<text x="{x:.0}" y="{y:.0}" font-weight="{weight}">{words}</text>"#
    );
}

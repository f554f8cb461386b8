//! Tables on the terminal.

use std::collections::BTreeSet;

use super::contenders::{Contender, Setting};
use super::models::{MAX_TURNS, Model};
use super::{Run, StartSample};
use crate::figures::percentile;

/// Bytes of a megabyte, as used for files and transfers.
const MB: f64 = 1e6;

pub(super) fn print(settings: &[Setting], models: &[Model], runs: &[Run<'_>]) {
    for setting in settings {
        let here: Vec<&Run<'_>> = runs
            .iter()
            .filter(|run| run.setting.name == setting.name)
            .collect();
        println!(
            "\n{}, {} cold starts each, {} of small models; median and minimum; milliseconds",
            setting.name,
            setting.repetitions,
            setting.repetitions * MAX_TURNS
        );
        println!(
            "{:8} {:10} {:>16} {:>16} {:>10} {:>9} {:>9} {:>9} {:>10} {:>10} {:>10}",
            "model",
            "",
            "first response",
            "ready",
            "load",
            "peak MB",
            "anon. MB",
            "fetched",
            "2nd start",
            "fetched",
            "files read"
        );
        for run in &here {
            row(run);
        }
        println!(
            "\n{}, phases of the sidecar and the bare program, by their own clocks; medians",
            setting.name
        );
        for model in models {
            let these = here.iter().filter(|run| run.model.name == model.name);
            for run in these.filter(|run| run.contender != Contender::Python) {
                println!(
                    "{:8} {:10} {}",
                    model.label,
                    run.contender.label(),
                    phases(run)
                );
            }
        }
    }
}

fn row(run: &Run<'_>) {
    let both = |of: fn(&StartSample) -> f64| {
        let values = run.values(|sample| Some(of(sample)));
        let (median, least) = (percentile(&values, 50.0), percentile(&values, 0.0));
        format!("{median:.0} ({least:.0})")
    };
    let one = |of: &dyn Fn(&StartSample) -> Option<f64>, digits: usize| {
        run.median(of)
            .map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let second = |sample: &StartSample| sample.second.as_ref().map(|second| second.answer);
    let again = |sample: &StartSample| sample.second.as_ref().map(|second| second.fetched / MB);
    println!(
        "{:8} {:10} {:>16} {:>16} {:>10} {:>9} {:>9} {:>9} {:>10} {:>10} {:>10}",
        run.model.label,
        run.contender.label(),
        both(|sample| sample.answer),
        both(|sample| sample.ready),
        one(&|sample| sample.phases.get("load").copied(), 1),
        one(&|sample| Some(sample.peak_mb), 0),
        one(&|sample| Some(sample.anonymous_mb), 0),
        one(&|sample| Some(sample.fetched / MB), 3),
        one(&second, 0),
        one(&again, 3),
        one(&|sample| sample.files_read.map(|bytes| bytes / MB), 1),
    );
}

/// `total 12.3, fetch 4.5, …`: the total first, then the phases.
fn phases(run: &Run<'_>) -> String {
    let names: BTreeSet<&String> = run
        .samples
        .iter()
        .flat_map(|sample| sample.phases.keys())
        .collect();
    let mut words: Vec<String> = names
        .into_iter()
        .filter_map(|name| {
            let value = run.median(|sample| sample.phases.get(name).copied())?;
            Some(format!("{name} {value:.1}"))
        })
        .collect();
    words.sort_by_key(|word| !word.starts_with("total"));
    if let Some(value) = run.median(|sample| sample.after_last_byte) {
        words.push(format!("| last byte to ready {value:.1}"));
    }
    words.join(", ")
}

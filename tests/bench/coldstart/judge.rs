//! Measured values against the goals of this project.

use anyhow::{Context as _, Result};

use super::contenders::{ColdstartArtifacts, Contender};
use super::models::Model;
use super::{FRESH_HOST, Run, StartSample};
use crate::figures::{Figures, Goal};

/// Maximum ratio to the bare program's time, on loopback.
const OVER_BARE: f64 = 1.15;
/// Maximum ratio of the time after the last byte to the bare load.
const OVER_LOAD: f64 = 1.1;
/// Model whose load takes less time than its verification and writing. The number is the maximum
/// time after the last byte above the bare load, in milliseconds.
const ABOVE_LOAD: (&str, f64) = ("wine-v1", 2.0);
/// Minimum ratio of Python's time to the sidecar's, by model.
const FASTER_THAN_PYTHON: [(&str, f64); 2] = [("wine-v1", 8.0), ("tabular-12mb", 4.0)];
/// Model for the comparison of memory, and the maximum ratio to Python's.
const MEMORY: (&str, f64) = ("tabular-250mb", 0.8);
/// Model for the goals of the optimised artefact. The goals are the maximum ratio of anonymous
/// memory to Python's, and the minimum ratio of Python's time to the sidecar's. Mapped weights are
/// not counted, because the kernel can drop them.
const OPTIMISED: (&str, f64, f64) = ("tabular-250mb", 0.2, 2.5);
/// Maximum ratio of the quantized model's first response to the plain model's on the link, by model.
const QUANTIZED: [(&str, f64); 2] = [("tabular-100mb", 0.38), ("tabular-250mb", 0.35)];
/// Model whose memory is measured after the first response, and the maximum resident memory of the
/// sidecar, in MB.
const RESIDENT: (&str, f64) = ("wine-v1", 35.0);
/// Maximum size of the released binary, in MB.
const SHIPPED: f64 = 10.0;

pub(super) fn figures(
    artifacts: &ColdstartArtifacts,
    models: &[Model],
    runs: &[Run<'_>],
) -> Result<Figures> {
    let mut figures = Figures::of("coldstart");
    for model in models {
        loopback(&mut figures, model, runs)?;
    }
    for model in models {
        link(&mut figures, model, runs)?;
    }
    if runs.iter().any(|run| run.setting.name == FRESH_HOST) {
        for model in models.iter().filter(|model| !model.is_optimised()) {
            fresh_host(&mut figures, model, runs)?;
        }
    }
    let fetched = runs.iter().filter(|run| run.contender.is_sidecar());
    let fetched = fetched
        .flat_map(|run| run.values(|sample| sample.second.as_ref().map(|second| second.fetched)));
    figures.add_with_goal(
        "second start in an environment: most fetched",
        fetched.fold(0.0, f64::max),
        "bytes",
        Goal::AtMost(0.0),
    );
    #[expect(clippy::cast_precision_loss, reason = "a file of some megabytes")]
    let shipped = std::fs::metadata(artifacts.sidecar())?.len() as f64 / 1e6;
    figures.add_with_goal("the shipped binary", shipped, "MB", Goal::Below(SHIPPED));
    Ok(figures)
}

fn loopback(figures: &mut Figures, model: &Model, runs: &[Run<'_>]) -> Result<()> {
    let of = |contender, number: fn(&StartSample) -> Option<f64>| {
        median(runs, "loopback", contender, model, number)
    };
    let label = model.label;
    let ready = of(Contender::Sidecar, ready)? / of(Contender::Bare, ready)?;
    let name = format!("loopback, {label}: sidecar ready over bare program");
    figures.add_with_goal(name, ready, "×", Goal::AtMost(OVER_BARE));
    let own = of(Contender::Sidecar, total)? / of(Contender::Bare, total)?;
    let name = format!("loopback, {label}: the same by their own clocks");
    figures.add(name, own, "×");
    let first = of(Contender::Sidecar, answer)? / of(Contender::Bare, answer)?;
    let name = format!("loopback, {label}: sidecar's first response over bare program");
    figures.add(name, first, "×");

    let python = of(Contender::Python, answer)? / of(Contender::Sidecar, answer)?;
    let name = format!("loopback, {label}: python's first response over sidecar");
    let goal = FASTER_THAN_PYTHON.iter().find(|(of, _)| *of == model.name);
    match goal {
        Some((_, times)) => figures.add_with_goal(name, python, "×", Goal::AtLeast(*times)),
        None => figures.add(name, python, "×"),
    }
    let restored = of(Contender::Restored, answer)?;
    let name = format!("loopback, {label}: first response after the restore of a snapshot");
    figures.add(name, restored, "ms");
    let memory = of(Contender::Sidecar, peak)? / of(Contender::Python, peak)?;
    let name = format!("loopback, {label}: peak memory over python's");
    if model.name == MEMORY.0 {
        figures.add_with_goal(name, memory, "×", Goal::AtMost(MEMORY.1));
    } else {
        figures.add(name, memory, "×");
    }
    let memory = of(Contender::Sidecar, anonymous)? / of(Contender::Python, anonymous)?;
    let name = format!("loopback, {label}: peak anonymous memory over python's");
    figures.add(name, memory, "×");
    if model.is_optimised() {
        let faster = of(Contender::Python, answer)? / of(Contender::Optimised, answer)?;
        let faster_name =
            format!("loopback, {label}: python's first response over sidecar, optimised");
        let memory = of(Contender::Optimised, peak)? / of(Contender::Python, peak)?;
        let memory_name = format!("loopback, {label}: peak memory over python's, optimised");
        figures.add(memory_name, memory, "×");
        let memory = of(Contender::Optimised, anonymous)? / of(Contender::Python, anonymous)?;
        let memory_name =
            format!("loopback, {label}: peak anonymous memory over python's, optimised");
        if model.name == OPTIMISED.0 {
            figures.add_with_goal(faster_name, faster, "×", Goal::AtLeast(OPTIMISED.2));
            figures.add_with_goal(memory_name, memory, "×", Goal::AtMost(OPTIMISED.1));
        } else {
            figures.add(faster_name, faster, "×");
            figures.add(memory_name, memory, "×");
        }
    }
    if model.name == RESIDENT.0 {
        let resident = of(Contender::Sidecar, |sample| sample.resident_mb)?;
        let name = format!("loopback, {label}: resident after the first response");
        figures.add_with_goal(name, resident, "MB", Goal::AtMost(RESIDENT.1));
    }
    Ok(())
}

fn link(figures: &mut Figures, model: &Model, runs: &[Run<'_>]) -> Result<()> {
    let of = |contender, number: fn(&StartSample) -> Option<f64>| {
        median(runs, "link", contender, model, number)
    };
    let label = model.label;
    let tail = of(Contender::Sidecar, |sample| sample.after_last_byte)?;
    let load = of(Contender::Load, |sample| sample.phases.get("load").copied())?;
    let name = format!("link, {label}: last byte to ready over bare load");
    if model.name == ABOVE_LOAD.0 {
        figures.add(name, tail / load, "×");
        let name = format!("link, {label}: last byte to ready above bare load");
        figures.add_with_goal(name, tail - load, "ms", Goal::AtMost(ABOVE_LOAD.1));
    } else {
        figures.add_with_goal(name, tail / load, "×", Goal::AtMost(OVER_LOAD));
    }
    let ready = of(Contender::Sidecar, ready)? / of(Contender::Bare, ready)?;
    let name = format!("link, {label}: sidecar ready over bare program");
    figures.add(name, ready, "×");
    let python = of(Contender::Python, answer)? / of(Contender::Sidecar, answer)?;
    let name = format!("link, {label}: python's first response over sidecar");
    figures.add(name, python, "×");
    if model.is_optimised() {
        let python = of(Contender::Python, answer)? / of(Contender::Optimised, answer)?;
        let name = format!("link, {label}: python's first response over sidecar, optimised");
        figures.add(name, python, "×");
        let part = of(Contender::Compressed, answer)? / of(Contender::Sidecar, answer)?;
        let name = format!("link, {label}: first response with Zstandard over plain");
        figures.add(name, part, "×");
    }
    if let Some((_, most)) = QUANTIZED.iter().find(|(of, _)| *of == model.name) {
        let part = of(Contender::Int8, answer)? / of(Contender::Sidecar, answer)?;
        let name = format!("link, {label}: first response with int8 weights over plain");
        figures.add_with_goal(name, part, "×", Goal::AtMost(*most));
    }
    Ok(())
}

fn fresh_host(figures: &mut Figures, model: &Model, runs: &[Run<'_>]) -> Result<()> {
    let of = |contender, number: fn(&StartSample) -> Option<f64>| {
        median(runs, FRESH_HOST, contender, model, number)
    };
    let label = model.label;
    let own = of(Contender::Sidecar, ready)?;
    figures.add(format!("fresh host, {label}: sidecar ready"), own, "ms");
    let bare = own / of(Contender::Bare, ready)?;
    let name = format!("fresh host, {label}: sidecar ready over bare program");
    figures.add(name, bare, "×");
    let python = of(Contender::Python, answer)? / of(Contender::Sidecar, answer)?;
    let name = format!("fresh host, {label}: python's first response over sidecar");
    figures.add(name, python, "×");
    Ok(())
}

fn median(
    runs: &[Run<'_>],
    setting: &str,
    contender: Contender,
    model: &Model,
    number: fn(&StartSample) -> Option<f64>,
) -> Result<f64> {
    let mut these = runs.iter().filter(|run| {
        run.setting.name == setting && run.contender == contender && run.model.name == model.name
    });
    let run = these.next();
    run.and_then(|run| run.median(number)).with_context(|| {
        let who = contender.label();
        format!("{setting}: {who} has no such value with {}", model.name)
    })
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "same signature as the optional values"
)]
fn ready(sample: &StartSample) -> Option<f64> {
    Some(sample.ready)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "same signature as the optional values"
)]
fn answer(sample: &StartSample) -> Option<f64> {
    Some(sample.answer)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "same signature as the optional values"
)]
fn anonymous(sample: &StartSample) -> Option<f64> {
    Some(sample.anonymous_mb)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "same signature as the optional values"
)]
fn peak(sample: &StartSample) -> Option<f64> {
    Some(sample.peak_mb)
}

fn total(sample: &StartSample) -> Option<f64> {
    sample.phases.get("total").copied()
}

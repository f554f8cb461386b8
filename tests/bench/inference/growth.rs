//! `make bench-growth`: time and memory with the number of rows in a request, of models in a process, and of callers.
//!
//! The same run measures the alternatives: ONNX Runtime in a Python process, and Python's servers with a worker for
//! each CPU. The plot has logarithmic axes.

mod callers;
mod models;
mod python;
mod rows;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use super::contenders::{self, InferenceArtifacts};
use super::subject::Subject;
use crate::chart::{Charts, Line};
use crate::figures::Figures;

/// Colours of the lines, in the order of the contenders.
const COLOURS: [&str; 7] = [
    "#1b7f5c", "#5fb59a", "#c0762b", "#e0a96d", "#7a5ea8", "#8a8f98", "#3a6ea5",
];

/// Values of one contender by size.
struct Series {
    contender: &'static str,
    points: Vec<(usize, f64)>,
}

impl Series {
    fn of(contender: &'static str) -> Self {
        Self {
            contender,
            points: Vec::new(),
        }
    }

    /// Value at a size; NaN if it was not measured.
    fn at(&self, size: usize) -> f64 {
        let mut points = self.points.iter();
        points
            .find(|point| point.0 == size)
            .map_or(f64::NAN, |point| point.1)
    }
}

/// Runs the bench.
pub(crate) async fn run() -> Result<ExitCode> {
    let started = Instant::now();
    let artifacts = InferenceArtifacts::find()?;
    super::print_conditions(&artifacts)?;
    let small = Subject::of(&artifacts.models(), "small")?;
    let sidecar = contenders::sidecar(&artifacts, std::slice::from_ref(&small)).await?;
    let others = contenders::python_servers(&artifacts)?;
    let mut figures = Figures::of("growth");
    let mut charts = Charts::new();
    tokio::task::block_in_place(|| {
        for other in &others {
            other.wait(&small)?;
        }
        rows::measure(
            &artifacts,
            &small,
            &sidecar,
            &others,
            &mut figures,
            &mut charts,
        )?;
        callers::measure(&small, &sidecar, &others, &mut figures, &mut charts)
    })?;
    // They would use a share of the CPUs.
    drop((sidecar, others));
    models::measure(&artifacts, &small, &mut figures, &mut charts).await?;
    charts.write("growth")?;
    println!("\ntotal duration {} s", started.elapsed().as_secs());
    figures.end()
}

/// Prints a table with a column for each contender, and adds its plot.
fn show(charts: &mut Charts, title: &str, size: &str, all: &[Series]) {
    println!("\n{title}");
    print!("{size:>10}");
    for series in all {
        print!("{:>34}", series.contender);
    }
    println!();
    let sizes = all.iter().flat_map(|series| &series.points);
    let mut sizes: Vec<usize> = sizes.map(|point| point.0).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in &sizes {
        print!("{size:>10}");
        for series in all {
            match series.at(*size) {
                value if value.is_nan() => print!("{:>34}", "-"),
                value => print!("{value:>34.3}"),
            }
        }
        println!();
    }
    draw(charts, title, size, all);
}

/// Adds a chart whose axes are logarithms to base 10.
fn draw(charts: &mut Charts, title: &str, size: &str, all: &[Series]) {
    let values = all.iter().flat_map(|series| &series.points);
    // A value of zero, such as memory that does not grow, has no logarithm and is drawn at the lowest other value.
    let lowest = values
        .map(|point| point.1)
        .filter(|value| *value > 0.0)
        .fold(f64::INFINITY, f64::min);
    let floor = lowest.log10().floor();
    let logarithms = |series: &Series| -> Vec<(f64, f64)> {
        let points = series.points.iter();
        points
            .map(|(size, value)| (float(*size).log10(), value.max(lowest).log10() - floor))
            .collect()
    };
    let points: Vec<Vec<(f64, f64)>> = all.iter().map(logarithms).collect();
    let most = |of: fn(&(f64, f64)) -> f64| points.iter().flatten().map(of).fold(0.0, f64::max);
    let axes = [most(|point| point.0), most(|point| point.1)];
    let lines: Vec<Line<'_>> = all
        .iter()
        .zip(&points)
        .zip(COLOURS)
        .map(|((series, points), colour)| Line {
            colour,
            name: series.contender,
            points,
        })
        .collect();
    let title = format!("{title}; x: powers of ten of {size}, y: powers of ten above 1e{floor}");
    charts.add(&title, axes, &lines);
}

#[expect(clippy::cast_precision_loss, reason = "all sizes are below 2^53")]
fn float(size: usize) -> f64 {
    size as f64
}

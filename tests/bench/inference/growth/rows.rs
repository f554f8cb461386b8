//! Rows in one request: time and memory per row.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::python::Python;
use super::{Series, float, show};
use crate::chart::Charts;
use crate::figures::{Figures, Goal, percentile};
use crate::inference::client::{Address, Client};
use crate::inference::contenders::{InferenceArtifacts, ServerProcess};
use crate::inference::subject::Subject;
use lab::soak::usage::Usage;

const SIZES: [usize; 6] = [1, 10, 100, 1_000, 10_000, 100_000];
/// Rows of all requests of one size.
const TOTAL: usize = 200_000;
/// Maximum ratio of the time per row with 100,000 rows to the time with 1,000 rows.
const GROWTH: f64 = 1.5;

pub(super) fn measure(
    artifacts: &InferenceArtifacts,
    subject: &Subject,
    sidecar: &ServerProcess,
    others: &[ServerProcess],
    figures: &mut Figures,
    charts: &mut Charts,
) -> Result<()> {
    let unix = &sidecar.addresses[0];
    let mut json = Series::of("sidecar, JSON");
    let mut binary = Series::of("sidecar, binary");
    let mut python_json = Series::of("ONNX Runtime in Python, JSON");
    let mut python_binary = Series::of("ONNX Runtime in Python, NumPy");
    let mut memory = [
        Series::of("sidecar, JSON"),
        Series::of("sidecar, binary"),
        Series::of("ONNX Runtime in Python, JSON"),
        Series::of("ONNX Runtime in Python, NumPy"),
    ];
    let mut servers: Vec<Series> = others.iter().map(|one| Series::of(one.name)).collect();
    let mut python = Python::start(artifacts, subject)?;
    for rows in SIZES {
        let calls = (TOTAL / rows).clamp(3, 500);
        let plain = subject.plain_rows("/models/small/predict", rows);
        let tensors = subject.binary_rows(rows);
        let pid = sidecar.process.pid();
        let ours = [(&plain, &mut json, 0), (&tensors, &mut binary, 1)];
        for (request, series, place) in ours {
            let before = reset_peak(pid)?;
            let time = median(unix, request, calls, rows)?;
            series.points.push((rows, time / float(rows)));
            let grown = f64::from(Usage::of(pid)?.peak) - before;
            memory[place]
                .points
                .push((rows, grown.max(0.0) / float(rows)));
        }
        for (form, series, place) in [
            ("json", &mut python_json, 2),
            ("numpy", &mut python_binary, 3),
        ] {
            let before = reset_peak(python.pid())?;
            let time = python.median(form, rows, calls)?;
            series.points.push((rows, time / float(rows)));
            let grown = f64::from(Usage::of(python.pid())?.peak) - before;
            memory[place]
                .points
                .push((rows, grown.max(0.0) / float(rows)));
        }
        let plain = subject.plain_rows("/predict", rows);
        for (server, series) in others.iter().zip(&mut servers) {
            let time =
                median(&server.addresses[0], &plain, calls.min(50), rows).context(server.name)?;
            series.points.push((rows, time / float(rows)));
        }
    }
    let rows = 100_000;
    let growth = json.at(rows) / json.at(1_000);
    let name = "rows: time per row in JSON, 100,000 over 1,000 rows";
    figures.add_with_goal(name, growth, "×", Goal::AtMost(GROWTH));
    let growth = binary.at(rows) / binary.at(1_000);
    let name = "rows: time per row in binary, 100,000 over 1,000 rows";
    figures.add_with_goal(name, growth, "×", Goal::AtMost(GROWTH));
    for size in [1_000, rows] {
        let ratio = python_json.at(size) / json.at(size);
        let name = format!("rows: ONNX Runtime in Python over the sidecar, {size} rows in JSON");
        figures.add(name, ratio, "×");
        for server in &servers {
            let ratio = server.at(size) / json.at(size);
            let name = format!(
                "rows: {} over the sidecar, {size} rows in JSON",
                server.contender
            );
            figures.add(name, ratio, "×");
        }
    }
    let ratio = memory[0].at(rows) / memory[2].at(rows);
    let name = "rows: memory per row in JSON, of ONNX Runtime in Python, 100,000 rows";
    figures.add(name, ratio, "×");
    let mut times = vec![json, binary, python_json, python_binary];
    times.extend(servers);
    show(charts, "time per row in microseconds", "rows", &times);
    show(charts, "peak memory per row in KB", "rows", &memory);
    Ok(())
}

/// Median time of a request in microseconds.
fn median(address: &Address, request: &[u8], calls: usize, rows: usize) -> Result<f64> {
    let mut client = Client::connect(address)?;
    let answer = client.ask(request)?;
    let values = answer.split(|byte| *byte == b',').count();
    anyhow::ensure!(values >= rows, "the response has fewer than {rows} values");
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let started = Instant::now();
        client.ask(request)?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(percentile(&times, 50.0))
}

/// Restarts the count of a process's peak memory, and returns its resident memory in KB.
fn reset_peak(pid: i32) -> Result<f64> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5")
        .with_context(|| format!("cannot reset the peak memory of process {pid}"))?;
    Ok(f64::from(Usage::of(pid)?.resident))
}

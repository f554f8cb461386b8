//! Start of ONNX Runtime in a new process, split: the part of a cold start that no program can avoid.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::contenders::ColdstartArtifacts;
use super::start::phases;
use crate::figures::{Figures, percentile};

/// Number of processes.
const STARTS: usize = 30;
/// Parts of the start, in the order of `bench-open`'s output.
const PARTS: [&str; 4] = ["library", "environment", "first_session", "second_session"];

/// Durations of the parts in milliseconds, by process.
pub(super) struct OnnxRuntimeStarts {
    parts: Vec<Vec<f64>>,
}

impl OnnxRuntimeStarts {
    /// Starts ONNX Runtime with the smallest model, one process after another.
    pub(super) fn measure(artifacts: &ColdstartArtifacts) -> Result<Self> {
        let mut parts = vec![Vec::new(); PARTS.len()];
        for _ in 0..STARTS {
            let output = Command::new(artifacts.open())
                .args([artifacts.library(), artifacts.models().join("wine-v1.onnx")])
                .output()?;
            ensure!(
                output.status.success(),
                "bench-open failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            let line = String::from_utf8(output.stdout)?;
            let phases = phases(&line);
            for (part, durations) in PARTS.into_iter().zip(&mut parts) {
                let duration = phases.get(part);
                durations.push(*duration.with_context(|| format!("no {part} in {line:?}"))?);
            }
        }
        Ok(Self { parts })
    }

    pub(super) fn print(&self) {
        println!("\nONNX Runtime in a new process, with 1 KB; milliseconds: median (minimum)");
        for (part, durations) in PARTS.into_iter().zip(&self.parts) {
            let [median, least] = [50.0, 0.0].map(|percent| percentile(durations, percent));
            println!("  {:16}{median:>8.2} ({least:.2})", part.replace('_', " "));
        }
    }

    pub(super) fn judge(&self, figures: &mut Figures) {
        for (part, durations) in PARTS.into_iter().zip(&self.parts) {
            let name = format!("ONNX Runtime, {}", part.replace('_', " "));
            figures.add(name, percentile(durations, 50.0), "ms");
        }
    }
}

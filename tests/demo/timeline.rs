//! Phases of a cold start: the sidecar's own `ready` line, drawn to scale.
//!
//! After reading its configuration, the sidecar opens ONNX Runtime on a thread of its own. In
//! parallel it registers, builds its parts, polls S3 and downloads. Loading the model needs all but
//! the registration.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::console::Console;

/// Cells of the chart: a line's width less name, number and spaces.
const CELLS: usize = 42;
/// The line is written shortly after the end of its last phase, and rounded.
const ROUNDING_MS: f64 = 0.01;

/// Fields of the line, in milliseconds.
#[derive(Debug, Deserialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the names of the log line, units included"
)]
pub(crate) struct Ready {
    register_ms: f64,
    configure_ms: f64,
    build_ms: f64,
    open_onnxruntime_ms: f64,
    cache_ms: f64,
    check_ms: f64,
    fetch_ms: f64,
    load_ms: f64,
    pub(crate) total_ms: f64,
}

/// One bar.
struct Bar {
    name: &'static str,
    begins: f64,
    lasts: f64,
}

impl Ready {
    pub(crate) fn read(line: &str) -> Result<Self> {
        let ready: Self = serde_json::from_str(line)
            .with_context(|| format!("the line \"ready\" has no such phase: {line}"))?;
        let bars = ready.bars();
        for bar in &bars {
            ensure!(
                bar.begins + bar.lasts <= ready.total_ms + ROUNDING_MS,
                "\"{}\" ends after the total: {line}",
                bar.name
            );
        }
        Ok(ready)
    }

    fn bars(&self) -> Vec<Bar> {
        let one_after_the_other = [
            ("read configuration", self.configure_ms),
            ("bind, create clients", self.build_ms),
            ("search the cache", self.cache_ms),
            ("poll S3", self.check_ms),
            ("download the model", self.fetch_ms),
            ("load the model", self.load_ms),
        ];
        let mut begins = 0.0;
        let mut bars: Vec<Bar> = one_after_the_other
            .into_iter()
            .map(|(name, lasts)| {
                let bar = Bar {
                    name,
                    begins,
                    lasts,
                };
                begins += lasts;
                bar
            })
            .collect();
        for (name, lasts) in [
            ("open ONNX Runtime", self.open_onnxruntime_ms),
            ("register with Lambda", self.register_ms),
        ] {
            let bar = Bar {
                name,
                begins: self.configure_ms,
                lasts,
            };
            bars.insert(1, bar);
        }
        bars
    }

    pub(crate) fn draw(&self, console: &Console) {
        for bar in self.bars() {
            let lasts = format!("{:.1} ms", bar.lasts);
            let drawn = bar.cells(self.total_ms);
            console.row(&format!("{:<21} {drawn:<CELLS$} {lasts:>10}", bar.name));
        }
        let total = format!("{:.1} ms", self.total_ms);
        console.row(&format!("{:<21} {:<CELLS$} {total:>10}", "total", ""));
    }
}

impl Bar {
    fn cells(&self, total: f64) -> String {
        let begins = cell(self.begins, total).min(CELLS - 1);
        let ends = cell(self.begins + self.lasts, total).clamp(begins, CELLS);
        if ends == begins {
            // Too short for a cell, but not zero.
            return format!("{}▏", " ".repeat(begins));
        }
        format!("{}{}", " ".repeat(begins), "█".repeat(ends - begins))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a position on a line of some dozen cells"
)]
fn cell(at: f64, total: f64) -> usize {
    (at / total.max(f64::MIN_POSITIVE) * CELLS as f64).round() as usize
}

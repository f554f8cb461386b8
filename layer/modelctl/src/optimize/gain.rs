//! Measured gain of the optimised model.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use model_sidecar::onnx::Description;
use serde_json::json;

use crate::load::{self, Took};
use crate::units;

/// Number of measured loads per model, in turn; the first load of each, which reads the file into
/// memory, is not measured.
const LOADS: usize = 5;

/// A row of the table.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) before: String,
    pub(super) after: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<14}{:>12}{:>12}", self.name, self.before, self.after)
    }
}

/// The table.
pub(super) struct Gain([Row; 4]);

impl Gain {
    /// Loads both models several times, each in a process of its own, with one run if there is an
    /// `input`.
    pub(super) fn measure(
        before: &Path,
        after: &Path,
        library: &Path,
        input: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut took = (Vec::new(), Vec::new());
        for round in 0..=LOADS {
            for (model, took) in [(before, &mut took.0), (after, &mut took.1)] {
                let this = load::measure(model, library, input)?;
                if round > 0 {
                    took.push(this);
                }
            }
        }
        let row = |name, value: &dyn Fn(&[Took]) -> String| Row {
            name,
            before: value(&took.0),
            after: value(&took.1),
        };
        let peak = match input {
            Some(_) => "peak memory",
            None => "peak of load",
        };
        Ok(Self([
            Row {
                name: "",
                before: "before".to_owned(),
                after: "after".to_owned(),
            },
            Row {
                name: "bytes",
                before: units::bytes(size(before)?),
                after: units::bytes(size(after)?),
            },
            row("load", &|took| {
                units::milliseconds(median(
                    took.iter().map(|took| took.load).collect::<Vec<Duration>>(),
                ))
            }),
            row(peak, &|took| {
                units::bytes(median(
                    took.iter()
                        .map(|took| took.peak_bytes)
                        .collect::<Vec<u64>>(),
                ))
            }),
        ]))
    }
}

impl Gain {
    /// Returns the rows by name, without the heading.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let rows = self.0.iter().skip(1);
        rows.map(|row| {
            let Row {
                name,
                before,
                after,
            } = row;
            (*name, json!({"before": before, "after": after}))
        })
        .collect()
    }

    /// All rows, the heading first.
    pub(super) fn into_rows(self) -> [Row; 4] {
        self.0
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Row::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// The median, or the upper of two.
pub(super) fn median<T: Ord + Copy + Default>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Size of a model with all its files, in bytes.
fn size(model: &Path) -> anyhow::Result<u64> {
    let description = Description::read(&File::open(model)?)?;
    let files = description
        .external
        .iter()
        .map(|name| model.with_file_name(name.as_str()));
    let mut bytes = fs::metadata(model)?.len();
    for file in files {
        bytes += fs::metadata(file)?.len();
    }
    Ok(bytes)
}

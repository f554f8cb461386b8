//! Report of a window: the index of each column, as two metrics and one line of the log.

use std::fmt::Write as _;

use tracing::info;

use crate::ids::{ModelName, VersionName};
use crate::manifest::{Baseline, Observed, printable};
use crate::metrics::defs::{self, MODEL_LABEL};

/// Drift of the columns that had enough rows, those with the largest index first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DriftReport {
    /// Columns of inputs.
    pub inputs: Vec<ColumnDrift>,
    /// Columns of outputs.
    pub outputs: Vec<ColumnDrift>,
}

/// Drift of one column.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnDrift {
    /// Name of the input or output, with the index of the column, as in `features[3]`.
    pub column: String,
    /// Population stability index against the baseline.
    pub index: f64,
    /// Number of rows in the window.
    pub rows: u64,
    /// Number of nulls among them.
    pub nulls: u64,
    /// Number of values outside of all bins among them.
    pub outside: u64,
}

/// Histogram of a baseline that cannot be measured on the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Name of the column, as in [`ColumnDrift`].
    pub column: String,
    /// Reason.
    pub reason: &'static str,
}

impl DriftReport {
    /// Records the largest index of the inputs and that of the outputs, and logs all of them.
    pub fn record(&self, model: &ModelName, version: &VersionName) {
        for (metric, columns) in [
            (defs::FEATURE_DRIFT_WORST, &self.inputs),
            (defs::PREDICTION_DRIFT, &self.outputs),
        ] {
            if let Some(worst) = columns.first() {
                metrics::histogram!(metric, MODEL_LABEL => model.to_string()).record(worst.index);
            }
        }
        let share = |count: fn(&ColumnDrift) -> u64| {
            let shares = self
                .inputs
                .iter()
                .map(|column| share(count(column), column.rows));
            shares.reduce(f64::max).map(rounded)
        };
        info!(
            %model,
            %version,
            rows = self.inputs.iter().chain(&self.outputs).map(|column| column.rows).max(),
            feature_drift = self.inputs.first().map(|worst| rounded(worst.index)),
            prediction_drift = self.outputs.first().map(|worst| rounded(worst.index)),
            max_null_share = share(|column| column.nulls),
            max_out_of_range_share = share(|column| column.outside),
            features = list(&self.inputs),
            predictions = list(&self.outputs),
            "measured the drift of the rows since the last report"
        );
    }
}

/// Returns the name of a baseline's column.
pub(super) fn column_name(baseline: &Baseline) -> String {
    let (Observed::Input(name) | Observed::Output(name)) = &baseline.of;
    match baseline.column {
        Some(column) => format!("{name}[{column}]"),
        None => name.clone(),
    }
}

/// Formats columns as `NAME=INDEX` in their order; `None` for no columns.
fn list(columns: &[ColumnDrift]) -> Option<String> {
    let mut text = String::new();
    for ColumnDrift { column, index, .. } in columns {
        let separator = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{separator}{}={index:.4}", printable(column));
    }
    (!text.is_empty()).then_some(text)
}

#[expect(clippy::cast_precision_loss, reason = "a share with four digits")]
fn share(count: u64, rows: u64) -> f64 {
    count as f64 / rows.max(1) as f64
}

/// Rounds to four digits after the point.
fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

//! Drift: distance between the rows that a version serves and the baseline of its manifest.
//!
//! Each request contributes a few random rows to the [`DriftWindow`] of its version. Of each row, one value per
//! histogram of the baseline is counted in its bin. At a delivery of metrics, a window with enough rows yields a
//! [`DriftReport`]: the [population stability index](stability_index) of each histogram. Then the counts start again.
//!
//! - A window has no time limit: it spans intervals and freezes. Below [`MIN_ROWS_PER_BIN`] rows per bin it yields
//!   nothing, since the index of a small sample is large without any drift.
//! - Counts belong to one load of one version. Another version, or a new baseline, starts with an empty window.
//! - A request finds the bins of its rows without a lock. The lock is held for the increments alone.
//! - Only rows of successful requests are counted.

mod bins;
mod columns;
mod draw;
mod index;
mod report;
mod window;

pub use index::stability_index;
pub use report::{ColumnDrift, DriftReport, Mismatch};
pub use window::{DriftWindow, MIN_ROWS_PER_BIN, SampledRows};

#[cfg(test)]
mod tests;

//! Window of one load of a version: counts per bin since the last report.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bins::Bins;
use super::columns::{ColumnOf, ObservedTensors, Sample, mismatch};
use super::draw::{Draw, Draws};
use super::index::stability_index;
use super::report::{ColumnDrift, DriftReport, Mismatch, column_name};
use crate::manifest::{Baseline, Observed};
use crate::tensor::{Signature, Value};

/// Minimum number of rows per bin for an index. With 256 inputs of 10 bins and no drift, the largest index of 500 rows
/// is about 0.05, and that of 100 rows about 0.26.
pub const MIN_ROWS_PER_BIN: u64 = 50;

/// Maximum number of increments while the lock is held once.
const MAX_INCREMENTS: usize = 4_096;

/// Counts of the rows that one load of a version has served, by the bins of its baseline.
#[derive(Debug)]
pub struct DriftWindow {
    baseline: Vec<Baseline>,
    inputs: ObservedTensors,
    outputs: ObservedTensors,
    mismatches: Vec<Mismatch>,
    /// Bounds of all histograms that are measured.
    bounds: Vec<f64>,
    rows: usize,
    draws: Draws,
    counts: Mutex<Vec<u64>>,
}

/// Sampled rows of one request, not counted yet.
#[derive(Debug)]
pub struct SampledRows {
    draw: Draw,
    slots: Vec<u32>,
}

impl DriftWindow {
    /// Draws further rows with another seed.
    pub fn reseed(&self, seed: u64) {
        self.draws.reseed(seed);
    }

    /// Creates an empty window for a model with this signature, which samples `rows` rows of each request at random,
    /// seeded by `seed`. Returns `None` without a baseline or without rows.
    #[must_use]
    pub fn new(
        baseline: &[Baseline],
        rows: usize,
        signature: &Signature,
        seed: u64,
    ) -> Option<Self> {
        if baseline.is_empty() || rows == 0 {
            return None;
        }
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let (mut mismatches, mut bounds, mut slots) = (Vec::new(), Vec::new(), 0);
        for (position, baseline) in baseline.iter().enumerate() {
            let bins = match mismatch(&baseline.of, baseline.column, signature) {
                Some(reason) => Err(reason),
                None => Bins::new(baseline, slots, &mut bounds).ok_or("it has no bins"),
            };
            let bins = match bins {
                Ok(bins) => bins,
                Err(reason) => {
                    let column = column_name(baseline);
                    mismatches.push(Mismatch { column, reason });
                    continue;
                }
            };
            slots = bins.slots().end;
            let (columns, name) = match &baseline.of {
                Observed::Input(name) => (&mut inputs, name),
                Observed::Output(name) => (&mut outputs, name),
            };
            columns.push(ColumnOf {
                tensor: name.clone(),
                baseline: u32::try_from(position).ok()?,
                // A greater index is that of no column.
                index: baseline
                    .column
                    .map(|index| u32::try_from(index).unwrap_or(u32::MAX)),
                bins,
            });
        }
        Some(Self {
            baseline: baseline.to_vec(),
            inputs: ObservedTensors::new(inputs),
            outputs: ObservedTensors::new(outputs),
            mismatches,
            bounds,
            rows,
            draws: Draws::new(seed),
            counts: Mutex::new(vec![0; slots]),
        })
    }

    /// Returns the baseline.
    #[must_use]
    pub fn baseline(&self) -> &[Baseline] {
        &self.baseline
    }

    /// Returns the histograms that cannot be measured on the model, with the reason.
    #[must_use]
    pub fn mismatches(&self) -> &[Mismatch] {
        &self.mismatches
    }

    /// Samples rows of the inputs of a request.
    #[must_use]
    pub fn sample_inputs(&self, inputs: &[(String, Value)]) -> SampledRows {
        let mut sampled = SampledRows {
            draw: self.draws.next(),
            // A slot for each histogram: sufficient for one row.
            slots: Vec::with_capacity(self.baseline.len()),
        };
        self.sample(&self.inputs, inputs, &mut sampled);
        sampled
    }

    /// Samples the same rows of the outputs of the request.
    pub fn sample_outputs(&self, outputs: &[(String, Value)], sampled: &mut SampledRows) {
        self.sample(&self.outputs, outputs, sampled);
    }

    fn sample(
        &self,
        tensors: &ObservedTensors,
        values: &[(String, Value)],
        sampled: &mut SampledRows,
    ) {
        let mut sample = Sample {
            rows: self.rows,
            draw: sampled.draw,
            bounds: &self.bounds,
            slots: &mut sampled.slots,
        };
        tensors.sample(values, &mut sample);
    }

    /// Counts sampled rows.
    pub fn count(&self, sampled: &SampledRows) {
        for slots in sampled.slots.chunks(MAX_INCREMENTS) {
            let mut counts = self.counts();
            for slot in slots {
                if let Some(count) = counts.get_mut(*slot as usize) {
                    *count += 1;
                }
            }
        }
    }

    /// Returns the drift of the inputs, the outputs or both, where the window has enough rows, and starts their counts
    /// again. Returns `None` if neither has.
    #[must_use]
    pub fn report(&self) -> Option<DriftReport> {
        let empty = vec![0; self.counts().len()];
        let mut taken = std::mem::replace(&mut *self.counts(), empty);
        let report = DriftReport {
            inputs: self.drift(&self.inputs, &mut taken),
            outputs: self.drift(&self.outputs, &mut taken),
        };
        for (count, rest) in self.counts().iter_mut().zip(&taken) {
            *count += rest;
        }
        let is_empty = report.inputs.is_empty() && report.outputs.is_empty();
        (!is_empty).then_some(report)
    }

    /// Returns the drift of the columns with enough rows, and sets their counts to zero. Returns nothing until the
    /// fullest column has enough rows for the column with the most bins, so that all are reported together.
    fn drift(&self, tensors: &ObservedTensors, counts: &mut [u64]) -> Vec<ColumnDrift> {
        let columns = tensors.columns();
        let measured = columns.iter().filter_map(|column| {
            let rows = column.bins.rows(counts);
            (rows > 0).then_some((rows, min_rows(&column.bins)))
        });
        let (most_rows, most_needed) = measured.fold((0, 0), |(rows, needed), (more, other)| {
            (rows.max(more), needed.max(other))
        });
        if most_rows < most_needed || most_rows == 0 {
            return Vec::new();
        }
        let mut drift: Vec<ColumnDrift> = Vec::new();
        for column in columns {
            let rows = column.bins.rows(counts);
            if rows < min_rows(&column.bins) {
                continue;
            }
            let (bins, nulls, outside) = column.bins.split(counts);
            let baseline = &self.baseline[column.baseline as usize];
            let expected = baseline.counts.iter().chain([&baseline.nulls]);
            let observed = bins.iter().chain([&nulls]);
            let pairs: Vec<(u64, u64)> = expected.copied().zip(observed.copied()).collect();
            drift.push(ColumnDrift {
                column: column_name(baseline),
                index: stability_index(&pairs),
                rows,
                nulls,
                outside,
            });
            counts[column.bins.slots()].fill(0);
        }
        drift.sort_by(|one, other| other.index.total_cmp(&one.index));
        drift
    }

    fn counts(&self) -> MutexGuard<'_, Vec<u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the number of rows that a histogram needs.
fn min_rows(bins: &Bins) -> u64 {
    MIN_ROWS_PER_BIN * bins.len() as u64
}

//! Memory policy of a load: alongside the active version, or in its place.
//!
//! The peak of a load is estimated from the files that ONNX Runtime reads and maps ([`ModelBytes`]), and compared
//! with free memory. The factors were measured with ONNX Runtime 1.28 on loads that follow another load, as in a
//! reload. They are the largest growth of anonymous memory, divided by the size of the files:
//!
//! | model | files | load | peak over files |
//! |---|---|---|---|
//! | residual networks over rows | 12, 96, 238 MB | read | 2.3, 2.5, 1.9 |
//! | the same, as `.ort` | 96 MB | read | 2.8 |
//! | `MiniLM`, `ResNet`-50 | 85, 98 MB | read | 1.6, 3.3 |
//! | the latter two, weights in external data files | 85, 98 MB | read and mapped | 0.5, 1.9 |
//! | residual networks, optimised ahead of time | 96, 238 MB | mapped and packed | 1.0, 1.0 |
//! | the same, marked to be mapped alone | 96, 238 MB | mapped | 0.0 |
//! | a forest of 60 trees | 30 MB | read | 12.1 |
//!
//! The forest shows why the memory that the active version took counts as well. Trees, and constants that are folded
//! at the load, are far larger in memory than in the file. The growth is measured right after the load. In every row
//! above that exceeds its factor, at least three quarters of the peak remained at that time. Versions of one model
//! are assumed to be alike.
//!
//! Loads without an active version, as at a start, run [in parallel](Loads) while their estimates fit together. Reloads
//! run one at a time.
//!
//! Memory is shared with the function, whose next allocation is unknown: the estimate has a margin. An estimate that is
//! too high makes requests wait, one that is too low costs the environment, so the estimate is rather high.

mod concurrent_loads;

use std::sync::Arc;
use std::time::Duration;

use crate::cache::ModelRecord;
use crate::config::Reload;
use crate::onnx::{AtLoad, Description, WeightStorage};
use crate::request_memory::Account;
use crate::sys::MemoryProbe;
pub use concurrent_loads::Loads;
pub(super) use concurrent_loads::{Exclusivity, MemoryUse};

/// Memory that stays free for the function and for the fixed part of a load, which takes 18 MB for a model of 3 MB.
const MARGIN: u64 = 16 * MB;
const MB: u64 = 1024 * 1024;
/// Maximum time for which a reload waits for memory that requests hold.
const MAX_WAIT_FOR_REQUESTS: Duration = Duration::from_secs(10);

/// Position of a new version in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// Alongside the active version.
    Alongside,
    /// In place of the active version, which leaves memory before the load begins.
    InPlace,
}

/// Sizes of a version's files, by their use in a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ModelBytes {
    /// Bytes that are read into memory: the model's file, with its stored weights as FP32.
    read: u64,
    /// Bytes that are mapped: external data files.
    mapped: u64,
    at_load: AtLoad,
}

/// Measured cost of a load.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadCost {
    /// Files of the version.
    pub(super) files: ModelBytes,
    /// Bytes by which memory had grown when the load ended; `None` where that is unknown.
    pub(super) grown: Option<u64>,
}

/// Memory need of a load.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryNeed {
    /// Version to load.
    pub(super) new: ModelBytes,
    /// Active version.
    pub(super) active: Option<LoadCost>,
}

impl ModelBytes {
    /// Returns the sizes of a version with this description.
    pub(super) fn of(record: &ModelRecord, description: Option<&Description>) -> Self {
        let storage = description.and_then(Description::weight_storage);
        let expansion = storage.map_or(1, WeightStorage::expansion);
        Self {
            read: record.model.size.saturating_mul(expansion),
            mapped: record.others.iter().map(|file| file.size).sum(),
            at_load: description.map_or(AtLoad::Optimise, Description::at_load),
        }
    }

    /// Returns the sizes of a version of one file, all of which is weights in the smallest type.
    pub(super) fn of_stored_weights(bytes: u64) -> Self {
        Self::of_bytes(bytes.saturating_mul(WeightStorage::Int8.expansion()))
    }

    /// Returns the sizes of a version of which only the total is known.
    pub(super) fn of_bytes(bytes: u64) -> Self {
        Self {
            read: bytes,
            mapped: 0,
            at_load: AtLoad::Optimise,
        }
    }

    /// Returns the expected peak of a load, by sizes alone.
    fn expected_peak(&self) -> u64 {
        let mapped = match self.at_load {
            AtLoad::Optimise => halves(5, self.mapped),
            AtLoad::AsItIs => halves(3, self.mapped),
            // The system can take back every page of them.
            AtLoad::Map => 0,
        };
        halves(7, self.read)
            .saturating_add(mapped)
            .saturating_add(MARGIN)
    }
}

/// Returns `times` halves of `bytes`.
fn halves(times: u64, bytes: u64) -> u64 {
    (bytes / 2).saturating_mul(times)
}

impl MemoryNeed {
    /// Returns the estimated peak of the load in bytes, with the margin.
    pub(super) fn estimate(&self) -> u64 {
        let expected = self.new.expected_peak();
        let active = self.active.and_then(|it| Some((it.files, it.grown?)));
        let Some((files, grown)) = active else {
            return expected;
        };
        let peak = u128::from(grown) * 4 / 3;
        let scaled = u128::from(expected).saturating_mul(peak) / u128::from(files.expected_peak());
        expected.max(u64::try_from(scaled).unwrap_or(u64::MAX))
    }
}

/// Returns the placement of a new version with `free` bytes of free memory (`None`: unknown), and the reason for the
/// log.
pub(super) fn placement(mode: Reload, need: &MemoryNeed, free: Option<u64>) -> (Placement, String) {
    let estimate = need.estimate();
    match (mode, free) {
        (Reload::Overlap, _) => (Placement::Alongside, "MODEL_RELOAD is overlap".to_owned()),
        (Reload::Replace, _) => (Placement::InPlace, "MODEL_RELOAD is replace".to_owned()),
        (Reload::Auto | Reload::Off, None) => (
            Placement::Alongside,
            "the amount of free memory is unknown".to_owned(),
        ),
        (Reload::Auto | Reload::Off, Some(free)) => {
            let placement = if estimate > free {
                Placement::InPlace
            } else {
                Placement::Alongside
            };
            let (estimate, free) = (estimate.div_ceil(MB), free / MB);
            (
                placement,
                format!("the load may take {estimate} MB, and {free} MB are free"),
            )
        }
    }
}

/// Returns whether the active version's file may be evicted for the download of a version of `need`.
///
/// If a new version must be loaded in place of the active one, a failed load restores the active version from its file.
/// The file may then be evicted only with `MODEL_RELOAD=replace`.
pub(super) fn may_evict_active(mode: Reload, need: &MemoryNeed, free: Option<u64>) -> bool {
    mode == Reload::Replace || placement(mode, need, free).0 == Placement::Alongside
}

/// Memory of an execution environment, and the policy of reloads.
pub struct Memory {
    /// Policy that the operator has configured.
    pub mode: Reload,
    /// Probe of free memory.
    pub probe: Box<dyn MemoryProbe>,
    /// Loads of all models.
    pub loads: Loads,
    /// Account in which loads and requests reserve memory.
    pub account: Arc<Account>,
}

impl Memory {
    /// Waits for the end of requests that hold the memory a load of `need` lacks, if nothing else is missing.
    pub(super) async fn wait_for_requests(&self, need: &MemoryNeed) {
        if matches!(self.mode, Reload::Auto) {
            let freed = self.account.wait_for_load(need.estimate());
            // After that time the new version replaces the active one.
            let _ = tokio::time::timeout(MAX_WAIT_FOR_REQUESTS, freed).await;
        }
    }
}

impl MemoryUse for Memory {
    fn free(&self) -> Option<u64> {
        self.probe.free()
    }

    fn own(&self) -> Option<u64> {
        crate::sys::own_bytes()
    }
}

#[cfg(test)]
mod tests;

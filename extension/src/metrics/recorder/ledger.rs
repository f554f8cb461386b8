//! Ledger of complete minutes, and of the active version of each model.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::metrics::datum::Datum;

/// Maximum memory of the data in the ledger: several hours of a busy model.
const MAX_BYTES: usize = 1024 * 1024;

/// Data that were not drained, and the versions that they belong to.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    versions: Mutex<BTreeMap<String, String>>,
    data: Mutex<LedgerData>,
}

#[derive(Debug, Default)]
struct LedgerData {
    data: VecDeque<Datum>,
    bytes: usize,
    /// Data that were dropped because there were too many.
    dropped: u64,
}

impl Ledger {
    /// Returns the active version of a model.
    pub(super) fn version(&self, model: Option<&str>) -> Option<String> {
        lock(&self.versions).get(model?).cloned()
    }

    /// Sets the active version of a model.
    pub(super) fn set_version(&self, model: &str, version: &str) {
        lock(&self.versions).insert(model.to_owned(), version.to_owned());
    }

    /// Returns each model with its active version.
    pub(super) fn versions(&self) -> Vec<(String, String)> {
        let versions = lock(&self.versions);
        let pairs = versions.iter();
        pairs
            .map(|(model, version)| (model.clone(), version.clone()))
            .collect()
    }

    /// Adds a datum. Drops the oldest data beyond [`MAX_BYTES`].
    pub(super) fn add(&self, datum: Datum) {
        let mut all = lock(&self.data);
        all.bytes += datum.bytes();
        all.data.push_back(datum);
        while all.bytes > MAX_BYTES {
            let Some(oldest) = all.data.pop_front() else {
                break;
            };
            all.bytes -= oldest.bytes();
            all.dropped += 1;
        }
    }

    /// Returns and removes all data, and the number of data that were dropped since the last call.
    pub(super) fn take(&self) -> (Vec<Datum>, u64) {
        let LedgerData { data, dropped, .. } = std::mem::take(&mut *lock(&self.data));
        (data.into(), dropped)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

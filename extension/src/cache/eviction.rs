//! Eviction: which files are removed for space.
//!
//! A file is retained if it is leased, or if a journal references it. A journal references the last active version of a
//! model, and the version to be loaded next. All other files only save a download if the source returns to their
//! version: earlier versions and abandoned partial downloads. Those are evicted in the order of their last use. Without
//! `MODEL_CACHE_MB` they occupy at most half of the disk, since the rest of `/tmp` belongs to the function.
//!
//! Space is freed before a download starts, so that a download fails early or not at all. If evicting everything would
//! not free enough, nothing is evicted.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::directory::allocated_bytes;
use super::journal_directory::JournalDirectory;
use super::store::FileStore;
use crate::ids::Digest;
use crate::sys::Disk;

/// Maximum size of unreferenced files without `MODEL_CACHE_MB`: the largest `/tmp` of Lambda.
const MAX_UNREFERENCED_BYTES: u64 = 10 * 1024 * 1024 * 1024;

/// Limits of the cache's size.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpaceLimits {
    /// Size in bytes down to which [`Eviction::sweep`] evicts unreferenced files.
    swept: u64,
    /// Maximum size in bytes; `None`: the free space of the disk.
    max: Option<u64>,
}

/// A file does not fit, whatever is evicted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough cache space for the model: {required} bytes are required, {available} bytes are available in \
     MODEL_CACHE_DIR{}",
    self.explain()
)]
pub struct InsufficientSpace {
    /// Number of bytes required.
    pub required: u64,
    /// Number of bytes available after evicting everything that can be evicted.
    pub available: u64,
    /// Number of bytes of retained files.
    pub retained: u64,
    /// Configured maximum size of the cache, if this limit was reached and not that of the disk.
    pub limit: Option<u64>,
}

impl InsufficientSpace {
    fn explain(&self) -> String {
        let retained = match self.retained {
            0 => String::new(),
            retained => {
                format!(", {retained} bytes are in use by active, loading and fallback versions")
            }
        };
        match self.limit {
            Some(limit) => format!("{retained}; raise MODEL_CACHE_MB, which allows {limit} bytes"),
            None => format!("{retained}; raise the function's ephemeral storage"),
        }
    }
}

/// Eviction of the files of a store.
#[derive(Clone, Debug)]
pub(super) struct Eviction {
    store: Arc<FileStore>,
    journals: Arc<JournalDirectory>,
    limits: SpaceLimits,
}

/// File that can be evicted. The order is that of eviction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EvictionCandidate {
    /// `true` if a journal references the file, and the caller has declared it expendable.
    is_referenced: bool,
    last_used: SystemTime,
    path: PathBuf,
    size: u64,
}

/// Files of the store, by whether they can be evicted.
#[derive(Debug, Default)]
struct Inventory {
    candidates: Vec<EvictionCandidate>,
    /// Number of bytes of retained files.
    retained: u64,
}

impl SpaceLimits {
    /// Limits by the configured maximum size and the disk.
    pub(super) fn new(max: Option<u64>, disk: Option<Disk>) -> Self {
        let half = disk.map_or(MAX_UNREFERENCED_BYTES, |disk| disk.total / 2);
        Self {
            swept: max.unwrap_or(half.min(MAX_UNREFERENCED_BYTES)),
            max,
        }
    }
}

impl Eviction {
    pub(super) fn new(
        store: Arc<FileStore>,
        journals: Arc<JournalDirectory>,
        limits: SpaceLimits,
    ) -> Self {
        Self {
            store,
            journals,
            limits,
        }
    }

    /// Implements [`Cache::free_space`](super::Cache::free_space).
    pub(super) fn free_space(
        &self,
        required: u64,
        expendable: &[Digest],
    ) -> Result<(), InsufficientSpace> {
        let mut inventory = self.inventory(expendable);
        let space = self.space(&inventory, required);
        if required > space.available {
            return Err(space);
        }
        // Free before any eviction; negative if a limit is exceeded already.
        let evictable = inventory.evictable_bytes();
        let deficit = required
            .saturating_add(evictable)
            .saturating_sub(space.available);
        self.evict(&mut inventory.candidates, deficit);
        Ok(())
    }

    /// Implements [`Cache::insufficient_space`](super::Cache::insufficient_space).
    pub(super) fn insufficient_space(&self, required: u64) -> InsufficientSpace {
        self.space(&self.inventory(&[]), required)
    }

    /// Implements [`Cache::sweep`](super::Cache::sweep).
    pub(super) fn sweep(&self) {
        if self.store.is_shared() {
            return;
        }
        let referenced = self.referenced();
        for digest in self.journals.rejected() {
            let path = self.store.path(&digest);
            if !referenced.contains(&path) {
                self.store.remove(&path);
            }
        }
        let mut inventory = self.inventory(&[]);
        let size = inventory
            .retained
            .saturating_add(inventory.evictable_bytes());
        let excess = size.saturating_sub(self.limits.swept);
        self.evict(&mut inventory.candidates, excess);
        self.store.sweep_origins();
    }

    /// Compares the required space with the space that eviction can make available.
    fn space(&self, inventory: &Inventory, required: u64) -> InsufficientSpace {
        let evictable = inventory.evictable_bytes();
        let free = self.store.free_bytes().unwrap_or(u64::MAX);
        let by_disk = free.saturating_add(evictable);
        let max = self.limits.max;
        let by_limit = max.map(|max| max.saturating_sub(inventory.retained));
        let by_limit = by_limit.filter(|by_limit| *by_limit < by_disk);
        InsufficientSpace {
            required,
            available: by_limit.unwrap_or(by_disk),
            retained: inventory.retained,
            limit: max.filter(|_| by_limit.is_some()),
        }
    }

    /// Returns the paths of the files that journals reference.
    fn referenced(&self) -> Vec<PathBuf> {
        let digests = self.journals.referenced().into_iter();
        digests.map(|digest| self.store.path(&digest)).collect()
    }

    /// Lists all files. The order of the reads matters: files, leases, journals. A file that is leased later is
    /// protected at its removal. A lease that has ended since has left a reference in a journal by then.
    fn inventory(&self, expendable: &[Digest]) -> Inventory {
        let mut inventory = Inventory::default();
        let is_shared = self.store.is_shared();
        let files = self.store.files();
        let leased = self.store.leased();
        let referenced = self.referenced();
        let expendable: Vec<PathBuf> = expendable
            .iter()
            .map(|digest| self.store.path(digest))
            .collect();
        for path in files {
            let is_referenced = referenced.contains(&path);
            let is_expendable = !is_referenced || expendable.contains(&path);
            let is_leased = leased.iter().any(|file| **file == path);
            let is_evictable = is_expendable && !is_leased && !is_shared;
            inventory.add(path, is_evictable, is_referenced);
        }
        let partials = self.store.partials();
        for path in partials.entries() {
            let is_evictable = partials.is_evictable(&path);
            inventory.add(path, is_evictable, false);
        }
        inventory
    }

    fn evict(&self, candidates: &mut [EvictionCandidate], bytes: u64) {
        for file in victims(candidates, bytes) {
            self.store.remove(&file.path);
        }
    }
}

impl Inventory {
    fn add(&mut self, path: PathBuf, is_evictable: bool, is_referenced: bool) {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            return;
        };
        let size = allocated_bytes(&metadata);
        match metadata.modified() {
            Ok(last_used) if is_evictable && !metadata.is_dir() => {
                self.candidates.push(EvictionCandidate {
                    is_referenced,
                    last_used,
                    path,
                    size,
                });
            }
            _ => self.retained += size,
        }
    }

    fn evictable_bytes(&self) -> u64 {
        self.candidates.iter().map(|file| file.size).sum()
    }
}

/// Returns the files to evict, in order, until `bytes` are free.
fn victims(candidates: &mut [EvictionCandidate], bytes: u64) -> &[EvictionCandidate] {
    candidates.sort_unstable();
    let mut freed = 0;
    let victims = candidates.iter().take_while(|file| {
        let is_victim = freed < bytes;
        freed += file.size;
        is_victim
    });
    let count = victims.count();
    &candidates[..count]
}

#[cfg(test)]
mod tests;

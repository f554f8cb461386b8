//! Which files go when there is no room for all.
//!
//! Nobody loses a file that is in hand, being loaded, or that a journal names: the last good one of a model, and what
//! is to be loaded next. Everything else is there only to save a transfer, if the source returns to it: versions
//! that answered earlier, transfers that were given up. What was used last stays longest, and all of it is at most half
//! of the disk, since the rest of `/tmp` is the function's.
//!
//! Room is made before a fetch begins, so that it fails before the transfer or not at all. If all that may go would
//! not be enough, nothing goes.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use super::partial::{is_locked, remove_unless_locked};
use super::{Cache, entries};
use crate::ids::Digest;
use crate::sys::Disk;

/// What earlier versions may take, whatever the disk has: as much as Lambda's largest.
const MAX_KEPT: u64 = 10 * 1024 * 1024 * 1024;

/// How many bytes the cache may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// With what nobody needs.
    keep: u64,
    /// At all; `None`: what the disk has.
    most: Option<u64>,
}

/// There is no room for a file, whatever may go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room for the model: it needs {required} bytes, and MODEL_CACHE_DIR has {available} free{}",
    self.explain()
)]
pub struct InsufficientSpace {
    /// How many bytes are needed.
    pub required: u64,
    /// How many there are, once all has gone that may go.
    pub available: u64,
    /// How many bytes are held by files that must stay.
    pub retained: u64,
    /// How many bytes the cache may take, where that and not the disk is what stands in the way.
    pub limit: Option<u64>,
}

impl InsufficientSpace {
    fn explain(&self) -> String {
        let held = match self.retained {
            0 => String::new(),
            held => format!(
                ", beside {held} bytes of what is loaded, is being loaded or was the last that could be"
            ),
        };
        match self.limit {
            Some(most) => format!("{held}, of the {most} that MODEL_CACHE_MB allows"),
            None => format!("{held} (raise the function's ephemeral storage)"),
        }
    }
}

/// A file that may go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Spare {
    /// Whether somebody must have said so: it goes after all others.
    is_given_up: bool,
    used: SystemTime,
    path: PathBuf,
    size: u64,
}

/// What lies in the cache.
#[derive(Debug, Default)]
struct Stock {
    spare: Vec<Spare>,
    /// Bytes of what must stay.
    held: u64,
}

impl Limits {
    pub(super) fn new(most: Option<u64>, disk: Option<Disk>) -> Self {
        let half = disk.map_or(MAX_KEPT, |disk| disk.total / 2);
        Self {
            keep: most.unwrap_or(half.min(MAX_KEPT)),
            most,
        }
    }
}

impl Cache {
    /// Makes room for `needs` more bytes. Files that nobody needs go for it, those that were not used for longest
    /// first; and at last those of `give_up`, whatever a journal says of them. A file in hand never goes. On a directory
    /// that others share nothing goes.
    pub fn free_space(&self, needs: u64, give_up: &[Digest]) -> Result<(), InsufficientSpace> {
        let mut stock = self.stock(give_up);
        let room = self.room(&stock, needs);
        if needs > room.available {
            return Err(room);
        }
        // What is free before anything goes; less than nothing when a limit is exceeded already.
        let spare = stock.spare_bytes();
        let lacks = needs.saturating_add(spare).saturating_sub(room.available);
        self.evict(&mut stock.spare, lacks);
        Ok(())
    }

    /// What there is to say of a file of `needs` bytes that found no room.
    #[must_use]
    pub fn insufficient_space(&self, needs: u64) -> InsufficientSpace {
        self.room(&self.stock(&[]), needs)
    }

    fn room(&self, stock: &Stock, needs: u64) -> InsufficientSpace {
        let spare = stock.spare_bytes();
        let disk = self.free_bytes().unwrap_or(u64::MAX).saturating_add(spare);
        let most = self.limits.most;
        let allowed = most.map(|most| most.saturating_sub(stock.held));
        let by_limit = allowed.filter(|allowed| *allowed < disk);
        InsufficientSpace {
            required: needs,
            available: by_limit.unwrap_or(disk),
            retained: stock.held,
            limit: most.filter(|_| by_limit.is_some()),
        }
    }

    /// Removes what is of no use any more: files that could not be loaded, and of earlier versions those that were not
    /// used for longest, until the rest is within the limits. On a directory that others share nothing goes.
    pub fn sweep(&self) {
        if self.is_shared {
            return;
        }
        let named = self.named();
        for path in self.refused() {
            if !named.contains(&path) {
                self.remove_unless_in_hand(&path);
            }
        }
        let mut stock = self.stock(&[]);
        let taken = stock.held.saturating_add(stock.spare_bytes());
        self.evict(&mut stock.spare, taken.saturating_sub(self.limits.keep));
        self.sweep_origins();
    }

    /// Bytes that may still be written here; `None` where the file system does not say.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        crate::sys::disk(&self.partials).map(|disk| disk.free)
    }

    /// All that lies here, once. What is taken in hand later is seen when it comes to be removed, and what is let go
    /// of later is in its journal by then.
    fn stock(&self, give_up: &[Digest]) -> Stock {
        let mut stock = Stock::default();
        let files = entries(&self.files);
        let in_hand = self.in_hand();
        let named = self.named();
        let offered: Vec<PathBuf> = give_up.iter().map(|digest| self.path(digest)).collect();
        for path in files {
            let is_given_up = named.contains(&path);
            let may_go = !is_given_up || offered.contains(&path);
            let held = in_hand.iter().any(|file| **file == path);
            stock.add(path, may_go && !held && !self.is_shared, is_given_up);
        }
        for path in entries(&self.partials) {
            let is_paused = path.extension().is_some_and(|ending| ending == "part");
            let may_go = is_paused && !self.is_shared && !is_locked(&path);
            stock.add(path, may_go, false);
        }
        stock
    }

    fn evict(&self, spare: &mut [Spare], lacks: u64) {
        for file in victims(spare, lacks) {
            if file.path.starts_with(&self.partials) {
                remove_unless_locked(&file.path);
            } else {
                self.remove_unless_in_hand(&file.path);
            }
        }
    }
}

impl Stock {
    fn add(&mut self, path: PathBuf, may_go: bool, is_given_up: bool) {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            return;
        };
        let size = on_disk(&metadata);
        match metadata.modified() {
            Ok(used) if may_go && !metadata.is_dir() => self.spare.push(Spare {
                is_given_up,
                used,
                path,
                size,
            }),
            _ => self.held += size,
        }
    }

    fn spare_bytes(&self) -> u64 {
        self.spare.iter().map(|file| file.size).sum()
    }
}

/// The files that go so that `lacks` bytes come free: no more of them than that takes, in their order.
fn victims(spare: &mut [Spare], lacks: u64) -> &[Spare] {
    spare.sort_unstable();
    let mut freed = 0;
    let goes = spare.iter().take_while(|file| {
        let goes = freed < lacks;
        freed += file.size;
        goes
    });
    let count = goes.count();
    &spare[..count]
}

/// What a file takes of the disk, in bytes.
pub(super) fn on_disk(metadata: &Metadata) -> u64 {
    /// What `stat` counts in, whatever the file system.
    const BLOCK: u64 = 512;
    metadata.blocks() * BLOCK
}

#[cfg(test)]
mod tests;

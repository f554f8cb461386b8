//! Whether memory bears a new version beside the one that answers.
//!
//! What a load takes at its peak is estimated from what its files are to it ([`Weights`]), and held against what is
//! free. The factors are measured with ONNX Runtime 1.28, as the largest growth of memory that is no file's over the
//! size of the files, for loads that follow another one, as a reload does:
//!
//! | model | files | load | peak over files |
//! |---|---|---|---|
//! | residual networks over rows | 12, 96, 238 MB | read | 2.3, 2.5, 1.9 |
//! | the same, as `.ort` | 96 MB | read | 2.8 |
//! | `MiniLM`, `ResNet`-50 | 85, 98 MB | read | 1.6, 3.3 |
//! | the latter two, weights beside the graph | 85, 98 MB | read and mapped | 0.5, 1.9 |
//! | residual networks, optimised ahead of time | 96, 238 MB | mapped and packed | 1.0, 1.0 |
//! | the same, marked to be mapped alone | 96, 238 MB | mapped | 0.0 |
//! | a forest of 60 trees | 30 MB | read | 12.1 |
//!
//! The last one is why what the loaded version took counts as well: trees, and constants that are computed at the load,
//! are far larger in memory than in the file. It is taken right after the load, when at least three quarters of the
//! peak were left in all of the above that exceed their factor. A model's versions are taken to be alike in that.
//!
//! Loads where nothing answers yet, as at a start, go on in parallel while their estimates fit together. Of a reload
//! there is one at a time.
//!
//! Memory is shared with the function, whose next step nobody knows: the estimate has a margin for it. An estimate that
//! is too high costs requests a wait, one that is too low the environment; so it is rather high.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::cache::ModelRecord;
use crate::config::Reload;
use crate::onnx::{AtLoad, Description};
use crate::request_memory::Account;
use crate::sys::MemoryProbe;

/// What stays free for the function, and what a load takes that does not grow with its files: 18 MB for one of 3 MB.
const MARGIN: u64 = 16 * MB;
const MB: u64 = 1024 * 1024;
/// How long a reload waits for memory that requests hold.
const REQUESTS_TIME: Duration = Duration::from_secs(10);

/// How a new version comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Beside the one that answers.
    Beside,
    /// In its place: it is gone before the load begins.
    InPlace,
}

/// What a version's files are to its load, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weights {
    /// What is read into memory: the model's file.
    read: u64,
    /// What is mapped: the files beside it.
    beside: u64,
    at_load: AtLoad,
}

/// What loading a version took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Its files.
    pub(super) weights: Weights,
    /// By how many bytes memory had grown when the load ended; `None` where that is not known.
    pub(super) took: Option<u64>,
}

/// What there is to decide by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// The version to be loaded.
    pub(super) new: Weights,
    /// The one that answers.
    pub(super) old: Option<Seen>,
}

impl Weights {
    /// The weights of a version whose model says this of itself.
    pub(super) fn of(record: &ModelRecord, description: Option<&Description>) -> Self {
        Self {
            read: record.model.size,
            beside: record.others.iter().map(|file| file.size).sum(),
            at_load: description.map_or(AtLoad::Optimise, Description::at_load),
        }
    }

    /// The weights of a version of which no more is known than the length of its files.
    pub(super) fn of_bytes(bytes: u64) -> Self {
        Self {
            read: bytes,
            beside: 0,
            at_load: AtLoad::Optimise,
        }
    }

    /// What a load of these takes, by their size alone.
    fn expected(&self) -> u64 {
        let beside = match self.at_load {
            AtLoad::Optimise => half(5, self.beside),
            AtLoad::AsItIs => half(3, self.beside),
            // The system can take back every page of them.
            AtLoad::Map => 0,
        };
        half(7, self.read)
            .saturating_add(beside)
            .saturating_add(MARGIN)
    }
}

/// So many halves of `bytes`.
fn half(times: u64, bytes: u64) -> u64 {
    (bytes / 2).saturating_mul(times)
}

impl Need {
    /// What the load of the new version takes at its peak, in bytes, with the margin.
    pub(super) fn estimate(&self) -> u64 {
        let expected = self.new.expected();
        let Some((weights, took)) = self.old.and_then(|old| Some((old.weights, old.took?))) else {
            return expected;
        };
        let peak = u128::from(took) * 4 / 3;
        let scaled = u128::from(expected).saturating_mul(peak) / u128::from(weights.expected());
        expected.max(u64::try_from(scaled).unwrap_or(u64::MAX))
    }
}

/// How the new version comes in when so many bytes are free (`None`: nobody knows), and why, for the log.
pub(super) fn choose(mode: Reload, need: &Need, free: Option<u64>) -> (How, String) {
    let estimate = need.estimate();
    match (mode, free) {
        (Reload::Overlap, _) => (How::Beside, "MODEL_RELOAD is overlap".to_owned()),
        (Reload::Replace, _) => (How::InPlace, "MODEL_RELOAD is replace".to_owned()),
        (Reload::Auto | Reload::Off, None) => (
            How::Beside,
            "how much memory is free is not known".to_owned(),
        ),
        (Reload::Auto | Reload::Off, Some(free)) => {
            let how = if estimate > free {
                How::InPlace
            } else {
                How::Beside
            };
            let (estimate, free) = (estimate.div_ceil(MB), free / MB);
            let why = format!(
                "it may take {estimate} MB beside the one that answers, and {free} MB are free"
            );
            (how, why)
        }
    }
}

/// Whether the file of the version that answers may be given up for the room that it takes on the disk, before a new
/// version of `need` is fetched. Where the new one has to come in its place, the old file is what there is to return to,
/// and goes only where the operator has asked for that.
pub(super) fn may_give_up(mode: Reload, need: &Need, free: Option<u64>) -> bool {
    mode == Reload::Replace || choose(mode, need, free).0 == How::Beside
}

impl Measured for Memory {
    fn free(&self) -> Option<u64> {
        self.probe.free()
    }

    fn own(&self) -> Option<u64> {
        crate::sys::own_bytes()
    }
}

/// What decides how a new version of any model of an environment comes in.
pub struct Memory {
    /// What the operator wants.
    pub mode: Reload,
    /// Says what is free.
    pub probe: Box<dyn MemoryProbe>,
    /// The loads of all models.
    pub loads: Loads,
    /// Where loads and requests reserve what they take.
    pub account: Arc<Account>,
}

impl Memory {
    /// Waits until requests have ended that hold what a load of `need` lacks, if that is all that it lacks.
    pub(super) async fn wait_for_requests(&self, need: &Need) {
        if matches!(self.mode, Reload::Auto) {
            let freed = self.account.wait_for_load(need.estimate());
            // Where they hold it for longer, the new version replaces the active one.
            let _ = tokio::time::timeout(REQUESTS_TIME, freed).await;
        }
    }
}

/// The loads of all models of an environment.
#[derive(Debug, Default)]
pub struct Loads {
    /// Held by the load that is admitted next: loads are admitted in the order in which they came.
    entrance: tokio::sync::Mutex<()>,
    /// A turn has ended.
    ended: Notify,
    admitted: Mutex<Admitted>,
    counts: Mutex<Counts>,
}

/// The loads that have a turn.
#[derive(Clone, Copy, Debug, Default)]
struct Admitted {
    turns: u64,
    is_exclusive: bool,
    /// The estimates of all that were admitted since there was none.
    estimated: u64,
    /// Memory that the process had taken for itself then, where that is known.
    own: Option<u64>,
}

/// Other loads with which a load may go on in parallel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    /// With those that fit into memory together with it.
    Fitting {
        /// Peak of the load, in bytes.
        estimate: u64,
    },
    /// With none.
    None,
}

/// Measurements that admit a load alongside others.
pub(super) trait Measured {
    /// Bytes of memory that are free.
    fn free(&self) -> Option<u64>;

    /// Bytes that this process has taken for itself.
    fn own(&self) -> Option<u64>;
}

/// A load's turn; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Loads);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut admitted = self.0.admitted();
        admitted.turns -= 1;
        if admitted.turns == 0 {
            *admitted = Admitted::default();
        }
        drop(admitted);
        self.0.ended.notify_one();
    }
}

impl Admitted {
    /// Returns whether a load that takes `estimate` bytes fits alongside these. What they have taken already is no longer
    /// free, and is part of their estimates.
    fn leaves_room_for(&self, estimate: u64, measured: &impl Measured) -> bool {
        let Some(free) = measured.free() else {
            return true;
        };
        let own = self.own.zip(measured.own());
        let taken = own.map_or(0, |(before, now)| now.saturating_sub(before));
        let still_to_take = self.estimated.saturating_sub(taken);
        estimate <= free.saturating_sub(still_to_take)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    begun: u64,
    under_way: u64,
}

/// A load that is being measured.
#[derive(Debug)]
pub(super) struct Measure<'a> {
    loads: &'a Loads,
    /// How many loads had begun with this one, if no other was under way.
    begun: Option<u64>,
    before: Option<u64>,
}

impl Loads {
    /// Waits until a load may begin in this company. A reload is given none, and holds its turn from the question how
    /// much is free until the version is loaded.
    pub(super) async fn turn(&self, company: Company, measured: &impl Measured) -> Turn<'_> {
        let _next = self.entrance.lock().await;
        while !self.admits(company, measured) {
            // There is one waiter at most, and a turn that ends before it waits is kept for it.
            self.ended.notified().await;
        }
        Turn(self)
    }

    fn admits(&self, company: Company, measured: &impl Measured) -> bool {
        let mut admitted = self.admitted();
        if admitted.turns == 0 {
            admitted.own = measured.own();
        } else if admitted.is_exclusive {
            return false;
        } else {
            // Only the one at the entrance adds a load.
            let others = *admitted;
            drop(admitted);
            match company {
                Company::Fitting { estimate } if others.leaves_room_for(estimate, measured) => {}
                _ => return false,
            }
            admitted = self.admitted();
        }
        admitted.turns += 1;
        match company {
            Company::Fitting { estimate } => {
                admitted.estimated = admitted.estimated.saturating_add(estimate);
            }
            Company::None => admitted.is_exclusive = true,
        }
        true
    }

    /// A load begins, and `own` bytes of memory are taken before it. It ends when what is returned is dropped.
    pub(super) fn measure(&self, own: Option<u64>) -> Measure<'_> {
        let mut counts = self.counts();
        let is_alone = counts.under_way == 0;
        counts.begun += 1;
        counts.under_way += 1;
        Measure {
            loads: self,
            begun: is_alone.then_some(counts.begun),
            before: own,
        }
    }

    fn admitted(&self) -> std::sync::MutexGuard<'_, Admitted> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Measure<'_> {
    /// What the load has taken when `own` bytes are taken after it; `None` when others went on beside it, since nobody
    /// can tell whose memory it is.
    pub(super) fn took(&self, own: Option<u64>) -> Option<u64> {
        let was_alone = self.begun == Some(self.loads.counts().begun);
        was_alone.then_some(own?.saturating_sub(self.before?))
    }
}

impl Drop for Measure<'_> {
    fn drop(&mut self) {
        self.loads.counts().under_way -= 1;
    }
}

#[cfg(test)]
mod tests;

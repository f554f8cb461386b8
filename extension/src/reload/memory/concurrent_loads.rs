//! Concurrency of the loads of all models: admission by memory, and measurement.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Loads of all models of an environment.
#[derive(Debug, Default)]
pub struct Loads {
    /// Held by the load that is admitted next: loads are admitted in order of arrival.
    entrance: tokio::sync::Mutex<()>,
    /// Signals the end of a permit.
    ended: Notify,
    admitted: Mutex<Admitted>,
    counts: Mutex<LoadCounts>,
}

/// Loads that hold a permit.
#[derive(Clone, Copy, Debug, Default)]
struct Admitted {
    permits: u64,
    is_exclusive: bool,
    /// Sum of the estimates of all loads admitted since there was none.
    estimated: u64,
    /// Memory of the process at that time; `None` where unknown.
    own: Option<u64>,
}

/// Exclusivity of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::reload) enum Exclusivity {
    /// Runs in parallel with loads that fit into memory together.
    Shared {
        /// Peak of the load, in bytes.
        estimate: u64,
    },
    /// Runs alone.
    Exclusive,
}

/// Memory figures that admit a load alongside others.
pub(in crate::reload) trait MemoryUse {
    /// Returns the bytes of free memory.
    fn free(&self) -> Option<u64>;

    /// Returns the bytes that this process has taken for itself.
    fn own(&self) -> Option<u64>;
}

/// Permit of a load, until it is dropped.
#[derive(Debug)]
pub(in crate::reload) struct LoadPermit<'a>(&'a Loads);

impl Drop for LoadPermit<'_> {
    fn drop(&mut self) {
        let mut admitted = self.0.admitted();
        admitted.permits -= 1;
        if admitted.permits == 0 {
            *admitted = Admitted::default();
        }
        drop(admitted);
        self.0.ended.notify_one();
    }
}

impl Admitted {
    /// Returns whether a load of `estimate` bytes fits alongside these. Memory that they have taken already is no
    /// longer free, and is part of their estimates.
    fn leaves_space_for(&self, estimate: u64, memory: &impl MemoryUse) -> bool {
        let Some(free) = memory.free() else {
            return true;
        };
        let own = self.own.zip(memory.own());
        let taken = own.map_or(0, |(before, now)| now.saturating_sub(before));
        let still_to_take = self.estimated.saturating_sub(taken);
        estimate <= free.saturating_sub(still_to_take)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct LoadCounts {
    begun: u64,
    under_way: u64,
}

/// Measurement of a load, until it is dropped.
#[derive(Debug)]
pub(in crate::reload) struct Measurement<'a> {
    loads: &'a Loads,
    /// Number of loads begun so far, if no other was under way.
    begun: Option<u64>,
    before: Option<u64>,
}

impl Loads {
    /// Waits until a load may begin. A reload is exclusive, and holds its permit from the check of free memory until
    /// the version is loaded.
    pub(in crate::reload) async fn acquire(
        &self,
        exclusivity: Exclusivity,
        memory: &impl MemoryUse,
    ) -> LoadPermit<'_> {
        let _next = self.entrance.lock().await;
        while !self.admits(exclusivity, memory) {
            // There is at most one waiter, and `notify_one` stores the end of a permit for it.
            self.ended.notified().await;
        }
        LoadPermit(self)
    }

    fn admits(&self, exclusivity: Exclusivity, memory: &impl MemoryUse) -> bool {
        let mut admitted = self.admitted();
        if admitted.permits == 0 {
            admitted.own = memory.own();
        } else if admitted.is_exclusive {
            return false;
        } else {
            // Only the load at the entrance adds a permit, so the lock can be released in between.
            let others = *admitted;
            drop(admitted);
            match exclusivity {
                Exclusivity::Shared { estimate } if others.leaves_space_for(estimate, memory) => {}
                _ => return false,
            }
            admitted = self.admitted();
        }
        admitted.permits += 1;
        match exclusivity {
            Exclusivity::Shared { estimate } => {
                admitted.estimated = admitted.estimated.saturating_add(estimate);
            }
            Exclusivity::Exclusive => admitted.is_exclusive = true,
        }
        true
    }

    /// Begins to measure a load; the process has taken `own` bytes of memory before it.
    pub(in crate::reload) fn measure(&self, own: Option<u64>) -> Measurement<'_> {
        let mut counts = self.counts();
        let is_alone = counts.under_way == 0;
        counts.begun += 1;
        counts.under_way += 1;
        Measurement {
            loads: self,
            begun: is_alone.then_some(counts.begun),
            before: own,
        }
    }

    fn admitted(&self) -> MutexGuard<'_, Admitted> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> MutexGuard<'_, LoadCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Measurement<'_> {
    /// Returns the growth of memory with `own` bytes taken after the load. `None` if another load ran in parallel,
    /// since the memory cannot be attributed then.
    pub(in crate::reload) fn grown(&self, own: Option<u64>) -> Option<u64> {
        let was_alone = self.begun == Some(self.loads.counts().begun);
        was_alone.then_some(own?.saturating_sub(self.before?))
    }
}

impl Drop for Measurement<'_> {
    fn drop(&mut self) {
        self.loads.counts().under_way -= 1;
    }
}

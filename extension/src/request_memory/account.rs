//! The account: measured memory, charges, and waiting requests.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::budget::{self, BudgetOrigin, requests_share};
use super::trim::Trim;
use super::{Over, OverBudget};
use crate::sys::MemoryProbe;

/// Maximum age of a measurement for a charge that takes much of the remaining memory.
const MAX_AGE: Duration = Duration::from_millis(50);
/// Maximum age of a measurement for other charges, which take at most one [`SMALL_SHARE`]th.
const MAX_AGE_FOR_SMALL: Duration = Duration::from_secs(1);
const SMALL_SHARE: usize = 4;
/// Maximum size of a charge that does not check the age of the measurement, in bytes.
const SMALL: usize = 1024 * 1024;
/// Interval of measurements while a request waits: the function may free memory without notice.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Minimum memory in the allocator that is released before a request is rejected, in bytes.
const MIN_TRIMMED: u64 = 4 * 1024 * 1024;

/// Memory account of the requests and loads in this process.
pub struct Account {
    fixed: Option<usize>,
    origin: BudgetOrigin,
    probe: Box<dyn MemoryProbe>,
    /// Bytes that requests hold.
    held: AtomicUsize,
    /// Maximum of `held` since it was last reported.
    peak: AtomicUsize,
    /// Estimated bytes of loads.
    loads: AtomicUsize,
    /// Bytes that requests may hold together by the last measurement, with loads subtracted.
    limit: AtomicUsize,
    measured: Mutex<LastMeasurement>,
    /// Bytes of this process without requests when its growth was last measured.
    level: AtomicU64,
    pub(super) trim: Arc<Trim>,
    waiting: AtomicUsize,
    released: Notify,
    /// Keeps waiting requests in order.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LastMeasurement {
    at: Option<Instant>,
    baseline: Option<u64>,
}

/// Result of a measurement, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct AvailableMemory {
    /// Available to requests in an otherwise empty account.
    alone: usize,
    /// Available to all requests now, including those that hold memory.
    now: usize,
    /// Free in the environment; `None` if unknown.
    free: Option<u64>,
    /// Part of the requests' charges that is already allocated.
    filled: u64,
}

impl Account {
    /// Creates the account of a process. The budget of requests is `fixed`, or else derived from the measurements of
    /// `probe`.
    #[must_use]
    pub fn new(fixed: Option<usize>, memory_mb: Option<u64>, probe: Box<dyn MemoryProbe>) -> Self {
        let origin = match (fixed, memory_mb) {
            (Some(_), _) => BudgetOrigin::Variable,
            (None, Some(mb)) => BudgetOrigin::Function(mb),
            (None, None) => BudgetOrigin::Machine,
        };
        Self {
            fixed,
            origin,
            probe,
            held: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            loads: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
            measured: Mutex::default(),
            level: AtomicU64::new(0),
            trim: Arc::default(),
            waiting: AtomicUsize::new(0),
            released: Notify::new(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Creates an account without limits.
    #[must_use]
    pub fn unlimited() -> Self {
        struct Unknown;
        impl MemoryProbe for Unknown {
            fn free(&self) -> Option<u64> {
                None
            }
        }
        Self::new(Some(usize::MAX), None, Box::new(Unknown))
    }

    /// Returns the bytes that requests hold.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Returns the maximum of [`Self::held`] since the last call.
    #[must_use]
    pub fn take_peak(&self) -> usize {
        self.peak.swap(self.held(), Ordering::Relaxed)
    }

    /// Returns the bytes that are available to a load: free memory without what requests hold and have not allocated
    /// yet. Other loads are not subtracted. Returns `None` if unknown.
    #[must_use]
    pub fn left_for_load(&self) -> Option<u64> {
        let AvailableMemory { free, filled, .. } = self.measure();
        Some(free?.saturating_sub(self.held() as u64 - filled))
    }

    /// Returns the bytes available to a load after all requests have ended; `None` if unknown.
    #[must_use]
    pub fn most_for_load(&self) -> Option<u64> {
        let AvailableMemory { free, filled, .. } = self.measure();
        Some(free?.saturating_add(filled))
    }

    /// Charges `bytes` for a load unconditionally, which reduces the budget of requests.
    #[must_use]
    pub fn load(self: &Arc<Self>, bytes: u64) -> LoadCharge {
        let bytes = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(usize::MAX / 1024);
        self.loads.fetch_add(bytes, Ordering::Relaxed);
        self.invalidate();
        LoadCharge {
            account: Arc::clone(self),
            bytes,
        }
    }

    /// Waits until `bytes` are available to a load. Returns at once if that can never be.
    pub async fn wait_for_load(&self, bytes: u64) {
        if self.most_for_load().is_none_or(|most| most < bytes) {
            return;
        }
        let _waiting = WaitingCounter::new(&self.waiting);
        while self.left_for_load().is_some_and(|left| left < bytes) {
            let _ = tokio::time::timeout(POLL_INTERVAL, self.released.notified()).await;
        }
    }

    /// Returns the bytes by which this process has grown since the last call or load, without requests. Reads `/proc`,
    /// which takes some microseconds.
    #[must_use]
    pub fn growth(&self) -> u64 {
        let Some(own) = self.probe.own() else {
            return 0;
        };
        let level = own.saturating_sub(self.held() as u64);
        let before = self.level.swap(level, Ordering::Relaxed);
        level.saturating_sub(before)
    }

    /// Attributes the growth of the process until now to no run.
    pub fn forget_growth(&self) {
        let _ = self.growth();
    }

    /// Takes `bytes` by the last measurement, or by a new one if that is too old for this size. Returns `false` if they
    /// do not fit.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let is_share = self.held().saturating_add(bytes) <= limit / SMALL_SHARE;
        if is_share && bytes < SMALL {
            return self.take_up_to(bytes, limit);
        }
        let holds = if is_share { MAX_AGE_FOR_SMALL } else { MAX_AGE };
        let at = self.measured().at;
        let limit = if at.is_some_and(|at| at.elapsed() <= holds) {
            limit
        } else {
            self.available().now
        };
        self.take_up_to(bytes, limit)
    }

    fn take_up_to(&self, bytes: usize, limit: usize) -> bool {
        let taken = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|sum| *sum <= limit)
            });
        if let Ok(before) = taken {
            self.peak.fetch_max(before + bytes, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    /// Takes `bytes` by a new measurement, for a request that needs `needed` bytes in total.
    pub(super) fn take_measured(&self, bytes: usize, needed: usize) -> Result<(), OverBudget> {
        let mut left = self.available();
        if self.take_up_to(bytes, left.now) {
            return Ok(());
        }
        if crate::sys::free_heap_bytes() > MIN_TRIMMED {
            crate::sys::release_freed_memory();
            left = self.available();
            if self.take_up_to(bytes, left.now) {
                return Ok(());
            }
        }
        Err(self.over_budget(left, needed))
    }

    fn over_budget(&self, left: AvailableMemory, needed: usize) -> OverBudget {
        let budget = left.alone;
        let over = if needed > budget {
            let origin = self.origin;
            Over::Always { budget, origin }
        } else {
            let left = left.now.saturating_sub(self.held());
            Over::Now { left, budget }
        };
        OverBudget { needed, over }
    }

    /// Returns the error of a request that has waited in vain for `needed` bytes.
    #[must_use]
    pub fn reject(&self, needed: usize) -> OverBudget {
        self.over_budget(self.available(), needed)
    }

    /// Waits for `expected` bytes, or as many as the budget allows, at least `bytes`. Takes them and returns their
    /// number.
    pub(super) async fn wait_for(
        &self,
        bytes: usize,
        expected: usize,
    ) -> Result<usize, OverBudget> {
        // A large request does not overtake waiting requests.
        let is_next = expected < SMALL || self.waiting.load(Ordering::SeqCst) == 0;
        if is_next && self.take(expected) {
            return Ok(expected);
        }
        let _waiting = WaitingCounter::new(&self.waiting);
        let _turn = self.turn.lock().await;
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // From here on no release is missed.
            released.as_mut().enable();
            let wanted = expected.min(self.available().alone).max(bytes);
            match self.take_measured(wanted, wanted) {
                Ok(()) => return Ok(wanted),
                Err(OverBudget {
                    over: Over::Now { .. },
                    ..
                }) => {}
                Err(error) => return Err(error),
            }
            let _ = tokio::time::timeout(POLL_INTERVAL, released).await;
        }
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
        self.notify();
    }

    fn notify(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.released.notify_waiters();
        }
    }

    fn measured(&self) -> MutexGuard<'_, LastMeasurement> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next request measure again.
    fn invalidate(&self) {
        self.measured().at = None;
        self.limit.store(0, Ordering::Relaxed);
    }

    /// Returns the memory available to requests: measured, or fixed.
    fn available(&self) -> AvailableMemory {
        match self.fixed {
            Some(fixed) if self.loads.load(Ordering::Relaxed) == 0 => {
                self.measured().at = Some(Instant::now());
                self.limit.store(fixed, Ordering::Relaxed);
                AvailableMemory {
                    alone: fixed,
                    now: fixed,
                    ..AvailableMemory::default()
                }
            }
            _ => self.measure(),
        }
    }

    /// Measures the available memory.
    fn measure(&self) -> AvailableMemory {
        let mut measured = self.measured();
        let loads = self.loads.load(Ordering::Relaxed);
        let held = self.held();
        let (free, own) = (self.probe.free(), self.probe.own());
        let open = (held as u64).saturating_add(loads as u64);
        if let Some(own) = own {
            measured.baseline = Some(budget::baseline(measured.baseline, own, open));
        }
        let grown = own
            .zip(measured.baseline)
            .map_or(0, |(own, baseline)| own - baseline);
        let environment = free.map(|free| free.saturating_add(grown));
        // During a load, the growth cannot be attributed.
        let filled = if loads == 0 {
            grown.min(held as u64)
        } else {
            0
        };
        let alone = self
            .fixed
            .unwrap_or_else(|| environment.map_or(usize::MAX, requests_share));
        let now = match environment {
            Some(environment) if loads > 0 => {
                alone.min(requests_share(environment.saturating_sub(loads as u64)))
            }
            _ => alone,
        };
        let left = AvailableMemory {
            alone,
            now,
            free,
            filled,
        };
        measured.at = Some(Instant::now());
        self.limit.store(now, Ordering::Relaxed);
        left
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Account")
            .field("held", &self.held)
            .field("loads", &self.loads)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Memory available to loads.
impl MemoryProbe for Arc<Account> {
    fn free(&self) -> Option<u64> {
        self.left_for_load()
    }

    fn own(&self) -> Option<u64> {
        self.probe.own()
    }
}

/// Counts a waiting request or load.
struct WaitingCounter<'a>(&'a AtomicUsize);

impl<'a> WaitingCounter<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for WaitingCounter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Estimated memory of one load, given back on drop.
#[derive(Debug)]
pub struct LoadCharge {
    account: Arc<Account>,
    bytes: usize,
}

impl Drop for LoadCharge {
    fn drop(&mut self) {
        self.account.loads.fetch_sub(self.bytes, Ordering::Relaxed);
        // The growth by a load is not attributed to a run.
        self.account.forget_growth();
        self.account.invalidate();
        self.account.notify();
    }
}

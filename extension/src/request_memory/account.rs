//! The account: what is left, what is held, and who waits.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::budget::{self, Size, requests_share};
use super::trim::Trim;
use super::{Over, OverBudget};
use crate::sys::MemoryProbe;

/// How long a measurement holds for a charge that takes much of what it left.
const FRESH: Duration = Duration::from_millis(50);
/// How long it holds for others, which take at most one [`SMALL_SHARE`]th.
const FRESH_FOR_SMALL: Duration = Duration::from_secs(1);
const SMALL_SHARE: usize = 4;
/// Fewer bytes than this are taken without a look at the clock.
const SMALL: usize = 1024 * 1024;
/// How often the account is looked at while a request waits: the function may free memory, and tells nobody.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Bytes that the allocator keeps and that are worth giving back before a request is refused.
const WORTH_TRIMMING: u64 = 4 * 1024 * 1024;

/// The memory of requests and loads in this process.
pub struct Account {
    fixed: Option<usize>,
    size: Size,
    probe: Box<dyn MemoryProbe>,
    /// Bytes of requests.
    held: AtomicUsize,
    /// Bytes of loads, as estimated.
    loads: AtomicUsize,
    /// Bytes that requests may hold together, as last measured; what loads take is taken off.
    limit: AtomicUsize,
    measured: Mutex<Measured>,
    /// Bytes that this process had taken when its growth was last looked at, without those of requests.
    level: AtomicU64,
    pub(super) trim: Trim,
    waiting: AtomicUsize,
    released: Notify,
    /// Requests that wait do so in their order.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    at: Option<Instant>,
    baseline: Option<u64>,
}

/// What a measurement found, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    /// For requests with nothing else in the account.
    alone: usize,
    /// For requests now, those included that are there.
    now: usize,
    /// Free in the environment; `None` where nothing says.
    free: Option<u64>,
    /// Filled by requests, of what they hold.
    filled: u64,
}

impl Account {
    /// The account of a process whose requests may hold `fixed` bytes, or else what `probe` says is left.
    #[must_use]
    pub fn new(fixed: Option<usize>, memory_mb: Option<u64>, probe: Box<dyn MemoryProbe>) -> Self {
        let size = match (fixed, memory_mb) {
            (Some(_), _) => Size::Variable,
            (None, Some(mb)) => Size::Function(mb),
            (None, None) => Size::Machine,
        };
        Self {
            fixed,
            size,
            probe,
            held: AtomicUsize::new(0),
            loads: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
            measured: Mutex::default(),
            level: AtomicU64::new(0),
            trim: Trim::default(),
            waiting: AtomicUsize::new(0),
            released: Notify::new(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// An account without limits.
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

    /// Bytes that requests hold.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes that are left for a load: what is free, without what requests hold and have not filled yet. Other loads are
    /// not taken off. `None` where nothing says.
    #[must_use]
    pub fn left_for_load(&self) -> Option<u64> {
        let Left { free, filled, .. } = self.measure();
        Some(free?.saturating_sub(self.held() as u64 - filled))
    }

    /// Bytes for a load once every request that holds memory has ended; `None` where nothing says.
    #[must_use]
    pub fn most_for_load(&self) -> Option<u64> {
        let Left { free, filled, .. } = self.measure();
        Some(free?.saturating_add(filled))
    }

    /// Takes `bytes` for a load, whatever is left: requests then have less.
    #[must_use]
    pub fn load(self: &Arc<Self>, bytes: u64) -> LoadCharge {
        let bytes = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(usize::MAX / 1024);
        self.loads.fetch_add(bytes, Ordering::Relaxed);
        self.forget();
        LoadCharge {
            account: Arc::clone(self),
            bytes,
        }
    }

    /// Waits until requests hold so little that `bytes` are left for a load. Gives up at once where that would not be
    /// enough.
    pub async fn wait_for_load(&self, bytes: u64) {
        if self.most_for_load().is_none_or(|most| most < bytes) {
            return;
        }
        let _waiting = Waiting::new(&self.waiting);
        while self.left_for_load().is_some_and(|left| left < bytes) {
            let _ = tokio::time::timeout(LOOK_AGAIN, self.released.notified()).await;
        }
    }

    /// Bytes by which this process has grown since the last call and since the last load, without those of requests. Reads
    /// `/proc`, which takes some microseconds.
    #[must_use]
    pub fn growth(&self) -> u64 {
        let Some(own) = self.probe.own() else {
            return 0;
        };
        let level = own.saturating_sub(self.held() as u64);
        let before = self.level.swap(level, Ordering::Relaxed);
        level.saturating_sub(before)
    }

    /// Takes `bytes` by the last measurement, or by a new one where that is too old for as much; `false` where it is too
    /// small.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let is_share = self.held().saturating_add(bytes) <= limit / SMALL_SHARE;
        if is_share && bytes < SMALL {
            return self.take_up_to(bytes, limit);
        }
        let holds = if is_share { FRESH_FOR_SMALL } else { FRESH };
        let at = self.measured().at;
        let limit = if at.is_some_and(|at| at.elapsed() <= holds) {
            limit
        } else {
            self.look().now
        };
        self.take_up_to(bytes, limit)
    }

    fn take_up_to(&self, bytes: usize, limit: usize) -> bool {
        let taken = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|sum| *sum <= limit)
            });
        taken.is_ok()
    }

    /// Takes `bytes` by a new measurement, for a request that needs `needed` in all.
    pub(super) fn take_measured(&self, bytes: usize, needed: usize) -> Result<(), OverBudget> {
        let mut left = self.look();
        if self.take_up_to(bytes, left.now) {
            return Ok(());
        }
        if crate::sys::free_heap_bytes() > WORTH_TRIMMING {
            crate::sys::release_freed_memory();
            left = self.look();
            if self.take_up_to(bytes, left.now) {
                return Ok(());
            }
        }
        Err(self.refusal(left, needed))
    }

    fn refusal(&self, left: Left, needed: usize) -> OverBudget {
        let budget = left.alone;
        let over = if needed > budget {
            let size = self.size;
            Over::Always { budget, size }
        } else {
            let left = left.now.saturating_sub(self.held());
            Over::Now { left, budget }
        };
        OverBudget { needed, over }
    }

    /// The refusal of a request that has waited in vain for `needed` bytes.
    #[must_use]
    pub fn refuse(&self, needed: usize) -> OverBudget {
        self.refusal(self.look(), needed)
    }

    /// Waits for `expected` bytes, or as many as there ever are, at least `bytes`; takes them, and gives their number.
    pub(super) async fn wait_for(
        &self,
        bytes: usize,
        expected: usize,
    ) -> Result<usize, OverBudget> {
        // No large request overtakes those that wait already.
        let is_next = expected < SMALL || self.waiting.load(Ordering::SeqCst) == 0;
        if is_next && self.take(expected) {
            return Ok(expected);
        }
        let _waiting = Waiting::new(&self.waiting);
        let _turn = self.turn.lock().await;
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // From here on a release is not missed.
            released.as_mut().enable();
            let wanted = expected.min(self.look().alone).max(bytes);
            match self.take_measured(wanted, wanted) {
                Ok(()) => return Ok(wanted),
                Err(OverBudget {
                    over: Over::Now { .. },
                    ..
                }) => {}
                Err(never) => return Err(never),
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, released).await;
        }
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
        self.tell();
    }

    fn tell(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.released.notify_waiters();
        }
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the next request measure what is left.
    fn forget(&self) {
        self.measured().at = None;
        self.limit.store(0, Ordering::Relaxed);
    }

    /// What is left for requests: measured, unless it is fixed.
    fn look(&self) -> Left {
        match self.fixed {
            Some(fixed) if self.loads.load(Ordering::Relaxed) == 0 => {
                self.measured().at = Some(Instant::now());
                self.limit.store(fixed, Ordering::Relaxed);
                Left {
                    alone: fixed,
                    now: fixed,
                    ..Left::default()
                }
            }
            _ => self.measure(),
        }
    }

    /// Measures what is left.
    fn measure(&self) -> Left {
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
        // While a load goes on, nothing says whose memory it is that has grown.
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
        let left = Left {
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

/// The memory that is left for loads.
impl MemoryProbe for Arc<Account> {
    fn free(&self) -> Option<u64> {
        self.left_for_load()
    }

    fn own(&self) -> Option<u64> {
        self.probe.own()
    }
}

/// A place among those who wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The memory of one load, as it was estimated. It is given back when this is dropped.
#[derive(Debug)]
pub struct LoadCharge {
    account: Arc<Account>,
    bytes: usize,
}

impl Drop for LoadCharge {
    fn drop(&mut self) {
        self.account.loads.fetch_sub(self.bytes, Ordering::Relaxed);
        // What the load has taken is nobody's growth.
        let _ = self.account.growth();
        self.account.forget();
        self.account.tell();
    }
}

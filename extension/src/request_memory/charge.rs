//! The charge of one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Account, OverBudget, Stopped, trim};

/// Bytes of each charge that are not counted.
pub const FREE: usize = 16 * 1024;

/// Minimum number of bytes that a charge takes from the account at once, so that it rarely uses the account.
const STEP: usize = 64 * 1024;

/// Maximum number of bytes that a charge takes beyond its need.
const MAX_AHEAD: usize = 1024 * 1024;

/// Memory of one request, given back on drop.
#[derive(Debug)]
pub struct Charge {
    /// `None` without limits.
    account: Option<Arc<Account>>,
    /// Bytes that may be used without the account: [`FREE`], and what was taken.
    taken: usize,
    used: usize,
    most: usize,
    cancelled: Option<Arc<AtomicBool>>,
}

impl Charge {
    /// Creates an empty charge.
    #[must_use]
    pub fn new(account: &Arc<Account>) -> Self {
        Self {
            account: Some(Arc::clone(account)),
            taken: FREE,
            used: 0,
            most: 0,
            cancelled: None,
        }
    }

    /// Creates a charge without limits, for inputs without a request: golden examples and tests.
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            account: None,
            taken: usize::MAX,
            used: 0,
            most: 0,
            cancelled: None,
        }
    }

    /// Takes `bytes` more, before they are allocated. Cheap while they fit in what was taken before.
    ///
    /// # Errors
    /// [`Stopped`] if the account does not have enough memory or the request is cancelled. The charge is then
    /// unchanged.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Stopped> {
        self.check()?;
        let used = self.used.saturating_add(bytes);
        if used > self.taken {
            self.take(used)?;
        }
        self.used = used;
        self.most = self.most.max(used);
        Ok(())
    }

    /// Returns `true` if bytes of the account are taken.
    #[must_use]
    pub fn holds_memory(&self) -> bool {
        self.account.is_some() && self.taken > FREE
    }

    /// Gives back `bytes` that were freed. The account gets them at the end of the charge, or by
    /// [`settle`](Self::settle).
    pub fn shrink(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// Gives back unused bytes to the account.
    pub fn settle(&mut self) {
        let Some(account) = &self.account else {
            return;
        };
        let kept = self.used.max(FREE);
        if let Some(unused @ 1..) = self.taken.checked_sub(kept) {
            account.give_back(unused);
            self.taken = kept;
        }
    }

    /// Fails once the request is cancelled. For loops that allocate nothing.
    ///
    /// # Errors
    /// [`Stopped::Cancelled`].
    #[inline]
    pub fn check(&self) -> Result<(), Stopped> {
        match &self.cancelled {
            Some(cancelled) if cancelled.load(Ordering::Relaxed) => Err(Stopped::Cancelled),
            _ => Ok(()),
        }
    }

    /// Makes the charge stop its work once `cancelled` is `true`.
    #[must_use]
    pub fn cancelled_by(mut self, cancelled: Arc<AtomicBool>) -> Self {
        self.cancelled = Some(cancelled);
        self
    }

    /// Removes the cancellation.
    #[must_use]
    pub fn uncancelled(mut self) -> Self {
        self.cancelled = None;
        self
    }

    /// Returns the bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Waits until the account has `bytes`, and takes them. Also takes as much of `expected` as the budget allows, so
    /// that growing up to it cannot fail. The charge must be empty; a dropped future takes nothing.
    ///
    /// # Errors
    /// [`Stopped`] at once if the budget is less than `bytes`.
    pub async fn wait_for(&mut self, bytes: usize, expected: usize) -> Result<(), Stopped> {
        debug_assert_eq!(self.used, 0, "a charge that holds memory must not wait");
        let expected = expected.max(bytes);
        if let Some(account) = &self.account
            && expected > self.taken
        {
            self.taken += account.wait_for(bytes, expected).await?;
        }
        self.grow(bytes)
    }

    /// Takes the bytes from the account that are missing to `used`.
    fn take(&mut self, used: usize) -> Result<(), OverBudget> {
        let Some(account) = &self.account else {
            return Ok(());
        };
        // Up to a quarter more, so that a growing charge rarely uses the account, but limited, so that other requests
        // find memory.
        let ahead = used.saturating_add((used / 4).clamp(STEP, MAX_AHEAD));
        for wanted in [ahead, used] {
            let more = wanted - self.taken;
            if account.take(more) {
                self.taken = wanted;
                return Ok(());
            }
        }
        let more = used - self.taken;
        account.take_measured(more, used)?;
        self.taken = used;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.used = 0;
        self.settle();
        if let Some(account) = &self.account
            && self.most >= trim::MIN_LARGE_REQUEST
        {
            // The process keeps for now what the request has freed. That is no growth by the next run.
            account.forget_growth();
            let measured = Arc::clone(account);
            trim::ended(&account.trim, move || measured.forget_growth());
        }
    }
}

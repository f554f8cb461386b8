//! What one request holds of the account.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Account, OverBudget, Stopped, trim};

/// Bytes of each charge that are not counted.
pub const FREE: usize = 16 * 1024;

/// The bytes that a charge takes from the account at least, so that it asks rarely.
const STEP: usize = 64 * 1024;

/// The bytes that it takes at most beyond what it needs.
const MAX_AHEAD: usize = 1024 * 1024;

/// The memory of one request. It is given back when this is dropped.
#[derive(Debug)]
pub struct Charge {
    /// `None` for one without limits.
    account: Option<Arc<Account>>,
    /// Bytes that may be used without asking: [`FREE`], and what was taken from the account.
    taken: usize,
    used: usize,
    most: usize,
    cancelled: Option<Arc<AtomicBool>>,
}

impl Charge {
    /// A charge that holds nothing yet.
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

    /// A charge without limits, for inputs that come from no request: golden examples and tests.
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
    /// [`Stopped`]: the account has not as much, or the request is cancelled. The charge is then as it was.
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

    /// Gives back `bytes` that were freed. The account has them at the end of the charge, or after [`settle`](Self::settle).
    pub fn shrink(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// Gives back to the account what is not used.
    pub fn settle(&mut self) {
        let Some(account) = &self.account else {
            return;
        };
        let kept = self.used.max(FREE);
        if let Some(spare @ 1..) = self.taken.checked_sub(kept) {
            account.give_back(spare);
            self.taken = kept;
        }
    }

    /// Fails once the request is cancelled. For loops that take no memory.
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

    /// The charge stops its work once `cancelled` is true.
    #[must_use]
    pub fn cancelled_by(mut self, cancelled: Arc<AtomicBool>) -> Self {
        self.cancelled = Some(cancelled);
        self
    }

    /// The charge goes on whatever becomes of what cancelled it so far.
    #[must_use]
    pub fn uncancelled(mut self) -> Self {
        self.cancelled = None;
        self
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Waits until the account has `bytes`, and takes them; with them as much of `expected` as there ever is, so that
    /// growing up to it needs no luck. For a charge that holds nothing; a dropped future takes nothing.
    ///
    /// # Errors
    /// [`Stopped`] at once, where the account never has `bytes`.
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

    /// Takes from the account what is missing to `used` bytes.
    fn take(&mut self, used: usize) -> Result<(), OverBudget> {
        let Some(account) = &self.account else {
            return Ok(());
        };
        // A quarter more, so that a charge that grows asks rarely, and little of that, so that others find it.
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
            && self.most >= trim::LARGE
        {
            trim::ended(account);
        }
    }
}

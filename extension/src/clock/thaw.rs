//! Notification of thaws.
//!
//! Lambda does not notify a process of a freeze. The lifecycle infers the thaw from the wall clock when an event
//! arrives, and publishes it here. Sockets from before may be dead, and timers of the monotonic clock may be early or
//! late by the length of the freeze. Tasks that wait for a peer therefore retry after a thaw, and tasks that wait for
//! a deadline read the wall clock again.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Clock, Deadline, Timestamp};

/// Yields several times to the other tasks of this thread, so that bytes that arrived in a freeze reach their readers.
pub async fn yield_to_readers() {
    /// Tasks between a socket and the reader of a body, through TLS and a channel.
    const YIELDS: u32 = 4;
    for _ in 0..YIELDS {
        tokio::task::yield_now().await;
    }
}

/// Thaws of this execution environment; clones share their state.
#[derive(Clone, Debug)]
pub struct Thaws {
    last: Arc<watch::Sender<Option<Timestamp>>>,
}

impl Default for Thaws {
    fn default() -> Self {
        Self {
            last: Arc::new(watch::Sender::new(None)),
        }
    }
}

impl Thaws {
    /// Notes that the process was frozen until `at`, and wakes all waiting tasks.
    pub fn note(&self, at: Timestamp) {
        self.last.send_replace(Some(at));
    }

    /// Returns the end of the last freeze; `None` if there was none.
    #[must_use]
    pub fn last(&self) -> Option<Timestamp> {
        *self.last.borrow()
    }

    /// Waits for the next thaw after this call.
    pub fn next(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut last = self.last.subscribe();
        async move {
            if last.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Runs `work` until `deadline` of the wall clock; returns `None` if the deadline passes first. During a freeze,
    /// that is noticed at the thaw.
    pub async fn within<T>(
        &self,
        clock: &dyn Clock,
        deadline: Deadline,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(work);
        loop {
            let thaw = self.next();
            let timer = tokio::time::sleep(deadline.remaining(clock.now()));
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = timer => {}
                () = thaw => {}
            }
            if deadline.remaining(clock.now()).is_zero() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    /// Manual clock that is independent of the timers.
    #[derive(Default)]
    struct ManualClock(AtomicU64);

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    fn deadline() -> Deadline {
        Deadline::at_unix_ms(10_000)
    }

    #[tokio::test(start_paused = true)]
    async fn a_thaw_after_the_deadline_ends_the_wait_on_a_clock_that_stood_still() {
        let (wall, thaws) = (ManualClock::default(), Thaws::default());
        let started = tokio::time::Instant::now();
        let wait = thaws.within(&wall, deadline(), std::future::pending::<()>());
        let freeze = async {
            tokio::task::yield_now().await;
            wall.0.store(3_600_000, Ordering::Relaxed);
            thaws.note(wall.now());
        };
        assert_eq!(tokio::join!(wait, freeze).0, None);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_monotonic_clock_that_jumps_ends_no_wait_early() {
        let (wall, thaws) = (ManualClock::default(), Thaws::default());
        let work = tokio::time::sleep(Duration::from_secs(60));
        let wait = thaws.within(&wall, deadline(), work);
        assert_eq!(wait.await, Some(()), "no time passed on the wall clock");
    }

    #[tokio::test(start_paused = true)]
    async fn completed_work_counts_after_the_deadline() {
        let (wall, thaws) = (ManualClock(AtomicU64::new(99_000)), Thaws::default());
        assert_eq!(thaws.within(&wall, deadline(), async { 7 }).await, Some(7));
        let never = std::future::pending::<()>();
        assert_eq!(thaws.within(&wall, deadline(), never).await, None);
    }
}

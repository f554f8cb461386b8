//! What a thaw does to whoever waits.
//!
//! Nothing tells a process that it was frozen. The lifecycle infers it from the wall clock when an event arrives,
//! and says so here. After that, sockets opened before may be dead without a word, and a timer on the monotonic
//! clock is early or late by the length of the freeze, as that clock jumped or stood still. So whoever waits for a
//! peer hears of the thaw and tries anew, and whoever waits for a deadline asks the wall clock again.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Clock, Deadline, Timestamp};

/// Gives all other tasks of this thread a few turns, so that those that read sockets see what has arrived in a freeze
/// before anybody decides that nothing has.
pub async fn turns() {
    /// From the socket to its reader, through TLS and a channel.
    const TURNS: u32 = 4;
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

/// The thaws of this execution environment; clones tell of the same.
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
    /// Tells everyone who waits that the process was frozen until `at`.
    pub fn note(&self, at: Timestamp) {
        self.last.send_replace(Some(at));
    }

    /// The end of the last freeze; `None` while there was none.
    #[must_use]
    pub fn last(&self) -> Option<Timestamp> {
        *self.last.borrow()
    }

    /// Waits for the next thaw after this call. The future may outlive `self`.
    pub fn next(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut last = self.last.subscribe();
        async move {
            if last.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Runs `work` until `deadline` of the wall clock; `None` when that passes first, at the latest at the thaw
    /// after it.
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

    /// A wall clock that goes its own way, whatever the timers do.
    #[derive(Default)]
    struct Wall(AtomicU64);

    impl Clock for Wall {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    fn deadline() -> Deadline {
        Deadline::at_unix_ms(10_000)
    }

    #[tokio::test(start_paused = true)]
    async fn a_thaw_after_the_deadline_ends_the_wait_though_the_monotonic_clock_stood_still() {
        let (wall, thaws) = (Wall::default(), Thaws::default());
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
    async fn a_monotonic_clock_that_jumped_ends_no_wait_before_its_deadline() {
        let (wall, thaws) = (Wall::default(), Thaws::default());
        let work = tokio::time::sleep(Duration::from_secs(60));
        let wait = thaws.within(&wall, deadline(), work);
        assert_eq!(
            wait.await,
            Some(()),
            "the wall clock says that no time went by"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_done_counts_even_past_the_deadline() {
        let (wall, thaws) = (Wall(AtomicU64::new(99_000)), Thaws::default());
        assert_eq!(thaws.within(&wall, deadline(), async { 7 }).await, Some(7));
        let never = std::future::pending::<()>();
        assert_eq!(thaws.within(&wall, deadline(), never).await, None);
    }
}

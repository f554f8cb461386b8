//! Time awake: durations and limits that a freeze does not count against.
//!
//! Whether the monotonic clock stands still in a freeze is not documented. Where it jumps, every timer fires at the thaw,
//! and the elapsed time of a step includes the hours of the freeze. So time is counted in steps of a [`STEP`], each with
//! a timer of its own: of a freeze, one step counts at most, whatever the clock does.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// The longest stretch that is counted at once.
const STEP: Duration = Duration::from_secs(1);

/// A count of the time awake since it was made. Exact as long as it is observed at least once in each second.
#[derive(Clone, Copy, Debug)]
struct Count {
    observed: Instant,
    awake: Duration,
}

impl Count {
    fn new() -> Self {
        Self {
            observed: Instant::now(),
            awake: Duration::ZERO,
        }
    }

    /// Adds the time since the last observation; of a gap that no timer explains, one step.
    fn observe(&mut self) -> Duration {
        let now = Instant::now();
        let gap = now.duration_since(self.observed);
        self.observed = now;
        self.awake += if gap < 2 * STEP { gap } else { STEP };
        self.awake
    }
}

/// Runs `work` to its end, and returns the time that it took awake.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let mut count = Count::new();
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return (done, count.observe()),
            () = sleep(STEP) => count.observe(),
        };
    }
}

/// Runs `work` for at most `limit` of time awake; `None` when the limit passes first.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut timer = Limit::new(limit);
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => Some(done),
        () = std::future::poll_fn(|cx| timer.poll_over(cx)) => None,
    }
}

/// A limit on time awake that begins when it is first polled, and can begin anew.
#[derive(Debug)]
pub struct Limit {
    whole: Duration,
    left: Duration,
    /// Allocated only for a limit that is waited for.
    timer: Option<(Pin<Box<Sleep>>, Duration)>,
}

impl Limit {
    /// A limit of this length.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            whole: limit,
            left: limit,
            timer: None,
        }
    }

    /// Begins the limit anew. A step that has begun goes on, so that frequent calls need no timer each: the limit may end
    /// up to one step early.
    pub fn renew(&mut self) {
        self.left = self.whole;
    }

    /// Ready when the limit is over.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let (timer, step) = self.timer.get_or_insert_with(|| {
                let step = self.left.min(STEP);
                (Box::pin(sleep(step)), step)
            });
            ready!(timer.as_mut().poll(cx));
            self.left = self.left.saturating_sub(*step);
            if self.left.is_zero() {
                return Poll::Ready(());
            }
            *step = self.left.min(STEP);
            timer.as_mut().reset(Instant::now() + *step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Thaws;
    use crate::clock::wall::{Monotonic, Wall};

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_freeze_counts_as_one_step_at_most_by_either_clock() {
        for monotonic in Monotonic::BOTH {
            let (wall, thaws) = (Wall::new(), Thaws::default());
            let work = async {
                sleep(Duration::from_millis(2_500)).await;
                monotonic.freeze(&wall, &thaws, HOUR).await;
                sleep(Duration::from_millis(300)).await;
            };
            let ((), awake) = timed(work).await;
            let expected = Duration::from_millis(2_800);
            assert!(awake >= expected, "{monotonic:?}: {awake:?}");
            assert!(awake <= expected + STEP, "{monotonic:?}: {awake:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_outlasts_a_freeze_and_ends_in_time_without_one() {
        let (wall, thaws) = (Wall::new(), Thaws::default());
        let work = async {
            Monotonic::Jumps.freeze(&wall, &thaws, HOUR).await;
            sleep(Duration::from_millis(1_500)).await;
        };
        assert_eq!(within(Duration::from_secs(3), work).await, Some(()));
        let begun = Instant::now();
        let never = std::future::pending::<()>();
        let limit = Duration::from_millis(2_500);
        assert_eq!(within(limit, never).await, None);
        assert_eq!(begun.elapsed(), limit);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_renewed_begins_anew() {
        let mut limit = Limit::new(Duration::from_secs(3));
        for _ in 0..5 {
            let over = std::future::poll_fn(|cx| limit.poll_over(cx));
            let timeout = tokio::time::timeout(Duration::from_millis(1_900), over);
            assert!(timeout.await.is_err());
            limit.renew();
        }
    }
}

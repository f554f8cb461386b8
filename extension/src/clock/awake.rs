//! Limits and durations in time awake, which exclude freezes.
//!
//! A limit is counted in steps of a second or a fifth of the limit, each with a timer of its own. A monotonic clock
//! that jumps over a freeze ends the current step, so that a freeze costs one step at most. A clock that stands still
//! costs nothing.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

const SECOND: Duration = Duration::from_secs(1);
/// Minimum number of steps of a limit.
const MIN_STEPS: u32 = 5;

/// Limit in time awake that begins when it is first polled.
#[derive(Debug)]
pub struct AwakeTimeout {
    step: Duration,
    steps: u32,
    /// Steps until the limit is over, the current one included.
    left: u32,
    /// Timer of the current step; created at the first wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl AwakeTimeout {
    /// Creates a limit. After a freeze or a renewal it may end up to one step earlier.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        let steps = u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        let steps = steps.max(MIN_STEPS);
        Self {
            step: limit / steps,
            steps,
            left: steps,
            timer: None,
        }
    }

    /// Restarts the limit. The current step continues, so that frequent renewals reset no timer.
    pub fn renew(&mut self) {
        self.left = self.steps;
    }

    /// Ready when the limit is over. Must be polled only while the awaited work is pending.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let step = self.step;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(step)));
        loop {
            ready!(timer.as_mut().poll(cx));
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + step);
        }
    }
}

/// Runs `work` for at most `limit` of time awake; returns `None` if the limit is over first.
pub async fn within_awake<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut limit = AwakeTimeout::new(limit);
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => limit.poll_over(cx).map(|()| None),
    })
    .await
}

/// Runs `work`, and returns its duration in time awake.
pub async fn timed_awake<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let mut work = pin!(work);
    let mut awake = Duration::ZERO;
    let mut observed = Instant::now();
    loop {
        let done = tokio::time::timeout(SECOND, work.as_mut()).await;
        let now = Instant::now();
        let gap = now.duration_since(std::mem::replace(&mut observed, now));
        // A gap longer than the timer is a freeze.
        awake += if gap < 2 * SECOND { gap } else { SECOND };
        if let Ok(done) = done {
            return (done, awake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Thaws;
    use crate::clock::wall::{Monotonic, Wall};

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn work_that_never_ends_is_dropped_after_the_limit() {
        for limit in [1_500, 5_000, 7_000].map(Duration::from_millis) {
            let started = Instant::now();
            let never = std::future::pending::<()>();
            assert_eq!(within_awake(limit, never).await, None);
            assert_eq!(started.elapsed(), limit);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_over_a_freeze_costs_one_step() {
        let (done, wait) = tokio::sync::oneshot::channel();
        let work = within_awake(Duration::from_secs(5), wait);
        let freeze = async {
            tokio::task::yield_now().await;
            tokio::time::advance(HOUR).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            done.send(7).unwrap();
        };
        assert_eq!(tokio::join!(work, freeze).0, Some(Ok(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_freeze_adds_at_most_one_second_to_a_duration() {
        for monotonic in Monotonic::BOTH {
            let (wall, thaws) = (Wall::new(), Thaws::default());
            let work = async {
                tokio::time::sleep(Duration::from_millis(2_500)).await;
                monotonic.freeze(&wall, &thaws, HOUR).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            };
            let ((), awake) = timed_awake(work).await;
            let expected = Duration::from_millis(2_800);
            assert!(awake >= expected, "{monotonic:?}: {awake:?}");
            assert!(awake <= expected + SECOND, "{monotonic:?}: {awake:?}");
        }
    }
}

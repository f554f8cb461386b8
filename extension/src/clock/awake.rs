//! Limits and durations in time awake: freezes do not count.
//!
//! Time awake is counted in seconds, each with a timer of its own. On a monotonic clock that jumps, all timers ring at the
//! thaw, and one second is lost, no more. On a clock that stood still, nothing is lost.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

const SECOND: Duration = Duration::from_secs(1);

/// A limit that begins when it is first waited for.
#[derive(Debug)]
pub struct AwakeTimeout {
    seconds: u64,
    left: u64,
    /// In a box of its own, made only when something has to be waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl AwakeTimeout {
    /// A limit in whole seconds. It may end up to one second earlier.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            seconds: limit.as_secs(),
            left: limit.as_secs(),
            timer: None,
        }
    }

    /// Begins the limit anew. The second that has begun goes on: what comes in many pieces needs no timer for each.
    pub fn renew(&mut self) {
        self.left = self.seconds;
    }

    /// Ready when the limit is over. To be polled only while nothing has come.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(SECOND)));
        loop {
            ready!(timer.as_mut().poll(cx));
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + SECOND);
        }
    }
}

/// Runs `work` for at most `limit` of time awake; `None` when the limit is over first.
pub async fn within_awake<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut limit = AwakeTimeout::new(limit);
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => limit.poll_over(cx).map(|()| None),
    })
    .await
}

/// Runs `work` to its end, and returns the time that it took awake.
pub async fn timed_awake<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let mut work = pin!(work);
    let mut awake = Duration::ZERO;
    let mut observed = Instant::now();
    loop {
        let done = tokio::time::timeout(SECOND, work.as_mut()).await;
        let now = Instant::now();
        let gap = now.duration_since(std::mem::replace(&mut observed, now));
        // A gap that the timer does not explain is a freeze.
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
    async fn work_that_never_ends_is_given_up_after_the_limit() {
        let started = Instant::now();
        let never = std::future::pending::<()>();
        assert_eq!(within_awake(Duration::from_secs(5), never).await, None);
        assert_eq!(started.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_over_a_freeze_costs_one_second() {
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
    async fn a_freeze_adds_one_second_at_most_to_a_duration_by_either_clock() {
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

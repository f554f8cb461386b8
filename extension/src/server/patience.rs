//! How long a sender may be silent or slow, freezes not counted.
//!
//! The time is counted in seconds, each with a timer of its own. On a monotonic clock that jumps, all timers ring
//! at the thaw, and the sender, who was frozen as well, has had no chance yet: it loses the second in which it was
//! frozen, and no more. On a clock that stood still, it loses nothing.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

const SECOND: Duration = Duration::from_secs(1);

/// A limit that begins when it is first waited for.
pub(super) struct Patience {
    seconds: u64,
    left: u64,
    /// In a box of its own, made only for a sender who lets the server wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// `limit` is taken in whole seconds, and may end up to one earlier.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            seconds: limit.as_secs(),
            left: limit.as_secs(),
            timer: None,
        }
    }

    /// The limit begins anew. The second that has begun goes on: a body of many pieces needs no timer for each.
    pub(super) fn renew(&mut self) {
        self.left = self.seconds;
    }

    /// Ready when the limit is over. To be asked only while nothing has come.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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

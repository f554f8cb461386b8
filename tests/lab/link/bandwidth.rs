//! A bandwidth shared by several flows: each slice queues behind the data in transit.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Idle time for which a flow may catch up. Sleeps end up to a timer tick late and a task is not
/// scheduled at once. Without this allowance a flow that waits for each of its slices would lose
/// that time with each. One connection would then never use the full bandwidth.
const SLACK: Duration = Duration::from_millis(10);

/// Bytes per second, shared by all holders.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    bytes_per_second: u64,
    free_from: Mutex<Option<Instant>>,
}

impl Bandwidth {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            free_from: Mutex::new(None),
        }
    }

    /// Bytes of about a fiftieth of a second, so that a flow is smooth.
    pub(crate) fn slice(&self) -> usize {
        usize::try_from(self.bytes_per_second / 50).map_or(usize::MAX, |size| size.max(1))
    }

    /// Queues behind the data in transit, and waits until `bytes` have passed.
    pub(crate) async fn pass(&self, bytes: usize) {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second);
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let done = {
            let mut free_from = self
                .free_from
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let earliest = now.checked_sub(SLACK).unwrap_or(now);
            let done = free_from.unwrap_or(now).max(earliest) + time;
            *free_from = Some(done);
            done
        };
        tokio::time::sleep_until(done).await;
    }
}

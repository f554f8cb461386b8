//! Bodies whose bytes arrive over a channel, with freezes under both behaviours of the monotonic clock.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use super::*;
use crate::clock::Thaws;
use crate::clock::wall::{Monotonic, Wall};

/// Body of the peer.
struct Sent(mpsc::UnboundedReceiver<&'static str>);

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let sent = ready!(self.0.poll_recv(cx));
        Poll::Ready(sent.map(|bytes| Ok(Frame::data(Bytes::from_static(bytes.as_bytes())))))
    }
}

struct Transfer {
    wall: Arc<Wall>,
    thaws: Thaws,
    far_side: mpsc::UnboundedSender<&'static str>,
    body: FreezeAwareBody,
}

impl Transfer {
    fn new() -> Self {
        let (wall, thaws) = (Wall::new(), Thaws::default());
        let (far_side, sent) = mpsc::unbounded_channel();
        let pulse = Pulse::without_pool(Arc::clone(&wall) as _, thaws.clone());
        let body = FreezeAwareBody::new(SdkBody::from_body_1_x(Sent(sent)), pulse);
        Self {
            wall,
            thaws,
            far_side,
            body,
        }
    }

    fn send(&self, bytes: &'static str) {
        self.far_side.send(bytes).unwrap();
    }

    /// Returns the next bytes, or the end of the body.
    async fn next(&mut self) -> Result<String, String> {
        let frame = tokio::time::timeout(2 * HOUR, self.body.frame()).await;
        match frame.expect("the body waits for ever") {
            None => Err("the end".to_owned()),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(frame)) => Ok(String::from_utf8_lossy(frame.data_ref().unwrap()).into_owned()),
        }
    }

    /// Freezes while waiting for the next bytes; returns as [`Self::next`].
    async fn next_across(&mut self, clock: Monotonic, time: Duration) -> Result<String, String> {
        let (wall, thaws) = (Arc::clone(&self.wall), self.thaws.clone());
        let freeze = async {
            tokio::task::yield_now().await;
            clock.freeze(&wall, &thaws, time).await;
        };
        tokio::join!(self.next(), freeze).0
    }
}

const HOUR: Duration = Duration::from_secs(3_600);
const FROZEN: &str = "the execution environment was frozen during the transfer";

#[tokio::test(start_paused = true)]
async fn a_body_whose_last_byte_is_old_ends_at_the_thaw() {
    for clock in Monotonic::BOTH {
        let mut transfer = Transfer::new();
        transfer.send("half");
        assert_eq!(transfer.next().await.as_deref(), Ok("half"));
        let started = tokio::time::Instant::now();
        let end = transfer.next_across(clock, HOUR).await;
        assert_eq!(end.unwrap_err(), FROZEN, "{clock:?}");
        let frozen = match clock {
            Monotonic::Jumps => HOUR,
            Monotonic::StandsStill => Duration::ZERO,
        };
        assert_eq!(started.elapsed(), frozen, "at once: {clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_arrived_before_the_thaw_are_read_before_the_body_ends() {
    for clock in Monotonic::BOTH {
        let mut transfer = Transfer::new();
        transfer.send("half");
        clock.freeze(&transfer.wall, &transfer.thaws, HOUR).await;
        assert_eq!(transfer.next().await.as_deref(), Ok("half"), "{clock:?}");
        assert_eq!(transfer.next().await.unwrap_err(), FROZEN, "{clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_continues_after_a_short_freeze_is_read_to_its_end() {
    for clock in Monotonic::BOTH {
        let mut transfer = Transfer::new();
        let far_side = transfer.far_side.clone();
        let rest = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(700)).await;
            far_side.send("rest").unwrap();
        });
        let short = Duration::from_millis(300);
        assert_eq!(
            transfer.next_across(clock, short).await.as_deref(),
            Ok("rest"),
            "{clock:?}"
        );
        rest.await.unwrap();
        // Without another thaw the limit is longer, because readers have their own.
        let far_side = transfer.far_side.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(9)).await;
            far_side.send("last").unwrap();
        });
        assert_eq!(transfer.next().await.as_deref(), Ok("last"), "{clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_silent_after_a_short_freeze_ends() {
    for clock in Monotonic::BOTH {
        let mut transfer = Transfer::new();
        let end = transfer
            .next_across(clock, Duration::from_millis(300))
            .await;
        assert_eq!(end.unwrap_err(), FROZEN, "{clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_body_ends_after_its_time_awake() {
    let mut transfer = Transfer::new();
    transfer.send("half");
    assert_eq!(transfer.next().await.as_deref(), Ok("half"));
    let started = tokio::time::Instant::now();
    let end = transfer.next().await.unwrap_err();
    assert!(end.contains("no byte of the response within 15 s"), "{end}");
    let took = started.elapsed();
    assert!(
        took <= STALL && took + Duration::from_secs(1) >= STALL,
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_read_to_its_end() {
    let mut transfer = Transfer::new();
    let far_side = transfer.far_side.clone();
    tokio::spawn(async move {
        for piece in ["1", "2", "3", "4"] {
            tokio::time::sleep(Duration::from_secs(10)).await;
            far_side.send(piece).unwrap();
        }
    });
    for piece in ["1", "2", "3", "4"] {
        assert_eq!(transfer.next().await.as_deref(), Ok(piece));
    }
}

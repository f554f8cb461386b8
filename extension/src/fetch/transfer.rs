//! The network side of a fetch: from the first byte that is missing to the last, over as many connections as it
//! takes.
//!
//! An attempt that brought a byte costs nothing. Attempts without one are limited, with pauses that grow. A stall is
//! counted in time awake: second by second, since a clock that jumps by the length of a freeze ends one of those
//! seconds and not all of them. A thaw begins the count anew; and when the last byte is from before the freeze, the
//! connection is not trusted any more, and another takes over at once.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::FetchError;
use crate::cache::Wanted;
use crate::clock::{Clock, Thaws, Timestamp};
use crate::source::{Chunks, Source, SourceError};

/// A transfer without a byte for so long, awake, is broken off; the link and S3 need milliseconds.
pub(super) const STALL: Duration = Duration::from_secs(10);
/// So long a request may be without an answer. The source has limits of its own, and knows better what failed.
const ANSWER: Duration = Duration::from_secs(30);
/// Of this, time awake is made up.
const TICK: Duration = Duration::from_secs(1);
/// A connection that brought something so shortly before a thaw is trusted still. No freeze worth the name is shorter.
const FRESH: Duration = Duration::from_secs(1);
/// How many attempts in a row may bring nothing.
const FRUITLESS: u32 = 4;
/// The pause after the first of them; it doubles.
const PAUSE: Duration = Duration::from_millis(100);

/// What reads from one source for one fetch.
pub(super) struct Transfer<'a> {
    source: &'a dyn Source,
    patience: Patience<'a>,
    transferred: u64,
}

/// One file on its way.
struct Flow<'w> {
    wanted: &'w Wanted,
    /// How many bytes are here.
    at: u64,
    chunks: mpsc::Sender<Bytes>,
}

/// Why a connection is not read any further.
enum Broken {
    /// It is from before a freeze.
    Thawed,
    /// It failed.
    Failed(FetchError),
    /// The writer takes no more.
    Refused,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(source: &'a dyn Source, thaws: &'a Thaws, clock: &'a dyn Clock) -> Self {
        Self {
            source,
            patience: Patience::new(thaws, clock),
            transferred: 0,
        }
    }

    pub(super) fn source(&self) -> &'a dyn Source {
        self.source
    }

    /// How many bytes have arrived in all.
    pub(super) fn transferred(&self) -> u64 {
        self.transferred
    }

    /// Hands over all bytes of `wanted` from `have` on. `body`, if there is one, begins there and is read first.
    /// Also ends without an error when nobody takes the chunks any more.
    pub(super) async fn run(
        &mut self,
        wanted: &Wanted,
        have: u64,
        mut body: Option<Box<dyn Chunks>>,
        chunks: mpsc::Sender<Bytes>,
    ) -> Result<(), FetchError> {
        let mut flow = Flow {
            wanted,
            at: have,
            chunks,
        };
        let (mut reached, mut fruitless) = (have, 0);
        loop {
            let error = match self.connection(&mut flow, body.take()).await {
                Ok(()) | Err(Broken::Refused) => return Ok(()),
                Err(Broken::Thawed) => {
                    info!(
                        source = wanted.location,
                        "the transfer goes on after a freeze, at byte {} of {}",
                        flow.at,
                        wanted.size
                    );
                    continue;
                }
                Err(Broken::Failed(error)) => error,
            };
            fruitless = if flow.at > reached { 1 } else { fruitless + 1 };
            reached = flow.at;
            if !error.is_transient() || fruitless > FRUITLESS {
                return Err(error);
            }
            warn!(
                source = wanted.location,
                "the transfer goes on at byte {} of {}: {error}", flow.at, wanted.size
            );
            tokio::time::sleep(PAUSE * 2_u32.pow(fruitless - 1)).await;
        }
    }

    /// Reads one connection, `body` or a new one, as far as it bears.
    async fn connection(
        &mut self,
        flow: &mut Flow<'_>,
        body: Option<Box<dyn Chunks>>,
    ) -> Result<(), Broken> {
        let size = flow.wanted.size;
        if flow.at == size {
            return Ok(());
        }
        let mut body = match body {
            Some(body) => body,
            None => {
                let answer = self.source.read(&flow.wanted.identity, flow.at..size);
                self.patience
                    .wait(answer, ANSWER)
                    .await
                    .map_err(|silence| silence.at(flow))??
            }
        };
        while flow.at < size {
            // Room first: a chunk in hand while the fetch is given up would be lost.
            let Ok(room) = flow.chunks.reserve().await else {
                return Err(Broken::Refused);
            };
            let next = self.patience.wait(body.next(), STALL).await;
            let chunk = match next.map_err(|silence| silence.at(flow))? {
                Some(chunk) => chunk?,
                None => return Err(flow.length(flow.at)),
            };
            let received = flow.at + chunk.len() as u64;
            if received > size {
                return Err(flow.length(received));
            }
            flow.at = received;
            self.transferred += chunk.len() as u64;
            room.send(chunk);
        }
        Ok(())
    }
}

impl Flow<'_> {
    fn length(&self, received: u64) -> Broken {
        Broken::Failed(FetchError::Length {
            declared: self.wanted.size,
            received,
        })
    }
}

impl From<SourceError> for Broken {
    fn from(error: SourceError) -> Self {
        Broken::Failed(error.into())
    }
}

/// Nothing was heard.
enum Silence {
    Stalled,
    Thawed,
}

impl Silence {
    fn at(self, flow: &Flow<'_>) -> Broken {
        match self {
            Silence::Thawed => Broken::Thawed,
            Silence::Stalled => Broken::Failed(FetchError::Stalled {
                declared: flow.wanted.size,
                received: flow.at,
            }),
        }
    }
}

/// Waits for a peer, as long as that makes sense.
struct Patience<'a> {
    thaws: &'a Thaws,
    clock: &'a dyn Clock,
    /// The next thaw; it is listened for between two waits as well.
    thaw: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// When the peer was last heard, by the wall clock.
    heard: Timestamp,
}

impl<'a> Patience<'a> {
    fn new(thaws: &'a Thaws, clock: &'a dyn Clock) -> Self {
        Self {
            thaws,
            clock,
            thaw: Box::pin(thaws.next()),
            heard: clock.now(),
        }
    }

    /// What `peer` says within `limit` of time awake.
    async fn wait<T>(
        &mut self,
        peer: impl Future<Output = T>,
        limit: Duration,
    ) -> Result<T, Silence> {
        tokio::pin!(peer);
        let mut awake = Duration::ZERO;
        while awake < limit {
            tokio::select! {
                biased;
                () = &mut self.thaw => {
                    self.thaw = Box::pin(self.thaws.next());
                    awake = Duration::ZERO;
                    let now = self.clock.now();
                    if now.since(self.heard) >= FRESH {
                        self.heard = now;
                        return Err(Silence::Thawed);
                    }
                }
                said = &mut peer => {
                    self.heard = self.clock.now();
                    return Ok(said);
                }
                () = tokio::time::sleep(TICK) => awake += TICK,
            }
        }
        Err(Silence::Stalled)
    }
}

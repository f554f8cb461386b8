//! Reads one response of the source.
//!
//! Time limits count time awake, so that a freeze does not exceed them. A thaw restarts the limit. After a thaw, a
//! connection that has not delivered a byte shortly before the freeze is not used any more.

use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use super::error::FetchError;
use crate::clock::{Clock, Thaws, Timestamp, within_awake, yield_to_readers};
use crate::ids::Identity;
use crate::source::{ChunkStream, Source, SourceError};

/// Maximum time awake without a byte. The link and S3 need milliseconds.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time awake until the response begins. The source has lower limits, whose errors name the cause.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum age of the last byte at a thaw for a connection to stay in use. Real freezes are longer.
const MAX_IDLE_AT_THAW: Duration = Duration::from_secs(1);

/// Reader of the bytes of a range, in order.
pub(super) struct ResponseReader<'a> {
    body: Box<dyn ChunkStream>,
    /// Range that has not been returned yet.
    rest: Range<u64>,
    /// Received bytes that have not been returned yet.
    buffer: Bytes,
    wait: PeerWait<'a>,
}

/// A response cannot be read any further.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The connection is from before a freeze.
    Thawed,
    /// No byte arrived within the time limit.
    Stalled(Duration),
    /// The body is shorter than its range.
    Short,
    /// The body is longer than its range, and reaches at least this offset.
    Long(u64),
    /// The source failed.
    Source(SourceError),
}

impl<'a> ResponseReader<'a> {
    /// Reads a body that contains `range`.
    pub(super) fn new(body: Box<dyn ChunkStream>, range: Range<u64>, wait: PeerWait<'a>) -> Self {
        Self {
            body,
            rest: range,
            buffer: Bytes::new(),
            wait,
        }
    }

    /// Requests `range` of the file.
    pub(super) async fn request(
        source: &dyn Source,
        identity: &Identity,
        range: Range<u64>,
        mut wait: PeerWait<'a>,
    ) -> Result<Self, ReadError> {
        let response = source.read(identity, range.clone());
        let body = wait
            .run(response, RESPONSE_TIMEOUT, ThawPolicy::Continue)
            .await?;
        let body = body.map_err(ReadError::Source)?;
        Ok(Self::new(body, range, wait))
    }

    /// Returns the range that has not been returned yet.
    pub(super) fn rest(&self) -> Range<u64> {
        self.rest.clone()
    }

    /// Returns the next bytes, at most `max`. The rest of the range must not be empty.
    pub(super) async fn next(&mut self, max: u64) -> Result<Bytes, ReadError> {
        if self.buffer.is_empty() {
            let next = self
                .wait
                .run(self.body.next(), STALL_TIMEOUT, ThawPolicy::AbortIfIdle)
                .await?;
            let chunk = next.ok_or(ReadError::Short)?.map_err(ReadError::Source)?;
            let end = self.rest.start + chunk.len() as u64;
            if end > self.rest.end {
                return Err(ReadError::Long(end));
            }
            self.buffer = chunk;
        }
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let bytes = self.buffer.split_to(max.min(self.buffer.len()));
        self.rest.start += bytes.len() as u64;
        Ok(bytes)
    }
}

impl ReadError {
    /// Returns the error of a fetch that has received `received` of `declared` bytes.
    pub(super) fn into_fetch_error(self, declared: u64, received: u64) -> FetchError {
        match self {
            ReadError::Source(error) => error.into(),
            ReadError::Long(received) => FetchError::Length {
                declared: declared.min(received - 1),
                received,
            },
            ReadError::Short => FetchError::Length { declared, received },
            ReadError::Stalled(limit) => FetchError::Stalled {
                limit,
                declared,
                received,
            },
            ReadError::Thawed => FetchError::Stalled {
                limit: STALL_TIMEOUT,
                declared,
                received,
            },
        }
    }
}

/// Reaction to a thaw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ThawPolicy {
    /// Continue: the source retries its request by itself.
    Continue,
    /// Abort, unless the peer delivered something shortly before.
    AbortIfIdle,
}

/// Waits for the peer of a connection, with a limit in time awake.
pub(super) struct PeerWait<'a> {
    thaws: &'a Thaws,
    clock: &'a dyn Clock,
    /// The next thaw. Subscribed between two waits as well.
    thaw: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Wall-clock time of the last delivery.
    last_delivery: Timestamp,
}

impl<'a> PeerWait<'a> {
    pub(super) fn new(thaws: &'a Thaws, clock: &'a dyn Clock) -> Self {
        Self {
            thaws,
            clock,
            thaw: Box::pin(thaws.next()),
            last_delivery: clock.now(),
        }
    }

    /// Runs `peer` for at most `limit` of time awake since the last thaw.
    async fn run<T>(
        &mut self,
        peer: impl Future<Output = T>,
        limit: Duration,
        policy: ThawPolicy,
    ) -> Result<T, ReadError> {
        tokio::pin!(peer);
        loop {
            tokio::select! {
                biased;
                () = &mut self.thaw => {
                    self.thaw = Box::pin(self.thaws.next());
                    let now = self.clock.now();
                    let is_fresh = now.since(self.last_delivery) < MAX_IDLE_AT_THAW;
                    if policy == ThawPolicy::Continue || is_fresh {
                        continue;
                    }
                    // Bytes that arrived during the freeze are read first.
                    tokio::select! {
                        biased;
                        delivered = &mut peer => {
                            self.last_delivery = now;
                            return Ok(delivered);
                        }
                        () = yield_to_readers() => return Err(ReadError::Thawed),
                    }
                }
                delivered = within_awake(limit, &mut peer) => {
                    let delivered = delivered.ok_or(ReadError::Stalled(limit))?;
                    self.last_delivery = self.clock.now();
                    return Ok(delivered);
                }
            }
        }
    }
}

//! One answer of the source, while it is read.
//!
//! A stall is counted in time awake: second by second, since a clock that jumps by the length of a freeze ends one of
//! those seconds and not all of them. A thaw begins the count anew; and when the last byte is from before the freeze,
//! the connection is not trusted any more.

use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use super::FetchError;
use crate::clock::{Clock, Thaws, Timestamp, yield_to_readers};
use crate::ids::Identity;
use crate::source::{ChunkStream, Source, SourceError};

/// A transfer without a byte for so long, awake, is broken off; the link and S3 need milliseconds.
pub(super) const STALL: Duration = Duration::from_secs(10);
/// So long a request may be without an answer. The source has limits of its own, and knows better what failed.
const ANSWER: Duration = Duration::from_secs(30);
/// Of this, time awake is made up.
const TICK: Duration = Duration::from_secs(1);
/// A connection that brought something so shortly before a thaw is trusted still. No freeze worth the name is shorter.
const FRESH: Duration = Duration::from_secs(1);

/// Bytes of a range, in order.
pub(super) struct Answer<'a> {
    body: Box<dyn ChunkStream>,
    /// What of the file has not been given out yet.
    rest: Range<u64>,
    /// Has arrived, and was not given out yet.
    held: Bytes,
    patience: Patience<'a>,
}

/// Why an answer is not read any further.
#[derive(Debug)]
pub(super) enum Broken {
    /// It is from before a freeze.
    Thawed,
    /// Nothing came for too long.
    Stalled,
    /// It ended before its range did.
    Short,
    /// It has more than its range, at least to here.
    Long(u64),
    /// The source failed.
    Source(SourceError),
}

impl<'a> Answer<'a> {
    /// Of a body that brings `range`.
    pub(super) fn new(
        body: Box<dyn ChunkStream>,
        range: Range<u64>,
        patience: Patience<'a>,
    ) -> Self {
        Self {
            body,
            rest: range,
            held: Bytes::new(),
            patience,
        }
    }

    /// Asks for `range` of the file.
    pub(super) async fn ask(
        source: &dyn Source,
        identity: &Identity,
        range: Range<u64>,
        mut patience: Patience<'a>,
    ) -> Result<Self, Broken> {
        let answer = source.read(identity, range.clone());
        let body = patience.wait(answer, ANSWER, Trust::Always).await?;
        let body = body.map_err(Broken::Source)?;
        Ok(Self::new(body, range, patience))
    }

    /// What it goes on to bring.
    pub(super) fn rest(&self) -> Range<u64> {
        self.rest.clone()
    }

    /// The next bytes, `most` at most. There must be some to come.
    pub(super) async fn next(&mut self, most: u64) -> Result<Bytes, Broken> {
        if self.held.is_empty() {
            let next = self
                .patience
                .wait(self.body.next(), STALL, Trust::WhileFresh)
                .await?;
            let chunk = next.ok_or(Broken::Short)?.map_err(Broken::Source)?;
            let reaches = self.rest.start + chunk.len() as u64;
            if reaches > self.rest.end {
                return Err(Broken::Long(reaches));
            }
            self.held = chunk;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let bytes = self.held.split_to(most.min(self.held.len()));
        self.rest.start += bytes.len() as u64;
        Ok(bytes)
    }
}

impl Broken {
    /// What it means for a file of which `received` bytes of `declared` are here.
    pub(super) fn explain(self, declared: u64, received: u64) -> FetchError {
        match self {
            Broken::Source(error) => error.into(),
            Broken::Long(received) => FetchError::Length {
                declared: declared.min(received - 1),
                received,
            },
            Broken::Short => FetchError::Length { declared, received },
            Broken::Stalled | Broken::Thawed => FetchError::Stalled { declared, received },
        }
    }
}

/// Trust in a peer after a thaw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// It sends its request anew by itself.
    Always,
    /// If it was heard shortly before.
    WhileFresh,
}

/// Waits for a peer, as long as that makes sense.
pub(super) struct Patience<'a> {
    thaws: &'a Thaws,
    clock: &'a dyn Clock,
    /// The next thaw; it is listened for between two waits as well.
    thaw: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// When the peer was last heard, by the wall clock.
    heard: Timestamp,
}

impl<'a> Patience<'a> {
    pub(super) fn new(thaws: &'a Thaws, clock: &'a dyn Clock) -> Self {
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
        trust: Trust,
    ) -> Result<T, Broken> {
        tokio::pin!(peer);
        let mut awake = Duration::ZERO;
        while awake < limit {
            tokio::select! {
                biased;
                () = &mut self.thaw => {
                    self.thaw = Box::pin(self.thaws.next());
                    awake = Duration::ZERO;
                    let now = self.clock.now();
                    if trust == Trust::Always || now.since(self.heard) < FRESH {
                        continue;
                    }
                    // What has arrived in the freeze is read first.
                    tokio::select! {
                        biased;
                        said = &mut peer => {
                            self.heard = now;
                            return Ok(said);
                        }
                        () = yield_to_readers() => return Err(Broken::Thawed),
                    }
                }
                said = &mut peer => {
                    self.heard = self.clock.now();
                    return Ok(said);
                }
                () = tokio::time::sleep(TICK) => awake += TICK,
            }
        }
        Err(Broken::Stalled)
    }
}

//! Network side of a fetch: all missing ranges, over several connections.
//!
//! # Retries
//! Each connection takes the first range that no connection has taken, then the next one. After an error, the
//! connection pauses and requests the rest of its range again. The pause has full jitter, so that connections do not
//! retry at the same time, and doubles with each consecutive attempt that received no byte. The transfer fails after
//! several such attempts of one connection if the other connections received no byte either. A connection from before
//! a freeze is replaced immediately.
//!
//! # First response
//! The response that the fetch began with may contain the whole file. All connections begin with a range of their own.
//! The first one continues to read its response as long as no other connection has taken the next range, and then drops
//! it. The bytes in flight are lost, at most those of one round trip, and the connection is closed. The alternatives
//! cost more. For a request of the first range alone, S3 returns no checksum of the whole object. A separate request
//! for the checksum delays every small model.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::response::{PeerWait, ReadError, ResponseReader};
use super::writer::Chunk;
use super::{FetchContext, FetchError};
use crate::cache::RemoteFile;
use crate::clock::{Clock, Thaws};
use crate::source::{Object, Source};
use crate::sys;

/// Maximum number of consecutive attempts without a byte.
const MAX_FRUITLESS_ATTEMPTS: u32 = 4;
/// Maximum pause after the first attempt without a byte. Each further attempt doubles it.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Maximum number of times that the pause doubles.
const MAX_DOUBLINGS: u32 = 5;

/// Transfer of one fetch from one source.
pub(super) struct ParallelTransfer<'a> {
    source: &'a dyn Source,
    thaws: &'a Thaws,
    clock: &'a dyn Clock,
    max_connections: usize,
    transferred: AtomicU64,
}

/// State that the connections share.
struct SharedState<'w> {
    remote: &'w RemoteFile,
    /// Ranges that no connection has taken, in order.
    untaken: Mutex<VecDeque<Range<u64>>>,
    /// Number of bytes received, including those of earlier processes.
    received: AtomicU64,
    chunks: mpsc::Sender<Chunk>,
}

/// Range that one connection receives, and the response that begins with it.
type TakenRange<'a> = (Range<u64>, Option<ResponseReader<'a>>);

/// A connection ends although ranges are left.
enum ConnectionError {
    /// The retries failed.
    Failed(FetchError),
    /// The writer has stopped.
    WriterStopped,
}

impl<'a> ParallelTransfer<'a> {
    pub(super) fn new(source: &'a dyn Source, context: FetchContext<'a>) -> Self {
        Self {
            source,
            thaws: context.thaws,
            clock: context.clock,
            max_connections: context.parts.max_connections,
            transferred: AtomicU64::new(0),
        }
    }

    /// Returns the number of bytes received over the network.
    pub(super) fn transferred(&self) -> u64 {
        self.transferred.load(Ordering::Relaxed)
    }

    /// Takes over the body of an opened object. From here on, thaws are detected.
    pub(super) fn begin(&self, object: Object) -> (RemoteFile, ResponseReader<'a>) {
        let remote = RemoteFile {
            location: self.source.uri(),
            identity: object.identity,
            size: object.size,
            checksum: object.checksum,
        };
        let response = ResponseReader::new(object.body, object.range, self.peer_wait());
        (remote, response)
    }

    /// Sends all bytes of the `missing` ranges to `chunks`, using what the `first` response contains of them. Also
    /// returns `Ok` if the writer stops; it reports the error.
    pub(super) async fn run(
        &self,
        remote: &RemoteFile,
        missing: Vec<Range<u64>>,
        first: ResponseReader<'a>,
        chunks: mpsc::Sender<Chunk>,
    ) -> Result<(), FetchError> {
        let missing_bytes: u64 = missing.iter().map(|range| range.end - range.start).sum();
        let connections = self.max_connections.clamp(1, missing.len().max(1));
        let state = SharedState {
            remote,
            untaken: Mutex::new(missing.into()),
            received: AtomicU64::new(remote.size - missing_bytes),
            chunks,
        };
        // Each connection has its first range before one of them runs: buffered bytes do not delay the others.
        let mut first = Some(first);
        let all = (0..connections).map(|_| self.run_connection(&state, state.take(first.take())));
        match try_join_all(all).await {
            Ok(_) | Err(ConnectionError::WriterStopped) => Ok(()),
            Err(ConnectionError::Failed(error)) => Err(error),
        }
    }

    /// Receives range after range, until none is left.
    async fn run_connection(
        &self,
        state: &SharedState<'_>,
        mut next: Option<TakenRange<'a>>,
    ) -> Result<(), ConnectionError> {
        while let Some((range, response)) = next {
            let response = self.receive_range(state, range, response).await?;
            next = state.take(response);
        }
        Ok(())
    }

    /// Receives one range, which begins where `response` does, with retries. Returns the last response.
    async fn receive_range(
        &self,
        state: &SharedState<'_>,
        mut range: Range<u64>,
        mut response: Option<ResponseReader<'a>>,
    ) -> Result<Option<ResponseReader<'a>>, ConnectionError> {
        // Consecutive attempts without a byte: of this connection, and of all of them.
        let (mut attempts, mut fruitless, mut received) = (0, 0, state.received());
        loop {
            let start = range.start;
            let error = match self.attempt(state, &mut range, response.take()).await {
                Ok(Some(response)) => return Ok(Some(response)),
                Ok(None) => return Err(ConnectionError::WriterStopped),
                Err(error) => error,
            };
            let (location, size) = (&state.remote.location, state.remote.size);
            let at = range.start;
            if let ReadError::Thawed = error {
                info!(
                    source = location,
                    "resuming the download after a freeze at byte {at} of {size}"
                );
                continue;
            }
            attempts = if at > start { 1 } else { attempts + 1 };
            let now_received = state.received();
            fruitless = if now_received > received {
                1
            } else {
                fruitless + 1
            };
            received = now_received;
            let error = error.into_fetch_error(size, received);
            if !error.is_transient() || fruitless > MAX_FRUITLESS_ATTEMPTS {
                return Err(ConnectionError::Failed(error));
            }
            warn!(
                source = location,
                "resuming the download at byte {at} of {size}: {error}"
            );
            tokio::time::sleep(backoff(attempts)).await;
        }
    }

    /// Receives bytes of `range` from `response` or a new one; `None` if the writer stops.
    async fn attempt(
        &self,
        state: &SharedState<'_>,
        range: &mut Range<u64>,
        response: Option<ResponseReader<'a>>,
    ) -> Result<Option<ResponseReader<'a>>, ReadError> {
        let mut response = match response {
            Some(response) => response,
            None => {
                let identity = &state.remote.identity;
                let wait = self.peer_wait();
                ResponseReader::request(self.source, identity, range.clone(), wait).await?
            }
        };
        while range.start < range.end {
            // The permit comes first: received bytes would be lost if the fetch were dropped while waiting for it.
            let Ok(permit) = state.chunks.reserve().await else {
                return Ok(None);
            };
            let bytes = response.next(range.end - range.start).await?;
            let (offset, length) = (range.start, bytes.len() as u64);
            range.start += length;
            state.received.fetch_add(length, Ordering::Relaxed);
            self.transferred.fetch_add(length, Ordering::Relaxed);
            permit.send(Chunk { offset, bytes });
        }
        Ok(Some(response))
    }

    fn peer_wait(&self) -> PeerWait<'a> {
        PeerWait::new(self.thaws, self.clock)
    }
}

impl SharedState<'_> {
    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Takes the range that begins where `response` does, if the response contains all of it. Otherwise takes the first
    /// range, and drops the response.
    fn take<'a>(&self, response: Option<ResponseReader<'a>>) -> Option<TakenRange<'a>> {
        let mut untaken = self.untaken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(response) = response {
            let rest = response.rest();
            let fits = |range: &Range<u64>| range.start == rest.start && range.end <= rest.end;
            let continued = untaken.iter().position(fits);
            if let Some(range) = continued.and_then(|index| untaken.remove(index)) {
                return Some((range, Some(response)));
            }
        }
        Some((untaken.pop_front()?, None))
    }
}

/// Returns the pause, with full jitter, after this number of consecutive attempts without a byte, at least one.
fn backoff(attempts: u32) -> Duration {
    let max = FIRST_BACKOFF * 2_u32.pow((attempts - 1).min(MAX_DOUBLINGS));
    max.mul_f64(f64::from(sys::random_u32()) / f64::from(u32::MAX))
}

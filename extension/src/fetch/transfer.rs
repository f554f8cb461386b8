//! The network side of a fetch: all that is missing, over several connections at once.
//!
//! Each connection takes the first range that nobody has taken, and the next one after it. A range that breaks is
//! asked for again, from the first byte that did not arrive, by whoever had it. An attempt that brought a byte costs
//! nothing. After one that brought none there is a pause, which grows, at random, so that those who were refused
//! together do not come back together; and the transfer fails when several in a row brought none while nothing came
//! over any other connection either. A connection from before a freeze is replaced at once.
//!
//! The answer with which the fetch began may bring more than one range: all of the file. It is read on where it
//! comes to a range that nobody has taken, as with a single connection, and dropped where it does not. Then the bytes
//! that are under way are lost, those of one round trip, and a connection is closed. The other ways cost more: to ask
//! for a first range alone, S3 gives no checksum of the whole; to ask for the checksum, a request more for every
//! small model; to let the rest wait for the answer's end, the time.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::answer::{Answer, Broken, Patience};
use super::writer::Piece;
use super::{FetchContext, FetchError};
use crate::cache::RemoteFile;
use crate::clock::{Clock, Thaws};
use crate::source::{Object, Source};
use crate::sys;

/// How many attempts in a row may bring nothing.
const FRUITLESS: u32 = 4;
/// The longest pause after the first of them; it doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it does.
const DOUBLINGS: u32 = 5;

/// What reads from one source for one fetch.
pub(super) struct Transfer<'a> {
    source: &'a dyn Source,
    thaws: &'a Thaws,
    clock: &'a dyn Clock,
    connections: usize,
    transferred: AtomicU64,
}

/// One file on its way.
struct Flow<'w> {
    wanted: &'w RemoteFile,
    /// What nobody has taken yet, in order.
    untaken: Mutex<VecDeque<Range<u64>>>,
    /// How many bytes are here.
    have: AtomicU64,
    pieces: mpsc::Sender<Piece>,
}

/// Why a connection ends before all is taken.
enum Stop {
    /// Attempts were of no use.
    Failed(FetchError),
    /// The writer takes no more.
    Refused,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(source: &'a dyn Source, context: FetchContext<'a>) -> Self {
        Self {
            source,
            thaws: context.thaws,
            clock: context.clock,
            connections: context.parts.max_connections,
            transferred: AtomicU64::new(0),
        }
    }

    /// How many bytes have arrived in all.
    pub(super) fn transferred(&self) -> u64 {
        self.transferred.load(Ordering::Relaxed)
    }

    /// Takes over the body of an object that was just opened. A thaw from here on is noticed.
    pub(super) fn begin(&self, object: Object) -> (RemoteFile, Answer<'a>) {
        let wanted = RemoteFile {
            location: self.source.uri(),
            identity: object.identity,
            size: object.size,
            checksum: object.checksum,
        };
        let answer = Answer::new(object.body, object.range, self.patience());
        (wanted, answer)
    }

    /// Hands over all bytes of `wanted` that are `missing`. `first` is used for what it brings of them. Also ends
    /// without an error when nobody takes the pieces any more.
    pub(super) async fn run(
        &self,
        wanted: &RemoteFile,
        missing: Vec<Range<u64>>,
        first: Answer<'a>,
        pieces: mpsc::Sender<Piece>,
    ) -> Result<(), FetchError> {
        let lacks: u64 = missing.iter().map(|range| range.end - range.start).sum();
        let connections = self.connections.clamp(1, missing.len().max(1));
        let flow = Flow {
            wanted,
            untaken: Mutex::new(missing.into()),
            have: AtomicU64::new(wanted.size - lacks),
            pieces,
        };
        let mut first = Some(first);
        let all = (0..connections).map(|_| self.connection(&flow, first.take()));
        match try_join_all(all).await {
            Ok(_) | Err(Stop::Refused) => Ok(()),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// Brings one range after the other, until all are taken.
    async fn connection(
        &self,
        flow: &Flow<'_>,
        mut answer: Option<Answer<'a>>,
    ) -> Result<(), Stop> {
        loop {
            let goes_on = answer
                .as_ref()
                .and_then(|answer| flow.take_at(answer.rest()));
            if goes_on.is_none() {
                answer = None;
            }
            let Some(range) = goes_on.or_else(|| flow.take()) else {
                return Ok(());
            };
            answer = self.range(flow, range, answer).await?;
        }
    }

    /// Brings one range, which begins where `answer` does; over other answers when that one breaks. Returns the last.
    async fn range(
        &self,
        flow: &Flow<'_>,
        mut range: Range<u64>,
        mut answer: Option<Answer<'a>>,
    ) -> Result<Option<Answer<'a>>, Stop> {
        let (mut attempts, mut fruitless, mut have) = (0, 0, flow.have());
        loop {
            let start = range.start;
            let broken = match self.attempt(flow, &mut range, answer.take()).await {
                Ok(Some(answer)) => return Ok(Some(answer)),
                Ok(None) => return Err(Stop::Refused),
                Err(broken) => broken,
            };
            let (location, size) = (&flow.wanted.location, flow.wanted.size);
            let at = range.start;
            if let Broken::Thawed = broken {
                info!(
                    source = location,
                    "the transfer goes on after a freeze, at byte {at} of {size}"
                );
                continue;
            }
            attempts = if at > start { 1 } else { attempts + 1 };
            let come = flow.have();
            fruitless = if come > have { 1 } else { fruitless + 1 };
            have = come;
            let error = broken.explain(size, come);
            if !error.is_transient() || fruitless > FRUITLESS {
                return Err(Stop::Failed(error));
            }
            warn!(
                source = location,
                "the transfer goes on at byte {at} of {size}: {error}"
            );
            tokio::time::sleep(pause(attempts)).await;
        }
    }

    /// Brings of `range` what one answer does, `answer` or a new one; `None` when the writer takes no more.
    async fn attempt(
        &self,
        flow: &Flow<'_>,
        range: &mut Range<u64>,
        answer: Option<Answer<'a>>,
    ) -> Result<Option<Answer<'a>>, Broken> {
        let mut answer = match answer {
            Some(answer) => answer,
            None => {
                let identity = &flow.wanted.identity;
                Answer::ask(self.source, identity, range.clone(), self.patience()).await?
            }
        };
        while range.start < range.end {
            // Room first: bytes in hand while the fetch is given up would be lost.
            let Ok(room) = flow.pieces.reserve().await else {
                return Ok(None);
            };
            let bytes = answer.next(range.end - range.start).await?;
            let (offset, length) = (range.start, bytes.len() as u64);
            range.start += length;
            flow.have.fetch_add(length, Ordering::Relaxed);
            self.transferred.fetch_add(length, Ordering::Relaxed);
            room.send(Piece { offset, bytes });
        }
        Ok(Some(answer))
    }

    fn patience(&self) -> Patience<'a> {
        Patience::new(self.thaws, self.clock)
    }
}

impl Flow<'_> {
    fn have(&self) -> u64 {
        self.have.load(Ordering::Relaxed)
    }

    /// The first range that nobody has taken.
    fn take(&self) -> Option<Range<u64>> {
        let mut untaken = self.untaken.lock().unwrap_or_else(PoisonError::into_inner);
        untaken.pop_front()
    }

    /// The range that begins where `answer` does, if that brings it whole and nobody has taken it.
    fn take_at(&self, answer: Range<u64>) -> Option<Range<u64>> {
        let mut untaken = self.untaken.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |range: &Range<u64>| range.start == answer.start && range.end <= answer.end;
        let index = untaken.iter().position(fits)?;
        untaken.remove(index)
    }
}

/// How long to wait after so many attempts without a byte, at least one.
fn pause(attempts: u32) -> Duration {
    let longest = PAUSE * 2_u32.pow((attempts - 1).min(DOUBLINGS));
    longest.mul_f64(f64::from(sys::random_u32()) / f64::from(u32::MAX))
}

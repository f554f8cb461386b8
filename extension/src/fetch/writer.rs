//! The disk side of a fetch: a thread that writes pieces to the partial file, in whatever order they come, and computes
//! the checksums in the file's order.
//!
//! A piece that comes in order is hashed on its way. Others are read back, from memory most likely, when no piece
//! waits to be written; so is what an earlier process has left. The network never waits for a checksum.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::expectation::Expectation;
use super::verify::Sums;
use super::{Context, FetchError, Parts};
use crate::cache::{Cache, Partial, Wanted, is_full};
use crate::ids::Digest;

/// Pieces between the network and the disk for each connection. hyper's are at most about 400 KB.
const QUEUE: usize = 2;
/// How much is read back at once.
const BLOCK: usize = 256 * 1024;

/// Bytes of the file.
pub(super) struct Piece {
    /// Where in the file they begin.
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
}

/// How far a file has come once no more pieces follow.
pub(super) enum Ended {
    /// All of it is here, as it was declared and promised.
    Whole(Partial, Digest),
    /// Bytes are missing.
    Unfinished(Partial),
}

/// The thread.
pub(super) struct Writer {
    missing: oneshot::Receiver<Vec<Range<u64>>>,
    ended: oneshot::Receiver<Result<Ended, FetchError>>,
}

impl Writer {
    /// Starts it. It takes pieces of what is missing; those of one part in order. Once the sender is dropped it comes
    /// to its end.
    pub(super) fn start(
        context: Context<'_>,
        wanted: Wanted,
        expectation: Expectation,
    ) -> io::Result<(Self, mpsc::Sender<Piece>)> {
        let (cache, parts) = (context.cache.clone(), context.parts);
        let (pieces, queue) = mpsc::channel(QUEUE * parts.connections.max(1));
        let (begun, missing) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let work = move || {
            let partial = begin(&cache, wanted, parts);
            let result = partial.and_then(|partial| {
                let _ = begun.send(partial.missing());
                let is_given_up = || end.is_closed();
                write(&cache, partial, &expectation, queue, is_given_up)
            });
            let _ = end.send(result);
        };
        let builder = std::thread::Builder::new().name("write-model".to_owned());
        builder.spawn(work)?;
        Ok((Self { missing, ended }, pieces))
    }

    /// What is to come of each part; `None` when it could not begin.
    pub(super) async fn missing(&mut self) -> Option<Vec<Range<u64>>> {
        (&mut self.missing).await.ok()
    }

    /// Waits until all that was sent is written.
    pub(super) async fn end(self) -> Result<Ended, FetchError> {
        let stopped = |_| io::Error::other("the thread that writes ended without a result");
        self.ended.await.map_err(stopped)?
    }
}

/// The partial file, with room for all that is to come.
fn begin(cache: &Cache, wanted: Wanted, parts: Parts) -> Result<Partial, FetchError> {
    let size = wanted.size;
    let mut partial = match cache.partial(wanted, parts.length) {
        Ok(partial) => partial,
        Err(error) if error.is_full() => return Err(no_room(cache, size)),
        Err(error) => return Err(error.into()),
    };
    let needs = partial.needs()?;
    if cache.free_bytes().is_some_and(|free| free < needs) {
        partial.discard();
        return Err(no_room(cache, size));
    }
    match partial.prepare() {
        Ok(()) => Ok(partial),
        Err(error) => Err(failed(cache, partial, error)),
    }
}

fn write(
    cache: &Cache,
    mut partial: Partial,
    expectation: &Expectation,
    mut queue: mpsc::Receiver<Piece>,
    is_given_up: impl Fn() -> bool,
) -> Result<Ended, FetchError> {
    let mut sums = InOrder::new(&partial);
    while let Some(piece) = next(&mut queue, &partial, &mut sums)? {
        if let Err(error) = partial.write(piece.offset, &piece.bytes) {
            return Err(failed(cache, partial, error));
        }
        sums.see(&piece);
    }
    if !partial.missing().is_empty() {
        return Ok(Ended::Unfinished(partial));
    }
    while sums.read_back(&partial)? {
        if is_given_up() {
            return Ok(Ended::Unfinished(partial));
        }
    }
    let digest = sums.sums.finish();
    let digest = digest.map_err(|algorithm| FetchError::Checksum { algorithm });
    let held = digest.and_then(|digest| expectation.hold_digest(&digest).map(|()| digest));
    match held {
        Ok(digest) => Ok(Ended::Whole(partial, digest)),
        Err(error) => {
            partial.discard();
            Err(error)
        }
    }
}

/// The next piece; the time until it comes is used.
fn next(
    queue: &mut mpsc::Receiver<Piece>,
    partial: &Partial,
    sums: &mut InOrder,
) -> io::Result<Option<Piece>> {
    loop {
        match queue.try_recv() {
            Ok(piece) => return Ok(Some(piece)),
            Err(mpsc::error::TryRecvError::Disconnected) => return Ok(None),
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        if !sums.read_back(partial)? {
            return Ok(queue.blocking_recv());
        }
    }
}

/// The checksums, which go through the file in order.
struct InOrder {
    sums: Sums,
    at: u64,
    /// Made when something is read back: a small file never is.
    block: Vec<u8>,
}

impl InOrder {
    fn new(partial: &Partial) -> Self {
        Self {
            sums: Sums::new(partial.wanted().checksum.clone()),
            at: 0,
            block: Vec::new(),
        }
    }

    /// Takes a piece that has been written, if it is the next.
    fn see(&mut self, piece: &Piece) {
        if piece.offset == self.at {
            self.sums.update(&piece.bytes);
            self.at += piece.bytes.len() as u64;
        }
    }

    /// Takes a block that was written before; whether there was one.
    fn read_back(&mut self, partial: &Partial) -> io::Result<bool> {
        if !partial.has(self.at) {
            return Ok(false);
        }
        self.block.resize(BLOCK, 0);
        let read = partial.read(self.at, &mut self.block)?;
        self.sums.update(&self.block[..read]);
        self.at += read as u64;
        Ok(true)
    }
}

/// What to say of a file that could not be written.
fn failed(cache: &Cache, partial: Partial, error: io::Error) -> FetchError {
    if is_full(&error) {
        let size = partial.wanted().size;
        partial.discard();
        return no_room(cache, size);
    }
    error.into()
}

fn no_room(cache: &Cache, needs: u64) -> FetchError {
    let free = cache.free_bytes().unwrap_or_default();
    FetchError::NoRoom { needs, free }
}

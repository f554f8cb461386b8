//! The disk side of a fetch: a thread that writes pieces to the partial file, in whatever order they come, and computes
//! the checksums in the file's order.
//!
//! A piece that comes in order is hashed on its way. Others are read back, from memory most likely, when no piece
//! waits to be written; so is what an earlier process has left. The network never waits for a checksum. A file that
//! comes compressed is decompressed in the same order ([`Unpacker`]).

use std::fs;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::expectation::Expectation;
use super::unpack::{Failure, Unpacker};
use super::verify::Sums;
use super::{Compression, FetchContext, FetchError, PartLimits};
use crate::cache::{
    Cache, CachedFile, DecompressedFile, PartialDownload, RemoteFile, is_storage_full,
};
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
    Whole(PartialDownload, Whole),
    /// It was here, under its name.
    Here(CachedFile, Whole),
    /// Bytes are missing.
    ResumableDownload(PartialDownload),
}

/// What a file is that has come whole.
pub(super) struct Whole {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Where it is, if it came compressed.
    pub(super) unpacked: Option<DecompressedFile>,
}

/// What the thread does.
struct Job {
    cache: Cache,
    wanted: RemoteFile,
    parts: PartLimits,
    expectation: Expectation,
    compression: Compression,
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
        context: FetchContext<'_>,
        wanted: RemoteFile,
        expectation: Expectation,
        compression: Compression,
    ) -> io::Result<(Self, mpsc::Sender<Piece>)> {
        let job = Job {
            cache: context.cache.clone(),
            wanted,
            parts: context.parts,
            expectation,
            compression,
        };
        let (pieces, queue) = mpsc::channel(QUEUE * job.parts.max_connections.max(1));
        let (begun, missing) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let work = move || {
            let result = match job.recall() {
                Some((file, whole)) => {
                    drop(begun);
                    Ok(Ended::Here(file, whole))
                }
                None => job.begin().and_then(|(partial, order)| {
                    let _ = begun.send(partial.missing());
                    let is_given_up = || end.is_closed();
                    job.write(partial, order, queue, is_given_up)
                }),
            };
            let _ = end.send(result);
        };
        let builder = std::thread::Builder::new().name("write-model".to_owned());
        builder.spawn(work)?;
        Ok((Self { missing, ended }, pieces))
    }

    /// What is to come of each part; `None` when nothing is, or it could not begin.
    pub(super) async fn missing(&mut self) -> Option<Vec<Range<u64>>> {
        (&mut self.missing).await.ok()
    }

    /// Waits until all that was sent is written.
    pub(super) async fn end(self) -> Result<Ended, FetchError> {
        let stopped = |_| io::Error::other("the thread that writes ended without a result");
        self.ended.await.map_err(stopped)?
    }
}

impl Job {
    /// The file, if it is here from before and is what was promised.
    fn recall(&self) -> Option<(CachedFile, Whole)> {
        let (file, digest) = self.cache.recall(&self.wanted)?;
        self.expectation.hold_digest(&digest).ok()?;
        let whole = Whole {
            digest,
            size: fs::metadata(file.path()).ok()?.len(),
            unpacked: None,
        };
        Some((file, whole))
    }

    /// The partial file, with room for all that is to come.
    fn begin(&self) -> Result<(PartialDownload, InOrder), FetchError> {
        let mut partial = match self
            .cache
            .partial(self.wanted.clone(), self.parts.part_bytes)
        {
            Ok(partial) => partial,
            Err(error) if error.is_storage_full() => return Err(self.insufficient_space(0)),
            Err(error) => return Err(error.into()),
        };
        let unpacked = match self.compression {
            Compression::None => 0,
            Compression::Zstd => self.expectation.promised_size().unwrap_or(0),
        };
        let needs = partial.needs()?.saturating_add(unpacked);
        if self.cache.free_space(needs, &[]).is_err() {
            partial.discard();
            return Err(self.insufficient_space(unpacked));
        }
        match self.prepare(&mut partial) {
            Ok(order) => Ok((partial, order)),
            Err(failure) => Err(self.end(partial, failure)),
        }
    }

    fn prepare(&self, partial: &mut PartialDownload) -> Result<InOrder, Failure> {
        partial.prepare().map_err(unwritten)?;
        let unpacker = match self.compression {
            Compression::None => None,
            Compression::Zstd => Some(Unpacker::new(&self.cache, self.expectation.clone())?),
        };
        Ok(InOrder::new(partial, unpacker))
    }

    fn write(
        &self,
        mut partial: PartialDownload,
        mut order: InOrder,
        mut queue: mpsc::Receiver<Piece>,
        is_given_up: impl Fn() -> bool,
    ) -> Result<Ended, FetchError> {
        let written = write_all(&mut partial, &mut order, &mut queue, is_given_up);
        match written.and_then(|is_whole| is_whole.then(|| self.hold(order)).transpose()) {
            Ok(Some(whole)) => Ok(Ended::Whole(partial, whole)),
            Ok(None) => Ok(Ended::ResumableDownload(partial)),
            Err(failure) => Err(self.end(partial, failure)),
        }
    }

    /// What has arrived, held against what was declared and promised.
    fn hold(&self, order: InOrder) -> Result<Whole, Failure> {
        let digest = order.sums.finish();
        let digest = digest.map_err(|found| FetchError::Checksum {
            algorithm: found.algorithm,
            found: found.value,
        })?;
        let whole = match order.unpacker {
            Some(unpacker) => unpacker.finish()?,
            None => Whole {
                digest: digest.ok_or_else(|| io::Error::other("no digest was computed"))?,
                size: self.wanted.size,
                unpacked: None,
            },
        };
        self.expectation.hold_digest(&whole.digest)?;
        Ok(whole)
    }

    /// Removes what is of no use, and says why.
    fn end(&self, partial: PartialDownload, failure: Failure) -> FetchError {
        match failure {
            Failure::InsufficientSpace(unpacked) => {
                partial.discard();
                self.insufficient_space(unpacked)
            }
            // What has arrived is as good as before.
            Failure::Other(error @ (FetchError::Write(_) | FetchError::Cache(_))) => error,
            Failure::Other(error) => {
                partial.discard();
                error
            }
        }
    }

    fn insufficient_space(&self, unpacked: u64) -> FetchError {
        let needs = self.wanted.size.saturating_add(unpacked);
        self.cache.insufficient_space(needs).into()
    }
}

/// Writes all pieces; whether the file is whole then, and was looked at to its end.
fn write_all(
    partial: &mut PartialDownload,
    order: &mut InOrder,
    queue: &mut mpsc::Receiver<Piece>,
    is_given_up: impl Fn() -> bool,
) -> Result<bool, Failure> {
    while let Some(piece) = next(queue, partial, order)? {
        partial
            .write(piece.offset, &piece.bytes)
            .map_err(unwritten)?;
        order.see(&piece)?;
    }
    if !partial.missing().is_empty() {
        return Ok(false);
    }
    while order.read_back(partial)? {
        if is_given_up() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The next piece; the time until it comes is used.
fn next(
    queue: &mut mpsc::Receiver<Piece>,
    partial: &PartialDownload,
    order: &mut InOrder,
) -> Result<Option<Piece>, Failure> {
    loop {
        match queue.try_recv() {
            Ok(piece) => return Ok(Some(piece)),
            Err(mpsc::error::TryRecvError::Disconnected) => return Ok(None),
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        if !order.read_back(partial)? {
            return Ok(queue.blocking_recv());
        }
    }
}

/// The checksums, and the decompressor, which go through the file in order.
struct InOrder {
    sums: Sums,
    unpacker: Option<Unpacker>,
    at: u64,
    /// Made when something is read back: a small file never is.
    block: Vec<u8>,
}

impl InOrder {
    fn new(partial: &PartialDownload, unpacker: Option<Unpacker>) -> Self {
        let with_digest = unpacker.is_none();
        Self {
            sums: Sums::new(partial.wanted().checksum.clone(), with_digest),
            unpacker,
            at: 0,
            block: Vec::new(),
        }
    }

    /// Takes a piece that has been written, if it is the next.
    fn see(&mut self, piece: &Piece) -> Result<(), Failure> {
        if piece.offset == self.at {
            self.take(&piece.bytes)?;
        }
        Ok(())
    }

    /// Takes a block that was written before; whether there was one.
    fn read_back(&mut self, partial: &PartialDownload) -> Result<bool, Failure> {
        if !partial.has(self.at) {
            return Ok(false);
        }
        let mut block = std::mem::take(&mut self.block);
        block.resize(BLOCK, 0);
        let read = partial.read(self.at, &mut block)?;
        self.take(&block[..read])?;
        self.block = block;
        Ok(true)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.sums.update(bytes);
        if let Some(unpacker) = &mut self.unpacker {
            unpacker.feed(bytes)?;
        }
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// What a failed write of the partial file means.
fn unwritten(error: io::Error) -> Failure {
    if is_storage_full(&error) {
        Failure::InsufficientSpace(0)
    } else {
        error.into()
    }
}

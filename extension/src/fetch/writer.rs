//! Disk side of a fetch: a thread that writes chunks to the partial download and verifies the content.
//!
//! Chunks arrive in any order; checksums and decompression need the order of the file. A chunk that arrives in order
//! is processed immediately. Other bytes, and those of an earlier process, are read back while no chunk waits, usually
//! from the page cache. So the network never waits for a checksum.

use std::fs;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{mpsc, oneshot};

use super::checksums::Checksums;
use super::complete_file::{CompleteFile, WriteFailure};
use super::decompress::Decompressor;
use super::expectation::Expectation;
use super::{Compression, FetchContext, FetchError, PartLimits};
use crate::cache::{Cache, CachedFile, PartialDownload, RemoteFile, is_storage_full};
use crate::growing_file::{FileGrowth, GrowingFile};

/// Maximum number of queued chunks per connection. A chunk of hyper has at most about 400 KB.
const MAX_QUEUED_CHUNKS: usize = 2;
/// Number of bytes to read back at once.
const READ_BACK_BYTES: usize = 256 * 1024;

/// Bytes of the file.
pub(super) struct Chunk {
    /// Offset in the file.
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
}

/// State of a file after the last chunk.
pub(super) enum WriteOutcome {
    /// The file is complete and has its declared values.
    Complete(PartialDownload, CompleteFile),
    /// The file was in the cache already.
    Cached(CachedFile, CompleteFile),
    /// Bytes are missing.
    Incomplete(PartialDownload),
}

/// Work of the thread.
struct WriteTask {
    cache: Cache,
    remote: RemoteFile,
    parts: PartLimits,
    expectation: Expectation,
    compression: Compression,
    growing: Option<UnboundedSender<GrowingFile>>,
}

/// Handle of the thread.
pub(super) struct FileWriter {
    missing: oneshot::Receiver<Vec<Range<u64>>>,
    outcome: oneshot::Receiver<Result<WriteOutcome, FetchError>>,
}

impl FileWriter {
    /// Starts the thread. The chunks of a part must be sent in order. The thread ends after the drop of the sender.
    pub(super) fn start(
        context: FetchContext<'_>,
        remote: RemoteFile,
        expectation: Expectation,
        compression: Compression,
        growing: Option<UnboundedSender<GrowingFile>>,
    ) -> io::Result<(Self, mpsc::Sender<Chunk>)> {
        let task = WriteTask {
            cache: context.cache.clone(),
            remote,
            parts: context.parts,
            expectation,
            compression,
            growing,
        };
        let capacity = MAX_QUEUED_CHUNKS * task.parts.max_connections.max(1);
        let (chunks, queue) = mpsc::channel(capacity);
        let (send_missing, missing) = oneshot::channel();
        let (send_outcome, outcome) = oneshot::channel();
        let work = move || {
            let result = match task.find_cached() {
                Some((file, complete)) => {
                    drop(send_missing);
                    Ok(WriteOutcome::Cached(file, complete))
                }
                None => task.begin().and_then(|(download, verifier)| {
                    let _ = send_missing.send(download.missing());
                    let is_abandoned = || send_outcome.is_closed();
                    task.write(download, verifier, queue, is_abandoned)
                }),
            };
            let _ = send_outcome.send(result);
        };
        let builder = std::thread::Builder::new().name("write-model".to_owned());
        builder.spawn(work)?;
        Ok((Self { missing, outcome }, chunks))
    }

    /// Returns the missing range of each part; `None` if nothing is missing or the thread failed.
    pub(super) async fn missing(&mut self) -> Option<Vec<Range<u64>>> {
        (&mut self.missing).await.ok()
    }

    /// Waits until all chunks are written and verified.
    pub(super) async fn finish(self) -> Result<WriteOutcome, FetchError> {
        let stopped = |_| io::Error::other("the writer thread ended without a result");
        self.outcome.await.map_err(stopped)?
    }
}

impl WriteTask {
    /// Returns the file if it is in the cache and has the expected digest.
    fn find_cached(&self) -> Option<(CachedFile, CompleteFile)> {
        let (file, digest) = self.cache.find_remote(&self.remote)?;
        self.expectation.check_digest(&digest).ok()?;
        let complete = CompleteFile {
            digest,
            size: fs::metadata(file.path()).ok()?.len(),
            decompressed: None,
        };
        Some((file, complete))
    }

    /// Opens the partial download, and reserves space for the complete file.
    fn begin(&self) -> Result<(PartialDownload, ContentVerifier), FetchError> {
        let opened = self
            .cache
            .start_download(self.remote.clone(), self.parts.part_bytes);
        let mut download = match opened {
            Ok(download) => download,
            Err(error) if error.is_storage_full() => return Err(self.insufficient_space(0)),
            Err(error) => return Err(error.into()),
        };
        let decompressed = match self.compression {
            Compression::None => 0,
            Compression::Zstd => self.expectation.size().unwrap_or(0),
        };
        let required = download.unallocated_bytes()?.saturating_add(decompressed);
        if self.cache.free_space(required, &[]).is_err() {
            download.discard();
            return Err(self.insufficient_space(decompressed));
        }
        match self.prepare(&mut download) {
            Ok(verifier) => Ok((download, verifier)),
            Err(failure) => Err(self.abort(download, failure)),
        }
    }

    fn prepare(&self, download: &mut PartialDownload) -> Result<ContentVerifier, WriteFailure> {
        download.prepare().map_err(write_failure)?;
        let decompressor = match self.compression {
            Compression::None => None,
            Compression::Zstd => Some(Decompressor::new(&self.cache, self.expectation.clone())?),
        };
        let growth = match &self.growing {
            Some(receiver) if decompressor.is_none() => {
                let file = download.try_clone_file()?;
                let (growing, growth) = GrowingFile::new(file, self.remote.size);
                receiver.send(growing).ok().map(|()| growth)
            }
            _ => None,
        };
        Ok(ContentVerifier::new(download, decompressor, growth))
    }

    fn write(
        &self,
        mut download: PartialDownload,
        mut verifier: ContentVerifier,
        mut queue: mpsc::Receiver<Chunk>,
        is_abandoned: impl Fn() -> bool,
    ) -> Result<WriteOutcome, FetchError> {
        let written = write_all(&mut download, &mut verifier, &mut queue, is_abandoned);
        let complete =
            written.and_then(|is_complete| is_complete.then(|| self.verify(verifier)).transpose());
        match complete {
            Ok(Some(complete)) => Ok(WriteOutcome::Complete(download, complete)),
            Ok(None) => Ok(WriteOutcome::Incomplete(download)),
            Err(failure) => Err(self.abort(download, failure)),
        }
    }

    /// Compares the content with the values that the source and the manifest declare.
    fn verify(&self, verifier: ContentVerifier) -> Result<CompleteFile, WriteFailure> {
        let digest = verifier.checksums.finish();
        let digest = digest.map_err(|found| FetchError::Checksum {
            algorithm: found.algorithm,
            found: found.value,
        })?;
        let complete = match verifier.decompressor {
            Some(decompressor) => decompressor.finish()?,
            None => CompleteFile {
                digest: digest.ok_or_else(|| io::Error::other("no digest was computed"))?,
                size: self.remote.size,
                decompressed: None,
            },
        };
        self.expectation.check_digest(&complete.digest)?;
        Ok(complete)
    }

    /// Returns the error for a failure. Removes the download unless its bytes are still valid.
    fn abort(&self, download: PartialDownload, failure: WriteFailure) -> FetchError {
        match failure {
            WriteFailure::InsufficientSpace(decompressed) => {
                download.discard();
                self.insufficient_space(decompressed)
            }
            WriteFailure::Other(error @ (FetchError::Write(_) | FetchError::Cache(_))) => error,
            WriteFailure::Other(error) => {
                download.discard();
                error
            }
        }
    }

    fn insufficient_space(&self, decompressed: u64) -> FetchError {
        let required = self.remote.size.saturating_add(decompressed);
        self.cache.insufficient_space(required).into()
    }
}

/// Writes all chunks. Returns `true` if the file is complete and has been processed to its end.
fn write_all(
    download: &mut PartialDownload,
    verifier: &mut ContentVerifier,
    queue: &mut mpsc::Receiver<Chunk>,
    is_abandoned: impl Fn() -> bool,
) -> Result<bool, WriteFailure> {
    while let Some(chunk) = next_chunk(queue, download, verifier)? {
        download
            .write(chunk.offset, &chunk.bytes)
            .map_err(write_failure)?;
        verifier.process_written(&chunk)?;
    }
    if !download.missing().is_empty() {
        return Ok(false);
    }
    while verifier.read_back(download)? {
        if is_abandoned() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the next chunk. Reads back while the queue is empty.
fn next_chunk(
    queue: &mut mpsc::Receiver<Chunk>,
    download: &PartialDownload,
    verifier: &mut ContentVerifier,
) -> Result<Option<Chunk>, WriteFailure> {
    loop {
        match queue.try_recv() {
            Ok(chunk) => return Ok(Some(chunk)),
            Err(mpsc::error::TryRecvError::Disconnected) => return Ok(None),
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        if !verifier.read_back(download)? {
            return Ok(queue.blocking_recv());
        }
    }
}

/// Sequential processing of the content: checksums and decompression.
struct ContentVerifier {
    checksums: Checksums,
    decompressor: Option<Decompressor>,
    /// Offset of the next byte to process.
    at: u64,
    /// Allocated at the first read. Small files need none.
    buffer: Vec<u8>,
    /// Growth of the file for a reader, if there is one.
    growth: Option<FileGrowth>,
}

impl ContentVerifier {
    fn new(
        download: &PartialDownload,
        decompressor: Option<Decompressor>,
        growth: Option<FileGrowth>,
    ) -> Self {
        let with_digest = decompressor.is_none();
        Self {
            checksums: Checksums::new(download.remote().checksum.clone(), with_digest),
            decompressor,
            at: 0,
            buffer: Vec::new(),
            growth,
        }
    }

    /// Processes a written chunk if it is the next one in order.
    fn process_written(&mut self, chunk: &Chunk) -> Result<(), WriteFailure> {
        if chunk.offset == self.at {
            self.process(&chunk.bytes)?;
        }
        Ok(())
    }

    /// Reads written bytes back and processes them. Returns `false` if the next byte is missing.
    fn read_back(&mut self, download: &PartialDownload) -> Result<bool, WriteFailure> {
        if !download.has(self.at) {
            return Ok(false);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(READ_BACK_BYTES, 0);
        let read = download.read(self.at, &mut buffer)?;
        self.process(&buffer[..read])?;
        self.buffer = buffer;
        Ok(true)
    }

    fn process(&mut self, bytes: &[u8]) -> Result<(), WriteFailure> {
        self.checksums.update(bytes);
        if let Some(decompressor) = &mut self.decompressor {
            decompressor.feed(bytes)?;
        }
        self.at += bytes.len() as u64;
        if let Some(growth) = &self.growth {
            growth.advance(self.at);
        }
        Ok(())
    }
}

fn write_failure(error: io::Error) -> WriteFailure {
    if is_storage_full(&error) {
        WriteFailure::InsufficientSpace(0)
    } else {
        error.into()
    }
}

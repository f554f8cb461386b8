//! Download of a file from a source to the cache: complete, verified, and without requesting a byte twice.
//!
//! # Transfer
//! A file arrives in [parts](PartLimits) over several connections, each of which requests exactly the version that the
//! fetch began with. A short queue passes the bytes to a thread that writes and hashes them. Neither side waits for the
//! other, and memory stays at a few chunks for any model size. The content goes to a partial download of the cache.
//! After an error, a stall or a freeze, a part continues behind its last byte on another connection. So does the next
//! process, after a kill or an abandoned fetch. If the source has another version by then, the fetch restarts with that
//! version.
//!
//! # Verification
//! The complete file is verified once, independent of the number of responses. Verified are the length, the checksum
//! that the source declares, and the SHA-256, which names the file in the cache. Bytes that fail are downloaded once
//! more; content that fails again with the same fault is [rejected](FetchError::Rejected). If the manifest declares
//! [`Expected`] values, a wrong length is detected before the transfer and wrong bytes after it.
//!
//! A [compressed](Compression) file is decompressed while it arrives. The checksum of the source applies to the
//! compressed bytes, the values of the manifest to the decompressed bytes. A version in the cache is used after
//! verifying its bytes.
//!
//! # Resuming
//! If a partial download exists, [`open`] requests its first missing range with `If-Match`. If the source is
//! unchanged, the most likely case, this request is both the version check and a part of the transfer. If the source
//! has changed, the response has no body, and a plain request follows. An unconditional request would start the whole
//! transfer again; a check first would cost every such start a round trip.

mod adoption;
mod checksums;
mod complete_file;
mod compression;
mod decompress;
mod error;
mod expectation;
mod part_limits;
mod response;
mod transfer;
mod writer;

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use crate::cache::{Cache, CachedFile, RemoteFile, ResumableDownload};
use crate::clock::{Clock, Thaws};
use crate::growing_file::GrowingFile;
use crate::ids::{Digest, Expected, Identity};
use crate::source::{ChunkStream, Object, Opened, Source, SourceError};
use complete_file::CompleteFile;
pub use compression::Compression;
pub use error::{DecompressError, FetchError};
use expectation::Expectation;
pub use part_limits::PartLimits;
use transfer::ParallelTransfer;
use writer::{FileWriter, WriteOutcome};

/// Maximum number of restarts because the source changed during the fetch.
const MAX_SOURCE_CHANGES: u32 = 3;

/// A file to fetch.
pub struct FetchRequest<'a> {
    /// Source of the file.
    pub source: &'a dyn Source,
    /// Object of the source, as returned by [`open`].
    pub object: Object,
    /// Values of the decompressed file that the manifest declares.
    pub expected: Option<&'a Expected>,
    /// Compression of the file at its source.
    pub compression: Compression,
    /// Receiver of the file while it arrives, in each attempt. Compressed files are not sent.
    pub growing: Option<UnboundedSender<GrowingFile>>,
}

/// Environment of a fetch.
#[derive(Clone, Copy)]
pub struct FetchContext<'a> {
    /// Destination of the file.
    pub cache: &'a Cache,
    /// Division into parts.
    pub parts: PartLimits,
    /// Thaws of the execution environment. Idle connections from before a thaw are not used.
    pub thaws: &'a Thaws,
    /// Wall clock.
    pub clock: &'a dyn Clock,
}

/// Complete and verified file.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Identity at the source. Differs from that of the requested object if the source changed during the fetch.
    pub identity: Identity,
    /// SHA-256 of the decompressed bytes.
    pub digest: Digest,
    /// Decompressed length in bytes.
    pub size: u64,
    /// Number of bytes transferred over the network. Smaller than the length for a resumed, cached or compressed file,
    /// larger after a restart.
    pub transferred: u64,
    /// The file in the cache.
    pub file: CachedFile,
    /// Duration of the fetch.
    pub elapsed: Duration,
}

/// Opens `source` as [`Source::open`] does, without requesting bytes of a partial download again.
pub async fn open(
    source: &dyn Source,
    cache: &Cache,
    known: Option<&Identity>,
) -> Result<Opened, SourceError> {
    let resumable = cache.resumable_download(&source.uri());
    let resumable = resumable.filter(|download| known != Some(&download.remote.identity));
    let Some(ResumableDownload { remote, missing }) = resumable else {
        return source.open(known).await;
    };
    let Some(first) = missing.first() else {
        // All bytes are present, but the file was not completed. There is no range to request.
        let end = remote.size..remote.size;
        return Ok(match source.open(Some(&remote.identity)).await? {
            Opened::Unchanged => resumed(remote, end, Box::new(EmptyStream)),
            changed @ Opened::Object(_) => {
                cache.discard_download(&remote);
                changed
            }
        });
    };
    match source.read(&remote.identity, first.clone()).await {
        Ok(body) => Ok(resumed(remote, first.clone(), body)),
        Err(error) if error.is_changed() => {
            cache.discard_download(&remote);
            source.open(known).await
        }
        Err(error) => Err(error),
    }
}

fn resumed(remote: RemoteFile, range: Range<u64>, body: Box<dyn ChunkStream>) -> Opened {
    Opened::Object(Object {
        identity: remote.identity,
        size: remote.size,
        checksum: remote.checksum,
        range,
        body,
    })
}

struct EmptyStream;

impl ChunkStream for EmptyStream {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        Box::pin(std::future::ready(None))
    }
}

/// Fetches a file into the cache. If the future is dropped, the next fetch resumes the partial download.
pub async fn fetch(
    request: FetchRequest<'_>,
    context: FetchContext<'_>,
) -> Result<Fetched, FetchError> {
    if let Some(adoption) = adoption::adopt(&request, context.cache)
        && let Ok(Some(adopted)) = adoption.await
    {
        return Ok(adopted);
    }
    let FetchRequest {
        source,
        mut object,
        expected,
        compression,
        growing,
    } = request;
    let started = Instant::now();
    let transfer = ParallelTransfer::new(source, context);
    let mut source_changes = 0;
    let mut earlier_fault: Option<(Identity, FetchError)> = None;
    loop {
        let identity = object.identity.clone();
        let growing = growing.clone();
        let received = receive(&transfer, object, expected, compression, growing, context);
        let error = match received.await {
            Ok((remote, complete, file)) => {
                return Ok(Fetched {
                    identity: remote.identity,
                    digest: complete.digest,
                    size: complete.size,
                    transferred: transfer.transferred(),
                    file,
                    elapsed: started.elapsed(),
                });
            }
            Err(error) => error,
        };
        let is_change = matches!(&error, FetchError::Source(error) if error.is_changed());
        if is_change && source_changes < MAX_SOURCE_CHANGES {
            source_changes += 1;
        } else if error.is_permanent() {
            return Err(error.into_rejection(identity));
        } else if !error.is_damage() {
            return Err(error);
        } else if let Some((earlier, fault)) = &earlier_fault {
            let is_same = *earlier == identity && fault.is_same_fault(&error);
            return Err(if is_same {
                error.into_rejection(identity)
            } else {
                error
            });
        }
        warn!(source = source.uri(), "restarting the download: {error}");
        object = match source.open(None).await? {
            Opened::Object(object) => object,
            Opened::Unchanged => return Err(error),
        };
        if error.is_damage() {
            earlier_fault = Some((identity, error));
        }
    }
}

/// Receives an object once.
async fn receive(
    transfer: &ParallelTransfer<'_>,
    object: Object,
    expected: Option<&Expected>,
    compression: Compression,
    growing: Option<UnboundedSender<GrowingFile>>,
    context: FetchContext<'_>,
) -> Result<(RemoteFile, CompleteFile, CachedFile), FetchError> {
    let (remote, response) = transfer.begin(object);
    let expectation = Expectation::new(&remote, expected, compression)?;
    let (mut writer, chunks) =
        FileWriter::start(context, remote.clone(), expectation, compression, growing)?;
    let transferred = match writer.missing().await {
        Some(missing) => transfer.run(&remote, missing, response, chunks).await,
        // The file is in the cache already, or the writer failed and `finish` returns the error.
        None => Ok(()),
    };
    match writer.finish().await? {
        WriteOutcome::Complete(download, mut complete) => {
            let cache = context.cache;
            let file = match complete.decompressed.take() {
                Some(decompressed) => {
                    cache.complete_decompressed(download, decompressed, &complete.digest)?
                }
                None => cache.complete(download, &complete.digest)?,
            };
            Ok((remote, complete, file))
        }
        WriteOutcome::Cached(file, complete) => Ok((remote, complete, file)),
        WriteOutcome::Incomplete(download) => {
            let (declared, received) = (remote.size, download.downloaded());
            let error = transferred
                .err()
                .unwrap_or(FetchError::Length { declared, received });
            // The bytes are useless: the source has another version, or sent more than it declared.
            if matches!(&error, FetchError::Source(error) if error.is_changed())
                || matches!(&error, FetchError::Length { declared, received } if received > declared)
            {
                download.discard();
            }
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests;
